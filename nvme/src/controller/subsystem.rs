//! Reset and shutdown of the whole NVM subsystem (base 2.0, sections 3.7.1 and 3.6.3), which is this one
//! controller and its drive.
//!
//! The configuration space is left as it is: a host that resets the subsystem finds the function where it was.

use devices::guest_acts::Act;

use super::Controller;
use super::registers::Registers;
use crate::gate::lock;
use crate::shutdown::Shutdown;
use crate::spec::registers::{ControllerStatus, ShutdownKind};

/// What is written to NSSR: "NVMe".
const RESET: u32 = 0x4E56_4D65;
/// What is written to NSSD for a normal shutdown: "Nrml".
const NORMAL: u32 = 0x4E72_6D6C;
/// What is written to NSSD for an abrupt shutdown: "Abpt".
const ABRUPT: u32 = 0x4162_7074;

/// What outlives the controller's own resets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Subsystem {
    /// CSTS.NSSRO: it was reset, and the host has not taken note.
    pub(super) was_reset: bool,
    /// CSTS.ST: it is being shut down, or was. Until it is reset the controller is not enabled.
    pub(super) is_shut: bool,
}

impl Controller {
    /// CSTS: NSSRO is cleared by writing a one to it, all else is read only.
    pub(super) fn write_status(&self, status: ControllerStatus) {
        if status.nssro() {
            lock(&self.registers).subsystem.was_reset = false;
        }
    }

    /// NSSR: like a reset of the function, without one of its configuration space.
    pub(super) fn reset_subsystem(&self, value: u32) {
        if value != RESET {
            return;
        }
        self.drive.endpoint.acts().note(Act::SubsystemReset);
        let mut registers = lock(&self.registers);
        registers.end_subsystem_shutdown();
        let after = self.close(&mut registers, false);
        registers.power_on();
        registers.subsystem.was_reset = true;
        drop(registers);
        self.finish(after);
    }

    /// NSSD.
    pub(super) fn shut_subsystem(&self, value: u32) {
        let kind = match value {
            NORMAL => ShutdownKind::Normal,
            ABRUPT => ShutdownKind::Abrupt,
            _ => return,
        };
        let mut registers = lock(&self.registers);
        registers.subsystem.is_shut = true;
        let service = self.ask_shutdown(&mut registers, kind);
        drop(registers);
        self.finish(super::registers::Aftermath {
            service,
            ..Default::default()
        });
    }
}

impl Registers {
    /// The subsystem was reset, or the power came back: what was shut down may be enabled again.
    pub(super) fn end_subsystem_shutdown(&mut self) {
        if std::mem::take(&mut self.subsystem).is_shut {
            self.shutdown = Shutdown::Normal;
        }
    }
}
