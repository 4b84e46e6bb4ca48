//! Whether a lab host still lives. An emulated machine now and then loses the interrupt of a timer: then its
//! CPUs halt, nothing wakes them, and waiting for its end is waiting for its time limit.

use std::fs;
use std::time::{Duration, Instant};

/// How often the host's account is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// The work of a process's threads but the first, which in QEMU polls the console: those left are the CPUs.
#[derive(Debug)]
pub(crate) struct Pulse {
    process: u32,
    ran: u64,
    read: Instant,
    beat: Instant,
}

impl Pulse {
    /// Of the process with this number.
    pub(crate) fn of(process: u32) -> Self {
        let now = Instant::now();
        Self {
            process,
            ran: 0,
            read: now,
            beat: now,
        }
    }

    /// Whether no CPU has run for so long. A Linux that has nothing to do runs every few seconds. On a
    /// host that keeps no account of its threads it is never known.
    pub(crate) fn has_stopped(&mut self, still: Duration) -> bool {
        let now = Instant::now();
        if now - self.read < INTERVAL {
            return false;
        }
        let ran = account(self.process);
        self.note(ran, now);
        now - self.beat >= still
    }

    fn note(&mut self, ran: u64, now: Instant) {
        self.read = now;
        if ran != self.ran || ran == 0 {
            (self.ran, self.beat) = (ran, now);
        }
    }
}

/// How long the threads of a process but the first have run, in nanoseconds.
fn account(process: u32) -> u64 {
    let first = process.to_string();
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let others = threads.filter(|thread| thread.file_name() != first.as_str());
    let ran = others.filter_map(|thread| {
        let account = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        account.split_whitespace().next()?.parse::<u64>().ok()
    });
    ran.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_counted_from_the_last_beat() {
        let mut pulse = Pulse::of(1);
        let begin = pulse.beat;
        let at = |seconds| begin + Duration::from_secs(seconds);
        pulse.note(5, at(1));
        pulse.note(7, at(2));
        pulse.note(7, at(30));
        assert_eq!(pulse.beat, at(2));
        pulse.note(8, at(31));
        assert_eq!(pulse.beat, at(31));
        // No account is no stop.
        pulse.note(0, at(90));
        pulse.note(0, at(99));
        assert_eq!(pulse.beat, at(99));
    }

    #[test]
    fn work_of_a_thread_is_in_the_account() {
        let process = std::process::id();
        let end = Instant::now() + Duration::from_secs(10);
        let work = std::thread::spawn(move || {
            let before = account(process);
            while Instant::now() < end {
                let ran = account(process);
                // None at all: a host that keeps no account.
                if ran != before || ran == 0 {
                    return true;
                }
            }
            false
        });
        assert!(work.join().unwrap(), "a thread ran for ten seconds");
    }
}
