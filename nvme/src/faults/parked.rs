//! Commands that a fault holds up. They count as work under way: each has its completion slot and its
//! passes, and is cancelled with its queue or its session.

use std::sync::Arc;
use std::time::Instant;

use super::Faults;
use super::rules::{Rule, Struck};
use crate::engine::{TimerKey, TimerKind};
use crate::gate::lock;
use crate::respond::{Deferred, Outcome, Responder};

/// What serving a command that was struck comes to.
pub(super) fn outcome(struck: Struck) -> Outcome {
    match struck {
        Struck::Status(status) => Outcome::Done(Err(status)),
        Struck::Hold(rule, wait) => {
            let since = Instant::now();
            Outcome::Later(Box::new(move |responder| {
                park(responder, rule, wait.map(|wait| since + wait));
            }))
        }
    }
}

fn park(responder: Responder, rule: Arc<Rule>, until: Option<Instant>) {
    let drive = Arc::clone(&responder.session.drive);
    let until = until.map(|at| {
        let key = TimerKey {
            owner: drive.number,
            kind: TimerKind::Command(drive.faults.next_timer()),
        };
        (key, at)
    });
    Deferred::park(responder, until, |parked| drive.faults.keep(rule, parked));
}

impl Faults {
    fn next_timer(&self) -> u64 {
        let mut state = lock(&self.state);
        state.timers += 1;
        state.timers
    }

    /// Notes a command that `rule` holds up. If the rule has been cleared since, it is let go at once.
    fn keep(&self, rule: Arc<Rule>, parked: &Arc<Deferred>) {
        let mut state = lock(&self.state);
        if state.rules.holds(&rule) {
            if state.parked.len() == state.parked.capacity() {
                // Those that ended, before the list grows.
                state.parked.retain(|(_, parked)| parked.strong_count() > 0);
            }
            state.parked.push((rule, Arc::downgrade(parked)));
            return;
        }
        drop(state);
        parked.resume();
    }
}
