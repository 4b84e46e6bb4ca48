//! The tasks of `cookie`, v10 of the series: numbered as the list is walked backwards, and waiting for
//! every older task up to a number, whether they depend on it or not.

use crate::device_manager::teardown::graph::Graph;

/// Who is shut down by which task, and which tasks have to end first.
///
/// An asynchronous device is a task of its own. Synchronous devices gather in a list, which becomes one
/// task before the next asynchronous device, at the end, and as soon as it holds a device whose parent or
/// supplier is asynchronous. Tasks are numbered from 1.
///
/// A list waits for all older tasks, so that lists never overlap. An asynchronous device waits for all tasks
/// up to that of the child or consumer scheduled last: a prefix barrier, not a dependency. Where that one is
/// newer than its own, the wait is cut down to the tasks older than its own, with a warning. A synchronous
/// device has no such wait for a newer asynchronous one, and may overlap it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// The number of each device's task; 0 for one that joined the teardown while it ran.
    pub cookies: Vec<u32>,
    /// The task up to which all must have ended before the device starts; 0 for none. Of the devices of a
    /// list only the first waits.
    pub waits_for: Vec<u32>,
    /// How many devices each task shuts down; the task numbered 1 first.
    pub sizes: Vec<u32>,
}

impl Tasks {
    /// The tasks of `graph`, and a warning for each wait that was cut down.
    pub(super) fn new(graph: &Graph, asynchronous: &[bool]) -> (Self, Vec<String>) {
        let mut walk = Walk {
            graph,
            asynchronous,
            tasks: Self {
                cookies: vec![0; graph.len()],
                waits_for: vec![0; graph.len()],
                sizes: Vec::new(),
            },
            list: Vec::new(),
            after: vec![None; graph.len()],
        };
        for &device in graph.order().iter().rev() {
            walk.meet(device);
        }
        walk.schedule_list();
        walk.finish()
    }
}

struct Walk<'a> {
    graph: &'a Graph,
    asynchronous: &'a [bool],
    tasks: Tasks,
    /// Synchronous devices that are in no task yet.
    list: Vec<usize>,
    /// The child or consumer of each asynchronous device that was scheduled last.
    after: Vec<Option<usize>>,
}

impl Walk<'_> {
    fn meet(&mut self, device: usize) {
        let needed = self.graph.node(device).parent.into_iter();
        let needed = needed.chain(self.graph.suppliers(device).iter().copied());
        let needed: Vec<usize> = needed.filter(|&on| self.asynchronous[on]).collect();
        if self.asynchronous[device] {
            self.schedule_list();
            self.schedule(&[device]);
        } else {
            self.list.push(device);
            if !needed.is_empty() {
                self.schedule_list();
            }
        }
        for on in needed {
            self.after[on] = Some(device);
        }
    }

    fn schedule_list(&mut self) {
        let list = std::mem::take(&mut self.list);
        if let Some(&first) = list.first() {
            let cookie = self.schedule(&list);
            self.tasks.waits_for[first] = cookie - 1;
        }
    }

    fn schedule(&mut self, devices: &[usize]) -> u32 {
        self.tasks.sizes.push(devices.len() as u32);
        let cookie = self.tasks.sizes.len() as u32;
        for &device in devices {
            self.tasks.cookies[device] = cookie;
        }
        cookie
    }

    fn finish(mut self) -> (Tasks, Vec<String>) {
        let mut warnings = Vec::new();
        for &device in self.graph.order().iter().rev() {
            let Some(last) = self.after[device] else {
                continue;
            };
            let (own, wanted) = (self.tasks.cookies[device], self.tasks.cookies[last]);
            self.tasks.waits_for[device] = wanted.min(own - 1);
            if wanted > own {
                let newer = self.graph.dependants(device);
                let newer = newer.filter(|&before| self.tasks.cookies[before] > own);
                let names: Vec<&str> = newer
                    .map(|before| self.graph.node(before).id.as_str())
                    .collect();
                warnings.push(format!(
                    "unsafe shutdown ordering, forcing sync order: {} does not wait for {}, which the list \
                     has nearer to its head",
                    self.graph.node(device).id,
                    names.join(", ")
                ));
            }
        }
        (self.tasks, warnings)
    }
}

#[cfg(test)]
mod tests;
