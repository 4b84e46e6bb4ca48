//! A session: what exists from CC.EN 0→1 to the end of the reset that follows. Queues, features and event
//! requests live here, so that a controller reset is the end of one value.

mod interrupts;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use devices::memory::{MemoryMap, View};
use tracing::debug;

use crate::admin::{self, AsyncEvents, Event, Features};
use crate::coalescing::Coalescing;
use crate::doorbells;
use crate::drive::Drive;
use crate::engine::{Place, Transfers, Turn};
use crate::gate::Gate;
use crate::io;
use crate::namespace::Kind;
use crate::queue::{CompletionQueue, Fetch, Misplaced, ShadowBuffers, Slot, SubmissionQueue};
use crate::respond::{Outcome, Responder, Work};
use crate::spec::registers::AdminQueueAttributes;
use crate::spec::{Completion, Status, Submission};

/// Commands served before another queue of the thread gets its turn.
const BURST: u32 = 64;
/// Commands between two looks at the clock …
const CLOCK_EVERY: u32 = 8;
/// … unless one has more blocks than this.
const MANY_BLOCKS: u64 = 64;
/// How long a completion may wait for the interrupt at the end of its burst, from a look at the clock on.
const SIGNAL_WITHIN: Duration = Duration::from_micros(100);

/// See the module's header.
pub(crate) struct Session {
    pub(crate) drive: Arc<Drive>,
    /// Everybody at work on behalf of the guest. Once it is closed and empty, nobody touches its memory.
    pub(crate) gate: Arc<Gate>,
    /// Submission queues by identifier, 0 is the admin queue.
    pub(crate) submissions: Box<[ArcSwapOption<SubmissionQueue>]>,
    /// Completion queues by identifier.
    pub(crate) completions: Box<[ArcSwapOption<CompletionQueue>]>,
    pub(crate) features: Mutex<Features>,
    pub(crate) events: Mutex<AsyncEvents>,
    pub(crate) coalescing: Coalescing,
    me: Weak<Self>,
    /// There is no write cache, or the guest turned it off: every write goes to stable storage.
    pub(crate) write_through: AtomicBool,
    /// Where the guest keeps its doorbells, if in memory.
    pub(crate) shadow: ArcSwapOption<ShadowBuffers>,
    /// CSTS.CFS.
    fatal: AtomicBool,
    /// CSTS.SHST says complete: no command is fetched any more.
    shut: AtomicBool,
    /// The function was reset, perhaps with commands under way.
    pub(crate) abandoned: AtomicBool,
    /// Keeps two writers of the interrupt pin in order.
    pub(crate) pin: Mutex<()>,
}

impl Session {
    /// Makes the admin queues that AQA, ASQ and ACQ describe.
    pub(crate) fn start(
        drive: &Arc<Drive>,
        attributes: AdminQueueAttributes,
        (asq, acq): (u64, u64),
    ) -> Result<Arc<Self>, Misplaced> {
        let queues = usize::from(drive.queue_limit) + 1;
        let session = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            coalescing: Coalescing::new(drive.vectors()),
            drive: Arc::clone(drive),
            gate: Gate::new(),
            submissions: (0..queues).map(|_| ArcSwapOption::empty()).collect(),
            completions: (0..queues).map(|_| ArcSwapOption::empty()).collect(),
            features: Mutex::new(Features::new(drive.vectors(), drive.write_cache)),
            events: Mutex::default(),
            write_through: AtomicBool::new(!drive.write_cache),
            shadow: ArcSwapOption::empty(),
            fatal: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            pin: Mutex::new(()),
        });
        let entries = u32::from(attributes.acqs_z()) + 1;
        let completions = CompletionQueue::new(&drive.memory, 0, acq, entries, Some(0))?;
        let submissions = SubmissionQueue::new(
            &session,
            &drive.memory,
            (0, Place::Control),
            asq,
            u32::from(attributes.asqs_z()) + 1,
            Arc::clone(&completions),
        )?;
        completions.add_feeder(&submissions);
        (0..2).for_each(|index| drive.clear_doorbell(index));
        session.attach(&session.completions, 0, completions);
        session.attach(&session.submissions, 0, submissions);
        drive.sanitize.attend(&session);
        Ok(session)
    }

    pub(crate) fn attach<T>(&self, table: &[ArcSwapOption<T>], id: u16, queue: Arc<T>) {
        if let Some(place) = table.get(usize::from(id)) {
            place.store(Some(queue));
        }
    }

    pub(crate) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    /// Has the guest keep the doorbells of all I/O queues in `buffers`, of those to come as well.
    pub(crate) fn use_shadow(self: &Arc<Self>, buffers: ShadowBuffers) {
        self.shadow.store(Some(Arc::new(buffers)));
        for completions in self.completions.iter().skip(1) {
            if let Some(queue) = completions.load_full() {
                queue.use_shadow(buffers);
            }
        }
        for submissions in self.submissions.iter().skip(1) {
            if let Some(queue) = submissions.load_full() {
                queue.use_shadow(buffers);
                queue.schedule(self);
            }
        }
        self.connect_doorbells();
    }

    /// Has doorbells signal eventfds where they do not need their values. On the control thread.
    pub(crate) fn connect_doorbells(self: &Arc<Self>) {
        for submissions in self.submissions.iter().skip(1) {
            if let Some(queue) = submissions.load_full().filter(|queue| queue.has_shadow()) {
                self.drive.doorbell_events.connect(self, &queue);
            }
        }
    }

    pub(crate) fn submission_queue(&self, id: u16) -> Option<Arc<SubmissionQueue>> {
        self.submissions.get(usize::from(id))?.load_full()
    }

    pub(crate) fn completion_queue(&self, id: u16) -> Option<Arc<CompletionQueue>> {
        self.completions.get(usize::from(id))?.load_full()
    }

    /// Serves a burst of `queue` on the thread that owns it. Returns whether more may be waiting.
    pub(crate) fn serve(
        self: &Arc<Self>,
        queue: &Arc<SubmissionQueue>,
        transfers: &mut Transfers,
    ) -> Turn {
        let (Some(_pass), Some(_queue_pass)) = (self.gate.enter(), queue.gate.enter()) else {
            return Turn::Done;
        };
        if queue.id == 0 {
            admin::deliver_events(self);
        }
        for responder in queue.take_due() {
            self.resume(responder, transfers);
        }
        // One for the burst: regions that are removed meanwhile go at its end.
        let memory = self.drive.memory.view();
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
                Fetch::Failed => {
                    self.fail("a submission queue entry cannot be read");
                    break;
                }
            };
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
        transfers: &Transfers,
    ) -> Outcome {
        if queue.id == 0 {
            admin::execute(self, command)
        } else {
            io::execute(self, command, memory, transfers.has_ring())
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

    /// Counts the data that a transfer moved.
    pub(crate) fn count(&self, work: &Work, result: Result<(), Status>) {
        match (result, work.kind) {
            (Ok(()), Kind::Read) => self.drive.logs.count_read(work.extent.length),
            (Ok(()), Kind::Write { .. }) => self.drive.logs.count_write(work.extent.length),
            _ => {}
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
    fn complete_in<Q: Deref<Target = CompletionQueue>>(
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

    /// Has every queue served: after bus mastering came back.
    pub(crate) fn schedule_all(&self) {
        for queue in &self.submissions {
            if let Some(queue) = queue.load_full() {
                queue.schedule(self);
            }
        }
    }

    /// Lets nobody in any more, takes back what has not begun and cancels what a ring is at. What cannot be
    /// cancelled finishes; the gate says when.
    pub(crate) fn close(&self) {
        self.gate.close();
        for queue in &self.completions {
            if let Some(queue) = queue.load_full() {
                queue.forget_shadow();
            }
        }
        for queue in &self.submissions {
            if let Some(queue) = queue.load_full() {
                drop(queue.take_all_deferred());
                queue.cancel_running(self);
            }
        }
    }

    /// For a reset of the function: no completion is written and no interrupt sent from here on, by whatever
    /// is still under way.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        for queue in &self.completions {
            if let Some(queue) = queue.load_full() {
                queue.close();
            }
        }
    }

    /// Ends all service until the host resets the controller: CSTS.CFS.
    pub(crate) fn fail(&self, why: &str) {
        if !self.fatal.swap(true, Ordering::AcqRel) {
            debug!(drive = %self.drive.id, "NVMe controller fatal status: {why}");
        }
    }

    pub(crate) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }

    /// Fetches no command any more: the shutdown is complete.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::Release);
    }

    fn may_fetch(&self) -> bool {
        self.gate.is_open()
            && !self.is_fatal()
            && !self.shut.load(Ordering::Acquire)
            && self.drive.endpoint.bus_master()
    }
}
