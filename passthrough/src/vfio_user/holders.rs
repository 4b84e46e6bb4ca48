//! The processes that were given guest memory, as long as they may have it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::process::ServerProcess;

/// How long a process that was killed may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How long one may take that ends of its own accord.
const GO_WITHIN: Duration = Duration::from_millis(200);

/// See the module's header.
#[derive(Clone, Default)]
pub struct Holders(Vec<Arc<ServerProcess>>);

impl Holders {
    /// This process is given memory.
    pub fn add(&mut self, process: &Arc<ServerProcess>) {
        self.0.push(Arc::clone(process));
    }

    /// Whether all have ended, as far as that is known. Those that have not are killed first where `fence` says so.
    pub fn have_ended(&self, fence: bool) -> bool {
        if fence {
            for process in &self.0 {
                process.kill(Duration::ZERO);
            }
        }
        let by = Instant::now() + END_WITHIN;
        self.0.iter().all(|process| {
            let patience = match fence {
                true => by.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            process.has_ended(patience)
        })
    }

    /// Who may still write to guest memory once `coming` has it: each must have ended, or be the one that comes again.
    /// Where `fence` says so, it is killed first.
    pub fn in_the_way_of(&self, coming: &ServerProcess, fence: bool) -> Option<String> {
        let stays = self.0.iter().find(|process| {
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
