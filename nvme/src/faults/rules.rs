//! Which commands a set of faults strikes, and with what.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use devices::latency::Purpose;

use super::{CommandFault, Effect, FaultSet, FlushFault, MediaFault, QueueKind};
use crate::spec::command::io;
use crate::spec::{Status, Submission};

/// A fault of commands in force.
pub(super) struct Rule {
    fault: CommandFault,
    /// Commands that it was for.
    matched: AtomicU64,
    /// Those that it struck.
    struck: AtomicU64,
}

/// See the module's header.
pub(super) struct Rules {
    seed: u64,
    media: Vec<MediaFault>,
    rules: Vec<Arc<Rule>>,
}

/// What is done to a command.
pub(super) enum Struck {
    Status(Status),
    /// It waits so long, or until its rule is gone.
    Hold(Arc<Rule>, Option<Duration>),
}

impl Rules {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            media: Vec::new(),
            rules: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.media.is_empty() && self.rules.is_empty()
    }

    /// Whether `rule` is in force.
    pub(super) fn holds(&self, rule: &Arc<Rule>) -> bool {
        self.rules.iter().any(|other| Arc::ptr_eq(other, rule))
    }

    pub(super) fn replace(&mut self, set: &FaultSet) {
        let mut before = std::mem::take(&mut self.rules);
        let flush = set.flush.map(of_flush).into_iter();
        let faults = flush.chain(set.commands.iter().copied());
        self.rules = faults
            .map(|fault| {
                // The same fault keeps its count, and what it holds.
                match before.iter().position(|rule| rule.fault == fault) {
                    Some(at) => before.swap_remove(at),
                    None => Arc::new(Rule {
                        fault,
                        matched: AtomicU64::new(0),
                        struck: AtomicU64::new(0),
                    }),
                }
            })
            .collect();
        self.media.clone_from(&set.media);
    }

    /// Every rule counts the command, the first that strikes decides.
    pub(super) fn strike(&self, queue: u16, command: &Submission) -> Option<Struck> {
        let mut struck = None;
        for (number, rule) in (0..).zip(&self.rules) {
            let strikes = rule.counts(queue, command);
            if strikes && struck.is_none() {
                struck = Some(self.effect(number, rule));
            }
        }
        let unreadable = || {
            let bad = queue != 0 && self.media.iter().any(|media| media.is_hit_by(command));
            bad.then_some(Struck::Status(Status::UNRECOVERED_READ_ERROR))
        };
        struck.or_else(unreadable)
    }

    pub(super) fn has_bad_block(&self, namespace: u32, first: u64, count: u64) -> bool {
        let mut media = self.media.iter();
        media.any(|media| media.is_in(namespace, first, count))
    }

    fn effect(&self, number: u16, rule: &Arc<Rule>) -> Struck {
        let n = rule.struck.fetch_add(1, Ordering::Relaxed);
        match rule.fault.effect {
            Effect::Status(status) => Struck::Status(status),
            Effect::Slow(latency) => {
                let latency = latency.draw(self.seed, Purpose::Command(number), n, 0);
                Struck::Hold(Arc::clone(rule), Some(latency))
            }
            Effect::Stuck => Struck::Hold(Arc::clone(rule), None),
        }
    }
}

impl Rule {
    /// Counts `command` where the rule is for it. Returns whether it strikes.
    fn counts(&self, queue: u16, command: &Submission) -> bool {
        let fault = &self.fault;
        let kind = match queue {
            0 => QueueKind::Admin,
            _ => QueueKind::Io,
        };
        let matches = fault.queue.is_none_or(|wanted| wanted == kind)
            && fault.opcode.is_none_or(|wanted| wanted == command.opcode);
        if !matches {
            return false;
        }
        let number = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        match fault.every {
            true => number.is_multiple_of(fault.nth.max(1)),
            false => number == fault.nth,
        }
    }
}

impl MediaFault {
    fn is_hit_by(&self, command: &Submission) -> bool {
        let reads = matches!(command.opcode, io::READ | io::COMPARE | io::VERIFY);
        let (first, count) = (command.starting_block(), command.block_count());
        reads && self.is_in(command.nsid, first, count)
    }

    fn is_in(&self, namespace: u32, first: u64, count: u64) -> bool {
        namespace == self.namespace
            && first < self.first_block.saturating_add(self.blocks)
            && self.first_block < first.saturating_add(count)
    }
}

/// What a fault of flushes is to the guest's Flush command.
fn of_flush(fault: FlushFault) -> CommandFault {
    CommandFault {
        queue: Some(QueueKind::Io),
        opcode: Some(io::FLUSH),
        nth: 1,
        every: true,
        effect: match fault {
            FlushFault::Fail => Effect::Status(Status::WRITE_FAULT),
            FlushFault::Stuck => Effect::Stuck,
        },
    }
}

#[cfg(test)]
mod tests;
