//! Eventfds that a server offers for writes ([`Client::io_events`]): such a write signals its eventfd, and the vCPU
//! goes on without an exit to this process.
//!
//! The protocol says neither when a server begins to offer one nor when it ends, and a function that is like any other
//! cannot know which of the guest's writes mean that. So one rule holds for all: what is offered before the guest
//! has touched the device stays until the device is reset. The device is asked when the function is made and
//! after each reset, by the thread that does that, never by a vCPU. A server that offers more once the guest's driver
//! has set it up, as those with shadow doorbells do, gets those writes trapped. A device that has no reset is
//! asked once, and one that was gone meanwhile has none any more.
//!
//! ```text
//! none ── made, or reset ──▶ offered ── its BAR is placed ──▶ connected
//!   ▲                           │                                │
//!   └───────────────────────────┴─── a reset or a teardown ──────┘
//! ```
//!
//! Where a BAR is not decoded its eventfds stay; whoever places BARs clears what would be in another's way.
//! The machine matches the address of a write and not its width: registers of a device have one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use devices::io_event::IoEvents;
use devices::pci::Bar;
use tracing::{debug, warn};
use vm_memory::GuestAddress;

use crate::client::{Area, Client, IoEvent};
use crate::function::layout::Layout;
use crate::function::locked;

const BARS: usize = 6;

struct Offered {
    bar: u8,
    event: IoEvent,
    /// Where it was connected last.
    at: Option<GuestAddress>,
}

#[derive(Default)]
struct State {
    /// Where the guest has each BAR now.
    bases: [Option<u64>; BARS],
    offered: Vec<Offered>,
    released: bool,
}

/// See the module's header.
pub(super) struct WriteEvents {
    machine: Option<Arc<dyn IoEvents>>,
    /// Held while the machine is told, which does not wait for the device.
    state: Mutex<State>,
    /// The machine refused one: a guest can move its BARs as often as it likes.
    warned: AtomicBool,
}

impl WriteEvents {
    /// None yet. Without a `machine` there never are any.
    pub(super) fn new(machine: Option<Arc<dyn IoEvents>>) -> Self {
        Self {
            machine,
            state: Mutex::default(),
            warned: AtomicBool::new(false),
        }
    }

    /// Asks the device, which waits for it, and connects what it offers in place of what it did before.
    pub(super) fn ask(&self, client: &dyn Client, layout: &Layout) {
        let Some(machine) = &self.machine else { return };
        let bars = layout.bars.iter();
        let offered = bars.flat_map(|bar| usable(client, layout, bar)).collect();
        let mut state = locked(&self.state);
        self.take_away(&**machine, &mut state);
        if state.released {
            return;
        }
        state.offered = offered;
        for (bar, base) in (0..).zip(state.bases) {
            self.connect(&**machine, &mut state, bar, base);
        }
    }

    /// What the device offers ends with its reset: all writes reach it once this returns.
    pub(super) fn before_reset(&self, client: &dyn Client) {
        if client.has_reset() {
            self.withdraw();
        }
    }

    /// The device has been through its reset, and the guest has not touched it since.
    pub(super) fn after_reset(&self, client: &dyn Client, layout: &Layout) {
        if client.has_reset() {
            self.ask(client, layout);
        }
    }

    /// Has all writes reach the device once this returns.
    pub(super) fn withdraw(&self) {
        if let Some(machine) = &self.machine {
            self.take_away(&**machine, &mut locked(&self.state));
        }
    }

    /// The BAR is at `at` now, or nowhere. Once this returns, nothing more is connected at its old place.
    pub(super) fn place(&self, bar: u8, at: Option<GuestAddress>) {
        let Some(machine) = &self.machine else { return };
        let mut state = locked(&self.state);
        let base = at.map(|at| at.0);
        if let Some(place) = state.bases.get_mut(usize::from(bar)) {
            *place = base;
        }
        self.connect(&**machine, &mut state, bar, base);
    }

    /// Takes all away, for good.
    pub(super) fn release(&self) {
        locked(&self.state).released = true;
        self.withdraw();
    }

    fn connect(&self, machine: &dyn IoEvents, state: &mut State, bar: u8, base: Option<u64>) {
        let Some(base) = base else { return };
        let here = state
            .offered
            .iter_mut()
            .filter(|offered| offered.bar == bar);
        for offered in here {
            let offset = offered.event.offset;
            let Some(at) = base.checked_add(offset).map(GuestAddress) else {
                continue;
            };
            match machine.connect(at, &offered.event.event) {
                Ok(()) => offered.at = Some(at),
                Err(why) if self.warned.swap(true, Ordering::Relaxed) => {
                    debug!(bar, offset, "writes are trapped: {why}");
                }
                Err(why) => warn!(
                    bar,
                    offset, "writes are trapped, although the device offers an eventfd: {why}"
                ),
            }
        }
    }

    fn take_away(&self, machine: &dyn IoEvents, state: &mut State) {
        for offered in state.offered.drain(..) {
            if let Some(at) = offered.at
                && let Err(failure) = machine.disconnect(at, &offered.event.event)
            {
                let Offered { bar, event, .. } = offered;
                warn!(
                    bar,
                    event.offset, "an eventfd stays where the guest writes: {failure}"
                );
            }
        }
    }
}

/// What the device offers for `bar`, but for writes that are not trapped or never come to it: to what can be mapped, and
/// to the MSI-X table and its pending bits, which are the function's own.
fn usable(client: &dyn Client, layout: &Layout, bar: &Bar) -> Vec<Offered> {
    let index = bar.index();
    let region = client.region(index.into());
    if !region.writable {
        return Vec::new();
    }
    let own = layout.msix.iter();
    let own: Vec<_> = own
        .flat_map(|msix| [msix.table, msix.pending])
        .filter(|span| span.bar == index)
        .map(|span| span.start..span.start + span.size)
        .collect();
    let offered = client.io_events(index.into()).into_iter();
    let usable = offered.filter(|event| {
        let at = event.offset;
        let mapped =
            |area: &Area| (area.offset..area.offset.saturating_add(area.size)).contains(&at);
        at < region.size
            && !region.areas.iter().any(mapped)
            && !own.iter().any(|span| span.contains(&at))
    });
    usable
        .map(|event| Offered {
            bar: index,
            event,
            at: None,
        })
        .collect()
}
