//! The summary of a series: what each policy came to, and what they differ by.

use std::collections::HashMap;

use api::config::TeardownPolicy;
use api::plan::Plans;
use serde::Serialize;

use super::bound::quotient;
use super::{Bound, Figure, Judged, Reboot, Side, Spread, drawn};

/// What one policy came to. Times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicySummary {
    /// The policy.
    pub policy: TeardownPolicy,
    /// How many reboots ran under it.
    pub reboots: usize,
    /// See [`Figure`], as for those that follow.
    pub teardown_ns: Option<Spread<u64>>,
    /// What the plan says that the teardown takes; none where there is no plan.
    pub predicted_teardown_ns: Option<u64>,
    /// The critical path.
    pub critical_path_ns: Option<Spread<u64>>,
    /// Critical path ÷ teardown.
    pub efficiency: Option<Spread<f64>>,
    /// The vCPU pause.
    pub vcpu_pause_ns: Option<Spread<u64>>,
    /// The rest of the reset.
    pub reset_rest_ns: Option<Spread<u64>>,
    /// The whole reset.
    pub reset_ns: Option<Spread<u64>>,
    /// From the reset request to the guest's boot marker.
    pub ready_ns: Option<Spread<u64>>,
    /// The guest's own shutdown handshakes, first to last.
    pub guest_span_ns: Option<Spread<u64>>,
    /// How much they overlapped.
    pub guest_overlap: Option<Spread<f64>>,
    /// Devices that failed or were given up, in all reboots.
    pub failed_devices: usize,
    /// Rules that were violated, in all reboots.
    pub violations: usize,
}

/// How many times faster one policy is than another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The figure that is compared.
    pub figure: Figure,
    /// The policy compared with.
    pub reference: TeardownPolicy,
    /// The policy.
    pub policy: TeardownPolicy,
    /// Median of the reference ÷ median of the policy.
    pub of_medians: f64,
    /// The same within each round.
    pub of_rounds: Spread<f64>,
}

/// A series of reboots.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Rounds that were asked for.
    pub rounds: u64,
    /// Reboots that were measured.
    pub reboots: usize,
    /// Why there are fewer than asked for.
    pub ended_early: Option<String>,
    /// The policies, as they were asked for.
    pub policies: Vec<PolicySummary>,
    /// The other policies against the first one, which is `serial` where that was measured.
    pub ratios: Vec<Ratio>,
    /// The bounds.
    pub bounds: Vec<Judged>,
    /// Devices that failed or were given up, and violations, a sentence each.
    pub problems: Vec<String>,
    /// The numbers of the teardowns that the page and the trace have; see [`drawn`].
    pub page_has: Vec<u64>,
}

impl Summary {
    /// Sums up the reboots of `rounds` rounds under `policies`. `plans` is what the plan says of the machine,
    /// if it was asked.
    pub fn new(
        reboots: &[Reboot],
        policies: &[TeardownPolicy],
        rounds: u64,
        plans: Option<&Plans>,
        bounds: &[(Side, Bound)],
        ended_early: Option<String>,
    ) -> Self {
        let reference = policies
            .iter()
            .find(|&&policy| policy == TeardownPolicy::Serial)
            .or(policies.first());
        let others = policies.iter().filter(|&policy| Some(policy) != reference);
        let ratios = others.flat_map(|&policy| {
            [Figure::Teardown, Figure::Reset, Figure::Ready]
                .into_iter()
                .filter_map(move |figure| ratio(figure, *reference?, policy, reboots))
        });
        Self {
            rounds,
            reboots: reboots.len(),
            ended_early,
            policies: policies
                .iter()
                .map(|&policy| of_policy(policy, reboots, plans))
                .collect(),
            ratios: ratios.collect(),
            bounds: bounds
                .iter()
                .map(|(side, bound)| bound.judge(*side, reboots))
                .collect(),
            problems: reboots.iter().flat_map(problems).collect(),
            page_has: drawn(reboots, policies)
                .iter()
                .map(|reboot| reboot.report.number)
                .collect(),
        }
    }

    /// The ratio of `policy` to the reference in this figure.
    pub fn ratio(&self, figure: Figure, policy: TeardownPolicy) -> Option<&Ratio> {
        let mut ratios = self.ratios.iter();
        ratios.find(|ratio| ratio.figure == figure && ratio.policy == policy)
    }
}

/// The policy whose median teardown was the shortest; none where no reboot was measured.
pub fn quickest(reboots: &[Reboot]) -> Option<TeardownPolicy> {
    let medians = TeardownPolicy::ALL.into_iter().filter_map(|policy| {
        let own = reboots.iter().filter(|reboot| reboot.policy == policy);
        let spread = Spread::of_ns(own.map(|reboot| reboot.report.teardown_ns));
        Some((spread?.median, policy))
    });
    let quickest = medians.min_by_key(|(median, _)| *median);
    quickest.map(|(_, policy)| policy)
}

fn of_policy(policy: TeardownPolicy, reboots: &[Reboot], plans: Option<&Plans>) -> PolicySummary {
    let own = || reboots.iter().filter(|reboot| reboot.policy == policy);
    let times = |figure: Figure| {
        let values = own().filter_map(|reboot| figure.of(reboot));
        Spread::of_ns(values.map(|value| value as u64))
    };
    let ratios = |figure: Figure| Spread::of_ratios(own().filter_map(|reboot| figure.of(reboot)));
    let plan = plans.and_then(|plans| {
        let mut policies = plans.host.policies.iter();
        policies.find(|plan| plan.policy == policy)
    });
    PolicySummary {
        policy,
        reboots: own().count(),
        teardown_ns: times(Figure::Teardown),
        predicted_teardown_ns: plan.map(|plan| plan.total_ns),
        critical_path_ns: times(Figure::CriticalPath),
        efficiency: ratios(Figure::Efficiency),
        vcpu_pause_ns: times(Figure::VcpuPause),
        reset_rest_ns: times(Figure::Rest),
        reset_ns: times(Figure::Reset),
        ready_ns: times(Figure::Ready),
        guest_span_ns: times(Figure::GuestSpan),
        guest_overlap: ratios(Figure::GuestOverlap),
        failed_devices: own().map(|reboot| reboot.failed().count()).sum(),
        violations: own().map(|reboot| reboot.violations.len()).sum(),
    }
}

fn ratio(
    figure: Figure,
    reference: TeardownPolicy,
    policy: TeardownPolicy,
    reboots: &[Reboot],
) -> Option<Ratio> {
    let values = |policy: TeardownPolicy| {
        let own = reboots.iter().filter(move |reboot| reboot.policy == policy);
        own.filter_map(|reboot| Some((reboot.round, figure.of(reboot)?)))
    };
    let median = |policy| {
        let values = values(policy).map(|(_, value)| value);
        Some(Spread::of_ratios(values)?.median)
    };
    let references: HashMap<_, _> = values(reference).collect();
    let rounds =
        values(policy).filter_map(|(round, value)| quotient(*references.get(&round)?, value));
    Some(Ratio {
        figure,
        reference,
        policy,
        of_medians: quotient(median(reference)?, median(policy)?)?,
        of_rounds: Spread::of_ratios(rounds)?,
    })
}

fn problems(reboot: &Reboot) -> Vec<String> {
    let number = reboot.report.number;
    let failed = reboot.failed().map(|device| {
        let why = match &device.outcome {
            api::report::Outcome::Failed { error } => format!("failed: {error}"),
            _ => "was given up at its deadline".to_owned(),
        };
        format!("teardown {number}: {} {why}", device.id)
    });
    let violated = reboot
        .violations
        .iter()
        .map(|violation| format!("teardown {number}: {violation}"));
    failed.chain(violated).collect()
}
