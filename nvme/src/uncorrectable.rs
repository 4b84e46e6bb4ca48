//! Ranges of a namespace that a host made unreadable with Write Uncorrectable, until they are written.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::gate::lock;
use crate::namespace::Extent;

/// Most ranges of a namespace: what a host can make the drive remember.
const MOST_RANGES: usize = 65_536;

/// A set of bytes, in ranges that neither touch nor overlap. Empty, it costs its readers one load.
#[derive(Debug, Default)]
pub(crate) struct Uncorrectable {
    any: AtomicBool,
    /// First byte → byte after the last.
    ranges: Mutex<BTreeMap<u64, u64>>,
}

impl Uncorrectable {
    /// Adds a range. Returns whether there was room for it.
    pub(crate) fn mark(&self, extent: Extent) -> bool {
        let (mut start, mut end) = bounds(extent);
        if start == end {
            return true;
        }
        let mut ranges = lock(&self.ranges);
        if ranges.len() >= MOST_RANGES {
            return false;
        }
        while let Some((&other, &other_end)) = ranges.range(..=end).next_back()
            && other_end >= start
        {
            ranges.remove(&other);
            (start, end) = (start.min(other), end.max(other_end));
        }
        ranges.insert(start, end);
        self.any.store(true, Ordering::Release);
        true
    }

    /// Takes a range out: it was written.
    pub(crate) fn clear(&self, extent: Extent) {
        let (start, end) = bounds(extent);
        if start == end || !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut ranges = lock(&self.ranges);
        while let Some((&other, &other_end)) = ranges.range(..end).next_back()
            && other_end > start
        {
            ranges.remove(&other);
            if other_end > end {
                ranges.insert(end, other_end);
            }
            if other < start {
                ranges.insert(other, start);
            }
        }
        self.any.store(!ranges.is_empty(), Ordering::Release);
    }

    /// The first byte of `extent` that is in the set.
    pub(crate) fn first_in(&self, extent: Extent) -> Option<u64> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let (start, end) = bounds(extent);
        let ranges = lock(&self.ranges);
        let before = ranges.range(..=start).next_back();
        if before.is_some_and(|(_, before_end)| *before_end > start) {
            return Some(start);
        }
        ranges.range(start..end).next().map(|(first, _)| *first)
    }
}

fn bounds(extent: Extent) -> (u64, u64) {
    (extent.offset, extent.offset.saturating_add(extent.length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extent(start: u64, end: u64) -> Extent {
        Extent {
            offset: start,
            length: end - start,
        }
    }

    #[test]
    fn there_is_an_end_to_what_it_remembers() {
        let set = Uncorrectable::default();
        let one = |number: usize| extent(2 * number as u64, 2 * number as u64 + 1);
        for number in 0..MOST_RANGES {
            assert!(set.mark(one(number)));
        }
        assert!(!set.mark(one(MOST_RANGES)));
        assert_eq!(set.first_in(one(MOST_RANGES)), None);
        set.clear(one(7));
        assert!(set.mark(one(MOST_RANGES)));
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_bytes(acts in prop::collection::vec((any::<bool>(), 0..64_u64, 0..64_u64), 0..40)) {
            let set = Uncorrectable::default();
            let mut model = [false; 64];
            for (mark, one, other) in acts {
                let (start, end) = (one.min(other), one.max(other));
                if mark {
                    assert!(set.mark(extent(start, end)));
                } else {
                    set.clear(extent(start, end));
                }
                model[start as usize..end as usize].fill(mark);
                for start in 0..64 {
                    let expected = (start..64).find(|at| model[*at as usize]);
                    prop_assert_eq!(set.first_in(extent(start, 64)), expected);
                    let here = model[start as usize].then_some(start);
                    prop_assert_eq!(set.first_in(extent(start, start + 1)), here);
                }
                let ranges = lock(&set.ranges);
                let mut last = None;
                for (start, end) in ranges.iter() {
                    prop_assert!(start < end && last.is_none_or(|last| last < *start));
                    last = Some(*end);
                }
            }
        }
    }
}
