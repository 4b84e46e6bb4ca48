//! Slots over a KVM that is played, and over the host's where there is one.

use super::*;

/// The slots that KVM has, and whether it refuses.
#[derive(Default)]
struct Played {
    slots: Mutex<BTreeMap<u32, (u64, usize)>>,
    refuses: Mutex<bool>,
}

impl Slots for Played {
    fn set(&self, slot: u32, at: GuestAddress, memory: Option<&MmapRegion>) -> io::Result<()> {
        if *self.refuses.lock().unwrap() {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        let mut slots = self.slots.lock().unwrap();
        match memory {
            Some(memory) => assert_eq!(slots.insert(slot, (at.0, memory.size())), None),
            None => assert!(slots.remove(&slot).is_some()),
        }
        Ok(())
    }
}

impl Played {
    fn slots(&self) -> Vec<(u32, u64)> {
        let slots = self.slots.lock().unwrap();
        slots.iter().map(|(slot, (at, _))| (*slot, *at)).collect()
    }
}

fn map(taken: usize, all: usize) -> (DirectMap, Arc<Played>) {
    let vm = Arc::new(Played::default());
    (DirectMap::over(Arc::clone(&vm) as _, taken, all), vm)
}

fn page() -> Arc<MmapRegion> {
    Arc::new(MmapRegion::new(4096).unwrap())
}

#[test]
fn slots_come_after_those_of_guest_memory_and_are_taken_again() {
    let (map, vm) = map(2, 100);
    let first = map.map(GuestAddress(0x1000), &page()).unwrap();
    let second = map.map(GuestAddress(0x2000), &page()).unwrap();
    assert_eq!((first, second), (MapSlot(2), MapSlot(3)));
    map.unmap(first).unwrap();
    assert_eq!(vm.slots(), [(3, 0x2000)]);
    assert_eq!(
        map.map(GuestAddress(0x5000), &page()).unwrap(),
        MapSlot(2),
        "the lowest that is free"
    );
    assert_eq!(vm.slots(), [(2, 0x5000), (3, 0x2000)]);
}

#[test]
fn there_are_no_more_mappings_than_slots() {
    let (map, vm) = map(2, 4);
    for at in [0x1000, 0x2000] {
        map.map(GuestAddress(at), &page()).unwrap();
    }
    let refused = map.map(GuestAddress(0x3000), &page()).unwrap_err();
    assert!(refused.to_string().contains("2 mappings"), "{refused}");
    assert_eq!(vm.slots().len(), 2);
}

#[test]
fn memory_is_kept_for_as_long_as_the_guest_has_it() {
    let (map, vm) = map(0, 4);
    let memory = page();
    let slot = map.map(GuestAddress(0), &memory).unwrap();
    assert_eq!(Arc::strong_count(&memory), 2);

    *vm.refuses.lock().unwrap() = true;
    assert!(map.unmap(slot).is_err());
    assert_eq!(Arc::strong_count(&memory), 2, "KVM still has it");
    assert!(map.map(GuestAddress(0x1000), &page()).is_err());

    *vm.refuses.lock().unwrap() = false;
    map.unmap(slot).unwrap();
    assert_eq!(Arc::strong_count(&memory), 1);
    assert_eq!(
        map.unmap(slot).unwrap_err().kind(),
        io::ErrorKind::NotFound,
        "it is gone already"
    );
}

#[test]
fn what_is_left_is_taken_out_of_the_guest_in_the_end() {
    let (map, vm) = map(1, 4);
    let memory = page();
    map.map(GuestAddress(0x1000), &memory).unwrap();
    drop(map);
    assert!(vm.slots().is_empty());
    assert_eq!(Arc::strong_count(&memory), 1);

    let (map, vm) = self::map(1, 4);
    map.map(GuestAddress(0x1000), &memory).unwrap();
    *vm.refuses.lock().unwrap() = true;
    drop(map);
    assert_eq!(
        Arc::strong_count(&memory),
        2,
        "what KVM has is not given back to the host"
    );
}

#[test]
#[ignore = "needs KVM"]
fn the_hosts_kvm_takes_and_gives_back_a_slot() {
    let kvm = kvm_ioctls::Kvm::new();
    let kvm = kvm.expect("this test needs KVM: /dev/kvm, readable and writable");
    let vm = Arc::new(kvm.create_vm().unwrap());
    let map = DirectMap::new(vm, 0, kvm.get_nr_memslots());
    let slot = map.map(GuestAddress(0x1000), &page()).unwrap();
    let overlapping = map.map(GuestAddress(0x1000), &page()).unwrap_err();
    assert_eq!(overlapping.raw_os_error(), Some(libc::EEXIST));
    map.unmap(slot).unwrap();
    assert_eq!(map.map(GuestAddress(0x1000), &page()).unwrap(), slot);
    let unaligned = map.map(GuestAddress(0x1234), &page()).unwrap_err();
    assert_eq!(unaligned.raw_os_error(), Some(libc::EINVAL));
}
