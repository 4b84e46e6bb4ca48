//! The handshake of CC.SHN and CSTS.SHST (base 2.0, section 3.6.1): a timer, a real flush, and both ended.
//! Begun by a register write, carried on by the control thread and the lanes; nobody waits.

use std::time::Instant;

use super::Controller;
use super::registers::{Registers, State};
use crate::engine::TimerKind;
use crate::gate::lock;
use crate::shutdown::Part;
use crate::spec::Status;
use crate::state;

impl Controller {
    /// On the control thread: arms the timer and begins the flush of the shutdown that CC.SHN asked for.
    pub(super) fn begin_shutdown(&self) {
        let mut registers = lock(&self.registers);
        let Some(at) = registers.pending.take() else {
            return;
        };
        let epoch = registers.epoch;
        let begin_flush = !std::mem::replace(&mut registers.flushing, true);
        // A flush that began before this shutdown may have missed the last writes.
        registers.flush_again = !begin_flush;
        let me = self.me.clone();
        let job = Box::new(move || {
            if let Some(controller) = me.upgrade() {
                controller.shutdown_part(epoch, Part::Timer);
            }
        });
        self.drive
            .engine
            .arm(self.timer(TimerKind::Shutdown), at, job);
        drop(registers);
        if begin_flush {
            self.begin_flush(epoch);
        }
    }

    /// Whether the flush of a shutdown runs, of one that is forgotten too.
    #[cfg(test)]
    pub(crate) fn is_flushing(&self) -> bool {
        lock(&self.registers).flushing
    }

    fn begin_flush(&self, epoch: u64) {
        let me = self.me.clone();
        self.drive.flush_all(move |result| {
            if let Some(controller) = me.upgrade() {
                controller.flush_ended(epoch, result);
            }
        });
    }

    fn flush_ended(&self, epoch: u64, result: Result<(), Status>) {
        let mut registers = lock(&self.registers);
        registers.flushing = false;
        if std::mem::take(&mut registers.flush_again) {
            registers.flushing = true;
            let epoch = registers.epoch;
            drop(registers);
            self.begin_flush(epoch);
            return;
        }
        if result.is_err() && registers.epoch == epoch {
            // A shutdown that lost data never says complete.
            registers.fail("the flush of a shutdown failed");
            return;
        }
        drop(registers);
        self.shutdown_part(epoch, Part::Flush);
    }

    fn shutdown_part(&self, epoch: u64, part: Part) {
        let mut registers = lock(&self.registers);
        if registers.epoch == epoch {
            registers.shutdown.end(part);
            self.complete_shutdown(&mut registers);
        }
    }

    /// CSTS.SHST becomes 10b once everything has ended and nothing is wrong.
    pub(super) fn complete_shutdown(&self, registers: &mut Registers) {
        if registers.shutdown_fault.is_some() || registers.fatal {
            return;
        }
        if registers.shutdown.complete() {
            let now = Instant::now();
            self.drive.endpoint.acts().change(|acts| {
                if let Some(handshake) = &mut acts.handshake {
                    handshake.completed = Some(now);
                }
            });
            registers.used = false;
            state::note_use(&self.drive, false);
            if let State::Ready(session) = &registers.state {
                session.shut();
            }
        }
    }
}
