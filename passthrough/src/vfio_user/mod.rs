//! A device that a vfio-user server emulates: its connection, kept by a thread of its own; guest memory, which the
//! server maps or asks for; and what becomes of both when the server hangs, dies, and comes back.
//!
//! Nothing that a server does makes this side wait beyond a deadline, panic, or touch what is not there: each
//! request has an end, a server that misses one is gone, sizes and counts are checked, and only files that cannot
//! shrink are mapped.
//!
//! Writes are posted: the server is told that no reply is wanted, and one that comes all the same is passed over.
//! The server takes messages in their order, so that a read sees the writes of its thread before it.
//!
//! A server that is gone may still have guest memory. It is quiet when it had none but by messages, of which none is
//! being served any more; or when its process has ended, and nobody else has its end of the connection. The process is
//! the one that answered, whoever called `listen` for it. One that is in no namespace of this process, or is this
//! process or the first one, is not known, and never known to have ended; what a server hands to others that close the
//! connection is not seen. Nobody else is given memory before that process has ended, nor is it itself on another
//! connection while it has the last one: a thread of it may be at work there. That it has let go of the connection shows
//! no more than that: it may have shut it down alone, and kept the memory. So one that is not seen has no successor. With [`UserOptions::fence`] it is killed. Reads and writes of files that the kernel does for
//! a process can outlast it by a moment, as long as the storage behind them takes.
//!
//! Not implemented: live migration, dirty page logging, twin sockets, and more than one client of a server.

mod accesses;
mod borrowed_event;
mod calls;
mod candidate;
mod description;
mod enables;
mod guest_memory;
mod holder;
mod io_events;
mod irqs;
mod keeper;
mod lease;
mod link;
mod open_error;
mod process;
mod session;
mod shared_file;
mod socket;
mod user_device;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vm_memory::GuestMemoryMmap;

use crate::client::Observer;

pub use open_error::OpenError;
pub use user_device::UserDevice;

/// How a server is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserOptions {
    /// How long it may take for an answer, and to make room for a message; then it is gone.
    pub request_timeout: Duration,
    /// The process of a server that has guest memory is killed, so that it cannot reach it any more:
    ///
    /// - at once where it misses a deadline: of a request, or of a teardown;
    /// - where its device was not shut down for another reason, such as a refused reset, and the machine asks whether it
    ///   is quiet ([`Client::is_quiet`](crate::Client::is_quiet)). One that has left is given a moment to end by itself;
    /// - where another process serves the device now, and is to be given guest memory.
    ///
    /// It is the process that answered, whoever called `listen` for it. A server that has guest memory by messages
    /// alone is not killed: nobody serves them any more.
    pub fence: bool,
}

impl Default for UserOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5),
            fence: false,
        }
    }
}

/// Opens the device of the server that listens at `socket`, and gives it `memory`, which it keeps.
///
/// # Errors
/// Says which socket, why, and what to do.
pub fn connect(
    socket: &Path,
    options: UserOptions,
    memory: &GuestMemoryMmap<()>,
    observer: Arc<dyn Observer>,
) -> Result<Arc<UserDevice>, OpenError> {
    UserDevice::open(socket, options, memory, observer)
}

/// A time as a user reads it: what is about five seconds is `5 s`.
fn in_words(time: Duration) -> String {
    let tenths = (time.as_millis() + 50) / 100;
    match (tenths / 10, tenths % 10) {
        (0, _) => format!("{} ms", time.as_millis()),
        (seconds, 0) => format!("{seconds} s"),
        (seconds, tenths) => format!("{seconds}.{tenths} s"),
    }
}

#[cfg(test)]
mod tests;
