//! The one way to the main thread: requests, guest events, the end of a teardown, signals.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use api::request::{Reply, Request, Submit};
use devices::event::{EventSink, GuestEvent};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::device_manager::passthrough::{DeviceNews, Devices};
use crate::device_manager::teardown::TeardownRun;
use crate::vcpu::VcpuMonitor;
use crate::vmm::Done;

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
    /// The process is to end without waiting for anything.
    EndNow,
    /// Something has become of a device that is passed through.
    Device {
        /// Whose it is.
        of: Arc<Devices>,
        /// The device.
        id: String,
        /// What.
        news: DeviceNews,
    },
    /// The teardown that was started has ended.
    TeardownEnded(Box<TeardownRun>),
    /// A machine has been made or given back.
    Machine(Done),
}

/// How many boot markers may wait. A guest that writes them faster than they are dealt with loses some.
const MARKERS_WAITING: usize = 1024;

/// A queue that any thread puts messages into and the main thread empties. What a guest can put in is
/// bounded: so many boot markers, and one request to end its boot.
pub struct Mailbox {
    queue: Mutex<Queue>,
    wake: EventFd,
    /// The boot that guest events belong to now. A request of a boot that has been ended already must
    /// not end the next one: Linux asks for its reset twice.
    boot: AtomicU64,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    markers: usize,
    /// This boot's guest has asked for its end: what it asks for further makes no difference.
    ending: bool,
}

impl Queue {
    /// Whether a guest event is to be put in.
    fn admit(&mut self, event: GuestEvent) -> bool {
        match event {
            GuestEvent::BootMarker(_) if self.markers < MARKERS_WAITING => {
                self.markers += 1;
                true
            }
            GuestEvent::BootMarker(_) => false,
            GuestEvent::Reset(_) | GuestEvent::PowerOff => {
                !std::mem::replace(&mut self.ending, true)
            }
        }
    }
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
        self.queue().messages.push_back(message);
        self.wake();
    }

    /// Takes the oldest message.
    pub fn take(&self) -> Option<Message> {
        let mut queue = self.queue();
        let message = queue.messages.pop_front();
        if let Some(Message::Guest {
            event: GuestEvent::BootMarker(_),
            ..
        }) = message
        {
            queue.markers -= 1;
        }
        message
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue().messages.is_empty()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only where the counter is full, and then the main thread is awake.
        let _ = self.wake.write(1);
    }

    /// Readable while there may be messages.
    pub fn wake_fd(&self) -> &EventFd {
        &self.wake
    }

    /// Says which boot guest events belong to from now on. No vCPU runs meanwhile.
    pub fn set_boot(&self, boot: u64) {
        self.queue().ending = false;
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
        let boot = self.boot.load(Ordering::SeqCst);
        let mut queue = self.queue();
        if !queue.admit(event) {
            return;
        }
        queue.messages.push_back(Message::Guest { event, at, boot });
        drop(queue);
        self.wake();
    }
}

impl VcpuMonitor for Mailbox {
    fn failed(&self, vcpu: u8, reason: String) {
        self.put(Message::VcpuFailed { vcpu, reason });
    }
}

#[cfg(test)]
mod tests {
    use devices::event::ResetCause;

    use super::*;

    #[test]
    fn a_guest_cannot_fill_the_mailbox() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.set_boot(1);
        let send = |event| mailbox.send(event, Instant::now());
        for _ in 0..2 * MARKERS_WAITING {
            send(GuestEvent::BootMarker(1));
            send(GuestEvent::Reset(ResetCause::I8042));
        }
        let drain = || std::iter::from_fn(|| mailbox.take()).count();
        assert_eq!(drain(), MARKERS_WAITING + 1);
        assert!(mailbox.is_empty());

        send(GuestEvent::PowerOff);
        send(GuestEvent::BootMarker(2));
        assert_eq!(drain(), 1, "the boot is ending already");
        mailbox.set_boot(2);
        send(GuestEvent::PowerOff);
        assert_eq!(drain(), 1);
    }
}
