//! What the engine itself costs: scheduling per device, timers, and the ratio to a plain loop that makes
//! the same calls. Run it with `cargo bench -p vmm --bench teardown`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::config::TeardownPolicy;
use devices::lifecycle::{Deadline, Finish, Phases, ShutdownError};
use vmm::device_manager::teardown::{Graph, Node, Target, Teardown, TeardownRun, Unobserved};

const WORKERS: u16 = 64;

/// Devices that have nothing to do, or a latency.
struct Empty(Duration);

impl Target for Empty {
    fn shut_down(
        &self,
        device: usize,
        _by: Deadline,
        _phases: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        // Ports, which the graphs below name first, have no latency.
        if self.0.is_zero() || device < PORTS {
            return Ok(Finish::Now);
        }
        Ok(Finish::At(Instant::now() + self.0))
    }
}

/// Devices that sleep in their call.
struct Blocking(Duration);

impl Target for Blocking {
    fn shut_down(
        &self,
        device: usize,
        _by: Deadline,
        _phases: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        if device >= PORTS {
            std::thread::sleep(self.0);
        }
        Ok(Finish::Now)
    }
}

const PORTS: usize = 64;

/// Drives behind 64 ports. The ports' calls do not block.
fn behind_ports(drives: usize) -> Arc<Graph> {
    let mut graph = Graph::new();
    for port in 0..PORTS {
        let node = Node {
            asynchronous: true,
            blocking: false,
            ..Node::new(format!("port{port}"), "root-port")
        };
        let _ = graph.add(node);
    }
    for drive in 0..drives {
        let parent = Some(drive % PORTS);
        let _ = graph.add(Node {
            parent,
            asynchronous: true,
            ..Node::new(format!("drive{drive}"), "nvme")
        });
    }
    Arc::new(graph)
}

fn flat(devices: usize, asynchronous: bool, blocking: bool) -> Arc<Graph> {
    let mut graph = Graph::new();
    for device in 0..devices {
        let _ = graph.add(Node {
            asynchronous,
            blocking,
            ..Node::new(format!("d{device}"), "test")
        });
    }
    Arc::new(graph)
}

fn tear_down(graph: &Arc<Graph>, target: &Arc<dyn Target>) -> TeardownRun {
    let (graph, target) = (Arc::clone(graph), Arc::clone(target));
    Teardown::new(
        graph,
        TeardownPolicy::Completion,
        WORKERS,
        target,
        Arc::new(Unobserved),
    )
    .run()
}

/// The median of `rounds`.
fn median(rounds: usize, mut round: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2]
}

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

fn per_device(total: Duration, devices: usize) -> f64 {
    total.as_secs_f64() * 1e6 / devices as f64
}

fn main() {
    println!(
        "{:<58} {:>12} {:>12} {:>10}",
        "teardown (median)", "total", "a device", "× plain"
    );
    let empty: Arc<dyn Target> = Arc::new(Empty(Duration::ZERO));

    let graph = behind_ports(64);
    let total = median(201, || drop(tear_down(&graph, &empty)));
    let plain = median(201, || {
        drop(std::hint::black_box(plain_loop(&graph, &*empty)))
    });
    row(
        "64 empty drives behind 64 ports (bound: 20 µs)",
        total,
        graph.len(),
        Some(plain),
    );

    for (label, asynchronous, blocking) in [
        ("asynchronous, on workers", true, true),
        ("asynchronous, calls that do not block", true, false),
        ("synchronous", false, true),
    ] {
        for devices in [10, 100, 1000, 10_000] {
            let graph = flat(devices, asynchronous, blocking);
            let rounds = if devices < 10_000 { 201 } else { 31 };
            let total = median(rounds, || drop(tear_down(&graph, &empty)));
            let plain = median(rounds, || {
                drop(std::hint::black_box(plain_loop(&graph, &*empty)))
            });
            row(
                &format!("{devices} empty devices, {label}"),
                total,
                devices,
                Some(plain),
            );
        }
    }

    for (label, drives, latency, bound) in [
        ("64 drives × 100 ms timers (bound: 110 ms)", 64, 100, 110),
        (
            "512 drives × 10 ms timers behind 64 ports (bound: +3 ms)",
            512,
            10,
            13,
        ),
    ] {
        let graph = behind_ports(drives);
        let target: Arc<dyn Target> = Arc::new(Empty(Duration::from_millis(latency)));
        let total = median(9, || drop(tear_down(&graph, &target)));
        row(label, total, graph.len(), None);
        if total > Duration::from_millis(bound) {
            println!("  over its bound of {bound} ms");
        }
    }
    let graph = behind_ports(64);
    let target: Arc<dyn Target> = Arc::new(Blocking(Duration::from_millis(100)));
    let mut used = 0;
    let total = median(9, || used = tear_down(&graph, &target).workers_used);
    row(
        &format!("64 drives × 100 ms blocking calls, {used} workers used"),
        total,
        graph.len(),
        None,
    );
}

fn row(label: &str, total: Duration, devices: usize, plain: Option<Duration>) {
    let ratio = plain.map_or(String::new(), |plain| {
        format!("{:.2}", total.as_secs_f64() / plain.as_secs_f64())
    });
    let total_us = format!("{:.1} µs", total.as_secs_f64() * 1e6);
    println!(
        "{label:<58} {total_us:>12} {:>9.3} µs {ratio:>10}",
        per_device(total, devices)
    );
}
