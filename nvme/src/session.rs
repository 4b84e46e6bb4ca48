//! A session: what exists from CC.EN 0→1 to the end of the reset that follows. Queues, features and event
//! requests live here, so that a controller reset is the end of one value.

mod interrupts;
mod serve;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwapOption;
use tracing::debug;

use crate::admin::{AsyncEvents, Features};
use crate::coalescing::Coalescing;
use crate::drive::Drive;
use crate::engine::Place;
use crate::gate::Gate;
use crate::queue::{CompletionQueue, Misplaced, ShadowBuffers, SubmissionQueue};
use crate::spec::registers::AdminQueueAttributes;

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
