//! Servers that are good, and ones that hang, die, come back, or make no sense; as threads, and as processes.

mod cancelled;
mod coming_back;
mod gate;
mod good;
mod hostile;
mod hung;
mod interrupts;
mod io_events;
mod opening;
mod ordinary;
mod played;
mod processes;

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::client::{Client, ClientError};
use played::{Asked, Played, Verdict};

/// A wait that ends long before in every test that passes.
const SOON: Duration = Duration::from_secs(20);
/// Where the second range of memory is, which has no file.
const REMOTE: u64 = 0x10_0000;
const MEMORY: usize = 0x1_0000;

/// What was said of a device, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Gone(String),
    Back,
    Warning(String),
}

#[derive(Default)]
struct Watcher {
    said: Mutex<Vec<(Said, Instant)>>,
    more: Condvar,
}

impl Watcher {
    fn say(&self, what: Said) {
        self.said.lock().unwrap().push((what, Instant::now()));
        self.more.notify_all();
    }

    fn said(&self) -> Vec<Said> {
        let said = self.said.lock().unwrap();
        said.iter().map(|(said, _)| said.clone()).collect()
    }

    /// Waits until this is said.
    fn hears(&self, wanted: impl Fn(&Said) -> bool) -> Said {
        let by = Instant::now() + SOON;
        let mut said = self.said.lock().unwrap();
        loop {
            if let Some((found, _)) = said.iter().find(|(said, _)| wanted(said)) {
                return found.clone();
            }
            let left = by.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "only {said:?}");
            said = self.more.wait_timeout(said, left).unwrap().0;
        }
    }

    fn hears_gone(&self) -> String {
        match self.hears(|said| matches!(said, Said::Gone(_))) {
            Said::Gone(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

impl Observer for Watcher {
    fn gone(&self, reason: &str) {
        self.say(Said::Gone(reason.to_owned()));
    }

    fn back(&self) {
        self.say(Said::Back);
    }

    fn warn(&self, message: &str) {
        self.say(Said::Warning(message.to_owned()));
    }
}

/// Memory with a file, and some without.
fn memory() -> GuestMemoryMmap<()> {
    let file = File::from(memfd_create("guest", MemfdFlags::ALLOW_SEALING).unwrap());
    file.set_len(2 * MEMORY as u64).unwrap();
    let shared = FileOffset::new(file, MEMORY as u64);
    let ranges = [
        (GuestAddress(0), MEMORY, Some(shared)),
        (GuestAddress(REMOTE), MEMORY, None),
    ];
    GuestMemoryMmap::from_ranges_with_files(ranges).unwrap()
}

fn options(milliseconds: u64) -> UserOptions {
    UserOptions {
        request_timeout: Duration::from_millis(milliseconds),
        fence: false,
    }
}

/// A device with time enough for all that is to succeed.
fn open(server: &Played) -> (Arc<UserDevice>, Arc<Watcher>) {
    open_within(server, 20_000)
}

fn open_within(server: &Played, milliseconds: u64) -> (Arc<UserDevice>, Arc<Watcher>) {
    let watcher = Arc::new(Watcher::default());
    let device = connect(
        &server.path,
        options(milliseconds),
        &memory(),
        watcher.clone(),
    );
    (device.unwrap(), watcher)
}

fn event() -> EventFd {
    EventFd::new(libc::EFD_NONBLOCK).unwrap()
}

fn is_gone<T>(result: &Result<T, ClientError>) -> bool {
    matches!(result, Err(ClientError::Gone { .. }))
}

fn soon() -> devices::lifecycle::Deadline {
    devices::lifecycle::Deadline::after(SOON)
}
