//! Random small machines under each policy: running things at once must not cost more than it saves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::config::TeardownPolicy::{self, Completion, Cookie, Serial};
use devices::lifecycle::{Deadline, Finish, Phases, ShutdownError};
use vmm::device_manager::teardown::{Graph, Node, Target};

use crate::machines::tear_down;
use crate::measure::{Times, verdict};

const MACHINES: u64 = 200;
const MOST_DEVICES: u64 = 12;
/// The most a call takes, and a latency, in microseconds.
const MOST_US: u64 = 300;
/// Rounds of each policy; a machine that seems over the bound is given three times as many once more.
const ROUNDS: usize = 15;
const BOUND: Duration = Duration::from_micros(200);

/// A row of numbers that a seed gives: xorshift64*.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// Devices that sleep in their call, and then have a latency.
struct Costs(Vec<(Duration, Duration)>);

impl Target for Costs {
    fn shut_down(
        &self,
        device: usize,
        _by: Deadline,
        _phases: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        let (work, latency) = self.0[device];
        if !work.is_zero() {
            std::thread::sleep(work);
        }
        if latency.is_zero() {
            return Ok(Finish::Now);
        }
        Ok(Finish::At(Instant::now() + latency))
    }
}

fn machine(seed: u64) -> (Arc<Graph>, Arc<dyn Target>) {
    let mut draw = Draw(seed);
    let mut graph = Graph::new();
    let mut costs = Vec::new();
    let devices = 1 + draw.below(MOST_DEVICES);
    for device in 0..devices {
        let rooted = device == 0 || draw.one_in(4);
        let parent = (!rooted).then(|| draw.below(device) as usize);
        let _ = graph.add(Node {
            parent,
            asynchronous: draw.one_in(2),
            blocking: draw.one_in(2),
            ..Node::new(format!("d{device}"), "test")
        });
        let idle = draw.one_in(2);
        let mut cost = || Duration::from_micros(if idle { 0 } else { draw.below(MOST_US) });
        costs.push((cost(), cost()));
    }
    for _ in 0..draw.below(devices) {
        // Those that close a cycle are refused.
        let (consumer, supplier) = (draw.below(devices), draw.below(devices));
        let _ = graph.link(consumer as usize, supplier as usize, false);
    }
    (Arc::new(graph), Arc::new(Costs(costs)))
}

/// How much longer each policy takes than `serial`, by their medians, and by the least each took;
/// negative where it is faster.
fn differences(seed: u64, rounds: usize, policies: [TeardownPolicy; 2]) -> [[f64; 2]; 2] {
    let (graph, target) = machine(seed);
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for (policy, times) in [Serial, policies[0], policies[1]]
            .into_iter()
            .zip(&mut times)
        {
            let start = Instant::now();
            drop(tear_down(&graph, policy, &target));
            times.push(start.elapsed());
        }
    }
    let [serial, one, two] = times.map(|times| {
        let times = Times::new(times);
        [times.median(), times.least()].map(|time| time.as_secs_f64())
    });
    [one, two].map(|policy| [policy[0] - serial[0], policy[1] - serial[1]])
}

/// Prints the worst difference to `serial`.
pub fn worst() {
    let policies = [Completion, Cookie];
    let mut worst = [(f64::MIN, 0); 2];
    let mut worst_least = [f64::MIN; 2];
    let mut over = [0; 2];
    for number in 0..MACHINES {
        let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number + 1);
        let mut found = differences(seed, ROUNDS, policies);
        if found.iter().any(|found| found[0] > BOUND.as_secs_f64()) {
            found = differences(seed, 3 * ROUNDS, policies);
        }
        for (policy, [median, least]) in found.into_iter().enumerate() {
            over[policy] += usize::from(median > BOUND.as_secs_f64());
            worst_least[policy] = worst_least[policy].max(least);
            if median > worst[policy].0 {
                worst[policy] = (median, number);
            }
        }
    }
    for (at, policy) in policies.into_iter().enumerate() {
        let (worst, number) = worst[at];
        println!(
            "{MACHINES} random machines of ≤ {MOST_DEVICES} devices: {policy:?} − Serial is {:+.1} µs at \
             worst by medians (number {number}; {} over), {:+.1} µs by the least of each, ≤ {BOUND:?}: {}",
            worst * 1e6,
            over[at],
            worst_least[at] * 1e6,
            verdict(worst <= BOUND.as_secs_f64())
        );
    }
}
