//! A vector: its eventfd, and the gate that it passes on its way to the guest.
//!
//! A vector's gate is one atomic byte, so that I/O threads signal without a lock:
//!
//! ```text
//!          enable                 unmask: routes first, then the gate
//!   Off ───────────▶ Blocked ◀────────────────────────────▶ Open
//!    ▲                  │ signal                     ▲        signal: eventfd
//!    │ disable          ▼                            │
//!    └─────────── Blocked + pending ─────────────────┘ fires once
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};

use arc_swap::ArcSwapOption;
use vmm_sys_util::eventfd::EventFd;

use crate::shared_event::SharedEvent;

/// The function has MSI-X turned off: signals go nowhere.
const OFF: u8 = 1 << 2;
/// Masked: signals become pending.
const BLOCKED: u8 = 1 << 0;
const PENDING: u8 = 1 << 1;
const OPEN: u8 = 0;

/// See the module's header.
pub(super) struct Vector {
    event: EventFd,
    /// Signalled in its place: see [`Msix::connect`](super::Msix::connect).
    elsewhere: ArcSwapOption<SharedEvent>,
    gate: AtomicU8,
}

impl Vector {
    /// A vector that is off.
    ///
    /// # Errors
    /// The host has no eventfd to spare.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            event: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
            elsewhere: ArcSwapOption::empty(),
            gate: AtomicU8::new(OFF),
        })
    }

    /// Its own eventfd.
    pub(super) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Signals this one in place of its own.
    pub(super) fn connect(&self, elsewhere: Option<SharedEvent>) {
        self.elsewhere.store(elsewhere.map(Arc::new));
    }

    /// Lets whoever signals it go on.
    pub(super) fn let_go(&self) {
        if let Some(event) = &*self.elsewhere.load() {
            event.let_go();
        }
    }

    /// Interrupts, or notes that it would have.
    pub(super) fn signal(&self) {
        let mut gate = self.gate.load(Ordering::Acquire);
        loop {
            match gate {
                OPEN if self.send() => return,
                OPEN => {
                    gate = self.gate.load(Ordering::Acquire);
                    continue;
                }
                BLOCKED => {}
                _ => return,
            }
            match self.gate.compare_exchange_weak(
                BLOCKED,
                BLOCKED | PENDING,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(now) => gate = now,
            }
        }
    }

    /// Returns whether it was connected there all the time. Whoever has connected it elsewhere meanwhile may have looked
    /// at this eventfd before it was signalled; and the gate may be another's to open.
    fn send(&self) -> bool {
        let to = self.elsewhere.load();
        // A full counter means that the interrupt is already on its way.
        match &*to {
            Some(event) => event.signal(),
            None => drop(self.event.write(1)),
        }
        fence(Ordering::SeqCst);
        let now = self.elsewhere.load();
        to.as_ref().map(Arc::as_ptr) == now.as_ref().map(Arc::as_ptr)
    }

    /// Unmasks it: what is pending interrupts now.
    pub(super) fn open(&self) {
        if self.gate.swap(OPEN, Ordering::AcqRel) & PENDING != 0 {
            self.signal();
        }
    }

    /// Masks it.
    pub(super) fn block(&self) {
        // Off → blocked drops the off bit; a pending bit of a blocked gate stays.
        self.gate.fetch_or(BLOCKED, Ordering::AcqRel);
        self.gate.fetch_and(!OFF, Ordering::AcqRel);
    }

    /// What is pending is forgotten.
    pub(super) fn turn_off(&self) {
        self.gate.store(OFF, Ordering::Release);
    }

    /// Whether it would have interrupted while it was masked.
    pub(super) fn is_pending(&self) -> bool {
        self.gate.load(Ordering::Acquire) & PENDING != 0
    }
}
