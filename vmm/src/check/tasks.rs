//! The tasks of `cookie` (v10 of the series), numbered anew from the list.

use super::facts::Facts;

/// Who is shut down by which task, and how far each waits.
pub(super) struct Tasks {
    /// The number of each device's task, from 1.
    pub(super) cookies: Vec<u64>,
    /// The task up to which all have to end before the device begins; 0 for none.
    pub(super) waits_for: Vec<u64>,
    /// The devices of each task, in the order in which it shuts them down; task 1 first.
    pub(super) members: Vec<Vec<usize>>,
}

impl Tasks {
    /// Walks the list backwards. An asynchronous device first sends the synchronous devices gathered
    /// before it off as a task, then itself as another. A synchronous device is gathered; if its parent
    /// or a supplier is asynchronous, what is gathered becomes a task at once. Either way its task is
    /// what an asynchronous parent or supplier will wait for, unless a later one takes that place.
    pub(super) fn new(facts: &Facts<'_>) -> Self {
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut gathered = Vec::new();
        let mut last_dependant = vec![None; facts.len()];
        for &device in &facts.backwards {
            let needed = facts.parents[device].iter().chain(&facts.suppliers[device]);
            let needed = needed.copied().filter(|&on| facts.is_async(on));
            let needed: Vec<usize> = needed.collect();
            if facts.is_async(device) {
                members.push(std::mem::take(&mut gathered));
                members.push(vec![device]);
            } else {
                gathered.push(device);
                if !needed.is_empty() {
                    members.push(std::mem::take(&mut gathered));
                }
            }
            for on in needed {
                last_dependant[on] = Some(device);
            }
        }
        members.push(gathered);
        members.retain(|devices| !devices.is_empty());

        let mut cookies = vec![0; facts.len()];
        for (cookie, devices) in (1..).zip(&members) {
            for &device in devices {
                cookies[device] = cookie;
            }
        }
        let mut waits_for = vec![0; facts.len()];
        for devices in &members {
            let first = devices[0];
            let older = cookies[first] - 1;
            waits_for[first] = if facts.is_async(first) {
                // The sanity check: never for its own task or a newer one.
                last_dependant[first].map_or(0, |last: usize| cookies[last].min(older))
            } else {
                older
            };
        }
        Self {
            cookies,
            waits_for,
            members,
        }
    }

    /// The task up to which all have to end before the device begins. Of a list every one has what its first
    /// has: that one may have been removed.
    pub(super) fn until(&self, facts: &Facts<'_>, device: usize) -> u64 {
        if facts.is_async(device) {
            self.waits_for[device]
        } else {
            self.cookies[device] - 1
        }
    }

    /// For each task, the device that `end` puts last among all tasks up to it.
    pub(super) fn last_up_to(&self, end: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut last: Vec<usize> = Vec::new();
        for devices in &self.members {
            let candidates = devices.iter().copied().chain(last.last().copied());
            last.extend(candidates.max_by_key(|&device| end(device)));
        }
        last
    }
}
