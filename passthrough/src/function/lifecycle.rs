//! The function as the device manager sees it: its part of a teardown.

use std::io;
use std::sync::atomic::Ordering;

use devices::guest_acts::GuestActs;
use devices::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};
use devices::pci::config_space::{COMMAND, COMMAND_BUS_MASTER, COMMAND_MEMORY};

use crate::client::{ClientError, region};
use crate::function::guest_reset;
use crate::function::{Function, locked};

impl Device for Function {
    fn shut_down(&self, by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        self.client.bound(Some(by));
        let ended = self.tear_down(by, phases);
        self.client.bound(None);
        if ended.is_err() {
            self.lose();
            self.io_events.withdraw();
        }
        ended.map(|()| Finish::Now)
    }

    fn is_quiet(&self) -> bool {
        self.client.is_quiet(self.quiesced.load(Ordering::Acquire))
    }

    fn guest_acts(&self) -> GuestActs {
        self.acts.read()
    }

    fn release(&self) {
        self.windows.release();
        self.io_events.release();
        self.interrupts.release(COMMAND_MEMORY);
        self.client.release();
    }
}

impl Function {
    fn tear_down(&self, by: Deadline, phases: &mut Phases) -> Result<(), ShutdownError> {
        let waited = match self.guest_reset.is_running() {
            true => phases.run("guest-reset", || self.guest_reset.wait(by)),
            false => self.guest_reset.wait(by),
        };
        if !waited {
            return Err(ShutdownError::DeadlinePassed {
                doing: "the reset that the guest asked for".to_owned(),
            });
        }
        let session = match self.is_lost() {
            true => phases.run("revive", || self.revive(by))?,
            false => self.presence.session(),
        };
        phases
            .run("quiesce", || self.settle_quiet())
            .map_err(told)?;
        self.io_events.before_reset(&*self.client);
        if self.client.has_reset() {
            phases
                .run("reset", || guest_reset::reset(&*self.client, by))
                .map_err(told)?;
        }
        phases.run("re-arm", || self.re_arm(by))?;
        self.presence.readmit(session);
        self.warned.store(false, Ordering::Release);
        self.acts.begin_anew();
        Ok(())
    }

    /// Brings a device back that is gone, or was and has been brought back without what the guest did to it. Returns
    /// its session: should it go once more, the guest does not see it, whatever is done until then.
    fn revive(&self, by: Deadline) -> Result<u64, ShutdownError> {
        self.windows.release();
        // They belong to what the device was.
        self.io_events.withdraw();
        self.client.revive(by).map_err(told)?;
        let session = self.client.session();
        self.windows.map_anew(&*self.client, &self.layout);
        Ok(session)
    }

    /// The device answers again, and nothing of the boot that has ended is left.
    fn re_arm(&self, by: Deadline) -> Result<(), ShutdownError> {
        if !self.is_back(by).map_err(told)? {
            return Err(ShutdownError::DeadlinePassed {
                doing: "coming back from its reset".to_owned(),
            });
        }
        self.io_events.after_reset(&*self.client, &self.layout);
        self.settle_quiet().map_err(told)?;
        if !self.quiesced.load(Ordering::Acquire) {
            return Err(ShutdownError::Host {
                doing: "turning bus mastering off".to_owned(),
                source: io::Error::other("it reads back as on after the reset"),
            });
        }
        self.windows.take_all_out();
        self.interrupts
            .clear_messages()
            .map_err(|source| ShutdownError::Host {
                doing: "taking its messages out of the interrupt routing".to_owned(),
                source,
            })
    }

    /// Has the guest's registers at power-on, whatever was written since the last time; has the device do what they ask
    /// for, whatever it was told before: no bus mastering and no interrupts; and sees whether it says so itself.
    pub(super) fn settle_quiet(&self) -> Result<(), ClientError> {
        locked(&self.registers).reset();
        self.quiesced.store(false, Ordering::Release);
        self.interrupts.forget_command();
        self.settle()?;
        let mut command = [0; 2];
        let at = COMMAND.into();
        self.client.read(region::CONFIG, at, &mut command)?;
        let is_master = u16::from_le_bytes(command) & COMMAND_BUS_MASTER != 0;
        self.quiesced.store(!is_master, Ordering::Release);
        Ok(())
    }
}

/// A client's error, as a teardown reports it.
fn told(failure: ClientError) -> ShutdownError {
    match failure {
        ClientError::Refused { doing, source, .. } => ShutdownError::Host { doing, source },
        ClientError::TimedOut { doing, .. } => ShutdownError::DeadlinePassed { doing },
        ClientError::Cancelled { doing, .. } => ShutdownError::Host {
            doing,
            source: io::Error::from_raw_os_error(libc::ECANCELED),
        },
        ClientError::Gone { reason, .. } => ShutdownError::Host {
            doing: "the device is gone".to_owned(),
            source: io::Error::other(reason),
        },
    }
}
