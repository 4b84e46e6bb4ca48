//! The controller's host side: teardown with the machine, and resets of the function that the guest asks for.

use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use devices::guest_acts::GuestActs;
use devices::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};

use super::Controller;
use crate::gate::lock;
use crate::state;

impl Controller {
    /// A function level or bus reset: registers read as after power-on from now on. Commands in flight
    /// end by themselves without a completion, and a controller enabled meanwhile becomes ready when they have. The
    /// configuration space is the caller's.
    pub(crate) fn reset_function(&self) {
        let mut registers = lock(&self.registers);
        let after = self.close(&mut registers, false);
        registers.power_on();
        drop(registers);
        self.finish(after);
    }

    /// Waits until nobody touches guest memory on behalf of the old session.
    fn quiesce(&self, by: Deadline) -> Result<(), ShutdownError> {
        let mut registers = lock(&self.registers);
        self.drive.logs.power_off(registers.is_safe());
        state::note_use(&self.drive, false);
        registers.end_subsystem_shutdown();
        let after = self.close(&mut registers, false);
        registers.power_on();
        let session = registers.draining();
        drop(registers);
        self.finish(after);
        let Some(session) = session else {
            return Ok(());
        };
        if session.gate.wait_empty(by) {
            Ok(())
        } else {
            Err(deadline("I/O in flight"))
        }
    }

    fn flush(&self, by: Deadline) -> Result<(), ShutdownError> {
        let (tell, told) = sync_channel(1);
        self.drive.flush_unflushed(move |result| {
            let _ = tell.send(result);
        });
        match told.recv_timeout(by.remaining()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ShutdownError::Host {
                doing: format!("flush of drive {}", self.drive.id),
                source: std::io::Error::other(
                    "the storage behind it reported an error, see the log",
                ),
            }),
            Err(_) => Err(deadline("flush")),
        }
    }
}

fn deadline(doing: &str) -> ShutdownError {
    ShutdownError::DeadlinePassed {
        doing: doing.into(),
    }
}

impl Device for Controller {
    /// Phases: `quiesce` (doorbells off, waiting commands dropped, commands in flight finished), `flush`
    /// (what was written since the last flush), `reset` (registers, vectors, configuration space), and
    /// `modelled-latency` where one is configured: the teardown then takes that long from its start, real
    /// work included, and the caller's timer waits for the rest.
    ///
    /// # Errors
    /// `DeadlinePassed` when the backend is stuck. No completion is written and no interrupt sent any
    /// more, the registers are reset, and the controller does not become ready again before the stuck call
    /// ends. But a read that is stuck in the host's kernel still owns the guest memory that it reads to:
    /// until it ends the device is not quiet.
    fn shut_down(&self, by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        let start = Instant::now();
        let modelled = self.draw_teardown();
        if let Some(latency) = modelled {
            phases.model(latency);
        }
        let quiesced = phases.run("quiesce", || self.quiesce(by));
        // Also after a failure: what was written is saved as far as it can be.
        let flushed = phases.run("flush", || self.flush(by));
        phases.run("reset", || self.drive.endpoint.reset());
        self.drive.endpoint.acts().begin_anew();
        quiesced?;
        flushed?;
        let Some(modelled) = modelled else {
            return Ok(Finish::Now);
        };
        let done = Instant::now();
        let end = done.max(start + modelled);
        phases.record("modelled-latency", done, end);
        Ok(Finish::At(end))
    }

    fn guest_acts(&self) -> GuestActs {
        self.drive.endpoint.acts().read()
    }

    fn is_quiet(&self) -> bool {
        lock(&self.registers)
            .draining()
            .is_none_or(|session| session.gate.is_empty())
    }

    fn release(&self) {
        self.reset_function();
        self.drive.endpoint.release();
        self.drive.doorbell_events.release(&self.drive);
        self.drive.released.store(true, Ordering::Release);
        state::save(&self.drive);
        for namespace in self.drive.namespaces.all() {
            namespace.backend().release();
        }
    }
}
