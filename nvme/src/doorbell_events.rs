//! Tail doorbells that signal an eventfd each: no vCPU leaves the guest for longer than the host's kernel needs,
//! and the I/O thread of the queue is woken by what it sleeps on anyway.
//!
//! The value of the doorbell is lost on that way, so only queues with shadow doorbells are connected. A reset
//! changes nothing; a queue that is made before its session has shadow doorbells (Linux does so) is
//! disconnected before the guest hears that it has been made. Connecting and
//! disconnecting is done on the control thread alone.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use devices::io_event::IoEvents;
use tracing::{debug, warn};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use crate::drive::Drive;
use crate::engine::{Place, Serve, Transfers, Turn};
use crate::gate::lock;
use crate::queue::SubmissionQueue;
use crate::session::Session;

/// How doorbells of I/O queues came, since the controller was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorbellCounts {
    /// As writes that a vCPU, or a client, brought.
    pub written: u64,
    /// As signals of eventfds; several that come at once may count as one.
    pub signalled: u64,
}

/// See the module's header.
pub(crate) struct DoorbellEvents {
    machine: Option<Arc<dyn IoEvents>>,
    state: Mutex<State>,
    /// The last session that connected a queue.
    session: Mutex<Weak<Session>>,
    written: AtomicU64,
    signalled: AtomicU64,
}

struct State {
    /// Where the guest sees the first doorbell, while it does.
    base: Option<u64>,
    /// By the queue's identifier.
    bells: Box<[Option<Hung>]>,
    released: bool,
}

/// A bell, and where it was connected last.
struct Hung {
    bell: Arc<Bell>,
    at: Option<GuestAddress>,
}

/// The eventfd of a submission queue of this identifier, in whatever session.
struct Bell {
    drive: Weak<Drive>,
    id: u16,
    /// Where its queue was served when it was made; another thread may serve a later one.
    place: Place,
    event: Arc<EventFd>,
    /// Nobody watches it any more.
    ended: AtomicBool,
}

impl DoorbellEvents {
    /// For a drive of `queues` I/O queues. Without a `machine` every doorbell is written.
    pub(crate) fn new(machine: Option<Arc<dyn IoEvents>>, queues: u16) -> Self {
        Self {
            machine,
            state: Mutex::new(State {
                base: None,
                bells: (0..=queues).map(|_| None).collect(),
                released: false,
            }),
            session: Mutex::default(),
            written: AtomicU64::new(0),
            signalled: AtomicU64::new(0),
        }
    }

    pub(crate) fn count_write(&self) {
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> DoorbellCounts {
        DoorbellCounts {
            written: self.written.load(Ordering::Relaxed),
            signalled: self.signalled.load(Ordering::Relaxed),
        }
    }

    /// The first doorbell is at `base` now, or nowhere. Once this returns, nothing more is connected at its old
    /// place.
    pub(crate) fn placed(&self, base: Option<u64>) {
        let mut state = lock(&self.state);
        state.base = base.filter(|_| !state.released);
    }

    /// Has the doorbell of `queue`, which has a shadow, signal an eventfd if the machine has room for it.
    pub(crate) fn connect(&self, session: &Arc<Session>, queue: &SubmissionQueue) {
        let Some(machine) = &self.machine else { return };
        let drive = &session.drive;
        // What an earlier session connected may be at its place already.
        *lock(&self.session) = session.weak();
        let mut state = lock(&self.state);
        let Some(base) = state.base.filter(|_| drive.engine.can_watch()) else {
            return;
        };
        let Some(place) = state.bells.get_mut(usize::from(queue.id)) else {
            return;
        };
        let is_new = place.is_none();
        if is_new {
            match Bell::new(drive, queue) {
                Ok(bell) => *place = Some(Hung { bell, at: None }),
                Err(failure) => {
                    warn!(drive = %drive.id, "no eventfd for a doorbell: {failure}");
                    return;
                }
            }
        }
        let Some(hung) = place else { return };
        if is_new {
            // Before anything can signal it, if not before it is watched.
            let bell = Arc::clone(&hung.bell);
            drive.engine.schedule(bell.place, bell);
        }
        if hung.bell.ended.load(Ordering::Acquire) {
            return;
        }
        let at = GuestAddress(base + u64::from(queue.id) * 8);
        match machine.connect(at, &hung.bell.event) {
            Ok(()) => hung.at = Some(at),
            Err(why) => debug!(
                drive = %drive.id, queue = queue.id, "the doorbell of a queue is not an eventfd: {why}"
            ),
        }
    }

    /// Has the doorbell of the queue `id` bring its value, from when this returns.
    ///
    /// # Errors
    /// What the host says when it refuses.
    pub(crate) fn disconnect(&self, id: u16) -> io::Result<()> {
        let mut state = lock(&self.state);
        let hung = state.bells.get_mut(usize::from(id));
        if let (Some(machine), Some(Some(hung))) = (&self.machine, hung)
            && let Some(at) = hung.at
        {
            machine.disconnect(at, &hung.bell.event)?;
            hung.at = None;
        }
        Ok(())
    }

    /// Gives back what the machine gave, for good.
    pub(crate) fn release(&self, drive: &Drive) {
        let mut state = lock(&self.state);
        state.base = None;
        state.released = true;
        for hung in state.bells.iter_mut().filter_map(Option::take) {
            if let (Some(machine), Some(at)) = (&self.machine, hung.at)
                && let Err(failure) = machine.disconnect(at, &hung.bell.event)
            {
                warn!(drive = %drive.id, "an eventfd stays at a doorbell: {failure}");
            }
            hung.bell.ended.store(true, Ordering::Release);
            drive.engine.schedule(hung.bell.place, hung.bell);
        }
    }

    /// What comes of it when the host does not watch the eventfd of the queue `id` any more.
    #[cfg(test)]
    pub(crate) fn refuse(&self, id: u16) {
        let state = lock(&self.state);
        let hung = state.bells[usize::from(id)].as_ref();
        let bell = hung.map(|hung| Arc::clone(&hung.bell));
        drop(state);
        bell.expect("the queue has an eventfd").unwatched();
    }

    /// The eventfds of the queues of `session` that are connected, and where.
    pub(crate) fn connected(&self, session: &Session) -> Vec<(u64, Arc<EventFd>)> {
        let state = lock(&self.state);
        let bells = state.bells.iter().flatten();
        let connected = bells.filter_map(|hung| {
            let queue = session.submission_queue(hung.bell.id)?;
            let at = hung.at.filter(|_| queue.has_shadow())?;
            Some((at.0, Arc::clone(&hung.bell.event)))
        });
        connected.collect()
    }
}

impl Bell {
    fn new(drive: &Arc<Drive>, queue: &SubmissionQueue) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            drive: Arc::downgrade(drive),
            id: queue.id,
            place: queue.place(),
            event: Arc::new(EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?),
            ended: AtomicBool::new(false),
        }))
    }
}

impl Serve for Bell {
    /// Begins to watch the eventfd, or ends it.
    fn serve(self: Arc<Self>, transfers: &mut Transfers) -> Turn {
        let event = Arc::clone(&self.event);
        let ended = self.ended.load(Ordering::Acquire);
        let owner: Arc<dyn Serve> = self;
        if ended {
            transfers.unwatch(&owner);
        } else {
            transfers.watch(owner, event);
        }
        Turn::Done
    }

    /// Like a doorbell that is written. One of a queue that is not there is nobody's.
    fn rang(&self) {
        let Some(drive) = self.drive.upgrade() else {
            return;
        };
        let events = &drive.doorbell_events;
        events.signalled.fetch_add(1, Ordering::Relaxed);
        let session = lock(&events.session).upgrade();
        let open = session.filter(|session| session.gate.is_open());
        if let Some(session) = open
            && let Some(queue) = session.submission_queue(self.id)
        {
            queue.schedule(&session);
        }
    }

    fn unwatched(&self) {
        self.ended.store(true, Ordering::Release);
        let (drive, id) = (self.drive.clone(), self.id);
        let Some(engine) = drive.upgrade().map(|drive| Arc::clone(&drive.engine)) else {
            return;
        };
        engine.post(Box::new(move || {
            let Some(drive) = drive.upgrade() else { return };
            if let Err(failure) = drive.doorbell_events.disconnect(id) {
                warn!(drive = %drive.id, queue = id, "an eventfd that nobody watches stays: {failure}");
            }
            // What it said meanwhile nobody heard.
            let session = lock(&drive.doorbell_events.session).upgrade();
            if let Some(session) = session {
                session.schedule_all();
            }
        }));
    }
}
