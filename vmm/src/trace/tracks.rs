//! The tracks of a trace: a number for each, and the names that viewers show.

use std::collections::{HashMap, HashSet};

use api::report::{DeviceReport, TeardownReport};

use super::event::{Args, Event, Kind};

/// The process of what the guest did.
pub(super) const GUEST: u32 = 1;
/// The process of what the host did.
pub(super) const HOST: u32 = 2;
/// The guest's track for all its handshakes together.
pub(super) const SHUTDOWN: u32 = 3;
/// The host's track for the steps of the reset.
pub(super) const RESET: u32 = 4;
/// The first device's track. Numbers are not used twice, not even in two processes: viewers differ in
/// what they make of it.
const DEVICES: u32 = 5;

/// The devices of all reports, in the order of the tree, and their tracks.
pub(super) struct Tracks<'a> {
    ids: Vec<&'a str>,
    places: HashMap<&'a str, u32>,
    by_guest: HashSet<&'a str>,
}

impl<'a> Tracks<'a> {
    pub(super) fn new(reports: &[&'a TeardownReport]) -> Self {
        let mut tracks = Self {
            ids: Vec::new(),
            places: HashMap::new(),
            by_guest: HashSet::new(),
        };
        for report in reports {
            tree(report).into_iter().for_each(|id| tracks.add(id));
            for device in &report.guest.devices {
                tracks.add(&device.id);
                tracks.by_guest.insert(&device.id);
            }
        }
        tracks
    }

    fn add(&mut self, id: &'a str) {
        if let std::collections::hash_map::Entry::Vacant(place) = self.places.entry(id) {
            place.insert(self.ids.len() as u32);
            self.ids.push(id);
        }
    }

    /// The track of what the host did to a device.
    pub(super) fn host(&self, id: &str) -> u32 {
        DEVICES + self.places.get(id).copied().unwrap_or(0)
    }

    /// The track of what the guest did to it.
    pub(super) fn guest(&self, id: &str) -> u32 {
        self.host(id) + self.ids.len() as u32
    }

    /// The names of processes and tracks, and their order.
    pub(super) fn names(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (pid, name) in [(GUEST, "guest"), (HOST, "host")] {
            name_process(&mut events, pid, name);
        }
        name_track(&mut events, GUEST, SHUTDOWN, "shutdown");
        name_track(&mut events, HOST, RESET, "reset");
        for id in &self.ids {
            if self.by_guest.contains(id) {
                name_track(&mut events, GUEST, self.guest(id), id);
            }
            name_track(&mut events, HOST, self.host(id), id);
        }
        events
    }
}

fn name_process(events: &mut Vec<Event>, pid: u32, name: &str) {
    let args = Args::Name { name: name.into() };
    events.push(metadata("process_name", pid, 0, args));
    let args = Args::Sort { sort_index: pid };
    events.push(metadata("process_sort_index", pid, 0, args));
}

fn name_track(events: &mut Vec<Event>, pid: u32, tid: u32, name: &str) {
    let args = Args::Name { name: name.into() };
    events.push(metadata("thread_name", pid, tid, args));
    let args = Args::Sort { sort_index: tid };
    events.push(metadata("thread_sort_index", pid, tid, args));
}

fn metadata(name: &str, pid: u32, tid: u32, args: Args) -> Event {
    Event {
        name: name.to_owned(),
        cat: "__metadata",
        pid,
        tid,
        kind: Kind::Metadata,
        args: Some(args),
    }
}

/// The devices of a report, each followed by what is behind it. Siblings lie by address, those without
/// one last.
fn tree(report: &TeardownReport) -> Vec<&str> {
    let known: HashSet<&str> = report.devices.iter().map(|one| one.id.as_str()).collect();
    let mut children: HashMap<Option<&str>, Vec<&DeviceReport>> = HashMap::new();
    for device in &report.devices {
        // A parent that is not in the report is as good as none.
        let parent = device.parent.as_deref();
        let parent = parent.filter(|parent| known.contains(parent));
        children.entry(parent).or_default().push(device);
    }
    for siblings in children.values_mut() {
        siblings.sort_by_key(|one| (one.address.is_none(), &one.address, one.position));
    }
    let mut order = Vec::with_capacity(report.devices.len());
    let mut stack = children.remove(&None).unwrap_or_default();
    stack.reverse();
    while let Some(device) = stack.pop() {
        order.push(device.id.as_str());
        let behind = children.remove(&Some(device.id.as_str()));
        stack.extend(behind.unwrap_or_default().into_iter().rev());
    }
    order
}
