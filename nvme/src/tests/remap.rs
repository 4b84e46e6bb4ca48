//! Guest memory that comes while a burst of commands is served.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use devices::memory::{GuestMemory, Permissions, Region};
use vm_memory::MmapRegion;

use super::driver::{DATA, DISK, Guest, MEMORY, config, result, transfer};
use crate::backend::Durability;
use crate::spec::command::io as opcode;
use crate::{Backend, GuestSlice};

/// Storage whose first read gives the guest memory behind what it has.
struct Giving {
    memory: std::sync::OnceLock<GuestMemory>,
    given: AtomicBool,
}

impl Backend for Giving {
    fn size(&self) -> u64 {
        DISK
    }
    fn is_immediate(&self) -> bool {
        true
    }
    fn read(&self, _: u64, into: &[GuestSlice<'_>]) -> io::Result<()> {
        if !self.given.swap(true, Ordering::AcqRel) {
            let mapping = MmapRegion::new(0x1000).unwrap();
            let region = Region::mapped(MEMORY, mapping, Permissions::ALL).unwrap();
            self.memory.get().unwrap().add(region).unwrap();
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

#[test]
fn a_command_finds_memory_that_came_after_its_burst_began() {
    let backend = Arc::new(Giving {
        memory: std::sync::OnceLock::new(),
        given: AtomicBool::new(false),
    });
    let mut guest = Guest::with(config(vec![Arc::clone(&backend) as Arc<dyn Backend>]));
    backend.memory.set(guest.memory.clone()).unwrap();
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
