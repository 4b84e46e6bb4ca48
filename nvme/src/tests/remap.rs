//! Guest memory that comes and goes while a burst of commands is served.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use devices::memory::{GuestMemory, Permissions, Region};
use vm_memory::{FileOffset, MmapRegion};
use zerocopy::IntoBytes;

use super::driver::{DATA, DISK, Guest, MEMORY, config, result, transfer};
use crate::backend::Durability;
use crate::spec::Submission;
use crate::spec::command::io as opcode;
use crate::spec::registers::offset;
use crate::{Backend, GuestSlice};

/// What a read does to guest memory: the first, the second, and so on.
type Acts = Vec<Box<dyn Fn(&GuestMemory) + Send + Sync>>;

/// Storage whose reads change the guest's memory.
struct Changing {
    memory: std::sync::OnceLock<GuestMemory>,
    acts: Acts,
    reads: AtomicUsize,
}

impl Changing {
    fn new(acts: Acts) -> Arc<Self> {
        Arc::new(Self {
            memory: std::sync::OnceLock::new(),
            acts,
            reads: AtomicUsize::new(0),
        })
    }
}

impl Backend for Changing {
    fn size(&self) -> u64 {
        DISK
    }
    fn is_immediate(&self) -> bool {
        true
    }
    fn read(&self, _: u64, into: &[GuestSlice<'_>]) -> io::Result<()> {
        let number = self.reads.fetch_add(1, Ordering::AcqRel);
        if let Some(act) = self.acts.get(number) {
            act(self.memory.get().unwrap());
        }
        for slice in into {
            slice.copy_from(&[7_u8; 512]);
        }
        Ok(())
    }
    fn write(&self, _: u64, _: &[GuestSlice<'_>], _: Durability) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn deallocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn on(backend: &Arc<Changing>) -> Guest {
    let guest = Guest::with(config(vec![Arc::clone(backend) as Arc<dyn Backend>]));
    backend.memory.set(guest.memory.clone()).unwrap();
    guest
}

#[test]
fn a_command_finds_memory_that_came_after_its_burst_began() {
    let backend = Changing::new(vec![Box::new(|memory| {
        let mapping = MmapRegion::new(0x1000).unwrap();
        let region = Region::mapped(MEMORY, mapping, Permissions::ALL).unwrap();
        memory.add(region).unwrap();
    })]);
    let mut guest = on(&backend);
    guest.enable();
    guest.create_pair(1);
    // One doorbell for both: one burst.
    let first = guest.push(1, transfer(opcode::READ, 0, 1, DATA, 0));
    let second = guest.push(1, transfer(opcode::READ, 1, 1, MEMORY, 0));
    guest.ring(1);
    assert_eq!(result(&guest.wait(1, first)), Ok(0));
    assert_eq!(result(&guest.wait(1, second)), Ok(0));
    assert_eq!(guest.bytes(MEMORY, 512), [7; 512]);
}

/// The first command takes the region of its queue away, the second brings it back.
#[test]
fn a_queue_whose_memory_was_away_for_a_moment_goes_on() {
    let file = Arc::new(tempfile::tempfile().unwrap());
    file.set_len(0x1000).unwrap();
    let region = move || {
        let place = FileOffset::from_arc(Arc::clone(&file), 0);
        let mapping = MmapRegion::from_file(place, 0x1000).unwrap();
        Region::mapped(MEMORY, mapping, Permissions::ALL).unwrap()
    };
    let again = region.clone();
    let backend = Changing::new(vec![
        Box::new(|memory| memory.remove(MEMORY, 0x1000, || {}).unwrap()),
        Box::new(move |memory| memory.add(again()).unwrap()),
    ]);
    let mut guest = on(&backend);
    guest.memory.add(region()).unwrap();
    guest.enable();
    guest.forget(1);
    guest.admin_ok(Guest::create_cq_command(1, 1));
    guest.admin_ok(Submission {
        prp1: MEMORY,
        ..Guest::create_sq_command(1, 1)
    });
    for cid in 0..3_u16 {
        let mut read = transfer(opcode::READ, 0, 1, DATA, 0);
        read.cid = cid;
        guest.fill(MEMORY + u64::from(cid) * 64, read.as_bytes());
    }
    // One doorbell for all: one burst.
    guest.write(offset::DOORBELLS + 8, 3);
    for cid in 0..3 {
        assert_eq!(result(&guest.wait(1, cid)), Ok(0));
    }
    assert!(!guest.has_failed());
}
