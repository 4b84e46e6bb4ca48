//! What a kernel is told: the zero page of Linux's boot protocol, and the start info of PVH.

use linux_loader::loader::KernelLoaderResult;
use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::memory::{ECAM, GuestRam, HIGH_MEMORY};

/// Where the boot protocols' data lie, all below the kernel.
pub(super) const START_INFO: GuestAddress = GuestAddress(0x6000);
const MODULE_LIST: GuestAddress = GuestAddress(0x6040);
const MEMORY_MAP: GuestAddress = GuestAddress(0x6100);
pub(super) const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
pub(super) const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
pub(super) const KERNEL: GuestAddress = GuestAddress(0x10_0000);
/// End of the memory below the video and firmware area.
const BASE_MEMORY_END: u64 = 0x9_FC00;

const MEMORY_USABLE: u32 = 1;
const MEMORY_RESERVED: u32 = 2;

/// The guest's memory as the boot protocols list it: address, size, type.
fn memory_map(memory: &GuestRam) -> Vec<(u64, u64, u32)> {
    let mut map = vec![
        (0, BASE_MEMORY_END, MEMORY_USABLE),
        (BASE_MEMORY_END, KERNEL.0 - BASE_MEMORY_END, MEMORY_RESERVED),
    ];
    for region in memory.iter() {
        let start = region.start_addr().0;
        if start < HIGH_MEMORY {
            map.push((KERNEL.0, start + region.len() - KERNEL.0, MEMORY_USABLE));
            map.push((ECAM.0, ECAM.1, MEMORY_RESERVED));
        } else {
            map.push((start, region.len(), MEMORY_USABLE));
        }
    }
    map
}

/// Writes the zero page of Linux's boot protocol, with the kernel's own header.
pub(super) fn write_zero_page(
    memory: &GuestRam,
    loaded: KernelLoaderResult,
    initramfs: Option<(u64, u64)>,
    command_line_size: usize,
    rsdp: GuestAddress,
) -> Result<(), vm_memory::GuestMemoryError> {
    let mut params = boot_params {
        acpi_rsdp_addr: rsdp.0,
        ..Default::default()
    };
    if let Some(header) = loaded.setup_header {
        params.hdr = header;
    }
    // A boot loader without a number of its own.
    params.hdr.type_of_loader = 0xFF;
    params.hdr.cmd_line_ptr = COMMAND_LINE.0 as u32;
    params.hdr.cmdline_size = command_line_size as u32;
    if let Some((address, size)) = initramfs {
        params.hdr.ramdisk_image = address as u32;
        params.hdr.ramdisk_size = size as u32;
    }
    let map = memory_map(memory);
    for (slot, &(addr, size, type_)) in params.e820_table.iter_mut().zip(&map) {
        slot.addr = addr;
        slot.size = size;
        slot.r#type = type_;
    }
    params.e820_entries = map.len() as u8;
    memory.write_obj(params, ZERO_PAGE)
}

/// Writes the start info of the PVH protocol.
pub(super) fn write_start_info(
    memory: &GuestRam,
    initramfs: Option<(u64, u64)>,
    rsdp: GuestAddress,
) -> Result<(), vm_memory::GuestMemoryError> {
    const START_MAGIC: u32 = 0x336E_C578;
    let map = memory_map(memory);
    let mut at = MEMORY_MAP;
    for &(addr, size, type_) in &map {
        memory.write_obj(
            hvm_memmap_table_entry {
                addr,
                size,
                type_,
                reserved: 0,
            },
            at,
        )?;
        at = GuestAddress(at.0 + size_of::<hvm_memmap_table_entry>() as u64);
    }
    let mut start = hvm_start_info {
        magic: START_MAGIC,
        version: 1,
        cmdline_paddr: COMMAND_LINE.0,
        rsdp_paddr: rsdp.0,
        memmap_paddr: MEMORY_MAP.0,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    if let Some((paddr, size)) = initramfs {
        memory.write_obj(
            hvm_modlist_entry {
                paddr,
                size,
                cmdline_paddr: 0,
                reserved: 0,
            },
            MODULE_LIST,
        )?;
        start.nr_modules = 1;
        start.modlist_paddr = MODULE_LIST.0;
    }
    memory.write_obj(start, START_INFO)
}
