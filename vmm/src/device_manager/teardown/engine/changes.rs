//! What a monitor sees of the state, and what it changes there: removal, addition.

use std::sync::Arc;

use api::report::Outcome;

use super::state::{Record, State};
use super::sync::now;
use crate::device_manager::teardown::engine::{AddError, Open, Removal, Target};
use crate::device_manager::teardown::graph::{GraphError, Node};
use crate::device_manager::teardown::schedule::Stage;

impl State {
    /// The devices that have not ended, and what each waits for.
    pub(super) fn open(&self) -> Vec<Open> {
        (0..self.records.len())
            .filter(|&device| self.schedule.stage(device) != Stage::Ended)
            .map(|device| Open {
                device,
                running: self.schedule.stage(device) == Stage::Running,
                waits_for: self.schedule.open_waits(device),
            })
            .collect()
    }

    /// Takes a device out that has not been started.
    pub(super) fn remove(&mut self, device: usize) -> Result<Removal, GraphError> {
        if device >= self.records.len() {
            return Err(GraphError::UnknownDevice { device });
        }
        match self.schedule.remove(device) {
            Stage::Running => return Ok(Removal::Running),
            Stage::Ended => return Ok(Removal::Ended),
            Stage::Waiting => {}
        }
        let now = now();
        self.records[device].start = Some(now);
        self.stamp_end(device, now, Outcome::Removed);
        Ok(Removal::Removed)
    }

    /// Takes a device in; see `Monitor::add`.
    pub(super) fn add(&mut self, node: Node, target: Arc<dyn Target>) -> Result<usize, AddError> {
        if self.finished() {
            return Err(AddError::Over { id: node.id });
        }
        let parent = node.parent;
        // The owner's graph stays as it is: this one is copied before the first device joins.
        let graph = Arc::make_mut(&mut self.graph);
        let device = graph.add(node)?;
        if let Some(parent) = parent
            && self.schedule.stage(parent) != Stage::Waiting
        {
            self.warnings.push(format!(
                "{} joined the teardown when that of its parent {} had begun: they are not in order",
                graph.node(device).id,
                graph.node(parent).id
            ));
        }
        self.schedule.add(graph);
        graph.move_behind(device, self.schedule.next_in_turn(device));
        self.records.push(Record::default());
        self.joined.push(target);
        Ok(device)
    }

    /// What a device that joined is called through; none for the others.
    pub(super) fn joined(&self, device: usize) -> Option<Arc<dyn Target>> {
        let first = self.records.len() - self.joined.len();
        let place = device.checked_sub(first)?;
        self.joined.get(place).cloned()
    }
}
