//! The state of the first vCPU at the kernel's entry, for the two boot protocols.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::memory::GuestRam;
use crate::vcpu::EntryState;

const GDT: GuestAddress = GuestAddress(0x500);
const IDT: GuestAddress = GuestAddress(0x520);
const PML4: GuestAddress = GuestAddress(0x9000);
const PDPT: GuestAddress = GuestAddress(0xA000);
/// Four page directories, which map the first 4 GiB one to one.
const PAGE_DIRECTORIES: GuestAddress = GuestAddress(0xB000);
const BOOT_STACK: u64 = 0x8FF0;

const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TASK_SELECTOR: u16 = 0x20;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;
const RFLAGS_FIXED: u64 = 2;

/// The Linux 64-bit boot protocol: long mode, low memory mapped one to one, RSI at the zero page.
pub fn long_mode(
    memory: &GuestRam,
    rip: u64,
    zero_page: GuestAddress,
) -> Result<EntryState, GuestMemoryError> {
    memory.write_obj(PDPT.0 | PRESENT_WRITABLE, PML4)?;
    for directory in 0..4u64 {
        let table = PAGE_DIRECTORIES.0 + directory * 0x1000;
        memory.write_obj(
            table | PRESENT_WRITABLE,
            GuestAddress(PDPT.0 + directory * 8),
        )?;
        for page in 0..512u64 {
            let mapped = (directory * 512 + page) << 21;
            memory.write_obj(
                mapped | PRESENT_WRITABLE | LARGE_PAGE,
                GuestAddress(table + page * 8),
            )?;
        }
    }
    let mut sregs = flat_segments(memory, true)?;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.cr3 = PML4.0;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    let regs = kvm_regs {
        rflags: RFLAGS_FIXED,
        rip,
        rsi: zero_page.0,
        rsp: BOOT_STACK,
        rbp: BOOT_STACK,
        ..Default::default()
    };
    Ok(EntryState { regs, sregs })
}

/// The PVH boot protocol: 32-bit protected mode without paging, EBX at the start info.
pub fn protected_mode(
    memory: &GuestRam,
    rip: u64,
    start_info: GuestAddress,
) -> Result<EntryState, GuestMemoryError> {
    let mut sregs = flat_segments(memory, false)?;
    sregs.cr0 = CR0_PE | CR0_ET;
    let regs = kvm_regs {
        rflags: RFLAGS_FIXED,
        rip,
        rbx: start_info.0,
        ..Default::default()
    };
    Ok(EntryState { regs, sregs })
}

/// Flat code, data and task segments, in the registers and in a descriptor table for when they are reloaded.
fn flat_segments(memory: &GuestRam, long: bool) -> Result<kvm_sregs, GuestMemoryError> {
    let code = segment(CODE_SELECTOR, 0xB, true, long);
    let data = segment(DATA_SELECTOR, 0x3, true, false);
    let task = kvm_segment {
        limit: 0x67,
        g: 0,
        ..segment(TASK_SELECTOR, 0xB, false, false)
    };
    let descriptors = [
        0,
        0,
        descriptor(&code),
        descriptor(&data),
        descriptor(&task),
    ];
    for (index, value) in descriptors.iter().enumerate() {
        memory.write_obj(*value, GuestAddress(GDT.0 + 8 * index as u64))?;
    }
    memory.write_obj(0u64, GuestAddress(IDT.0 + 8))?;
    Ok(kvm_sregs {
        cs: code,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: task,
        ldt: kvm_segment {
            unusable: 1,
            ..Default::default()
        },
        gdt: kvm_dtable {
            base: GDT.0,
            limit: (descriptors.len() * 8 - 1) as u16,
            ..Default::default()
        },
        idt: kvm_dtable {
            base: IDT.0 + 8,
            limit: 7,
            ..Default::default()
        },
        ..Default::default()
    })
}

fn segment(selector: u16, type_: u8, code_or_data: bool, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xFFFF_FFFF,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: u8::from(code_or_data && !long),
        s: u8::from(code_or_data),
        l: u8::from(long),
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

/// The segment as an entry of a descriptor table (Intel SDM volume 3, 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 {
        segment.limit >> 12
    } else {
        segment.limit
    });
    let access =
        u64::from(segment.type_) | u64::from(segment.s) << 4 | u64::from(segment.present) << 7;
    let flags = u64::from(segment.l) << 1 | u64::from(segment.db) << 2 | u64::from(segment.g) << 3;
    limit & 0xFFFF | access << 40 | (limit >> 16 & 0xF) << 48 | flags << 52
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_the_well_known_ones() {
        assert_eq!(
            descriptor(&segment(CODE_SELECTOR, 0xB, true, true)),
            0x00AF_9B00_0000_FFFF
        );
        assert_eq!(
            descriptor(&segment(CODE_SELECTOR, 0xB, true, false)),
            0x00CF_9B00_0000_FFFF
        );
        assert_eq!(
            descriptor(&segment(DATA_SELECTOR, 0x3, true, false)),
            0x00CF_9300_0000_FFFF
        );
    }

    #[test]
    fn long_mode_maps_the_first_4_gib_one_to_one() {
        let memory = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let entry = long_mode(&memory, 0x10_0200, GuestAddress(0x7000)).unwrap();
        let walk = |address: u64| {
            let read = |at: u64| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
            let table = |value: u64| value & !0xFFF;
            let pdpt = table(read(entry.sregs.cr3 + (address >> 39) * 8));
            let directory = table(read(pdpt + (address >> 30 & 511) * 8));
            let page = read(directory + (address >> 21 & 511) * 8);
            (page & !0x1F_FFFF) | address & 0x1F_FFFF
        };
        for address in [0, 0x10_0200, 0x3FFF_FFFF, 0x4000_0000, 0xFFFF_FFFF] {
            assert_eq!(walk(address), address);
        }
    }
}
