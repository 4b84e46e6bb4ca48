//! Functions that can only be reset together, and what they have come to in a teardown.
//!
//! A hot reset does away with the state of all of them, and must find all of them at rest. So nobody waits, and whoever
//! comes last resets them all. Those that came before have ended well by then: that a set has not come to its reset is
//! found out after the teardown ([`super::super::Vfio::unfinished_resets`]).

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::host_path::HostPath;
use super::super::sysfs::joined;

/// Functions that can only be reset together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetSet {
    /// What they share: `slot 0000:03:00`, or `bus 0000:03`.
    pub name: String,
    /// Their addresses in the host, in order.
    pub members: Vec<String>,
}

/// A reset of several functions that was begun and not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedReset {
    /// What they share, as [`ResetSet::name`].
    pub name: String,
    /// Those whose reset has not ended well, though all of them but one may have returned without an error: their
    /// addresses in the host, in order, which are the names of their clients.
    pub members: Vec<String>,
    /// Why not, for a user: `slot 0000:03:00 was not reset: 0000:03:00.1 did not get to its reset`.
    pub reason: String,
}

/// What a device that comes to its set wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vfio) enum Coming {
    /// To be reset with it.
    ForReset,
    /// Nothing, since it was reset by itself. It is at rest now, so that the others can be reset.
    AtRest,
}

/// A set with what its members have come to, shared by those that are open.
pub(in crate::vfio) struct SharedReset {
    pub(in crate::vfio) set: ResetSet,
    pub(in crate::vfio) members: BTreeSet<HostPath>,
    /// A leaf lock.
    round: Mutex<Round>,
}

/// How far a teardown is with a set.
#[derive(Default)]
struct Round {
    number: u64,
    /// Members that are at rest and have still to be reset.
    waiting: BTreeSet<HostPath>,
    /// Members that are at rest, and were reset by themselves or with the others.
    at_rest: BTreeSet<HostPath>,
    asked: Option<Asked>,
}

/// A hot reset that was asked for and has not ended well.
enum Asked {
    UnderWay,
    Failed(String),
}

/// The hot reset is its holder's. One that is forgotten stays under way.
pub(in crate::vfio) struct Turn {
    round: u64,
    present: Vec<HostPath>,
}

impl SharedReset {
    pub(in crate::vfio) fn new(members: BTreeSet<HostPath>) -> Self {
        Self {
            set: ResetSet {
                name: shared_place(&members),
                members: members.iter().map(HostPath::to_string).collect(),
            },
            members,
            round: Mutex::default(),
        }
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `path` has come to rest. Where all of `present` are, and one of them has to be reset, that is up to
    /// this caller, who says what came of it with [`SharedReset::ended`].
    pub(in crate::vfio) fn come(
        &self,
        path: HostPath,
        coming: Coming,
        present: Vec<HostPath>,
    ) -> Option<Turn> {
        let mut round = self.round();
        match coming {
            Coming::ForReset => round.waiting.insert(path),
            Coming::AtRest => round.at_rest.insert(path),
        };
        let is_due = !round.waiting.is_empty()
            && !matches!(round.asked, Some(Asked::UnderWay))
            && present.iter().all(|member| round.rests(member));
        is_due.then(|| {
            round.asked = Some(Asked::UnderWay);
            Turn {
                round: round.number,
                present,
            }
        })
    }

    /// What came of the hot reset. A failure is known until there is another try, or it was asked for.
    pub(in crate::vfio) fn ended(&self, turn: Turn, failure: Option<&io::Error>) {
        let mut round = self.round();
        // Nobody waits for it any more where it took longer than its teardown.
        if round.number != turn.round {
            return;
        }
        match failure {
            Some(error) => round.asked = Some(Asked::Failed(error.to_string())),
            None => {
                round.asked = None;
                for member in turn.present {
                    round.waiting.remove(&member);
                    round.at_rest.insert(member);
                }
            }
        }
    }

    /// `path` is at rest no more: its guest uses it again, or it is gone. Says whether that is so without the reset that
    /// it came for.
    pub(in crate::vfio) fn leave(&self, path: HostPath) -> bool {
        let mut round = self.round();
        round.at_rest.remove(&path);
        round.waiting.remove(&path)
    }

    /// Ends the round, and says what of it is unfinished. `missing` says of a member that did not come what keeps it,
    /// if it was to come.
    pub(in crate::vfio) fn take_unfinished(
        &self,
        missing: impl Fn(HostPath) -> Option<String>,
    ) -> Option<UnfinishedReset> {
        let round = {
            let mut round = self.round();
            let next = Round {
                number: round.number + 1,
                ..Round::default()
            };
            std::mem::replace(&mut *round, next)
        };
        if round.waiting.is_empty() {
            return None;
        }
        let why = match &round.asked {
            Some(Asked::UnderWay) => "its hot reset has not ended yet".to_owned(),
            Some(Asked::Failed(error)) => format!("its hot reset failed: {error}"),
            None => {
                let absent = self.members.iter().filter(|member| !round.rests(member));
                let absent = joined(absent.filter_map(|member| missing(*member)), "; ");
                match absent.is_empty() {
                    false => absent,
                    true => "one of its functions was given back before its turn".to_owned(),
                }
            }
        };
        let mut members = round.waiting;
        if round.asked.is_some() {
            // Those too are in no defined state now.
            members.extend(round.at_rest);
        }
        let name = self.set.name.clone();
        Some(UnfinishedReset {
            reason: format!("{name} was not reset: {why}"),
            members: members.iter().map(HostPath::to_string).collect(),
            name,
        })
    }
}

impl Round {
    fn rests(&self, member: &HostPath) -> bool {
        self.waiting.contains(member) || self.at_rest.contains(member)
    }
}

/// What functions have in common.
fn shared_place(members: &BTreeSet<HostPath>) -> String {
    let Some(first) = members.first() else {
        return String::new();
    };
    let HostPath {
        domain, bus, slot, ..
    } = *first;
    if members
        .iter()
        .all(|member| (member.bus, member.slot) == (bus, slot))
    {
        format!("slot {domain:04x}:{bus:02x}:{slot:02x}")
    } else {
        format!("bus {domain:04x}:{bus:02x}")
    }
}
