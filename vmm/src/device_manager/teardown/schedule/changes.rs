//! Devices that leave a schedule or join it while it runs.

use std::sync::Arc;

use super::{Schedule, Stage};
use crate::device_manager::teardown::graph::Graph;
use crate::device_manager::teardown::locks::Locks;
use crate::device_manager::teardown::policy::Rules;

impl Schedule {
    /// Ends a device that has not been started; returns where it stood. Whoever waited for it goes on, but
    /// not before its turn.
    pub fn remove(&mut self, device: usize) -> Stage {
        let stage = self.stages[device];
        if stage == Stage::Waiting {
            self.withdraw(device);
            self.ended(device);
        }
        stage
    }

    /// Takes a device that may be ready out of the queues.
    fn withdraw(&mut self, device: usize) {
        self.ready_sync.take_if(|ready| *ready == device);
        self.ready_quick.retain(|&ready| ready != device);
        self.ready_blocking.retain(|&ready| ready != device);
        self.give_locks_back(device);
    }

    /// Takes in the device that `graph` holds last, as the kernel's backward walk meets it: synchronous, and
    /// next in turn. Its parent waits for it if it has not been started.
    pub fn add(&mut self, graph: &Graph) {
        let device = self.stages.len();
        let parent = graph.node(device).parent;
        let parent = parent.filter(|&parent| self.stages[parent] == Stage::Waiting);
        let mut place = self.turn;
        if let Some(next) = self.in_turn() {
            match self.stages[next] {
                Stage::Waiting => self.withdraw(next),
                Stage::Running | Stage::Ended => place += 1,
            }
        }
        // A synchronous parent has its turn later.
        let waits = parent.filter(|&parent| self.rules.asynchronous[parent]);
        if let Some(parent) = waits {
            self.withdraw(parent);
            self.pending[parent] += 1;
        }
        Arc::make_mut(&mut self.rules).join(place, waits);
        self.waited_on_by.push(waits);
        match &mut self.locks {
            Some(locks) => locks.join(graph.locked_parent(device), parent.is_some()),
            None => self.locks = Locks::new(graph),
        }
        self.blocking.push(graph.node(device).blocking);
        self.pending.push(0);
        self.stages.push(Stage::Waiting);
        self.left += 1;
        self.take_turn();
    }

    /// The synchronous device whose turn comes after that of `device`.
    pub fn next_in_turn(&self, device: usize) -> Option<usize> {
        let mut lane = self.rules.lane.iter().skip_while(|&&at| at != device);
        lane.nth(1).copied()
    }

    /// The rules, with those who joined.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }
}
