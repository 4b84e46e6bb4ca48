//! The memory of an idle controller: bytes that are allocated, counted by an allocator of this test's own. The
//! engine's threads and rings are not of a controller.
#![allow(
    unsafe_code,
    dead_code,
    clippy::expect_used,
    reason = "an allocator is unsafe by its nature; the driver is that of the benchmark, which asks more of it"
)]

#[path = "../benches/engine/driver/mod.rs"]
mod driver;

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nvme::{Engine, NullBackend};

use driver::{Guest, memory};

const CONTROLLERS: usize = 64;
const QUEUES: u16 = 8;
/// What one may take: about three times what one does.
const BOUND: usize = 32 << 10;

/// Counts the bytes that are allocated now.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_idle_controller_with_eight_queues_takes_at_most_32_kib() {
    let engine = Engine::new(NonZeroUsize::new(1)).expect("an engine");
    let memory = memory();
    let make = || {
        let backend = Arc::new(NullBackend::new(256 << 20));
        let mut guest = Guest::new(&engine, &memory, backend, QUEUES);
        // Idle, but not unused.
        guest.reads(32, || false);
        guest
    };
    // What the first one alone takes is not of each.
    let first = make();
    let before = LIVE.load(Ordering::Relaxed);
    let all: Vec<Guest> = (0..CONTROLLERS).map(|_| make()).collect();
    let each = LIVE.load(Ordering::Relaxed).saturating_sub(before) / CONTROLLERS;
    println!("{each} bytes a controller");
    assert!(each > 1 << 10, "{each} bytes: they are not counted");
    assert!(each <= BOUND, "{each} bytes a controller, {BOUND} may be");
    drop((first, all));
}
