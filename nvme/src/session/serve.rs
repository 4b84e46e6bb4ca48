//! Serving: bursts of commands, what becomes of each, and its completion.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use devices::memory::{MemoryMap, View};
use tracing::debug;

use super::Session;
use crate::admin::{self, Event};
use crate::doorbells;
use crate::engine::{Transfers, Turn};
use crate::io::{self, Means};
use crate::queue::{CompletionQueue, Fetch, Slot, SubmissionQueue};
use crate::respond::{Outcome, Responder};
use crate::spec::{Completion, Status, Submission};

/// Commands served before another queue of the thread gets its turn.
const BURST: u32 = 64;
/// Commands between two looks at the clock …
const CLOCK_EVERY: u32 = 8;
/// … unless one has more blocks than this.
const MANY_BLOCKS: u64 = 64;
/// How long a completion may wait for the interrupt at the end of its burst, from a look at the clock on.
const SIGNAL_WITHIN: Duration = Duration::from_micros(100);

impl Session {
    /// Serves a burst of `queue` on the thread that owns it. Returns whether more may be waiting.
    pub(crate) fn serve(
        self: &Arc<Self>,
        queue: &Arc<SubmissionQueue>,
        transfers: &mut Transfers,
    ) -> Turn {
        let (Some(_pass), Some(_queue_pass)) =
            (self.gate.enter_briefly(), queue.gate.enter_briefly())
        else {
            return Turn::Done;
        };
        if queue.id == 0 {
            admin::deliver_events(self);
        }
        for responder in queue.take_due() {
            self.resume(responder, transfers);
        }
        // One for the burst, unless regions come or go meanwhile.
        let mut memory = self.drive.memory.view();
        let (mut served, mut starved) = (0, false);
        let (mut unsignalled, mut since) = (false, None::<Instant>);
        while served < BURST && self.may_fetch() && queue.gate.is_open() {
            // No slot, no fetch: the head doorbell of the completion queue comes back to this queue.
            let Some(slot) = queue.completions.reserve() else {
                starved = true;
                break;
            };
            let command = match queue.fetch(&memory) {
                Fetch::Command(command) => command,
                Fetch::Empty => break,
                Fetch::Wrong => {
                    doorbells::complain(self, queue.id, Event::InvalidDoorbellValue);
                    break;
                }
                // The region may have been away and come back since the burst began.
                Fetch::Failed if !self.drive.memory.is_current(&memory) => {
                    memory = self.drive.memory.view();
                    continue;
                }
                Fetch::Failed => {
                    self.fail("a submission queue entry cannot be read");
                    break;
                }
            };
            // The guest may have got memory and put it into this command since the burst began.
            if !self.drive.memory.is_current(&memory) {
                memory = self.drive.memory.view();
            }
            unsignalled |= self.serve_one(queue, &command, slot, &memory, transfers);
            served += 1;
            let look = served % CLOCK_EVERY == 0 || command.block_count() > MANY_BLOCKS;
            if unsignalled
                && look
                && since.get_or_insert_with(Instant::now).elapsed() > SIGNAL_WITHIN
            {
                self.signal(&queue.completions);
                (unsignalled, since) = (false, None);
            }
        }
        if unsignalled {
            self.signal(&queue.completions);
        }
        if queue.completions.take_wrong() {
            doorbells::complain(self, queue.completions.id, Event::InvalidDoorbellValue);
        }
        match served {
            BURST => Turn::More,
            // What cannot be fetched need not be watched: whatever ends that schedules the queue.
            _ if queue.has_shadow() && !starved && self.may_fetch() => Turn::Watch,
            _ => Turn::Done,
        }
    }

    /// Returns whether the command has ended.
    fn serve_one(
        self: &Arc<Self>,
        queue: &Arc<SubmissionQueue>,
        command: &Submission,
        slot: Slot<&CompletionQueue>,
        memory: &View,
        transfers: &mut Transfers,
    ) -> bool {
        let struck = self.drive.faults.strike(queue.id, command);
        let outcome = struck.unwrap_or_else(|| self.execute(queue, command, memory, transfers));
        if let Outcome::Done(result) = outcome {
            self.complete_in(memory, queue, slot, command, result);
            return true;
        }
        if let Outcome::Transfer(transfer, work) = outcome {
            queue.start(self, (command, slot), (transfer, work), transfers);
            return false;
        }
        let slot = slot.keep(&queue.completions);
        self.go_on(outcome, queue, (command, slot), transfers);
        false
    }

    /// Executes a command that a fault has held up.
    fn resume(self: &Arc<Self>, responder: Responder, transfers: &mut Transfers) {
        let Responder {
            session: _,
            queue,
            command,
            slot,
            passes,
        } = responder;
        if self.shut.load(Ordering::Acquire) {
            // CSTS.SHST said that the power may go: nothing is changed any more, and nobody waits.
            return;
        }
        let view = self.drive.memory.view();
        match self.execute(&queue, &command, &view, transfers) {
            Outcome::Done(result) => {
                self.complete_in(&view, &queue, slot, &command, result);
                self.signal(&queue.completions);
            }
            outcome => self.go_on(outcome, &queue, (&command, slot), transfers),
        }
        drop(passes);
    }

    fn execute(
        self: &Arc<Self>,
        queue: &SubmissionQueue,
        command: &Submission,
        memory: &View,
        transfers: &mut Transfers,
    ) -> Outcome {
        if queue.id == 0 {
            admin::execute(self, command)
        } else {
            let means = Means {
                memory,
                transfers,
                queue,
            };
            io::execute(self, command, means)
        }
    }

    /// Lets a command go on that has not ended.
    fn go_on(
        self: &Arc<Self>,
        outcome: Outcome,
        queue: &Arc<SubmissionQueue>,
        (command, slot): (&Submission, Slot),
        transfers: &mut Transfers,
    ) {
        match outcome {
            Outcome::Done(result) => self.complete(queue, slot, command, result),
            Outcome::Kept => {}
            Outcome::Transfer(transfer, work) => {
                queue.start(self, (command, slot), (transfer, work), transfers);
            }
            Outcome::Later(later) => {
                // Both gates were entered by the caller; they may have been closed since, and then the
                // command is cancelled with the queue.
                if let (Some(pass), Some(queue_pass)) = (self.gate.enter(), queue.gate.enter()) {
                    later(Responder {
                        session: Arc::clone(self),
                        queue: Arc::clone(queue),
                        command: *command,
                        slot,
                        passes: (pass, queue_pass),
                    });
                }
            }
        }
    }

    /// Writes a command's completion and counts its error. Needs a pass, and a signal afterwards.
    pub(crate) fn complete<Q: Deref<Target = CompletionQueue>>(
        &self,
        queue: &SubmissionQueue,
        slot: Slot<Q>,
        command: &Submission,
        result: Result<u32, Status>,
    ) {
        let view = self.drive.memory.view();
        self.complete_in(&view, queue, slot, command, result);
    }

    /// The same, by a caller who looks at guest memory already.
    pub(crate) fn complete_in<Q: Deref<Target = CompletionQueue>>(
        &self,
        memory: &MemoryMap,
        queue: &SubmissionQueue,
        slot: Slot<Q>,
        command: &Submission,
        result: Result<u32, Status>,
    ) {
        let (status, dw0) = match result {
            Ok(dw0) => (Status::SUCCESS, dw0),
            Err(status) => (status, 0),
        };
        if !status.is_success() {
            self.report_failure(queue.id, command, status);
        }
        let entry = Completion::of(command, queue.id, queue.head(), status, dw0);
        slot.complete(memory, entry);
    }

    #[cold]
    fn report_failure(&self, queue: u16, command: &Submission, status: Status) {
        debug!(
            drive = %self.drive.id, queue, opcode = command.opcode, status = status.bits(),
            "NVMe command failed"
        );
        self.drive.record_error(queue, command, status);
    }
}
