//! The one way to the main thread: requests, guest events, the end of a teardown, signals.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use api::request::{Reply, Request, Submit};
use devices::event::{EventSink, GuestEvent};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::device_manager::teardown::TeardownRun;
use crate::vcpu::VcpuMonitor;

/// Something that the main thread has to deal with.
pub enum Message {
    /// A client's request, and where its answer goes.
    Request(Request, Reply),
    /// A guest event, with the boot in which it was sent.
    Guest {
        /// What the guest asked for.
        event: GuestEvent,
        /// When it did.
        at: Instant,
        /// Number of the boot that it belongs to.
        boot: u64,
    },
    /// A vCPU can't go on.
    VcpuFailed {
        /// Its index.
        vcpu: u8,
        /// Why.
        reason: String,
    },
    /// The teardown that was started has ended.
    TeardownEnded(Box<TeardownRun>),
}

/// A queue that any thread puts messages into and the main thread empties.
pub struct Mailbox {
    queue: Mutex<VecDeque<Message>>,
    wake: EventFd,
    /// The boot that guest events belong to now. A request of a boot that has been ended already must
    /// not end the next one: Linux asks for its reset twice.
    boot: AtomicU64,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::default(),
            wake: EventFd::new(EFD_NONBLOCK)?,
            boot: AtomicU64::new(0),
        })
    }

    /// Puts `message` in and wakes the main thread.
    pub fn put(&self, message: Message) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(message);
        // Fails only where the counter is full, and then the main thread is awake.
        let _ = self.wake.write(1);
    }

    /// Takes the oldest message.
    pub fn take(&self) -> Option<Message> {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    /// Readable while there may be messages.
    pub fn wake_fd(&self) -> &EventFd {
        &self.wake
    }

    /// Says which boot guest events belong to from now on.
    pub fn set_boot(&self, boot: u64) {
        self.boot.store(boot, Ordering::SeqCst);
    }
}

impl Submit for Mailbox {
    fn submit(&self, request: Request, reply: Reply) {
        self.put(Message::Request(request, reply));
    }
}

impl EventSink for Mailbox {
    fn send(&self, event: GuestEvent, at: Instant) {
        self.put(Message::Guest {
            event,
            at,
            boot: self.boot.load(Ordering::SeqCst),
        });
    }
}

impl VcpuMonitor for Mailbox {
    fn failed(&self, vcpu: u8, reason: String) {
        self.put(Message::VcpuFailed { vcpu, reason });
    }
}
