//! An eventfd that another process has too, and does with what it likes.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{ReadWriteFlags, preadv2};

/// An eventfd of somebody else's. Whether a write to it may block is a property of the file that both sides have
/// open, and so the other side's to change at any time.
#[derive(Debug)]
pub struct SharedEvent(File);

/// No place in a file: an eventfd has none.
const NOWHERE: u64 = u64::MAX;

impl From<OwnedFd> for SharedEvent {
    fn from(event: OwnedFd) -> Self {
        Self(File::from(event))
    }
}

impl SharedEvent {
    /// Adds 1 to the counter. A full one has told the other side already, and is left as it is: a write would
    /// wait for that side to read. One that fills it in between holds the caller up, until it reads or somebody
    /// calls [`let_go`](Self::let_go).
    pub fn signal(&self) {
        if self.is_full() == Ok(false) {
            let _ = (&self.0).write_all(&1_u64.to_ne_bytes());
        }
    }

    /// Lets whoever is held up in a signal go on: empties the counter, if it is full. One that only counts
    /// signals is never full, and keeps what it has.
    pub fn let_go(&self) {
        if self.is_full() == Ok(true) {
            self.empty();
        }
    }

    fn is_full(&self) -> rustix::io::Result<bool> {
        let mut polled = [PollFd::new(&self.0, PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&now))?;
        Ok(!polled[0].revents().contains(PollFlags::OUT))
    }

    /// Takes what the counter has, without waiting. Returns whether it had something.
    pub fn empty(&self) -> bool {
        let mut counter = [0; 8];
        let into = &mut [IoSliceMut::new(&mut counter)];
        preadv2(&self.0, into, NOWHERE, ReadWriteFlags::NOWAIT).is_ok_and(|read| read > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    /// The most that a counter holds.
    const FULL: u64 = u64::MAX - 1;

    /// An eventfd that blocks, and the other side's descriptor of it.
    fn pair() -> (SharedEvent, File) {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let theirs = File::from(event.try_clone().unwrap());
        (event.into(), theirs)
    }

    fn read(mut event: &File) -> u64 {
        let mut counter = [0; 8];
        event.read_exact(&mut counter).unwrap();
        u64::from_ne_bytes(counter)
    }

    #[test]
    fn a_full_counter_holds_nobody_up() {
        let (event, mut theirs) = pair();
        event.signal();
        event.signal();
        assert_eq!(read(&theirs), 2);
        theirs.write_all(&FULL.to_ne_bytes()).unwrap();
        event.signal();
        assert_eq!(read(&theirs), FULL);
        event.signal();
        assert_eq!(read(&theirs), 1);
    }

    #[test]
    fn whoever_waits_in_a_write_is_let_go_and_a_counter_with_room_keeps_what_it_has() {
        let (event, mut theirs) = pair();
        event.signal();
        event.let_go();
        assert_eq!(read(&theirs), 1);
        theirs.write_all(&FULL.to_ne_bytes()).unwrap();
        let (tell, told) = channel();
        let writer = std::thread::spawn(move || {
            // What a signal does that has looked too early.
            theirs.write_all(&1_u64.to_ne_bytes()).unwrap();
            tell.send(()).unwrap();
        });
        let by = std::time::Instant::now() + SOON;
        while told.try_recv().is_err() {
            event.let_go();
            assert!(std::time::Instant::now() < by, "the writer waits for ever");
            std::thread::yield_now();
        }
        writer.join().unwrap();
    }
}
