//! How devices that are passed through are reset: with others, by themselves, or not at all.

use api::config::VmConfig;
use api::report::{DeviceReport, Outcome};
use passthrough::vfio::UnfinishedReset;

use super::super::resets::{Resets, SharedReset};
use super::{Passed, Passthrough};

impl Passthrough {
    /// How the devices of `config` that are passed through are reset.
    pub(in crate::device_manager) fn resets(&self, config: &VmConfig) -> Resets {
        let mut resets = Resets::default();
        for (_, device) in config.devices() {
            let Some(passed) = self.passed.get(device.id()) else {
                continue;
            };
            let id = device.id().to_owned();
            if !passed.function.client().has_reset() {
                resets.none.push(id.clone());
            }
            let Some(name) = passed.shared_reset() else {
                continue;
            };
            match resets.sets.iter_mut().find(|set| set.name == name) {
                Some(set) => set.ids.push(id),
                None => resets.sets.push(SharedReset {
                    name,
                    ids: vec![id],
                }),
            }
        }
        resets.sets.retain(|set| set.ids.len() > 1);
        resets
    }

    /// What a device is reset with.
    pub(in crate::device_manager) fn reset_set(&self, id: &str) -> Option<String> {
        self.passed.get(id)?.shared_reset()
    }

    /// The sets whose reset was begun and not finished in the teardown that has ended. Asking ends it: once a teardown.
    pub(in crate::device_manager) fn unfinished_resets(&self) -> Vec<UnfinishedReset> {
        let vfio = self.vfio.get();
        vfio.map(|vfio| vfio.unfinished_resets())
            .unwrap_or_default()
    }

    /// Has devices fail that ended well in a teardown, although the reset that they left to others did not.
    pub(in crate::device_manager) fn fail_members(
        &self,
        unfinished: &[UnfinishedReset],
        devices: &mut [DeviceReport],
    ) {
        for device in devices {
            let Some(passed) = self.passed.get(&device.id) else {
                continue;
            };
            let host = passed.function.client().name();
            let mut sets = unfinished.iter();
            let set = sets.find(|set| set.members.iter().any(|member| member == host));
            if let (Some(set), Outcome::Done) = (set, &device.outcome) {
                let error = set.reason.clone();
                device.outcome = Outcome::Failed { error };
            }
        }
    }
}

impl Passed {
    /// What it is reset with, where it is not alone.
    pub(super) fn shared_reset(&self) -> Option<String> {
        let set = self.set.as_ref().filter(|set| set.members.len() > 1)?;
        Some(set.name.clone())
    }
}
