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
        self.interrupts.release(COMMAND_MEMORY);
        self.client.release();
    }
}

impl Function {
    fn tear_down(&self, by: Deadline, phases: &mut Phases) -> Result<(), ShutdownError> {
        self.quiesced.store(false, Ordering::Release);
        if !self.guest_reset.wait(by) {
            return Err(ShutdownError::DeadlinePassed {
                doing: "the reset that the guest asked for".to_owned(),
            });
        }
        let gone = self.client.gone().is_some();
        if gone || self.lost.load(Ordering::Acquire) {
            phases.run("revive", || self.revive(by))?;
        }
        phases.run("quiesce", || self.quiesce())?;
        phases
            .run("reset", || guest_reset::reset(&*self.client, by))
            .map_err(told)?;
        phases.run("re-arm", || self.re_arm(by))?;
        self.lost.store(false, Ordering::Release);
        self.acts.begin_anew();
        Ok(())
    }

    /// Brings a device back that is gone, or was and has been brought back without what the guest did to it.
    fn revive(&self, by: Deadline) -> Result<(), ShutdownError> {
        self.windows.take_all_out();
        self.client.revive(by).map_err(told)?;
        self.interrupts.forget();
        self.windows.map_anew(&*self.client, &self.layout);
        Ok(())
    }

    /// No bus mastering, and no interrupts. The guest's registers are at power-on from here.
    fn quiesce(&self) -> Result<(), ShutdownError> {
        locked(&self.registers).reset();
        self.interrupts.forget_command();
        self.settle().map_err(told)?;
        let quiesced = !self.is_master().map_err(told)?;
        self.quiesced.store(quiesced, Ordering::Release);
        Ok(())
    }

    /// The device answers again, and nothing of the boot that has ended is left.
    fn re_arm(&self, by: Deadline) -> Result<(), ShutdownError> {
        if !self.is_back(by).map_err(told)? {
            return Err(ShutdownError::DeadlinePassed {
                doing: "coming back from its reset".to_owned(),
            });
        }
        self.interrupts.forget_command();
        self.settle().map_err(told)?;
        if self.is_master().map_err(told)? {
            return Err(ShutdownError::Host {
                doing: "turning bus mastering off".to_owned(),
                source: io::Error::other("it reads back as on after the reset"),
            });
        }
        self.quiesced.store(true, Ordering::Release);
        self.windows.take_all_out();
        self.interrupts.clear_messages();
        Ok(())
    }

    /// Whether the device itself says that it may do DMA.
    fn is_master(&self) -> Result<bool, ClientError> {
        let mut command = [0; 2];
        self.client
            .read(region::CONFIG, COMMAND.into(), &mut command)?;
        Ok(u16::from_le_bytes(command) & COMMAND_BUS_MASTER != 0)
    }
}

/// A client's error, as a teardown reports it.
fn told(failure: ClientError) -> ShutdownError {
    match failure {
        ClientError::Refused { doing, source, .. } => ShutdownError::Host { doing, source },
        ClientError::TimedOut { doing, .. } => ShutdownError::DeadlinePassed { doing },
        ClientError::Gone { reason, .. } => ShutdownError::Host {
            doing: "the device is gone".to_owned(),
            source: io::Error::other(reason),
        },
    }
}
