//! Faults of the whole controller: put in force, and cleared, at any moment.

use super::Controller;
use super::registers::Aftermath;
use crate::faults::FaultSet;
use crate::gate::lock;

impl Controller {
    /// Puts `set` in the place of all faults before. What those held up and these do not goes on: commands
    /// are executed, flushes run, a shutdown whose work is done completes. A fault that is in both counts on.
    ///
    /// A drive that is removed, or comes back, is as after power-on; [`RootComplex::place`] has to be called
    /// for its BARs.
    ///
    /// [`RootComplex::place`]: devices::pci::RootComplex::place
    pub fn set_faults(&self, set: &FaultSet) {
        let mut registers = lock(&self.registers);
        let was_removed = self.drive.faults.is_removed();
        registers.shutdown_fault = set.shutdown;
        let released = self.drive.faults.set(set);
        let mut after = Aftermath::default();
        if set.removed != was_removed {
            // Power was lost, or came back to a drive without any.
            if set.removed {
                self.drive.logs.count_power_cycle(registers.is_safe());
            }
            after = self.close(&mut registers, false);
            registers.power_on();
        }
        self.complete_shutdown(&mut registers);
        drop(registers);
        self.finish(after);
        if set.removed != was_removed {
            self.drive.endpoint.reset();
        }
        released.run();
    }
}
