//! What clients see of a machine, and change of it while it goes on.

use api::config::{BehaviourUpdate, DeviceBehaviour, VmConfig};
use api::error::{ApiError, ErrorCode};
use api::events::EventKind;
use api::state::{PolicyUpdate, TeardownPolicyInfo, VmInfo, VmState};

use super::{Machine, State};
use crate::device_manager::behaviour;

impl Machine {
    /// The machine's state and configuration.
    pub fn describe(&self) -> VmInfo {
        VmInfo {
            config: self.config.clone(),
            state: self.state(),
            memory_actual_size: self.config.memory.size,
            boot: self.boot,
            boot_markers: self.markers.clone(),
            dma: self.devices.dma(),
        }
    }

    /// What the machine is doing.
    pub fn state(&self) -> VmState {
        match self.state {
            State::Created => VmState::Created,
            State::Running => VmState::Running,
            State::Paused => VmState::Paused,
            State::TearingDown(_) => VmState::Rebooting,
            State::Stopped => VmState::Shutdown,
        }
    }

    /// What the machine was created with, and the teardown policy that is set.
    pub fn config(&self) -> &VmConfig {
        &self.config
    }

    /// How the next teardown will run.
    pub fn teardown_policy(&self) -> TeardownPolicyInfo {
        TeardownPolicyInfo {
            policy: self.config.teardown.policy,
            workers: self.config.workers(),
        }
    }

    /// Changes how teardowns run, from the next one on.
    pub fn set_teardown_policy(&mut self, update: PolicyUpdate) {
        let teardown = &mut self.config.teardown;
        let before = teardown.policy;
        let policy = update.policy.unwrap_or(before);
        teardown.policy = policy;
        teardown.workers = update.workers.or(teardown.workers);
        let workers = self.config.workers();
        self.events
            .push(EventKind::TeardownPolicyChanged { policy, workers });
        if policy != before {
            self.warn_of_order();
        }
    }

    /// How a device behaves.
    pub fn behaviour(&self, id: &str) -> Result<DeviceBehaviour, ApiError> {
        let device = self.config.device(id).ok_or_else(|| no_device(id))?;
        Ok(device.behaviour(behaviour::seed(device)))
    }

    /// Changes how a device behaves: shutdowns and teardowns that begin from now on, and faults at once. In
    /// every state: a drive may recover, or die, in the middle of a teardown.
    pub fn set_behaviour(&mut self, id: &str, update: &BehaviourUpdate) -> Result<(), ApiError> {
        let device = self.config.device_mut(id).ok_or_else(|| no_device(id))?;
        update.apply(device)?;
        self.devices.behave(device);
        self.events.push(EventKind::DeviceBehaviourChanged {
            id: id.to_owned(),
            changed: update.given(),
        });
        Ok(())
    }

    /// The device tree as it stands.
    pub fn topology(&self) -> api::state::Topology {
        self.devices.topology()
    }
}

fn no_device(id: &str) -> ApiError {
    let message = format!(
        "vm.devices/{{id}}/behaviour: no PCI device is named `{id}`; vm.topology lists them all"
    );
    ApiError::new(ErrorCode::NotFound, message).with_device(id)
}
