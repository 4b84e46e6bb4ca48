//! Bounds from the command line: `[POLICY.]FIGURE=VALUE`, which has to hold in every reboot.

use std::fmt;
use std::str::FromStr;

use api::config::TeardownPolicy;
use serde::Serialize;

use super::{Figure, Reboot, Unit, policy_name};

/// Which side a bound is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// No value may be smaller.
    Min,
    /// No value may be larger.
    Max,
}

/// Why a bound was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// No value.
    #[error("a bound is FIGURE=VALUE or POLICY.FIGURE=VALUE, such as completion.teardown=520ms")]
    NoValue,
    /// No such policy.
    #[error("there is no policy `{0}`; there are serial, cookie and completion")]
    Policy(String),
    /// No such figure.
    #[error("there is no figure `{name}`; there are {}", Figure::ALL.map(Figure::name).join(", "))]
    Figure {
        /// What was given.
        name: String,
    },
    /// No value of that figure.
    #[error("`{0}` is no time; give a number with its unit: ns, us, ms or s")]
    Time(String),
    /// No value of that figure.
    #[error("`{0}` is no ratio; give a number without a unit")]
    Ratio(String),
}

/// A bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The policy whose reboots it is for; none for all.
    pub policy: Option<TeardownPolicy>,
    /// The figure.
    pub figure: Figure,
    /// The value; times in nanoseconds.
    pub value: f64,
}

impl FromStr for Bound {
    type Err = BoundError;

    fn from_str(text: &str) -> Result<Self, BoundError> {
        let (name, value) = text.split_once('=').ok_or(BoundError::NoValue)?;
        let (policy, name) = match name.split_once('.') {
            None => (None, name),
            Some((policy, name)) => {
                let known = |known: &TeardownPolicy| policy_name(*known) == policy;
                let known = POLICIES.into_iter().find(known);
                let policy = known.ok_or_else(|| BoundError::Policy(policy.to_owned()))?;
                (Some(policy), name)
            }
        };
        let figure = Figure::ALL.into_iter().find(|figure| figure.name() == name);
        let figure = figure.ok_or_else(|| BoundError::Figure {
            name: name.to_owned(),
        })?;
        let value = match figure.unit() {
            Unit::Time => time(value).ok_or_else(|| BoundError::Time(value.to_owned()))?,
            Unit::Ratio => number(value).ok_or_else(|| BoundError::Ratio(value.to_owned()))?,
        };
        Ok(Self {
            policy,
            figure,
            value,
        })
    }
}

const POLICIES: [TeardownPolicy; 3] = [
    TeardownPolicy::Serial,
    TeardownPolicy::Cookie,
    TeardownPolicy::Completion,
];

fn number(text: &str) -> Option<f64> {
    let number = text.parse().ok();
    number.filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

fn time(text: &str) -> Option<f64> {
    // `s` last: the others end with it too.
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let unit = units
        .iter()
        .find_map(|(unit, ns)| text.strip_suffix(unit).map(|number| (number, ns)));
    unit.and_then(|(text, ns)| Some(number(text)? * ns))
}

/// How a bound did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// The bound as it is written.
    pub bound: String,
    /// Which side it is on.
    pub side: Side,
    /// The worst value of all reboots it is for; none where one of them has none.
    pub worst: Option<f64>,
    /// The teardown that it is of; none if there is no reboot.
    pub teardown: Option<u64>,
    /// Whether it holds.
    pub holds: bool,
    /// The same in a sentence.
    pub said: String,
}

impl Bound {
    /// The policies it speaks of that are not among those measured. The speedup speaks of `serial` too.
    pub fn lacks(&self, measured: &[TeardownPolicy]) -> Option<TeardownPolicy> {
        let serial = (self.figure == Figure::Speedup).then_some(TeardownPolicy::Serial);
        let needed = self.policy.into_iter().chain(serial);
        needed.into_iter().find(|policy| !measured.contains(policy))
    }

    /// Holds it against the reboots.
    pub fn judge(&self, side: Side, reboots: &[Reboot]) -> Judged {
        let concerned = reboots.iter().filter(|reboot| match self.policy {
            Some(policy) => reboot.policy == policy,
            None => true,
        });
        let mut worst: Option<(Option<f64>, u64)> = None;
        for reboot in concerned {
            let value = value(self.figure, reboot, reboots);
            let is_worse = match (worst, value) {
                (None, _) => true,
                (Some((None, _)), _) => false,
                (Some(_), None) => true,
                (Some((Some(worst), _)), Some(value)) => match side {
                    Side::Min => value < worst,
                    Side::Max => value > worst,
                },
            };
            if is_worse {
                worst = Some((value, reboot.report.number));
            }
        }
        let (worst, teardown) = worst.map_or((None, None), |(worst, of)| (worst, Some(of)));
        let holds = worst.is_some_and(|worst| match side {
            Side::Min => worst >= self.value,
            Side::Max => worst <= self.value,
        });
        let edge = match side {
            Side::Min => "at least",
            Side::Max => "at most",
        };
        let limit = self.figure.show(self.value);
        let of = teardown.map_or_else(String::new, |number| format!(" (teardown {number})"));
        let found = worst.map_or_else(
            || "has no value".to_owned(),
            |worst| format!("came to {}", self.figure.show(worst)),
        );
        Judged {
            bound: self.to_string(),
            side,
            worst,
            teardown,
            holds,
            said: format!("{self}, {edge} {limit}: {found}{of}"),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(policy) = self.policy {
            write!(formatter, "{}.", policy_name(policy))?;
        }
        write!(formatter, "{}", self.figure)
    }
}

/// The value of a figure in one of the reboots.
pub(super) fn value(figure: Figure, reboot: &Reboot, reboots: &[Reboot]) -> Option<f64> {
    if figure != Figure::Speedup {
        return figure.of(reboot);
    }
    let serial =
        |other: &&Reboot| other.round == reboot.round && other.policy == TeardownPolicy::Serial;
    let serial = reboots.iter().find(serial)?;
    quotient(Figure::Teardown.of(serial)?, Figure::Teardown.of(reboot)?)
}

/// The quotient; none of a division by zero.
pub(super) fn quotient(above: f64, below: f64) -> Option<f64> {
    (below > 0.0).then(|| above / below)
}
