//! Reads of what the host's page cache holds: copied by the thread that asks, which no ring does sooner where
//! one read comes at a time.
#![allow(unsafe_code, reason = "preadv2 has no safe interface")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use devices::memory::GuestSlice;

use crate::engine::Vectors;

/// How many reads are not tried after the first that found nothing. Twice as many after each that follows …
const PAUSE: u32 = 4;
/// … up to this.
const LONGEST_PAUSE: u32 = 1024;

/// Whether it pays to look into the page cache: a look that finds nothing is a system call for nothing.
#[derive(Debug, Default)]
pub(super) struct Cached {
    /// Reads that are not tried yet.
    left: AtomicU32,
    /// How many were not tried the last time.
    pause: AtomicU32,
}

impl Cached {
    /// Asked for each read. Several threads may ask at the same time: then it is about as many.
    pub(super) fn is_worth_a_try(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
        }
        left == 0
    }

    /// Fills `into` from the page cache alone. Returns whether all of it was there.
    pub(super) fn read(&self, file: &File, offset: u64, into: &[GuestSlice<'_>]) -> bool {
        let wanted: usize = into.iter().map(GuestSlice::len).sum();
        let vectors = vectors_of(into);
        // SAFETY: every vector is guest memory that `into` keeps mapped during the call, which changes it as the
        // guest may at any time.
        let moved = unsafe {
            libc::preadv2(
                file.as_raw_fd(),
                vectors.as_ptr(),
                vectors.len() as libc::c_int,
                offset as i64,
                libc::RWF_NOWAIT,
            )
        };
        let done = usize::try_from(moved) == Ok(wanted);
        self.learn(done);
        done
    }

    fn learn(&self, done: bool) {
        let pause = self.pause.load(Ordering::Relaxed);
        if done {
            if pause > 0 {
                self.pause.store(0, Ordering::Relaxed);
            }
            return;
        }
        let longer = (pause * 2).clamp(PAUSE, LONGEST_PAUSE);
        self.pause.store(longer, Ordering::Relaxed);
        self.left.store(longer, Ordering::Relaxed);
    }
}

/// Addresses of the host. They are good while `slices` are.
pub(super) fn vectors_of(slices: &[GuestSlice<'_>]) -> Vectors {
    let vector = |slice: &GuestSlice<'_>| {
        let pointer = slice.ptr_guard_mut();
        libc::iovec {
            iov_base: pointer.as_ptr().cast(),
            iov_len: pointer.len(),
        }
    };
    slices.iter().map(vector).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_holds_nothing_is_asked_ever_less_and_one_that_does_each_time() {
        let cached = Cached::default();
        let tries = |reads: u32, found: bool| {
            let tried = (0..reads).filter(|_| {
                let tried = cached.is_worth_a_try();
                if tried {
                    cached.learn(found);
                }
                tried
            });
            tried.count()
        };
        assert_eq!(tries(100, true), 100);
        assert_eq!(tries(1000, false), 8, "after 4, 8, 16 … others each");
        assert!(tries(100_000, false) < 110);
        tries(LONGEST_PAUSE, true);
        assert_eq!(tries(100, true), 100);
    }
}
