//! Whom the policy has each device wait for, from the reference's rules.

use api::config::TeardownPolicy;

use super::facts::Facts;
use super::tasks::Tasks;

/// What a policy asks for.
pub(super) struct Waits {
    /// The children and consumers that have to end before each device begins.
    pub(super) dependants: Vec<Vec<usize>>,
    /// Chains of devices in which each begins when the one before has ended: all synchronous devices,
    /// backwards in the list; under `cookie` those of one task.
    pub(super) chains: Vec<Vec<usize>>,
    /// The tasks of `cookie`.
    pub(super) tasks: Option<Tasks>,
}

impl Waits {
    /// - `serial`: one chain of all devices.
    /// - `completion`: an asynchronous device waits for all its children and consumers, a synchronous one
    ///   for its asynchronous ones; the synchronous devices are one chain.
    /// - `cookie`: no device waits for another but through its task.
    pub(super) fn new(facts: &Facts<'_>) -> Self {
        let mut dependants = vec![Vec::new(); facts.len()];
        if facts.report.policy == TeardownPolicy::Cookie {
            let tasks = Tasks::new(facts);
            return Self {
                dependants,
                chains: tasks.members.clone(),
                tasks: Some(tasks),
            };
        }
        for (device, before) in dependants.iter_mut().enumerate() {
            let edges = facts.children[device]
                .iter()
                .chain(&facts.consumers[device]);
            before.extend(
                edges
                    .copied()
                    .filter(|&other| facts.is_async(device) || facts.is_async(other)),
            );
            before.sort_unstable();
            before.dedup();
        }
        let chain = facts.backwards.iter().copied();
        let chain = chain.filter(|&device| !facts.is_async(device)).collect();
        Self {
            dependants,
            chains: vec![chain],
            tasks: None,
        }
    }

    /// For each device, those it waits for by name: dependants, and the one before it in its chain.
    pub(super) fn by_name(&self) -> Vec<Vec<usize>> {
        let mut waits = self.dependants.clone();
        for pair in self.chains.iter().flat_map(|chain| chain.windows(2)) {
            if !waits[pair[1]].contains(&pair[0]) {
                waits[pair[1]].push(pair[0]);
            }
        }
        waits
    }
}
