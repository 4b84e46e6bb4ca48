//! The process that was given guest memory last, as long as it may have it. Nobody else is given any before that.

use std::sync::Arc;
use std::time::Duration;

use super::lease::Lease;
use super::process::ServerProcess;

/// How long a process that was killed may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How long one may take that ends of its own accord.
const GO_WITHIN: Duration = Duration::from_millis(200);

/// See the module's header.
#[derive(Clone)]
pub struct Holder {
    process: Arc<ServerProcess>,
    /// As what it has by messages.
    lease: Arc<Lease>,
}

impl Holder {
    /// This process is given memory.
    pub fn new(process: &Arc<ServerProcess>, lease: &Arc<Lease>) -> Self {
        Self {
            process: Arc::clone(process),
            lease: Arc::clone(lease),
        }
    }

    /// Why it may still reach guest memory; `None` if it cannot. One that does not end of its own accord is killed where
    /// `fence` says so, and a moment is waited for its end.
    pub fn not_quiet(&self, fence: bool) -> Option<String> {
        if self.is_rid_of_memory() {
            return None;
        }
        let ended = fence && {
            self.lease.end();
            self.process.kill(END_WITHIN)
        };
        (!ended).then(|| self.process.why_not_ended())
    }

    /// Why it may still write to guest memory once `coming` has it: it must have ended, or be the one that comes again
    /// and has let go of its connection. Where `fence` says so, it is killed first.
    pub fn in_the_way_of(&self, coming: &ServerProcess, fence: bool) -> Option<String> {
        let process = &self.process;
        if process.pid() == 0 {
            // Nothing tells whether this is the same one, nor whether it goes on without its connection.
            return Some(
                "it is not known whether the process that served it before has ended: it is in no namespace that is \
                 seen here, and may still have the guest's memory: make the machine anew (vm.delete, vm.create)"
                    .to_owned(),
            );
        }
        let stays = if process.pid() == coming.pid() {
            // One of its threads may be at work on what the last connection asked for.
            !process.leaves(GO_WITHIN)
        } else if fence {
            !process.kill(END_WITHIN)
        } else {
            // One that was killed a moment ago may still be going.
            !process.has_ended(GO_WITHIN)
        };
        stays.then(|| {
            let pid = process.pid();
            format!("process {pid}, which served it before, still has the guest's memory: end it")
        })
    }

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
