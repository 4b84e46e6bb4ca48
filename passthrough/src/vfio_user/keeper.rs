//! The thread of a connection: it reads all that the server sends, and while the server is gone, tries to come to it
//! again.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::lifecycle::Deadline;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing::{debug, warn};
use vfio_user::client::Reader;
use vfio_user::wire::WireError;
use vmm_sys_util::eventfd::EventFd;

use super::OpenError;
use super::borrowed_event::borrow;
use super::candidate::{Candidate, Found};
use super::description::Description;
use super::holder::Holder;
use super::irqs;
use super::lease::Lease;
use super::link::{End, Link};
use super::session::Session;
use crate::client::ClientError;

/// Messages taken before anything else is looked at.
const BURST: usize = 64;

/// Between two attempts to reconnect: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What the thread does until the link is released.
pub fn run(link: &Link, description: &Description, mut session: Arc<Session>, mut reader: Reader) {
    loop {
        serve(link, &session, &mut reader);
        drop(reader);
        drop(session);
        match reconnect(link, description) {
            Some(there) => (session, reader) = there,
            None => return,
        }
    }
}

/// Reads until the session ends.
fn serve(link: &Link, session: &Arc<Session>, reader: &mut Reader) {
    loop {
        if !link.lock().has(session) {
            return;
        }
        let resample = session.resample();
        let ready = match wait(link, reader, resample.as_deref()) {
            Ok(ready) => ready,
            Err(errno) => {
                let reason = format!("waiting for the server: {errno}");
                return link.end(session, End::Left(reason));
            }
        };
        if ready[0] {
            let _ = link.wake.read();
        }
        if let Some(resample) = resample.filter(|_| ready[2])
            && resample.read().is_ok()
        {
            // One that fails is gone, which is seen below.
            let _ = irqs::unmask_pin_unwaited(session);
        }
        for _ in 0..BURST {
            match reader.turn(&*session.lease) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return link.end(session, end(&error)),
            }
        }
    }
}

fn end(error: &WireError) -> End {
    match error {
        WireError::Closed => End::Left("the server has closed the connection, or has died".into()),
        WireError::Truncated => End::Left("the server has died within a message".into()),
        WireError::TooSlow(what) => End::Hung(format!("the server did not {what} in time")),
        error => End::Left(format!("the server makes no sense: {error}")),
    }
}

/// Which of the link's eventfd, the server and the pin's eventfd are to be looked at.
fn wait(link: &Link, reader: &Reader, resample: Option<&EventFd>) -> Result<[bool; 3], Errno> {
    let wake = borrow(&link.wake);
    let mut polled = vec![
        PollFd::from_borrowed_fd(wake, PollFlags::IN),
        PollFd::from_borrowed_fd(reader.as_fd(), reader.awaited()),
    ];
    polled.extend(resample.map(|event| PollFd::from_borrowed_fd(borrow(event), PollFlags::IN)));
    let left = (reader.due()).map(|due| due.saturating_duration_since(Instant::now()));
    let timeout = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno),
    }
    let ready = |place: usize| {
        let fd: Option<&PollFd<'_>> = polled.get(place);
        fd.is_some_and(|fd| !fd.revents().is_empty())
    };
    Ok([ready(0), ready(1), ready(2)])
}

/// Tries until the server is back with the same device, or the link is released: then there is nothing.
fn reconnect(link: &Link, description: &Description) -> Option<(Arc<Session>, Reader)> {
    let mut pause = FIRST_PAUSE;
    let mut warned = None;
    loop {
        let by = Instant::now() + pause;
        let mut state = link.lock();
        while !state.released && !(state.told && (state.urgent || by <= Instant::now())) {
            let look = by.max(Instant::now() + FIRST_PAUSE);
            state = link.wait(state, look);
        }
        if state.released {
            return None;
        }
        state.urgent = false;
        state.begun += 1;
        drop(state);
        let attempted = attempt(link, description);
        match attempted {
            Ok((session, reader)) => {
                debug!(socket = link.name, "the server is back");
                // Before it can go again.
                link.observer.back();
                let session = Arc::new(session);
                link.begin(Arc::clone(&session));
                return Some((session, reader));
            }
            Err(error) => {
                let trouble = error.to_string();
                let released = link.fail_attempt(&trouble);
                if !released && worth_a_warning(&error) && warned.as_ref() != Some(&trouble) {
                    warn!(socket = link.name, trouble, "reconnecting");
                    link.observer.warn(&trouble);
                    warned = Some(trouble);
                }
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Servers that are not there yet are what is to be expected.
fn worth_a_warning(error: &OpenError) -> bool {
    !matches!(
        error,
        OpenError::Absent(_)
            | OpenError::NobodyListens(_)
            | OpenError::Crowded(_)
            | OpenError::Left { .. }
            | OpenError::Silent { .. }
    )
}

fn attempt(link: &Link, description: &Description) -> Result<(Session, Reader), OpenError> {
    let keep = |socket: std::os::unix::net::UnixStream| {
        let mut state = link.lock();
        if state.released {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        } else {
            state.attempt = Some(socket);
        }
    };
    let candidate = Candidate::connect(&link.path, link.options.request_timeout, keep)?;
    let found = candidate.find()?;
    if let Some(difference) = description.difference(&found.description) {
        return Err(OpenError::Unusable {
            socket: link.path.clone(),
            what: format!("it is not the one that was there before: {difference}"),
        });
    }
    let lease = make_room(link, &found)?;
    found.give(lease)
}

/// A process that had guest memory before must have ended, or be the one that comes again without its last connection:
/// two would write to it.
fn make_room(link: &Link, found: &Found) -> Result<Arc<Lease>, OpenError> {
    let coming = found.process();
    if link.memory.is_shared() {
        let holder = link.lock().holder.clone();
        let in_the_way = holder.and_then(|holder| holder.in_the_way_of(coming, link.options.fence));
        if let Some(what) = in_the_way {
            return Err(OpenError::Unusable {
                socket: link.path.clone(),
                what,
            });
        }
    }
    let lease = Arc::new(Lease::new(&link.memory));
    link.lock().holder = Some(Holder::new(coming, &lease));
    Ok(lease)
}

/// Has the thread try at once, and waits for what comes of it, until `by` at most. Does nothing where the server is
/// there.
pub fn revive(link: &Link, by: Deadline) -> Result<(), ClientError> {
    let mut state = link.lock();
    // An attempt that is under way may have begun before the server was there.
    let attempts = state.begun + 1;
    state.urgent = true;
    link.tell();
    while !state.is_there() && !state.released && state.ended < attempts {
        if by.remaining().is_zero() {
            return Err(ClientError::TimedOut {
                device: link.name.clone(),
                doing: "coming to the server again".into(),
                after: Duration::ZERO,
            });
        }
        state = link.wait(state, by.instant());
    }
    if state.is_there() {
        state.urgent = false;
        return Ok(());
    }
    drop(state);
    Err(link.gone_error())
}
