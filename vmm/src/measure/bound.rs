//! Bounds from the command line: `[POLICY.]FIGURE=VALUE`, which has to hold in every reboot.

use std::fmt;
use std::str::FromStr;

use api::config::TeardownPolicy;
use serde::Serialize;

use super::{Figure, Reboot, Unit};

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
    #[error("there is no policy `{name}`; there are {}", TeardownPolicy::ALL.map(TeardownPolicy::name).join(", "))]
    Policy {
        /// What was given.
        name: String,
    },
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
    /// A speedup of what speedups are measured against.
    #[error(
        "serial has no speedup: it is what the others are compared with; bound theirs, as completion.speedup"
    )]
    SerialSpeedup,
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
                let known = |known: &TeardownPolicy| known.name() == policy;
                let known = TeardownPolicy::ALL.into_iter().find(known);
                let policy = known.ok_or_else(|| BoundError::Policy {
                    name: policy.to_owned(),
                })?;
                (Some(policy), name)
            }
        };
        let figure = Figure::ALL.into_iter().find(|figure| figure.name() == name);
        let figure = figure.ok_or_else(|| BoundError::Figure {
            name: name.to_owned(),
        })?;
        if figure == Figure::Speedup && policy == Some(TeardownPolicy::Serial) {
            return Err(BoundError::SerialSpeedup);
        }
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
    /// A policy it speaks of that is not among those measured. The speedup speaks of `serial` too, and needs
    /// one to compare with it: without a policy of its own and none but `serial` measured, the default one.
    pub fn lacks(&self, measured: &[TeardownPolicy]) -> Option<TeardownPolicy> {
        let is_speedup = self.figure == Figure::Speedup;
        let serial = is_speedup.then_some(TeardownPolicy::Serial);
        let needed = self.policy.into_iter().chain(serial);
        let lacking = needed.into_iter().find(|policy| !measured.contains(policy));
        let alone = is_speedup && measured == [TeardownPolicy::Serial];
        lacking.or_else(|| alone.then(TeardownPolicy::default))
    }

    /// Whether it is for reboots under `policy`. Nothing is faster than itself: a speedup is never of `serial`.
    fn concerns(&self, policy: TeardownPolicy) -> bool {
        match self.policy {
            Some(own) => policy == own,
            None => self.figure != Figure::Speedup || policy != TeardownPolicy::Serial,
        }
    }

    /// Holds it against the reboots.
    pub fn judge(&self, side: Side, reboots: &[Reboot]) -> Judged {
        let concerned = reboots.iter().filter(|reboot| self.concerns(reboot.policy));
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
            write!(formatter, "{policy}.")?;
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
