//! The processes that were given guest memory, as long as they may have it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lease::Lease;
use super::process::ServerProcess;

/// How long a process that was killed may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How long one may take that ends of its own accord.
const GO_WITHIN: Duration = Duration::from_millis(200);

/// Who was given memory.
#[derive(Clone)]
struct Holder {
    process: Arc<ServerProcess>,
    /// As what it has by messages.
    lease: Arc<Lease>,
}

/// See the module's header.
#[derive(Clone, Default)]
pub struct Holders(Vec<Holder>);

impl Holders {
    /// This process is given memory.
    pub fn add(&mut self, process: &Arc<ServerProcess>, lease: &Arc<Lease>) {
        self.0.push(Holder {
            process: Arc::clone(process),
            lease: Arc::clone(lease),
        });
    }

    /// Why somebody may still reach guest memory; `None` if nobody can. One that does not end of its own accord is
    /// killed where `fence` says so, and a moment is waited for its end.
    pub fn not_quiet(&self, fence: bool) -> Option<String> {
        // All first, so that they end side by side.
        let lasting: Vec<_> = (self.0.iter())
            .filter(|holder| !holder.is_rid_of_memory())
            .collect();
        if fence {
            for holder in &lasting {
                holder.lease.end();
                holder.process.kill(Duration::ZERO);
            }
        }
        let by = Instant::now() + END_WITHIN;
        lasting.iter().find_map(|holder| {
            let left = by.saturating_duration_since(Instant::now());
            let ended = fence && holder.process.has_ended(left);
            (!ended).then(|| holder.process.why_not_ended())
        })
    }

    /// Who may still write to guest memory once `coming` has it: each must have ended, or be the one that comes again.
    /// Where `fence` says so, it is killed first.
    pub fn in_the_way_of(&self, coming: &ServerProcess, fence: bool) -> Option<String> {
        let mut processes = self.0.iter().map(|holder| &holder.process);
        let stays = processes.find(|process| {
            // No more is known of it than whether it has let go of its connection.
            if !process.is_known() {
                return !process.has_left();
            }
            process.pid() != coming.pid()
                && match fence {
                    true => !process.kill(END_WITHIN),
                    // One that was killed a moment ago may still be going.
                    false => !process.has_ended(GO_WITHIN),
                }
        });
        stays.map(|process| match process.is_known() {
            true => format!("process {}, which served it before,", process.pid()),
            false => "whoever served it before".to_owned(),
        })
    }
}

impl Holder {
    /// Whether it has no memory any more, of its own accord. One that has let go of its connection may be ending: its
    /// process is given a moment.
    fn is_rid_of_memory(&self) -> bool {
        let patience = match self.process.has_left() {
            true => GO_WITHIN,
            false => Duration::ZERO,
        };
        self.lease.has_ended()
            && (!self.lease.memory().is_shared() || self.process.has_ended(patience))
    }
}
