//! Machines to tear down, and what their devices do.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::config::TeardownPolicy;
use devices::lifecycle::{Deadline, Finish, Phases, ShutdownError};
use vmm::device_manager::teardown::{Graph, Node, Target, Teardown, TeardownRun, Unobserved};

const WORKERS: u16 = 64;

/// How many ports [`behind_ports`] names first.
const PORTS: usize = 64;

/// Devices that have nothing to do, or, but for the ports, a latency.
pub struct Empty(pub Duration);

impl Target for Empty {
    fn shut_down(
        &self,
        device: usize,
        _by: Deadline,
        _phases: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        if self.0.is_zero() || device < PORTS {
            return Ok(Finish::Now);
        }
        Ok(Finish::At(Instant::now() + self.0))
    }
}

/// Devices that, but for the ports, sleep in their call.
pub struct Blocking(pub Duration);

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

/// What a device's call runs on.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A worker: asynchronous, and may block.
    Worker,
    /// Any thread: asynchronous, and does not block.
    Quick,
    /// The calling thread.
    Sync,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "async on workers",
            Self::Quick => "async, not blocking",
            Self::Sync => "synchronous",
        })
    }
}

/// Drives behind 64 ports. The ports' calls do not block.
pub fn behind_ports(drives: usize) -> Arc<Graph> {
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

/// Devices at the root.
pub fn flat(devices: usize, kind: Kind) -> Arc<Graph> {
    let mut graph = Graph::new();
    for device in 0..devices {
        let _ = graph.add(Node {
            asynchronous: !matches!(kind, Kind::Sync),
            blocking: !matches!(kind, Kind::Quick),
            ..Node::new(format!("d{device}"), "test")
        });
    }
    Arc::new(graph)
}

pub fn tear_down(
    graph: &Arc<Graph>,
    policy: TeardownPolicy,
    target: &Arc<dyn Target>,
) -> TeardownRun {
    let (graph, target) = (Arc::clone(graph), Arc::clone(target));
    Teardown::new(graph, policy, WORKERS, target, Arc::new(Unobserved)).run()
}
