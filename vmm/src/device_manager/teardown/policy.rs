//! The rules of each policy: which devices are asynchronous and whom each of them waits for.
//! The rules are the kernel's; finding what they cannot order, and ordering it anyway, is ours.

use std::collections::VecDeque;

use api::config::TeardownPolicy;

use super::graph::Graph;
use super::lists::Lists;

pub use tasks::Tasks;

mod tasks;

/// What a policy makes of a graph. Frozen when a teardown begins.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Whether the device is shut down asynchronously under this policy.
    pub asynchronous: Vec<bool>,
    /// Whom the device waits for. A synchronous device waits for the one before it in the synchronous
    /// order too, so that no more than one of them is ever ready.
    pub waits_on: Lists,
    /// The synchronous devices in their order: backwards in the list.
    pub lane: Vec<usize>,
    /// The tasks of `cookie`; none under the other policies.
    pub tasks: Option<Tasks>,
    /// What was ordered otherwise than the tree and the links ask for.
    pub warnings: Vec<String>,
}

impl Rules {
    /// The rules of `policy` for `graph`.
    ///
    /// - `serial`: no device is asynchronous.
    /// - `cookie`: see [`Tasks`].
    /// - `completion`: an asynchronous device waits for all its children and consumers, a synchronous
    ///   one for its asynchronous children and consumers; the list covers the others.
    ///
    /// Where the rules of `completion` close a cycle, its asynchronous devices are made synchronous,
    /// with a warning. Those of `cookie` cannot: a task waits for older ones only.
    pub fn new(graph: &Graph, policy: TeardownPolicy) -> Self {
        let flags = || graph.nodes().iter().map(|node| node.asynchronous).collect();
        match policy {
            TeardownPolicy::Serial => Self::without_cycles(graph, vec![false; graph.len()]),
            TeardownPolicy::Cookie => Self::by_cookie(graph, flags()),
            TeardownPolicy::Completion => Self::without_cycles(graph, flags()),
        }
    }

    fn by_cookie(graph: &Graph, asynchronous: Vec<bool>) -> Self {
        let (tasks, mut warnings) = Tasks::new(graph, &asynchronous);
        let lane = lane(graph, &asynchronous);
        // Between two tasks the cookie orders them.
        let waits_on = Lists::from_pairs(graph.len(), || {
            let pairs = lane.windows(2).map(|pair| (pair[1], pair[0]));
            pairs.filter(|&(next, before)| tasks.cookies[next] == tasks.cookies[before])
        });
        let mut rules = Self {
            asynchronous,
            waits_on,
            lane,
            tasks: Some(tasks),
            warnings: Vec::new(),
        };
        warnings.extend(rules.inversions(graph));
        rules.warnings = warnings;
        rules
    }

    fn without_cycles(graph: &Graph, asynchronous: Vec<bool>) -> Self {
        let mut rules = Self::by_completion(graph, asynchronous);
        let mut warnings = Vec::new();
        loop {
            let cycles = rules.find_cycles();
            if cycles.is_empty() {
                break;
            }
            let described = cycles
                .iter()
                .map(|cycle| rules.describe_cycle(graph, cycle));
            warnings.extend(described);
            let mut asynchronous = rules.asynchronous;
            for device in cycles.into_iter().flatten() {
                asynchronous[device] = false;
            }
            rules = Self::by_completion(graph, asynchronous);
        }
        warnings.extend(rules.inversions(graph));
        rules.warnings = warnings;
        rules
    }

    fn by_completion(graph: &Graph, asynchronous: Vec<bool>) -> Self {
        let lane = lane(graph, &asynchronous);
        let mut before_in_lane = vec![None; graph.len()];
        for pair in lane.windows(2) {
            before_in_lane[pair[1]] = Some(pair[0]);
        }
        let mut waits_on = Lists::with_capacity(graph.len(), graph.len());
        let mut on = Vec::new();
        for device in 0..graph.len() {
            let dependants = graph.dependants(device);
            on.extend(dependants.filter(|&on| asynchronous[device] || asynchronous[on]));
            // A child may be a consumer as well; it is waited for once.
            on.sort_unstable();
            on.dedup();
            waits_on.push(on.drain(..).chain(before_in_lane[device]));
        }
        Self {
            asynchronous,
            waits_on,
            lane,
            tasks: None,
            warnings: Vec::new(),
        }
    }

    /// For each device those that wait for it, whether or not it is their turn in the synchronous order.
    pub fn waited_on_by(&self) -> Lists {
        if self.all_in_turn() {
            return Lists::empty(self.waits_on.count());
        }
        Lists::from_pairs(self.waits_on.count(), || {
            let waits = self.waits_on.iter().enumerate();
            waits.flat_map(|(device, on)| {
                let on = on.iter().filter(move |&&on| !self.is_turn(device, on));
                on.map(move |&on| (on, device))
            })
        })
    }

    /// Whether no device is asynchronous.
    pub fn all_in_turn(&self) -> bool {
        self.lane.len() == self.asynchronous.len()
    }

    /// Whether one of two devices waits for the other as its turn in the synchronous order alone.
    fn is_turn(&self, device: usize, on: usize) -> bool {
        !self.asynchronous[device] && !self.asynchronous[on]
    }

    /// Takes in a device that was registered after the rules were made: synchronous, at `place` in the
    /// synchronous order, and waited for by `parent`. It belongs to no task.
    pub(super) fn join(&mut self, place: usize, parent: Option<usize>) {
        let device = self.waits_on.count();
        self.asynchronous.push(false);
        self.waits_on
            .push(place.checked_sub(1).map(|place| self.lane[place]));
        let next = self.lane.get(place).copied();
        for waits in next.into_iter().chain(parent) {
            self.waits_on.push_to(waits, device);
        }
        self.lane.insert(place, device);
        if let Some(tasks) = &mut self.tasks {
            tasks.cookies.push(0);
            tasks.waits_for.push(0);
        }
    }

    /// Circles of devices that wait for each other, in that order: where there is any, at least one, and of
    /// several that share no device as many as one pass finds.
    fn find_cycles(&self) -> Vec<Vec<usize>> {
        if self.all_in_turn() {
            return Vec::new();
        }
        let by = Lists::from_pairs(self.waits_on.count(), || {
            let waits = self.waits_on.iter().enumerate();
            waits.flat_map(|(device, on)| on.iter().map(move |&on| (on, device)))
        });
        let mut pending: Vec<usize> = self.waits_on.iter().map(<[usize]>::len).collect();
        let mut ready: VecDeque<usize> = (0..pending.len())
            .filter(|&device| pending[device] == 0)
            .collect();
        while let Some(device) = ready.pop_front() {
            for &next in &by[device] {
                pending[next] -= 1;
                if pending[next] == 0 {
                    ready.push_back(next);
                }
            }
        }
        // Whatever is left waits for something that is left: following that runs into a circle, or into
        // what was followed before.
        let mut walked_from = vec![None; pending.len()];
        let mut cycles = Vec::new();
        for begin in (0..pending.len()).filter(|&device| pending[device] > 0) {
            let mut path = Vec::new();
            let mut next = Some(begin);
            while let Some(at) = next.filter(|&at| walked_from[at].is_none()) {
                walked_from[at] = Some(begin);
                path.push(at);
                let mut left = self.waits_on[at].iter().copied();
                next = left.find(|&before| pending[before] > 0);
            }
            if let Some(closing) = next.filter(|&at| walked_from[at] == Some(begin)) {
                cycles.push(path.into_iter().skip_while(|&at| at != closing).collect());
            }
        }
        cycles
    }

    /// Names the devices of a cycle, but for those which are in it by their turn alone.
    fn describe_cycle(&self, graph: &Graph, cycle: &[usize]) -> String {
        let is_sync = |at: usize| !self.asynchronous[cycle[at % cycle.len()]];
        let named = (0..cycle.len()).filter(|&at| {
            let before = at + cycle.len() - 1;
            !(is_sync(before) && is_sync(at) && is_sync(at + 1))
        });
        let names: Vec<&str> = named.map(|at| graph.node(cycle[at]).id.as_str()).collect();
        let between = match cycle.len() - names.len() {
            0 => String::new(),
            left_out => format!(", over {left_out} synchronous devices in between"),
        };
        format!(
            "ordering forced to sync: {} wait for each other in a circle{between}",
            names.join(", ")
        )
    }

    /// Synchronous devices that go before a child or a consumer of theirs, as the list has them. Under
    /// `cookie` also those that do not wait for an asynchronous one; where it is the device that is
    /// asynchronous, [`Tasks`] warns.
    fn inversions(&self, graph: &Graph) -> Vec<String> {
        let mut turn = vec![usize::MAX; graph.len()];
        for (position, &device) in self.lane.iter().enumerate() {
            turn[device] = position;
        }
        let is_newer = |before: usize, device: usize| {
            let cookies = self.tasks.as_ref().map(|tasks| &tasks.cookies);
            cookies.is_some_and(|cookies| cookies[before] > cookies[device])
        };
        let mut warnings = Vec::new();
        for &device in &self.lane {
            let name = &graph.node(device).id;
            for (kind, dependants) in [
                ("child", graph.children(device)),
                ("consumer", graph.consumers(device)),
            ] {
                for &before in dependants {
                    let other = &graph.node(before).id;
                    if !self.asynchronous[before] && turn[before] > turn[device] {
                        warnings.push(format!(
                            "{name} goes before its {kind} {other}, as the list has them"
                        ));
                    } else if self.asynchronous[before] && is_newer(before, device) {
                        warnings.push(format!(
                            "{name} does not wait for its {kind} {other}, which the list has nearer to \
                             its head: they may overlap"
                        ));
                    }
                }
            }
        }
        warnings
    }
}

/// The synchronous devices, backwards in the list.
fn lane(graph: &Graph, asynchronous: &[bool]) -> Vec<usize> {
    let backwards = graph.order().iter().rev().copied();
    let mut lane = Vec::with_capacity(graph.len());
    lane.extend(backwards.filter(|&device| !asynchronous[device]));
    lane
}

#[cfg(test)]
mod tests;
