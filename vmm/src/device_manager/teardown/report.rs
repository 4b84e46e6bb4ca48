//! From raw stamps to a teardown report: waits, critical path, efficiency.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::config::{OnTimeout, TeardownPolicy};
use api::report::{Cause, DeviceReport, GuestReport, Outcome, PhaseReport, TeardownReport};

use super::clock::{Cost, Plan, predict_by};
use super::engine::Stamp;
use super::graph::Graph;
use super::policy::Rules;
use super::waits::{Waits, lock_order};

/// A teardown that was run: what the engine measured.
#[derive(Clone, Debug)]
pub struct TeardownRun {
    /// The devices.
    pub graph: Arc<Graph>,
    /// The rules it ran under.
    pub rules: Arc<Rules>,
    /// Their policy.
    pub policy: TeardownPolicy,
    /// The bound on workers.
    pub workers: u16,
    /// The most workers used at once.
    pub workers_used: u16,
    /// When the engine began.
    pub begin: Instant,
    /// The devices' stamps, by number.
    pub stamps: Vec<Stamp>,
    /// What was done otherwise than asked for.
    pub warnings: Vec<String>,
}

/// What the engine cannot know of a reset.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Number of the teardown, from 1.
    pub number: u64,
    /// Number of the boot that it ends, from 1.
    pub boot: u64,
    /// Why.
    pub cause: Cause,
    /// When the guest asked for it.
    pub at: Instant,
    /// The same moment in nanoseconds of CLOCK_MONOTONIC, which an `Instant` does not give away.
    pub at_ns: u64,
    /// When all vCPUs stood still.
    pub vcpus_paused: Instant,
}

impl TeardownRun {
    /// The devices that failed or were given up, with what is to be done with them.
    pub fn troubled(&self) -> impl Iterator<Item = (&str, &Outcome, OnTimeout)> {
        self.graph
            .nodes()
            .iter()
            .zip(&self.stamps)
            .filter(|(_, stamp)| !matches!(stamp.outcome, Outcome::Done | Outcome::Removed))
            .map(|(node, stamp)| (node.id.as_str(), &stamp.outcome, node.on_timeout))
    }

    /// When the first device started; when the engine began if there is none.
    pub fn start(&self) -> Instant {
        self.stamps
            .iter()
            .map(|stamp| stamp.start)
            .min()
            .unwrap_or(self.begin)
    }

    /// When the last device ended.
    pub fn end(&self) -> Instant {
        self.stamps
            .iter()
            .map(|stamp| stamp.end)
            .max()
            .unwrap_or(self.begin)
    }

    /// What the policy needs for the times measured when workers are no object, by the very rules of
    /// the run, with parents' locks taken in the order of the run. Under `serial`, what `completion` needs.
    pub fn ideal(&self) -> Plan {
        let costs: Vec<Cost> = self
            .stamps
            .iter()
            .map(|stamp| Cost::latency(stamp.end - stamp.start))
            .collect();
        let rules = match self.policy {
            TeardownPolicy::Cookie | TeardownPolicy::Completion => self.rules_as_locked(),
            TeardownPolicy::Serial => Arc::new(Rules::new(&self.graph, TeardownPolicy::Completion)),
        };
        // The times are what they are: a device that overran its deadline held the others up for so long.
        predict_by(&self.graph, rules, &costs, self.stamps.len(), false)
    }

    /// The rules of the run, with whom each device waited for at a lock.
    fn rules_as_locked(&self) -> Arc<Rules> {
        let mut rules = Arc::clone(&self.rules);
        for (before, device) in lock_order(&self.graph, self.starts()) {
            // Of two that started at one moment it is not known who was first.
            if self.stamps[before].start < self.stamps[device].start {
                Arc::make_mut(&mut rules).waits_on.push_to(device, before);
            }
        }
        rules
    }

    /// In which order the devices were started; none for one that was removed before.
    fn starts(&self) -> impl Fn(usize) -> Option<(Instant, Instant)> {
        |device| {
            let stamp = &self.stamps[device];
            (stamp.outcome != Outcome::Removed).then_some((stamp.start, stamp.end))
        }
    }

    /// The report, without what comes after the teardown; see [`vcpus_resumed`] and [`guest_ready`].
    pub fn report(&self, request: &Request) -> TeardownReport {
        let since = |moment: Instant| nanos(moment.saturating_duration_since(request.at));
        let name = |device: usize| self.graph.node(device).id.clone();
        let ideal = self.ideal();
        let mut critical = vec![false; self.stamps.len()];
        for device in ideal.critical_chain() {
            critical[device] = true;
        }
        let end = |device: usize| self.stamps[device].end;
        let waits = Waits::new(&self.graph, &self.rules, self.starts(), end);
        let mut by_end: Vec<usize> = (0..self.stamps.len()).collect();
        by_end.sort_by_key(|&device| self.stamps[device].end);
        let mut positions = vec![0; self.stamps.len()];
        for (position, &device) in self.graph.order().iter().enumerate() {
            positions[device] = position;
        }
        let devices = by_end
            .into_iter()
            .map(|device| {
                let (node, stamp) = (self.graph.node(device), &self.stamps[device]);
                let held_up_by = waits.held_up_by(device, end);
                let tasks = self.rules.tasks.as_ref();
                let cookie = |cookies: &[u32]| Some(cookies[device].into()).filter(|&at| at > 0);
                DeviceReport {
                    id: node.id.clone(),
                    address: node.address.clone(),
                    class: node.class.clone(),
                    parent: node.parent.map(name),
                    suppliers: self
                        .graph
                        .suppliers(device)
                        .iter()
                        .copied()
                        .map(name)
                        .collect(),
                    asynchronous: self.rules.asynchronous[device],
                    position: positions[device] as u64,
                    parent_lock: node.parent_lock,
                    cookie: tasks.and_then(|tasks| cookie(&tasks.cookies)),
                    waited_for_cookie: tasks.and_then(|tasks| cookie(&tasks.waits_for)),
                    ready_ns: since(held_up_by.map_or(self.begin, end)),
                    start_ns: since(stamp.start),
                    end_ns: since(stamp.end),
                    phases: stamp
                        .phases
                        .as_slice()
                        .iter()
                        .map(|phase| PhaseReport {
                            name: phase.name.to_owned(),
                            // A device that was given up had planned beyond its deadline.
                            start_ns: since(phase.start.min(stamp.end)),
                            end_ns: since(phase.end.min(stamp.end)),
                        })
                        .collect(),
                    modelled_ns: stamp.phases.modelled().map(nanos),
                    waited_on: self.rules.waits_on[device]
                        .iter()
                        .copied()
                        .map(name)
                        .collect(),
                    held_up_by: held_up_by.map(name),
                    critical: critical[device],
                    reset_set: None,
                    outcome: stamp.outcome.clone(),
                }
            })
            .collect();
        let teardown = self.end() - self.start();
        TeardownReport {
            number: request.number,
            boot: request.boot,
            cause: request.cause,
            policy: self.policy,
            workers: self.workers,
            workers_used: self.workers_used,
            at_ns: request.at_ns,
            vcpu_pause_ns: since(request.vcpus_paused),
            teardown_ns: nanos(teardown),
            teardown_start_ns: since(self.start()),
            reset_rest_ns: None,
            reset_ns: None,
            reset_to_ready_ns: None,
            serial_sum_ns: nanos(
                self.stamps
                    .iter()
                    .map(|stamp| stamp.end - stamp.start)
                    .sum(),
            ),
            critical_path_ns: nanos(ideal.total),
            efficiency: if teardown.is_zero() {
                1.0
            } else {
                ideal.total.as_secs_f64() / teardown.as_secs_f64()
            },
            devices,
            warnings: self.warnings.clone(),
            guest: GuestReport::default(),
        }
    }
}

/// Completes a report when the vCPUs run again, `since_request` after the reset request.
pub fn vcpus_resumed(report: &mut TeardownReport, since_request: Duration) {
    let reset = nanos(since_request);
    report.reset_ns = Some(reset);
    report.reset_rest_ns = Some(
        reset
            .saturating_sub(report.vcpu_pause_ns)
            .saturating_sub(report.teardown_ns),
    );
}

/// Completes a report when the guest's first boot marker is seen. Later markers change nothing.
pub fn guest_ready(report: &mut TeardownReport, since_request: Duration) {
    report.reset_to_ready_ns.get_or_insert(nanos(since_request));
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
