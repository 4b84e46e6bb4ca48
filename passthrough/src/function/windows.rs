//! The parts of BARs that the guest reaches without an exit.
//!
//! They are mapped once, when the function is made, and put into the guest where their BAR is placed. Cut out are the
//! pages of the MSI-X table and of its pending bits, which are the function's own.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use devices::direct_map::{GuestMapper, MapSlot};
use tracing::{debug, warn};
use vm_memory::{GuestAddress, MmapRegion};

use crate::client::{Area, Client};
use crate::function::layout::Layout;
use crate::function::locked;

const PAGE: u64 = 4096;

struct Window {
    bar: u8,
    offset: u64,
    memory: Arc<MmapRegion>,
    slot: Option<MapSlot>,
    /// The device's session in which it was mapped, or the one before.
    session: u64,
    /// Given up, but the machine does not take it out of the guest: it is not put into it again.
    is_retired: bool,
}

/// See the module's header.
pub(super) struct Windows {
    mapper: Arc<dyn GuestMapper>,
    windows: Mutex<Vec<Window>>,
    /// The machine refused a mapping: a guest can ask for another one as often as it likes.
    warned: AtomicBool,
}

impl Windows {
    /// Maps what can be mapped of the device.
    pub(super) fn new(mapper: Arc<dyn GuestMapper>, client: &dyn Client, layout: &Layout) -> Self {
        Self {
            mapper,
            windows: Mutex::new(map(client, layout)),
            warned: AtomicBool::new(false),
        }
    }

    /// Has the BAR's parts where it is now, or nowhere.
    pub(super) fn place(&self, bar: u8, at: Option<GuestAddress>) {
        let mut windows = locked(&self.windows);
        for window in windows.iter_mut().filter(|window| window.bar == bar) {
            self.take_out(window);
            let is_free = window.slot.is_none() && !window.is_retired;
            if let Some(at) = at.filter(|_| is_free) {
                let at = GuestAddress(at.0 + window.offset);
                match self.mapper.map(at, &window.memory) {
                    Ok(slot) => window.slot = Some(slot),
                    Err(why) if self.warned.swap(true, Ordering::Relaxed) => {
                        debug!(bar, offset = window.offset, "a BAR cannot be mapped: {why}");
                    }
                    Err(why) => warn!(
                        bar,
                        offset = window.offset,
                        "the guest reaches a BAR by exits, since it cannot be mapped: {why}"
                    ),
                }
            }
        }
        // The host may wait for what is mapped of a device.
        windows.retain(|window| window.slot.is_some() || !window.is_retired);
    }

    /// Takes all out of the guest.
    pub(super) fn take_all_out(&self) {
        for window in locked(&self.windows).iter_mut() {
            self.take_out(window);
        }
    }

    /// Maps the device anew: it was gone, may be another one now, and its mappings were released.
    pub(super) fn map_anew(&self, client: &dyn Client, layout: &Layout) {
        let anew = map(client, layout);
        locked(&self.windows).extend(anew);
    }

    /// Gives all mappings back, in the guest and of the host.
    pub(super) fn release(&self) {
        self.release_but(|| None);
    }

    /// Gives back those of a device that is gone, or was: what has been mapped since it is back stays.
    pub(super) fn release_lost(&self, client: &dyn Client) {
        self.release_but(|| client.gone().is_none().then(|| client.session()));
    }

    /// Gives back all but those of one session. It is asked for with the lock held: what is mapped anew after that is
    /// not in the list yet.
    fn release_but(&self, session: impl FnOnce() -> Option<u64>) {
        let mut windows = locked(&self.windows);
        let kept = session();
        for window in windows.iter_mut() {
            if Some(window.session) == kept {
                continue;
            }
            self.take_out(window);
            window.is_retired = true;
        }
        // One that the guest still has stays mapped.
        windows.retain(|window| window.slot.is_some() || !window.is_retired);
    }

    fn take_out(&self, window: &mut Window) {
        if let Some(slot) = window.slot
            && let Err(failure) = self.mapper.unmap(slot)
        {
            warn!(
                bar = window.bar,
                "a part of a BAR stays where it was in the guest: {failure}"
            );
            return;
        }
        window.slot = None;
    }
}

/// Maps all parts of all BARs. One warning for those that the host refuses.
fn map(client: &dyn Client, layout: &Layout) -> Vec<Window> {
    let session = client.session();
    let mut windows = Vec::new();
    let mut refused = None;
    for bar in &layout.bars {
        let index = bar.index();
        let spans = layout
            .msix
            .iter()
            .flat_map(|msix| [msix.table, msix.pending]);
        let cuts: Vec<_> = spans
            .filter(|span| span.bar == index)
            .map(|span| pages(span.start..span.start + span.size))
            .collect();
        let region = client.region(index.into());
        for area in pieces(&region.areas, &cuts, region.size) {
            match client.map(index.into(), area) {
                Ok(memory) => windows.push(Window {
                    bar: index,
                    offset: area.offset,
                    memory,
                    slot: None,
                    session,
                    is_retired: false,
                }),
                Err(why) => refused = Some((index, why)),
            }
        }
    }
    if let Some((bar, why)) = refused {
        warn!(
            device = client.name(),
            bar, "the guest reaches the BAR by exits, since it cannot be mapped: {why}"
        );
    }
    windows
}

/// The whole pages that a range touches.
fn pages(range: Range<u64>) -> Range<u64> {
    range.start & !(PAGE - 1)..range.end.next_multiple_of(PAGE)
}

/// The areas without the cuts; what does not lie in the region by whole pages is left out.
pub(super) fn pieces(areas: &[Area], cuts: &[Range<u64>], size: u64) -> Vec<Area> {
    let mut pieces: Vec<Range<u64>> = areas
        .iter()
        .filter(|area| area.offset % PAGE == 0 && area.size % PAGE == 0 && area.size > 0)
        .filter_map(|area| Some(area.offset..area.offset.checked_add(area.size)?))
        .filter(|piece| piece.end <= size)
        .collect();
    for cut in cuts {
        let parts = |piece: Range<u64>| {
            let before = piece.start..piece.end.min(cut.start);
            let behind = piece.start.max(cut.end)..piece.end;
            [before, behind]
        };
        pieces = pieces.into_iter().flat_map(parts).collect();
        pieces.retain(|piece| !piece.is_empty());
    }
    let area = |piece: Range<u64>| Area {
        offset: piece.start,
        size: piece.end - piece.start,
    };
    pieces.into_iter().map(area).collect()
}
