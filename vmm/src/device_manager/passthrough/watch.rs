//! What becomes of devices that are passed through while the machine is there: told by whoever notices, dealt with
//! by the main thread.

use std::sync::Arc;

use passthrough::Observer;

use crate::mailbox::{Mailbox, Message};

/// What has become of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceNews {
    /// It is gone, or does not answer any more.
    Gone(String),
    /// It is there again.
    Back,
    /// A user should know of it.
    Warning(String),
}

/// Tells the main thread of one device.
pub(super) struct Watch {
    /// The devices that it is one of: those of a machine that is gone by now are nobody's.
    pub of: Arc<Devices>,
    pub id: String,
    pub mailbox: Arc<Mailbox>,
}

/// Tells the devices of one machine from those of another.
#[derive(Debug, Default)]
pub struct Devices(());

impl Watch {
    fn tell(&self, news: DeviceNews) {
        self.mailbox.put(Message::Device {
            of: self.of.clone(),
            id: self.id.clone(),
            news,
        });
    }
}

impl Observer for Watch {
    fn gone(&self, reason: &str) {
        self.tell(DeviceNews::Gone(reason.to_owned()));
    }

    fn back(&self) {
        self.tell(DeviceNews::Back);
    }

    fn warn(&self, message: &str) {
        self.tell(DeviceNews::Warning(message.to_owned()));
    }
}
