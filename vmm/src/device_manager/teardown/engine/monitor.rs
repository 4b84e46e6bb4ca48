//! A teardown as other threads see it and change it: what is left, removal, addition.

use std::sync::Arc;

use super::Target;
use super::crew::Crew;
use crate::device_manager::teardown::graph::{GraphError, Node};

/// A device that is not yet shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    pub device: usize,
    /// Whether its teardown has started.
    pub running: bool,
    /// The devices it still waits for.
    pub waits_for: Vec<usize>,
}

/// What a removal found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The device had not been started, and is not called any more.
    Removed,
    /// The device is being shut down; that ends by itself.
    Running,
    /// The device had ended, had been given up, or removed.
    Ended,
}

/// Why a device could not join a teardown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// All devices have ended.
    #[error("{id} comes too late: the teardown is over; register it for the next one")]
    Over {
        /// The device's name.
        id: String,
    },
    /// The list refused it.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// A view of a running teardown.
#[derive(Clone)]
pub struct Monitor {
    pub(super) crew: Arc<Crew>,
}

impl Monitor {
    /// How many devices have not ended.
    pub fn left(&self) -> usize {
        self.crew.lock().schedule.left()
    }

    /// The devices that have not ended, and what each waits for.
    pub fn open(&self) -> Vec<Open> {
        self.crew.lock().open()
    }

    /// Takes a device out of the teardown. One that has not been started ends as removed, without being
    /// called, and whoever waited for it goes on. The observer may be told on this thread.
    ///
    /// What is behind it has to have ended, or to be removed first, as in the kernel: the device that it is
    /// behind does not wait for them.
    pub fn remove(&self, device: usize) -> Result<Removal, GraphError> {
        self.crew.remove(device)
    }

    /// Takes a device into the teardown, as the kernel does one registered meanwhile: it is put at the tail
    /// of what is left of the list, and shut down by `target` as a synchronous device, next in turn. Its
    /// parent waits for it, unless that one has been started: then a warning names both.
    ///
    /// Returns the device's number, which `target` and the observer are given.
    pub fn add(&self, node: Node, target: Arc<dyn Target>) -> Result<usize, AddError> {
        self.crew.add(node, target)
    }
}
