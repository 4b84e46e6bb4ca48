//! Placement: which BARs are visible at which guest addresses, by the hierarchy's programming.
//!
//! A BAR is visible where its function decodes it, if every bridge above forwards the whole of it, if it
//! lies in one of the host bridge's windows, and if no BAR that comes earlier in the tree is there.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tracing::debug;
use vm_memory::GuestAddress;

use super::bridge::Windows;
use super::bus::Bus;
use super::function::{BarRange, PciFunction};
use super::locked;
use crate::io_event::IoEvents;

/// Which BAR: the function's number in the walk over the tree, and the BAR's index.
type Key = (usize, u8);

/// A BAR that the guest sees.
#[derive(Clone)]
struct Placed {
    range: RangeInclusive<u64>,
    key: Key,
    function: Arc<dyn PciFunction>,
}

impl Placed {
    fn place(&self) -> (Key, u64) {
        (self.key, *self.range.start())
    }
}

/// The BARs that the guest sees now.
pub struct Placement {
    host_windows: Vec<RangeInclusive<u64>>,
    /// Sorted by address, without overlap. vCPUs search it without a lock.
    table: ArcSwap<Vec<Placed>>,
    /// Held while the table changes and while those that moved are told.
    changing: Mutex<Tenants>,
    /// Where writes may signal eventfds.
    io_events: Option<Arc<dyn IoEvents>>,
}

/// Where each BAR was last, also if it is not decoded now: its eventfds may still be there.
type Tenants = HashMap<Key, RangeInclusive<u64>>;

impl Placement {
    /// An empty placement within the host bridge's windows.
    pub fn new(host_windows: Vec<RangeInclusive<u64>>) -> Self {
        let table = ArcSwap::from_pointee(Vec::new());
        Self {
            host_windows,
            table,
            changing: Mutex::default(),
            io_events: None,
        }
    }

    /// Keeps eventfds to the BARs that asked for them: what a BAR finds in its range, or leaves in another, is
    /// cleared.
    pub fn with_io_events(self, io_events: Arc<dyn IoEvents>) -> Self {
        Self {
            io_events: Some(io_events),
            ..self
        }
    }

    /// Places the BARs of the tree as it is programmed now: swaps the table, then tells the BARs that
    /// moved. All that leave a place are told before any that come to one; in between, no write to a place
    /// signals any more what is not its new BAR's.
    pub fn update(&self, root: &Bus) {
        let mut tenants = locked(&self.changing);
        let new = Arc::new(compute(root, &self.host_windows));
        let old = self.table.swap(new.clone());
        let places = |table: &[Placed]| table.iter().map(Placed::place).collect::<HashMap<_, _>>();
        let (before, after) = (places(&old), places(&new));
        let stays = |places: &HashMap<Key, u64>, bar: &Placed| {
            places.get(&bar.key) == Some(bar.range.start())
        };
        for bar in old.iter().filter(|bar| !stays(&after, bar)) {
            bar.function.placed(bar.key.1, None);
        }
        let arriving = || new.iter().filter(|bar| !stays(&before, bar));
        if let Some(io_events) = &self.io_events {
            for bar in arriving() {
                take_over(&mut tenants, bar, &**io_events);
            }
        }
        for bar in arriving() {
            bar.function
                .placed(bar.key.1, Some(GuestAddress(*bar.range.start())));
        }
    }

    /// Reads guest memory space: from the BAR that the whole access lies in. Without one, `data` is
    /// all-ones and the answer `false`.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let table = self.table.load();
        let Some((bar, offset)) = find(&table, address, data.len()) else {
            data.fill(0xFF);
            return false;
        };
        bar.function.read_bar(bar.key.1, offset, data);
        true
    }

    /// Writes guest memory space. Says whether the whole access lies in a BAR.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        let table = self.table.load();
        let Some((bar, offset)) = find(&table, address, data.len()) else {
            return false;
        };
        bar.function.write_bar(bar.key.1, offset, data);
        true
    }

    /// The visible ranges, in the order of their addresses.
    pub fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        self.table
            .load()
            .iter()
            .map(|bar| bar.range.clone())
            .collect()
    }
}

/// Makes `bar` the tenant of its range.
fn take_over(tenants: &mut Tenants, bar: &Placed, io_events: &dyn IoEvents) {
    tenants.retain(|key, range| {
        let elsewhere = range != &bar.range;
        let overlaps = range.start() <= bar.range.end() && bar.range.start() <= range.end();
        let leaves = match *key == bar.key {
            true => elsewhere,
            false => overlaps,
        };
        if leaves {
            io_events.clear(range);
        }
        !leaves
    });
    tenants.insert(bar.key, bar.range.clone());
}

/// The BAR that an access of `len` bytes lies in, and its offset there.
fn find(table: &[Placed], address: u64, len: usize) -> Option<(&Placed, u64)> {
    let last = address.checked_add((len as u64).checked_sub(1)?)?;
    let after = table.partition_point(|bar| *bar.range.start() <= address);
    let bar = table.get(after.checked_sub(1)?)?;
    (last <= *bar.range.end()).then(|| (bar, address - bar.range.start()))
}

/// The table that the tree's programming asks for.
fn compute(root: &Bus, host_windows: &[RangeInclusive<u64>]) -> Vec<Placed> {
    let mut computation = Computation {
        host_windows,
        number: 0,
        placed: BTreeMap::new(),
    };
    computation.visit(root, true, &mut Vec::new());
    computation.placed.into_values().collect()
}

struct Computation<'a> {
    host_windows: &'a [RangeInclusive<u64>],
    /// The number of the next function, in the order of [`Bus::walk`].
    number: usize,
    placed: BTreeMap<u64, Placed>,
}

impl Computation<'_> {
    /// Places a bus. An unreachable one is visited all the same, for the numbers of its functions.
    fn visit(&mut self, bus: &Bus, reachable: bool, above: &mut Vec<Windows>) {
        for node in bus.nodes() {
            if reachable && !node.is_quarantined() {
                for bar in node.function().decoded_bars() {
                    if let Err(why) = self.place(node.function(), &bar, above) {
                        let (id, at) = (node.id(), format_args!("{:#x}", bar.base));
                        debug!(id, bar = bar.bar, at, "the guest does not see a BAR: {why}");
                    }
                }
            }
            self.number += 1;
        }
        for node in bus.nodes() {
            if let Some(behind) = node.behind() {
                let passes = reachable && !node.is_quarantined() && behind.bridge.passes();
                above.push(behind.bridge.windows());
                self.visit(&behind.bus, passes, above);
                above.pop();
            }
        }
    }

    /// Places a BAR, or says why it is not seen.
    fn place(
        &mut self,
        function: &Arc<dyn PciFunction>,
        bar: &BarRange,
        above: &[Windows],
    ) -> Result<(), &'static str> {
        let last = bar
            .size
            .checked_sub(1)
            .and_then(|extent| bar.base.checked_add(extent));
        let range = bar.base..=last.ok_or("it is beyond all addresses")?;
        let holds = |window: &RangeInclusive<u64>| {
            window.start() <= range.start() && range.end() <= window.end()
        };
        if !self.host_windows.iter().any(holds) {
            return Err("it is in no window of the host bridge");
        }
        if !above.iter().all(|windows| windows.forward(&range)) {
            return Err("a bridge above does not forward it");
        }
        let neighbour = self.placed.range(..=*range.end()).next_back();
        if neighbour.is_some_and(|(_, other)| other.range.end() >= range.start()) {
            return Err("another BAR is there");
        }
        let placed = Placed {
            key: (self.number, bar.bar),
            function: function.clone(),
            range,
        };
        self.placed.insert(*placed.range.start(), placed);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
