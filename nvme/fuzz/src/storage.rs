//! Storage that blocks, and has moods: quick, slow, failing, or stuck until it is let go.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devices::memory::GuestSlice;
use nvme::backend::Durability;
use nvme::{Backend, MemoryBackend};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It ends at once.
    #[default]
    Quick,
    /// It ends a little later.
    Slow,
    /// It fails.
    Failing,
    /// It does not end before the mood changes.
    Stuck,
}

/// See the module's header.
pub struct Moody {
    bytes: MemoryBackend,
    mood: Mutex<Mood>,
    changed: Condvar,
}

impl Moody {
    /// Storage of `size` zeroes.
    pub fn new(size: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: MemoryBackend::new(size),
            mood: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Has calls from now on, and those that are stuck, fare like this.
    pub fn set(&self, mood: Mood) {
        *self.mood() = mood;
        self.changed.notify_all();
    }

    fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn suffer(&self) -> io::Result<()> {
        let mut mood = self.mood();
        while *mood == Mood::Stuck {
            mood = self
                .changed
                .wait(mood)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let now = *mood;
        drop(mood);
        match now {
            Mood::Failing => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Mood::Slow => std::thread::sleep(Duration::from_micros(300)),
            Mood::Quick | Mood::Stuck => {}
        }
        Ok(())
    }
}

impl Backend for Moody {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn deallocated_reads_zero(&self) -> bool {
        true
    }

    fn read(&self, offset: u64, into: &[GuestSlice<'_>]) -> io::Result<()> {
        self.suffer()?;
        self.bytes.read(offset, into)
    }

    fn write(
        &self,
        offset: u64,
        from: &[GuestSlice<'_>],
        durability: Durability,
    ) -> io::Result<()> {
        self.suffer()?;
        self.bytes.write(offset, from, durability)
    }

    fn flush(&self) -> io::Result<()> {
        self.suffer()
    }

    fn write_zeroes(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()> {
        self.suffer()?;
        self.bytes.write_zeroes(offset, length, deallocate)
    }

    fn deallocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.suffer()?;
        self.bytes.deallocate(offset, length)
    }
}
