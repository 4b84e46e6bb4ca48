//! How the drive behaves: shutdown, teardown and faults, changed at any moment and all at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use devices::latency::{Latency, Purpose};

use super::Controller;
use super::registers::{Aftermath, Registers};
use crate::gate::lock;
use crate::shutdown::{Behaviour, ShutdownModel};
use crate::spec::registers::ShutdownKind;

/// The models in force, and how often each was drawn from.
#[derive(Default)]
pub(super) struct Models {
    shutdown: ShutdownModel,
    teardown: Latency,
    shutdowns: u64,
    abrupt_shutdowns: u64,
    teardowns: u64,
}

impl Controller {
    /// Has the drive behave as `behaviour` says: shutdowns and teardowns that begin from now on, and faults
    /// at once. What faults held up and these do not goes on: commands are executed, flushes run, a shutdown
    /// whose work is done completes. A fault that stays as it was counts on.
    ///
    /// A drive that is removed, or comes back, is as after power-on; [`RootComplex::place`] has to be called
    /// for its BARs.
    ///
    /// [`RootComplex::place`]: devices::pci::RootComplex::place
    pub fn set_behaviour(&self, behaviour: &Behaviour) {
        let faults = &behaviour.faults;
        let mut registers = lock(&self.registers);
        registers.models.shutdown = behaviour.shutdown;
        registers.models.teardown = behaviour.teardown;
        let estimate = behaviour.shutdown.estimate().as_micros();
        let estimate = u32::try_from(estimate).unwrap_or(u32::MAX);
        self.drive
            .shutdown_estimate
            .store(estimate, Ordering::Relaxed);
        let was_removed = self.drive.faults.is_removed();
        registers.shutdown_fault = faults.shutdown;
        let released = self.drive.faults.set(faults);
        let mut after = Aftermath::default();
        if faults.removed != was_removed {
            // Power was lost, or came back to a drive without any.
            if faults.removed {
                self.drive.logs.power_off(registers.is_safe());
                crate::state::note_use(&self.drive, false);
            }
            registers.end_subsystem_shutdown();
            after = self.close(&mut registers, false);
            registers.power_on();
        }
        self.complete_shutdown(&mut registers);
        drop(registers);
        self.finish(after);
        if faults.removed != was_removed {
            self.drive.endpoint.reset();
        }
        released.run();
    }

    /// What the shutdown that begins now is made to take.
    pub(super) fn draw_shutdown(&self, registers: &mut Registers, kind: ShutdownKind) -> Duration {
        let models = &mut registers.models;
        let (latency, purpose) = models.shutdown.of(kind);
        let count = match kind {
            ShutdownKind::Normal => &mut models.shutdowns,
            ShutdownKind::Abrupt => &mut models.abrupt_shutdowns,
        };
        let n = std::mem::replace(count, *count + 1);
        latency.draw(self.seed, purpose, n, self.drive.unflushed_bytes())
    }

    /// What the teardown that begins now is made to take; none if nothing is modelled.
    pub(super) fn draw_teardown(&self) -> Option<Duration> {
        let mut registers = lock(&self.registers);
        let n = registers.models.teardowns;
        registers.models.teardowns += 1;
        let latency = registers.models.teardown;
        drop(registers);
        (!latency.is_zero()).then(|| {
            let written = self.drive.unflushed_bytes();
            latency.draw(self.seed, Purpose::Teardown, n, written)
        })
    }
}
