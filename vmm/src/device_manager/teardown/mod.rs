//! The teardown of a device hierarchy: which device is shut down when, on threads or under a virtual
//! clock, and what it was measured to take. Pure: devices, edges, flags in; an order of calls and a
//! report out.

mod clock;
mod engine;
mod graph;
mod guest;
mod lists;
mod locks;
mod policy;
mod report;
mod schedule;
#[cfg(test)]
pub(crate) mod tests;
mod waits;

pub use clock::{Cost, Plan, Planned, predict};
pub use engine::{
    AddError, Monitor, Observer, Open, OsThreads, Removal, Spawn, Stamp, Target, Teardown,
    Unobserved,
};
pub use graph::{DEFAULT_DEADLINE, Graph, GraphError, Node};
pub use guest::guest_report;
pub use lists::Lists;
pub use policy::{Rules, Tasks};
pub use report::{Request, TeardownRun, guest_ready, vcpus_resumed};
