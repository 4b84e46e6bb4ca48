//! Storage whose calls can be held up, made to fail, and counted.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::backend::{Backend, Durability, MemoryBackend};
use devices::memory::GuestSlice;

/// See the module's header.
pub(super) struct TestBackend {
    memory: MemoryBackend,
    held: Mutex<bool>,
    released: Condvar,
    /// Calls that came in.
    pub(super) entered: AtomicU32,
    pub(super) flushes: AtomicU32,
    /// Writes to stable storage.
    pub(super) stable: AtomicU32,
    pub(super) fail_flushes: AtomicBool,
}

impl TestBackend {
    pub(super) fn new(size: u64) -> Arc<Self> {
        Arc::new(Self {
            memory: MemoryBackend::new(size),
            held: Mutex::new(false),
            released: Condvar::new(),
            entered: AtomicU32::new(0),
            flushes: AtomicU32::new(0),
            stable: AtomicU32::new(0),
            fail_flushes: AtomicBool::new(false),
        })
    }

    /// Holds every call from now on, or lets them go.
    pub(super) fn hold(&self, hold: bool) {
        *self.held.lock().unwrap() = hold;
        self.released.notify_all();
    }

    /// Waits until `count` calls came in.
    pub(super) fn wait_entered(&self, count: u32) {
        for _ in 0..20_000 {
            if self.entered.load(Ordering::SeqCst) >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the backend was not called");
    }

    fn enter(&self) {
        self.entered.fetch_add(1, Ordering::SeqCst);
        let mut held = self.held.lock().unwrap();
        while *held {
            held = self.released.wait(held).unwrap();
        }
    }
}

impl Backend for TestBackend {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn deallocated_reads_zero(&self) -> bool {
        true
    }

    fn read(&self, offset: u64, into: &[GuestSlice<'_>]) -> io::Result<()> {
        self.enter();
        self.memory.read(offset, into)
    }

    fn write(&self, offset: u64, from: &[GuestSlice<'_>], how: Durability) -> io::Result<()> {
        self.enter();
        if how == Durability::Stable {
            self.stable.fetch_add(1, Ordering::SeqCst);
        }
        self.memory.write(offset, from, how)
    }

    fn flush(&self) -> io::Result<()> {
        self.enter();
        self.flushes.fetch_add(1, Ordering::SeqCst);
        if self.fail_flushes.load(Ordering::SeqCst) {
            return Err(io::Error::other("made to fail"));
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()> {
        self.enter();
        self.memory.write_zeroes(offset, length, deallocate)
    }

    fn deallocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.enter();
        self.memory.deallocate(offset, length)
    }
}
