//! The crew, compiled once more over a lock and a clock of the scheduler that explores: which thread goes
//! on after each step is drawn, not left to the host.

// This is the point: the very source of the crew, over another `sync`.
#![allow(clippy::duplicate_mod)]

mod model;
mod sync;
mod tests;

#[path = "../changes.rs"]
mod changes;
#[path = "../crew.rs"]
mod crew;
#[path = "../roles.rs"]
mod roles;
#[path = "../state.rs"]
mod state;
