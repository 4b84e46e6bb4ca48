//! The interrupt pin: the device signals an eventfd that asserts a line; the guest's end of the interrupt signals
//! another one, by which the device unmasks its pin.

use std::io;
use std::sync::Arc;

use devices::interrupt::ResampledLine;
use tracing::warn;
use vmm_sys_util::eventfd::EventFd;

use crate::client::{Client, ClientError, IrqType};
use crate::function::event::{descriptor, new_event};

/// See the module's header.
pub(in crate::function) struct Pin {
    line: Arc<dyn ResampledLine>,
    trigger: EventFd,
    ended: Arc<EventFd>,
}

impl Pin {
    /// A pin that is wired to `line`, and off.
    pub(in crate::function) fn new(line: Arc<dyn ResampledLine>) -> io::Result<Self> {
        Ok(Self {
            line,
            trigger: new_event()?,
            ended: Arc::new(new_event()?),
        })
    }

    /// Turns it on. Where that fails it is off again, or it has to be turned off yet, which is said beside the error.
    pub(super) fn connect(&self, client: &dyn Client) -> Result<(), (ClientError, bool)> {
        let _ = (self.trigger.read(), self.ended.read());
        let refused = |source| ClientError::Refused {
            device: client.name().to_owned(),
            doing: "wiring its interrupt pin".to_owned(),
            source,
        };
        let line = self.line.connect(&self.trigger, &self.ended);
        line.map_err(|source| (refused(source), false))?;
        let trigger = Some(descriptor(&self.trigger));
        let connected = client
            .connect(IrqType::Intx, 0, &[trigger])
            .and_then(|()| client.unmask_pin_by(Some(&self.ended)));
        // Better no interrupt than one that nobody ends.
        connected.map_err(|failure| (failure, self.disconnect(client).is_err()))
    }

    /// Turns it off. A device that is gone has it off.
    pub(super) fn disconnect(&self, client: &dyn Client) -> Result<(), ClientError> {
        // A pin that is off is not unmasked, whatever the device still listens to.
        let _ = client.unmask_pin_by(None);
        match client.disconnect(IrqType::Intx) {
            Ok(()) | Err(ClientError::Gone { .. }) => self.leave_line(),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Ends what asserts the line.
    fn leave_line(&self) {
        if let Err(failure) = self.line.disconnect(&self.trigger) {
            warn!("an interrupt line may stay asserted: {failure}");
        }
    }
}
