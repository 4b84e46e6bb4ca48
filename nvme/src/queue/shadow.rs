//! Shadow doorbells (base 2.0, section 5.3 and annex B.5): host and controller share two words a doorbell. The
//! host stores its doorbell to one and, where it passes the value in the other (EventIdx), rings as well. The
//! controller looks at the first for as long as it is awake and publishes EventIdx before it rests.
//!
//! Each side stores, then looks at what the other stores. With a full fence between the two on both sides,
//! one of them sees the other: either the host rings, or the controller does not rest.

use std::sync::atomic::{Ordering, fence};

use devices::memory::{GuestMemory, MemoryMap};
use vm_memory::GuestAddress;

/// The two words of a doorbell.
pub(crate) trait Words {
    /// The doorbell as the host stored it, unless its memory has gone.
    fn doorbell(&self) -> Option<u32>;

    /// Stores EventIdx: the host rings when its doorbell passes it.
    fn set_event(&self, index: u32);

    /// A full fence between a store before and a load after it.
    fn fence(&self);
}

/// Has the host ring for a doorbell beyond `seen`. Returns the doorbell as it is afterwards: the host may not
/// ring for what has moved by then.
pub(crate) fn rest(words: &impl Words, seen: u32) -> Option<u32> {
    words.set_event(seen);
    words.fence();
    words.doorbell()
}

/// The two words in guest memory.
pub(crate) struct Shadow {
    memory: GuestMemory,
    doorbell: GuestAddress,
    event: GuestAddress,
}

/// The two buffers of a controller, a page each, laid out as its doorbells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShadowBuffers {
    /// Where the host stores.
    pub(crate) doorbells: u64,
    /// EventIdx of each.
    pub(crate) events: u64,
}

/// Which doorbell of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A submission queue's tail.
    Tail = 0,
    /// A completion queue's head.
    Head = 1,
}

impl ShadowBuffers {
    /// The words of a queue's doorbell, both set to `value`, which is where the doorbell is.
    pub(crate) fn words(self, memory: &GuestMemory, id: u16, side: Side, value: u32) -> Shadow {
        let offset = u64::from(id) * 8 + side as u64 * 4;
        let shadow = Shadow {
            memory: memory.clone(),
            doorbell: GuestAddress(self.doorbells + offset),
            event: GuestAddress(self.events + offset),
        };
        shadow.store(shadow.doorbell, value);
        shadow.store(shadow.event, value);
        shadow
    }
}

impl Shadow {
    fn store(&self, at: GuestAddress, value: u32) {
        // Memory that has gone since the buffers were checked is nobody's to look at.
        let _ = self.memory.store(value.to_le(), at, Ordering::Release);
    }
}

impl Shadow {
    /// The doorbell as the host stored it, to a caller who looks at guest `memory` already.
    pub(crate) fn doorbell_in(&self, memory: &MemoryMap) -> Option<u32> {
        let found = memory.load::<u32>(self.doorbell, Ordering::Acquire);
        found.ok().map(u32::from_le)
    }
}

impl Words for Shadow {
    fn doorbell(&self) -> Option<u32> {
        self.doorbell_in(&self.memory.view())
    }

    fn set_event(&self, index: u32) {
        self.store(self.event, index);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
