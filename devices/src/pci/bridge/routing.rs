//! What a bridge routes by: the numbers of the buses behind it, and its windows.

use std::ops::RangeInclusive;

/// A bridge's bus numbers, as the guest programmed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusNumbers {
    /// The bus that the bridge is on.
    pub primary: u8,
    /// The bus right behind it; 0 where none is programmed.
    pub secondary: u8,
    /// The highest bus behind it.
    pub subordinate: u8,
}

impl BusNumbers {
    /// Whether `bus` is behind the bridge.
    pub fn holds(self, bus: u8) -> bool {
        let last = self.subordinate.max(self.secondary);
        self.secondary != 0 && (self.secondary..=last).contains(&bus)
    }
}

/// The addresses that a bridge forwards to the bus behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// The memory window, if open.
    pub memory: Option<RangeInclusive<u64>>,
    /// The prefetchable memory window, if open.
    pub prefetchable: Option<RangeInclusive<u64>>,
}

impl Windows {
    /// Whether the whole range lies in one of the windows. A bridge forwards whatever lies in a
    /// window; that BARs match its kind is the guest's business.
    pub fn forward(&self, range: &RangeInclusive<u64>) -> bool {
        [&self.memory, &self.prefetchable]
            .into_iter()
            .flatten()
            .any(|window| window.start() <= range.start() && range.end() <= window.end())
    }
}
