//! What the engine itself costs: scheduling per device, timers, threads, the ratio to a plain loop that
//! makes the same calls, and whether running things at once ever costs more than it saves. Each figure
//! stands beside its bound. Run it with `cargo bench -p vmm --bench teardown`.

mod machines;
mod measure;
mod random;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::config::TeardownPolicy::{self, Completion, Cookie, Serial};
use devices::lifecycle::{Deadline, Phases};
use vmm::device_manager::teardown::{Graph, Target};

use machines::{Blocking, Empty, Kind, behind_ports, flat, tear_down};
use measure::{Times, row};

/// The calls and their stamps, one after the other.
fn plain_loop(graph: &Graph, target: &dyn Target) -> Vec<(Instant, Instant, Phases, bool)> {
    graph
        .nodes()
        .iter()
        .enumerate()
        .map(|(device, node)| {
            let start = Instant::now();
            let mut phases = Phases::default();
            let result = target.shut_down(device, Deadline::at(start + node.deadline), &mut phases);
            (start, Instant::now(), phases, result.is_ok())
        })
        .collect()
}

/// The bound on an empty device.
const EMPTY: Duration = Duration::from_micros(5);

fn main() {
    measure::head();
    let empty: Arc<dyn Target> = Arc::new(Empty(Duration::ZERO));
    for policy in [Completion, Cookie] {
        empty_devices(policy, Kind::Worker, &empty, None);
        empty_devices(policy, Kind::Quick, &empty, None);
    }
    for policy in [Serial, Cookie, Completion] {
        // Nothing asynchronous: the engine is not to cost more than the calls do.
        empty_devices(policy, Kind::Sync, &empty, Some(2.0));
    }

    for policy in [Completion, Cookie] {
        for (drives, latency) in [(64, 100), (512, 10)] {
            let graph = behind_ports(drives);
            let latency = Duration::from_millis(latency);
            let target: Arc<dyn Target> = Arc::new(Empty(latency));
            let times = Times::of(9, || drop(tear_down(&graph, policy, &target)));
            let label = format!("{drives} drives × {latency:?} timers behind 64 ports");
            let bound = latency + Duration::from_millis(3);
            row(&label, policy, &times, times.within(bound));
        }
    }
    let graph = behind_ports(64);
    let latency = Duration::from_millis(100);
    let target: Arc<dyn Target> = Arc::new(Blocking(latency));
    let times = Times::of(9, || drop(tear_down(&graph, Completion, &target)));
    let bound = times.within(latency + Duration::from_millis(10));
    row(
        "64 drives × 100 ms blocking calls",
        Completion,
        &times,
        bound,
    );

    random::worst();
}

fn empty_devices(policy: TeardownPolicy, kind: Kind, target: &Arc<dyn Target>, ratio: Option<f64>) {
    for devices in [10, 100, 1000, 10_000] {
        let graph = flat(devices, kind);
        let rounds = if devices < 10_000 { 401 } else { 61 };
        let mut plain = Vec::new();
        // Taken in turns, so that both see the same host.
        let times = Times::of(rounds, || {
            let start = Instant::now();
            drop(black_box(plain_loop(&graph, &**target)));
            plain.push(start.elapsed());
            let start = Instant::now();
            drop(black_box(tear_down(&graph, policy, target)));
            start.elapsed()
        });
        let plain = Times::new(plain);
        let bound = match ratio {
            Some(ratio) => times.within_ratio(&plain, ratio),
            None => times.within_each(devices, EMPTY),
        };
        row(
            &format!("{devices} empty devices, {kind}"),
            policy,
            &times,
            bound,
        );
    }
}
