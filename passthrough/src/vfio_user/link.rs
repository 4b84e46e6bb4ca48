//! The way to a server: there, gone, or given back. Requests of any thread go through it, and whoever sees that a
//! server does not answer, or has died, says so here, once.
//!
//! ```text
//! there ── a deadline missed, a message that makes no sense, the end of the connection ──> gone
//! gone ── the same device again, guest memory given to it ──> there
//! either ── release ──> released
//! ```

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::UserOptions;
use super::guest_memory::ServedMemory;
use super::holder::Holder;
use super::session::Session;
use crate::client::{ClientError, Observer};

/// See the module's header.
pub struct Link {
    /// The socket, as the user named it.
    pub name: String,
    pub path: PathBuf,
    pub options: UserOptions,
    pub memory: ServedMemory,
    pub observer: Arc<dyn Observer>,
    state: Mutex<State>,
    /// The state has changed.
    changed: Condvar,
    /// Wakes the thread that reads.
    pub wake: EventFd,
}

/// What a [`Link`]'s lock keeps.
pub struct State {
    session: Option<Arc<Session>>,
    /// How many there have been.
    sessions: u64,
    /// Why there is none.
    reason: String,
    /// The observer knows that it is gone.
    pub told: bool,
    pub released: bool,
    /// No call waits beyond this.
    bound: Option<Instant>,
    /// The process that was given guest memory, and may have it still.
    pub holder: Option<Holder>,
    /// Attempts to reconnect: begun and ended.
    pub begun: u64,
    pub ended: u64,
    /// The connection of the one under way.
    pub attempt: Option<UnixStream>,
    /// The next one is not to wait.
    pub urgent: bool,
    /// Why the last one failed.
    pub trouble: Option<String>,
    /// Why it was not quiet when that was last asked.
    unquiet: Option<String>,
}

/// Why a session ended.
pub enum End {
    /// It did not do its part in time.
    Hung(String),
    /// It left, or said what makes no sense.
    Left(String),
}

impl Link {
    /// A link that is not there yet.
    ///
    /// # Errors
    /// When the host gives no descriptor.
    pub fn new(
        path: PathBuf,
        options: UserOptions,
        memory: ServedMemory,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            name: path.display().to_string(),
            path,
            options,
            memory,
            observer,
            state: Mutex::new(State {
                session: None,
                sessions: 0,
                reason: "the server was not connected to yet".into(),
                told: true,
                released: false,
                bound: None,
                holder: None,
                begun: 0,
                ended: 0,
                attempt: None,
                urgent: false,
                trouble: None,
                unquiet: None,
            }),
            changed: Condvar::new(),
            wake: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
        })
    }

    /// The connection, if there is one.
    pub fn session(&self) -> Result<Arc<Session>, ClientError> {
        let state = self.lock();
        match &state.session {
            Some(session) => Ok(Arc::clone(session)),
            None => Err(self.gone_because(&state)),
        }
    }

    /// How many there have been.
    pub fn sessions(&self) -> u64 {
        self.lock().sessions
    }

    /// Why there is none.
    pub fn gone(&self) -> Option<String> {
        let state = self.lock();
        state.session.is_none().then(|| state.reason.clone())
    }

    /// Bounds all calls from now on.
    pub fn bound(&self, by: Option<Instant>) {
        self.lock().bound = by;
    }

    /// By when calls that begin now have to end, where something bounds them all.
    pub(super) fn bound_by(&self) -> Option<Instant> {
        self.lock().bound
    }

    /// The connection has ended. The first to say so says why; calls under way fail at once.
    pub fn end(&self, session: &Arc<Session>, end: End) {
        let (hung, reason) = match end {
            End::Hung(reason) => (true, reason),
            End::Left(reason) => (false, reason),
        };
        {
            let mut state = self.lock();
            let present = state.session.as_ref();
            if !present.is_some_and(|present| Arc::ptr_eq(present, session)) {
                return;
            }
            (state.session, state.told) = (None, false);
            session.lease.end();
            (state.reason, state.trouble) = (reason.clone(), None);
        }
        session.requests.close();
        // One that has memory by messages alone has none any more.
        if hung && self.options.fence && self.memory.is_shared() {
            session.process.kill(Duration::ZERO);
        }
        self.observer.gone(&reason);
        self.lock().told = true;
        self.changed.notify_all();
        // Its counter is never full: the thread empties it.
        let _ = self.wake.write(1);
    }

    /// The connection is there: by an attempt to reconnect, or by the first one. In one step with the attempt's end,
    /// or whoever waits for that would find no connection.
    pub fn begin(&self, session: Arc<Session>) {
        let mut state = self.lock();
        (state.attempt, state.trouble, state.unquiet) = (None, None, None);
        state.ended = state.begun;
        if state.released {
            session.lease.end();
        } else {
            state.session = Some(session);
            state.sessions += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// An attempt to reconnect has failed, with this `trouble`. Says whether the link was released meanwhile.
    pub fn fail_attempt(&self, trouble: &str) -> bool {
        let mut state = self.lock();
        (state.attempt, state.ended) = (None, state.begun);
        state.trouble = Some(trouble.to_owned());
        let released = state.released;
        drop(state);
        self.changed.notify_all();
        released
    }

    /// Ends all for good; what was under way fails.
    pub fn release(&self) {
        let (session, attempt) = {
            let mut state = self.lock();
            state.released = true;
            state.reason = "it was given back".into();
            state.holder = None;
            (state.session.take(), state.attempt.take())
        };
        if let Some(session) = session {
            session.lease.end();
            session.requests.close();
        }
        if let Some(attempt) = attempt {
            let _ = attempt.shutdown(std::net::Shutdown::Both);
        }
        self.changed.notify_all();
        let _ = self.wake.write(1);
    }

    /// Whether nobody reaches guest memory any more: no message is served, and the processes that have it, where it
    /// is shared, are known to have ended. Where servers are fenced, one that is there is let go of, and one that does
    /// not end is killed.
    pub fn is_quiet(&self) -> bool {
        let fence = self.options.fence;
        let (holder, session) = {
            let state = self.lock();
            (state.holder.clone(), state.session.clone())
        };
        if let Some(session) = &session {
            if !fence {
                return false;
            }
            let reason = "its device was not shut down";
            self.end(session, End::Hung(reason.into()));
        }
        let Some(why) = holder.and_then(|holder| holder.not_quiet(fence)) else {
            return true;
        };
        let known = self.lock().unquiet.replace(why.clone());
        if known.as_ref() != Some(&why) {
            self.observer.warn(&why);
        }
        false
    }

    /// The error of calls to a server that is gone.
    pub fn gone_error(&self) -> ClientError {
        self.gone_because(&self.lock())
    }

    fn gone_because(&self, state: &State) -> ClientError {
        let reason = match &state.trouble {
            Some(trouble) => format!("{}; since then: {trouble}", state.reason),
            None => state.reason.clone(),
        };
        ClientError::Gone {
            device: self.name.clone(),
            reason,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most until `by`.
    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, by: Instant) -> MutexGuard<'a, State> {
        let left = by.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout(state, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Tells those who wait of a change.
    pub fn tell(&self) {
        self.changed.notify_all();
    }
}

impl State {
    /// Whether `session` is the present one.
    pub fn has(&self, session: &Arc<Session>) -> bool {
        self.session
            .as_ref()
            .is_some_and(|present| Arc::ptr_eq(present, session))
    }

    /// Whether there is a connection.
    pub fn is_there(&self) -> bool {
        self.session.is_some()
    }
}
