//! Regions that come and go under accesses, and memory that has to be asked for.

use std::sync::atomic::{AtomicBool, AtomicU32};

use super::*;

const PAGE: u64 = 0x1000;

fn mapped(start: u64, pages: u64, permissions: Permissions) -> Region {
    let mapping = vm_memory::MmapRegion::new((pages * PAGE) as usize).unwrap();
    Region::mapped(start, mapping, permissions).unwrap()
}

/// Memory elsewhere: it answers with the low byte of each address, and keeps what was written.
#[derive(Default)]
struct Elsewhere {
    written: Mutex<Vec<(u64, Vec<u8>)>>,
    cancelled: Mutex<Vec<(u64, u64)>>,
}

impl RemoteMemory for Elsewhere {
    fn read(&self, at: u64, data: &mut [u8]) -> std::io::Result<()> {
        for (offset, byte) in data.iter_mut().enumerate() {
            *byte = (at + offset as u64) as u8;
        }
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> std::io::Result<()> {
        self.written.lock().unwrap().push((at, data.to_vec()));
        Ok(())
    }

    fn cancel(&self, start: u64, size: u64) {
        self.cancelled.lock().unwrap().push((start, size));
    }
}

fn read(memory: &GuestMemory, at: u64, bytes: usize) -> Result<Vec<u8>, AccessError> {
    let mut data = vec![0; bytes];
    memory.read_slice(&mut data, GuestAddress(at))?;
    Ok(data)
}

#[test]
fn accesses_span_adjoining_regions_and_stop_at_holes() {
    let memory = GuestMemory::default();
    memory.add(mapped(2 * PAGE, 1, Permissions::ALL)).unwrap();
    memory.add(mapped(PAGE, 1, Permissions::ALL)).unwrap();
    let at = GuestAddress(2 * PAGE - 2);
    memory.write_slice(&[1, 2, 3, 4], at).unwrap();
    assert_eq!(read(&memory, 2 * PAGE - 2, 4).unwrap(), [1, 2, 3, 4]);
    let view = memory.view();
    let mut slices = Vec::new();
    view.slices(at, 4, Access::Write, &mut slices).unwrap();
    assert_eq!(slices.len(), 2);
    assert!(view.slice(at, 4, Access::Write).is_none(), "in two");
    assert!(view.slice(at, 2, Access::Write).is_some());
    assert!(
        view.slice(GuestAddress(PAGE - 1), 1, Access::Read)
            .is_none()
    );
    assert!(
        view.slice(GuestAddress(3 * PAGE - 1), 2, Access::Read)
            .is_none()
    );
    assert!(memory.check_range(GuestAddress(PAGE), 2 * PAGE as usize));
    assert!(!memory.check_range(GuestAddress(PAGE), 2 * PAGE as usize + 1));
    assert!(!memory.check_range(GuestAddress(PAGE - 1), 1));
    let past = read(&memory, 3 * PAGE - 1, 2);
    assert!(matches!(past, Err(AccessError::Nothing(at)) if at == 3 * PAGE));
}

#[test]
fn the_last_address_of_all_is_memory_and_nothing_comes_after_it() {
    let memory = GuestMemory::default();
    let elsewhere = Arc::new(Elsewhere::default());
    let region = Region::remote(u64::MAX - 9, 10, elsewhere, Permissions::ALL).unwrap();
    memory.add(region).unwrap();
    assert_eq!(read(&memory, u64::MAX, 1).unwrap(), [0xFF]);
    assert!(!memory.check_range(GuestAddress(u64::MAX), 2));
    assert!(memory.check_range(GuestAddress(u64::MAX - 9), 10));
}

#[test]
fn permissions_hold_for_copies_slices_and_stores() {
    let memory = GuestMemory::default();
    let read_only = Permissions {
        read: true,
        write: false,
    };
    memory.add(mapped(0, 1, read_only)).unwrap();
    let at = GuestAddress(8);
    assert!(read(&memory, 8, 4).is_ok());
    let refused = memory.write_slice(&[1], at);
    assert!(matches!(refused, Err(AccessError::Denied(8))));
    let refused = memory.store(1_u32, at, Ordering::Release);
    assert!(matches!(refused, Err(AccessError::Denied(8))));
    let (view, mut slices) = (memory.view(), Vec::new());
    let refused = view.slices(at, 4, Access::Write, &mut slices);
    assert!(matches!(refused, Err(AccessError::Denied(8))));
    assert!(!memory.is_mapped(at, 4));
}

#[test]
fn values_are_stored_whole_and_aligned() {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), PAGE as usize)]).unwrap();
    memory
        .store(0x0403_0201_u32, GuestAddress(4), Ordering::Release)
        .unwrap();
    assert_eq!(read(&memory, 4, 4).unwrap(), [1, 2, 3, 4]);
    let loaded: u32 = memory
        .view()
        .load(GuestAddress(4), Ordering::Acquire)
        .unwrap();
    assert_eq!(loaded, 0x0403_0201);
    let refused = memory.store(1_u32, GuestAddress(5), Ordering::Release);
    assert!(matches!(refused, Err(AccessError::Unaligned(5))));
    assert!(
        memory
            .store(1_u32, GuestAddress(PAGE), Ordering::Release)
            .is_err()
    );
}

#[test]
fn regions_do_not_overlap_and_are_removed_whole() {
    let memory = GuestMemory::default();
    memory.add(mapped(PAGE, 2, Permissions::ALL)).unwrap();
    let overlap = memory.add(mapped(2 * PAGE, 2, Permissions::ALL));
    assert!(matches!(overlap, Err(ChangeError::Overlap { .. })));
    let told = Arc::new(AtomicBool::new(false));
    let tell = || {
        let told = Arc::clone(&told);
        move || told.store(true, Ordering::Release)
    };
    let part = memory.remove(2 * PAGE, PAGE, tell());
    assert!(matches!(part, Err(ChangeError::Part { .. })));
    let nothing = memory.remove(8 * PAGE, PAGE, tell());
    assert!(matches!(nothing, Err(ChangeError::Nothing { .. })));
    assert!(!told.load(Ordering::Acquire));
    assert!(memory.check_range(GuestAddress(PAGE), 2 * PAGE as usize));
    memory.remove(PAGE, 2 * PAGE, tell()).unwrap();
    assert!(told.load(Ordering::Acquire), "nobody used it");
    assert!(!memory.check_range(GuestAddress(PAGE), 1));
}

#[test]
fn a_removed_region_stays_for_those_who_use_it_and_its_end_is_told_once() {
    let memory = GuestMemory::default();
    memory.add(mapped(0, 1, Permissions::ALL)).unwrap();
    memory.add(mapped(4 * PAGE, 1, Permissions::ALL)).unwrap();
    let early = memory.snapshot();
    // Other changes between do not matter: it is the region that is waited for, not the map.
    memory.remove(4 * PAGE, PAGE, || {}).unwrap();
    let (view, late) = (memory.view(), memory.snapshot());
    let ends = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&ends);
    memory
        .remove(0, PAGE, move || {
            count.fetch_add(1, Ordering::AcqRel);
        })
        .unwrap();
    assert!(!memory.check_range(GuestAddress(0), 1));
    early.write_slice(&[7], GuestAddress(0)).unwrap();
    let mut seen = [0];
    late.read_slice(&mut seen, GuestAddress(0)).unwrap();
    assert_eq!(seen, [7]);
    drop(view);
    drop(early);
    assert_eq!(ends.load(Ordering::Acquire), 0, "one map is left");
    drop(late);
    assert_eq!(ends.load(Ordering::Acquire), 1);
}

#[test]
fn clearing_waits_for_every_region() {
    let memory = GuestMemory::default();
    memory.add(mapped(0, 1, Permissions::ALL)).unwrap();
    let held = memory.snapshot();
    memory.add(mapped(PAGE, 1, Permissions::ALL)).unwrap();
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    memory.clear(move || tell.store(true, Ordering::Release));
    assert!(!told.load(Ordering::Acquire), "the first is still held");
    assert!(memory.view().regions().is_empty());
    drop(held);
    assert!(told.load(Ordering::Acquire));
}

#[test]
fn remote_memory_is_asked_for_and_not_mapped() {
    let memory = GuestMemory::default();
    let elsewhere = Arc::new(Elsewhere::default());
    memory.add(mapped(0, 1, Permissions::ALL)).unwrap();
    let region = Region::remote(PAGE, PAGE, Arc::clone(&elsewhere) as _, Permissions::ALL);
    memory.add(region.unwrap()).unwrap();
    assert!(memory.check_range(GuestAddress(PAGE - 4), 8));
    assert!(!memory.is_mapped(GuestAddress(PAGE - 4), 8));
    let found = read(&memory, PAGE - 2, 4).unwrap();
    assert_eq!(found, [0, 0, 0, 1]);
    memory
        .write_slice(&[5, 6, 7, 8], GuestAddress(PAGE - 2))
        .unwrap();
    assert_eq!(*elsewhere.written.lock().unwrap(), [(PAGE, vec![7, 8])]);
    let (view, mut slices) = (memory.view(), Vec::new());
    let refused = view.slices(GuestAddress(PAGE), 4, Access::Read, &mut slices);
    assert!(matches!(refused, Err(AccessError::NotMapped(PAGE))));
}

#[test]
fn a_removed_remote_region_is_asked_no_more_even_by_those_who_hold_it() {
    let memory = GuestMemory::default();
    let elsewhere = Arc::new(Elsewhere::default());
    let region = Region::remote(PAGE, PAGE, Arc::clone(&elsewhere) as _, Permissions::ALL);
    memory.add(region.unwrap()).unwrap();
    let held = memory.snapshot();
    memory.remove(PAGE, PAGE, || {}).unwrap();
    assert_eq!(*elsewhere.cancelled.lock().unwrap(), [(PAGE, PAGE)]);
    let refused = held.write_slice(&[1], GuestAddress(PAGE));
    assert!(matches!(refused, Err(AccessError::Remote { at: PAGE, .. })));
    assert!(elsewhere.written.lock().unwrap().is_empty());
}

#[test]
fn readers_never_see_half_of_a_change() {
    let memory = GuestMemory::default();
    memory.add(mapped(0, 1, Permissions::ALL)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                memory.add(mapped(PAGE, 1, Permissions::ALL)).unwrap();
                memory.remove(PAGE, PAGE, || {}).unwrap();
            }
            stop.store(true, Ordering::Release);
        });
        while !stop.load(Ordering::Acquire) {
            let view = memory.view();
            let there = view.check_range(GuestAddress(PAGE), 1);
            let written = view.write_slice(&[1], GuestAddress(PAGE));
            assert_eq!(there, written.is_ok(), "a view does not change");
            assert!(view.check_range(GuestAddress(0), PAGE as usize));
        }
    });
}

#[test]
fn a_view_is_current_until_regions_come_or_go() {
    let memory = GuestMemory::default();
    let first = memory.view();
    assert!(memory.is_current(&first));
    memory.add(mapped(0, 1, Permissions::ALL)).unwrap();
    assert!(!memory.is_current(&first));
    let second = memory.view();
    assert!(memory.is_current(&second));
    let overlap = memory.add(mapped(0, 1, Permissions::ALL));
    assert!(overlap.is_err());
    assert!(memory.is_current(&second), "nothing changed");
    memory.remove(0, PAGE, || {}).unwrap();
    assert!(!memory.is_current(&second));
    let third = memory.view();
    memory.clear(|| {});
    assert!(!memory.is_current(&third));
}
