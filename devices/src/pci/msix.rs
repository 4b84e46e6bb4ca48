//! MSI-X: the table and pending bits in a BAR, and the vectors behind them.
//!
//! A vector whose message the machine refuses stays blocked. The guest's next change of the table or of message control
//! tries it again.

mod entry;
mod vector;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

pub use entry::{ENTRY_SIZE, TableEntry};

use super::{locked, read_registers, write_registers};
use crate::interrupt::{MsiMessage, MsiRouter, Route};
use crate::shared_event::SharedEvent;
use vector::Vector;

/// The largest table there can be.
pub const MAX_VECTORS: u16 = 2048;

/// Message control: function mask and enable, as the upper half of the capability's first register.
pub const CONTROL_MASK: u32 = 1 << 30;
/// Message control: MSI-X enable.
pub const CONTROL_ENABLE: u32 = 1 << 31;

/// Where table and pending bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixLayout {
    /// The BAR that holds both.
    pub bar: u8,
    /// Offset of the table in the BAR, a multiple of 8.
    pub table: u32,
    /// Offset of the pending bit array in the BAR, a multiple of 8, behind the table.
    pub pba: u32,
}

impl MsixLayout {
    /// The table at `table` (rounded up to a page), the pending bits in the page after its end.
    pub fn in_bar(bar: u8, table: u32, vectors: u16) -> Self {
        let table = table.next_multiple_of(0x1000);
        let end = table + u32::from(vectors.min(MAX_VECTORS)) * ENTRY_SIZE as u32;
        Self {
            bar,
            table,
            pba: end.next_multiple_of(0x1000),
        }
    }
}

struct Entry {
    register: TableEntry,
    route: Route,
    /// The message that the machine's routing holds for this entry.
    routed: Option<MsiMessage>,
    /// Its vector is to be open, and the machine has refused its message: what is signalled waits.
    refused: bool,
}

struct Table {
    entries: Vec<Entry>,
    /// Function mask and enable, in their places.
    control: u32,
    released: bool,
}

/// A function's MSI-X: table, pending bits and vectors (PCI local bus 3.0, 6.8.2).
pub struct Msix {
    layout: MsixLayout,
    vectors: Vec<Vector>,
    enabled: AtomicBool,
    table: Mutex<Table>,
    router: Arc<dyn MsiRouter>,
}

impl Msix {
    /// Creates `vectors` (1 to 2048, clamped) eventfds and attaches them to `router` in one go.
    pub fn attach(
        vectors: u16,
        layout: MsixLayout,
        router: Arc<dyn MsiRouter>,
    ) -> io::Result<Self> {
        let vectors = (0..vectors.clamp(1, MAX_VECTORS))
            .map(|_| Vector::new())
            .collect::<io::Result<Vec<_>>>()?;
        let events: Vec<&EventFd> = vectors.iter().map(Vector::event).collect();
        let entries = router
            .attach(&events)?
            .into_iter()
            .map(|route| Entry {
                register: TableEntry::default(),
                route,
                routed: None,
                refused: false,
            })
            .collect();
        let table = Mutex::new(Table {
            entries,
            control: 0,
            released: false,
        });
        Ok(Self {
            layout,
            vectors,
            enabled: AtomicBool::new(false),
            table,
            router,
        })
    }

    /// Interrupts the guest by `vector`: now, or once it is unmasked. Without MSI-X enabled, or with a
    /// vector that does not exist, nothing happens. Lock-free; for any thread.
    pub fn signal(&self, vector: u16) {
        if let Some(vector) = self.vectors.get(usize::from(vector)) {
            vector.signal();
        }
    }

    /// Whether the guest has turned MSI-X on.
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// How many vectors there are.
    pub fn vectors(&self) -> u16 {
        self.vectors.len() as u16
    }

    /// The vector's eventfd. A write to it passes no gate: it interrupts a masked vector too.
    pub fn event(&self, vector: u16) -> Option<&EventFd> {
        self.vectors.get(usize::from(vector)).map(Vector::event)
    }

    /// Has signals of `vector` written to `event`, an eventfd, in place of its own; with `None` to its own
    /// again. Once this returns, a signal that was on its way to the one before is at the new one too, soon. For whoever
    /// has vectors beyond this process.
    pub fn connect(&self, vector: u16, event: Option<OwnedFd>) {
        if let Some(vector) = self.vectors.get(usize::from(vector)) {
            vector.connect(event.map(SharedEvent::from));
        }
    }

    /// Lets whoever signals a vector that is connected elsewhere go on, where the other side holds it up.
    pub fn let_go(&self) {
        self.vectors.iter().for_each(Vector::let_go);
    }

    /// Masks or unmasks `vector` as a guest does in the table.
    pub fn set_masked(&self, vector: u16, masked: bool) {
        let mut table = locked(&self.table);
        let index = usize::from(vector);
        if let Some(entry) = table.entries.get_mut(index) {
            entry.register.set_masked(masked);
            self.apply(&mut table, index..=index);
        }
    }

    /// Where table and pending bits are.
    pub fn layout(&self) -> MsixLayout {
        self.layout
    }

    /// Where in the BAR the pending bits end: the least size of the BAR.
    pub fn end(&self) -> u64 {
        u64::from(self.layout.pba).max(u64::from(self.layout.table) + self.table_size())
            + self.pba_size()
    }

    /// Reads from the BAR if `offset` is in the table or the pending bits; says whether it is.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> bool {
        if let Some(at) = within(offset, self.layout.table, self.table_size()) {
            let table = locked(&self.table);
            read_registers(at, data, |register| {
                let entry = table.entries.get((register / ENTRY_SIZE) as usize);
                entry.map_or(0, |entry| entry.register.read(register % ENTRY_SIZE))
            });
        } else if let Some(at) = within(offset, self.layout.pba, self.pba_size()) {
            read_registers(at, data, |register| self.pending_bits(register));
        } else {
            return false;
        }
        true
    }

    /// Writes to the BAR if `offset` is in the table or the pending bits; says whether it is.
    pub fn write(&self, offset: u64, data: &[u8]) -> bool {
        if let Some(at) = within(offset, self.layout.table, self.table_size()) {
            let mut table = locked(&self.table);
            write_registers(at, data, |register, value, mask| {
                if let Some(entry) = table.entries.get_mut((register / ENTRY_SIZE) as usize) {
                    entry.register.write(register % ENTRY_SIZE, value, mask);
                }
            });
            let first = (at / ENTRY_SIZE) as usize;
            let last =
                (at.saturating_add(data.len().saturating_sub(1) as u64) / ENTRY_SIZE) as usize;
            self.apply(&mut table, first..=last);
            return true;
        }
        within(offset, self.layout.pba, self.pba_size()).is_some()
    }

    /// The message control bits that the guest sets, in their places in the capability's first register.
    pub fn control(&self) -> u32 {
        locked(&self.table).control
    }

    /// A guest's write to the capability's first register. Returns whether a bit changed.
    pub fn write_control(&self, value: u32, mask: u32) -> bool {
        let mut table = locked(&self.table);
        let mask = mask & (CONTROL_MASK | CONTROL_ENABLE);
        let control = (table.control & !mask) | (value & mask);
        if control == table.control {
            return false;
        }
        table.control = control;
        let last = self.vectors.len();
        self.apply(&mut table, 0..=last);
        true
    }

    /// Back to the state after power-on: off, every entry masked and empty, nothing pending, and all
    /// routes without a message by one change of the machine's routing.
    pub fn reset(&self) {
        let mut table = locked(&self.table);
        table.control = 0;
        for entry in &mut table.entries {
            entry.register = TableEntry::default();
        }
        let last = self.vectors.len();
        self.apply(&mut table, 0..=last);
        let routed = table.entries.iter().filter(|entry| entry.routed.is_some());
        let gone: Vec<_> = routed.map(|entry| (entry.route, None)).collect();
        if self.route(&table, &gone) {
            for entry in &mut table.entries {
                entry.routed = None;
            }
        }
    }

    /// Detaches all vectors from the router, once. Also done when the last owner lets go.
    pub fn release(&self) {
        let mut table = locked(&self.table);
        if table.released {
            return;
        }
        table.released = true;
        self.vectors.iter().for_each(Vector::turn_off);
        let routes: Vec<_> = table
            .entries
            .iter()
            .zip(&self.vectors)
            .map(|(entry, vector)| (entry.route, vector.event()))
            .collect();
        self.router.detach(&routes);
    }

    /// Brings gates and routes of some vectors to what table and control say. What the machine has refused for others
    /// before is tried again: after these, which it must not keep out.
    fn apply(&self, table: &mut Table, range: std::ops::RangeInclusive<usize>) {
        if table.released {
            return;
        }
        let enabled = table.control & CONTROL_ENABLE != 0;
        self.enabled.store(enabled, Ordering::Release);

        let refused = |(index, entry): (usize, &Entry)| entry.refused.then_some(index);
        let refused = table.entries.iter().enumerate().filter_map(refused);
        let again: Vec<_> = refused.filter(|index| !range.contains(index)).collect();
        let last = self.vectors.len().saturating_sub(1).min(*range.end());
        self.bring(table, &(*range.start()..=last).collect::<Vec<_>>());
        self.bring(table, &again);
    }

    /// The same for these, by one change of the machine's routing. Closing comes first and opening last, so that no
    /// message is sent by a route that is not yet, or no longer, the vector's.
    fn bring(&self, table: &mut Table, indices: &[usize]) {
        let enabled = table.control & CONTROL_ENABLE != 0;
        let function_masked = table.control & CONTROL_MASK != 0;
        let mut routes = Vec::new();
        let mut opening = Vec::new();
        for index in indices.iter().copied() {
            let (vector, entry) = (&self.vectors[index], &mut table.entries[index]);
            entry.refused = false;
            if !enabled {
                vector.turn_off();
            } else if function_masked || entry.register.is_masked() {
                vector.block();
            } else {
                if entry.routed != Some(entry.register.message) {
                    routes.push((entry.route, Some(entry.register.message)));
                }
                opening.push(index);
            }
        }
        let is_routed = self.route(table, &routes);
        for index in opening {
            let (vector, entry) = (&self.vectors[index], &mut table.entries[index]);
            let message = Some(entry.register.message);
            if is_routed || entry.routed == message {
                entry.routed = message;
                vector.open();
            } else {
                entry.refused = true;
                vector.block();
            }
        }
    }

    /// Says whether the machine's routing is as the changes say.
    fn route(&self, table: &Table, changes: &[(Route, Option<MsiMessage>)]) -> bool {
        if changes.is_empty() || table.released {
            return true;
        }
        let routed = self.router.set_messages(changes);
        if let Err(error) = &routed {
            tracing::warn!(%error, vectors = changes.len(), "cannot route MSI-X messages");
        }
        routed.is_ok()
    }

    fn table_size(&self) -> u64 {
        self.vectors.len() as u64 * ENTRY_SIZE
    }

    fn pba_size(&self) -> u64 {
        self.vectors.len().div_ceil(64) as u64 * 8
    }

    fn pending_bits(&self, register: u64) -> u32 {
        let first = (register as usize).saturating_mul(8);
        let vectors = self.vectors.iter().skip(first).take(32).enumerate();
        vectors.fold(0, |bits, (bit, vector)| {
            bits | u32::from(vector.is_pending()) << bit
        })
    }
}

impl Drop for Msix {
    fn drop(&mut self) {
        self.release();
    }
}

/// `offset` relative to a region, if it is in it.
fn within(offset: u64, start: u32, size: u64) -> Option<u64> {
    offset.checked_sub(start.into()).filter(|at| *at < size)
}

#[cfg(test)]
mod tests;
