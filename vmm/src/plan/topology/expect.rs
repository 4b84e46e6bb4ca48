//! What a topology file expects of its plan, and whether that is met.

use std::time::Duration;

use api::config::TeardownPolicy;
use api::plan::PlanReport;
use serde::Serialize;

use super::amount::{percent, time};
use crate::plan::report::nanos;

/// A figure of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// What a policy takes.
    Total(TeardownPolicy),
    /// What no order gets below.
    LowerBound,
}

const LOWER_BOUND: &str = "lower-bound";

impl Figure {
    /// Its name in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Total(policy) => policy.name(),
            Self::LowerBound => LOWER_BOUND,
        }
    }

    /// The figure of a plan; none if the policy was not planned for.
    fn of(self, report: &PlanReport) -> Option<u64> {
        match self {
            Self::LowerBound => Some(report.lower_bound_ns),
            Self::Total(policy) => {
                let mut plans = report.policies.iter();
                plans
                    .find(|plan| plan.policy == policy)
                    .map(|plan| plan.total_ns)
            }
        }
    }
}

/// A figure that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Where it is written, from 1.
    pub line: usize,
    /// Which figure.
    pub figure: Figure,
    /// What it should be.
    pub wanted: Duration,
    /// How far it may be off, in hundredths of a percent of what it should be.
    pub tolerance: u32,
}

/// An expectation beside what was predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// Where it is written, from 1.
    pub line: u64,
    /// A policy, whose total it is, or `lower-bound`.
    pub figure: &'static str,
    /// What it should be.
    pub wanted_ns: u64,
    /// How far it may be off, in percent of what it should be.
    pub tolerance_percent: f64,
    /// What it is; none if it was not planned for.
    pub predicted_ns: Option<u64>,
    /// Whether it is as it should be.
    pub met: bool,
}

impl Expectation {
    /// Reads what stands behind `expect`.
    pub(super) fn parse(rest: &[&str]) -> Result<Self, String> {
        let [figure, wanted, tolerance @ ..] = rest else {
            return Err(format!(
                "`expect {}`: `expect FIGURE TIME` is allowed, and `± N%` behind it",
                rest.join(" ")
            ));
        };
        let policies = TeardownPolicy::ALL.map(Figure::Total);
        let mut figures = policies.into_iter().chain([Figure::LowerBound]);
        let figure = figures.find(|known| known.name() == *figure).ok_or_else(|| {
            format!(
                "`{figure}` is no figure of a plan; `serial`, `cookie`, `completion` and `{LOWER_BOUND}` are allowed"
            )
        })?;
        let tolerance = tolerance.concat();
        let tolerance = match tolerance
            .strip_prefix('±')
            .or_else(|| tolerance.strip_prefix("+-"))
        {
            Some(amount) => percent(amount)?,
            None if tolerance.is_empty() => 0,
            None => return Err(format!("`{tolerance}` is no tolerance; `± 1%` is one")),
        };
        Ok(Self {
            line: 0,
            figure,
            wanted: time(wanted)?,
            tolerance,
        })
    }

    /// Holds it against a plan.
    pub fn check(&self, report: &PlanReport) -> Checked {
        let wanted_ns = nanos(self.wanted);
        let predicted_ns = self.figure.of(report);
        let off = predicted_ns.map(|predicted| u128::from(predicted.abs_diff(wanted_ns)));
        let allowed = u128::from(wanted_ns) * u128::from(self.tolerance);
        Checked {
            line: self.line as u64,
            figure: self.figure.name(),
            wanted_ns,
            tolerance_percent: f64::from(self.tolerance) / 100.0,
            predicted_ns,
            met: off.is_some_and(|off| off * 10_000 <= allowed),
        }
    }
}
