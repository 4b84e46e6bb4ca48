//! The payload: a kernel, an initramfs and a command line, put into guest memory at every boot.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use api::config::PayloadConfig;
use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use linux_loader::loader::{BzImage, Elf, KernelLoader, KernelLoaderResult};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::entry;
use crate::memory::{ECAM, GuestRam, HIGH_MEMORY};
use crate::vcpu::EntryState;

/// Where the boot protocols' data lie, all below the kernel.
const START_INFO: GuestAddress = GuestAddress(0x6000);
const MODULE_LIST: GuestAddress = GuestAddress(0x6040);
const MEMORY_MAP: GuestAddress = GuestAddress(0x6100);
const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
const COMMAND_LINE_SIZE: usize = 4096;
const KERNEL: GuestAddress = GuestAddress(0x10_0000);
/// End of the memory below the video and firmware area.
const BASE_MEMORY_END: u64 = 0x9_FC00;

const MEMORY_USABLE: u32 = 1;
const MEMORY_RESERVED: u32 = 2;

/// Why a payload could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A file could not be opened.
    #[error("opening the {what} {path}: {source}")]
    Open {
        /// `kernel` or `initramfs`.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// A file could not be read into guest memory.
    #[error("reading the {what} {path}: {reason}")]
    Read {
        /// `kernel` or `initramfs`.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The kernel is neither of the kinds that can be booted.
    #[error(
        "the kernel {path} is neither a bzImage with a 64-bit entry nor an ELF file with a PVH entry: {reason}"
    )]
    Kind {
        /// Its path.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// The command line is too long or holds a NUL.
    #[error("the kernel's command line {0}")]
    CommandLine(&'static str),
    /// Guest memory is too small.
    #[error(
        "kernel and initramfs do not fit into guest memory: {needed_mib} MiB are needed below 3 GiB; raise memory.size"
    )]
    TooSmall {
        /// What would be enough.
        needed_mib: u64,
    },
    /// Guest memory refused a write.
    #[error("writing boot data to guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// An open payload. The files stay open: every boot loads the same kernel, whatever becomes of its path.
pub struct Payload {
    kernel: Kernel,
    kernel_path: PathBuf,
    initramfs: Option<(File, PathBuf)>,
    command_line: CString,
}

enum Kernel {
    BzImage(File),
    Elf(File),
}

impl Payload {
    /// Opens the files of `config` and checks what they are.
    pub fn open(config: &PayloadConfig) -> Result<Self, PayloadError> {
        let kernel_path = config.kernel.clone();
        let file = open("kernel", &kernel_path)?;
        let kernel = Kernel::recognise(file, &kernel_path)?;
        let initramfs = match &config.initramfs {
            Some(path) => Some((open("initramfs", path)?, path.clone())),
            None => None,
        };
        let text = config.cmdline.clone().unwrap_or_default();
        if text.len() >= COMMAND_LINE_SIZE {
            return Err(PayloadError::CommandLine("is longer than 4,095 bytes"));
        }
        let command_line =
            CString::new(text).map_err(|_| PayloadError::CommandLine("holds a NUL byte"))?;
        Ok(Self {
            kernel,
            kernel_path,
            initramfs,
            command_line,
        })
    }

    /// Puts the payload into `memory` and says where the first vCPU starts. `rsdp` is where the ACPI
    /// tables begin.
    pub fn load(
        &mut self,
        memory: &GuestRam,
        rsdp: GuestAddress,
    ) -> Result<EntryState, PayloadError> {
        let path = self.kernel_path.clone();
        let unreadable = |error: linux_loader::loader::Error| PayloadError::Read {
            what: "kernel",
            path: path.clone(),
            reason: error.to_string(),
        };
        let not_bootable = |reason: &str| PayloadError::Kind {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        memory.write_slice(self.command_line.as_bytes_with_nul(), COMMAND_LINE)?;
        match &mut self.kernel {
            Kernel::BzImage(file) => {
                let loaded =
                    BzImage::load(memory, Some(KERNEL), file, Some(KERNEL)).map_err(unreadable)?;
                let header = loaded
                    .setup_header
                    .ok_or_else(|| not_bootable("it has no setup header"))?;
                // Before it unpacks itself, the kernel needs `init_size` bytes from where it prefers to run.
                let kernel_end = header.pref_address.max(KERNEL.0) + u64::from(header.init_size);
                let initramfs =
                    self.load_initramfs(memory, kernel_end, u64::from(header.initrd_addr_max))?;
                write_zero_page(
                    memory,
                    loaded,
                    initramfs,
                    self.command_line.as_bytes().len(),
                    rsdp,
                )?;
                Ok(entry::long_mode(
                    memory,
                    loaded.kernel_load.0 + 0x200,
                    ZERO_PAGE,
                )?)
            }
            Kernel::Elf(file) => {
                let loaded = Elf::load(memory, None, file, Some(KERNEL)).map_err(unreadable)?;
                clear_zeroed(memory, file).map_err(|error| PayloadError::Read {
                    what: "kernel",
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
                let PvhBootCapability::PvhEntryPresent(pvh_entry) = loaded.pvh_boot_cap else {
                    return Err(not_bootable("it has no PVH note"));
                };
                let initramfs = self.load_initramfs(memory, loaded.kernel_end, 0x7FFF_FFFF)?;
                write_start_info(memory, initramfs, rsdp)?;
                Ok(entry::protected_mode(memory, pvh_entry.0, START_INFO)?)
            }
        }
    }

    /// Reads the initramfs to the top of the memory that the kernel can reach early.
    fn load_initramfs(
        &mut self,
        memory: &GuestRam,
        kernel_end: u64,
        highest: u64,
    ) -> Result<Option<(u64, u64)>, PayloadError> {
        let top = memory.iter().next().map_or(0, |low| low.len());
        let Some((file, path)) = &mut self.initramfs else {
            return if kernel_end > top {
                Err(too_small(kernel_end))
            } else {
                Ok(None)
            };
        };
        let failed = |error: &dyn std::fmt::Display| PayloadError::Read {
            what: "initramfs",
            path: path.clone(),
            reason: error.to_string(),
        };
        let size = file.metadata().map_err(|error| failed(&error))?.len();
        let start = top.min(highest.saturating_add(1)).saturating_sub(size) & !0xFFF;
        if start < kernel_end {
            return Err(too_small(kernel_end + size));
        }
        file.rewind().map_err(|error| failed(&error))?;
        memory
            .read_exact_volatile_from(GuestAddress(start), file, size as usize)
            .map_err(|error| failed(&error))?;
        Ok(Some((start, size)))
    }
}

/// Clears what an ELF file's segments have beyond their bytes in the file (`.bss`): the loader takes memory
/// to be zero there, and after a reset it holds what the boot before left.
fn clear_zeroed(memory: &GuestRam, file: &mut File) -> io::Result<()> {
    const LOADABLE: u64 = 1;
    const SEGMENT_HEADER: usize = 56;
    const ZEROES: [u8; 4096] = [0; 4096];
    let number = |bytes: &[u8]| {
        let mut number = [0; 8];
        number[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(number)
    };
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    let (first, count) = (number(&header[32..40]), number(&header[56..58]));
    for index in 0..count {
        let mut segment = [0; SEGMENT_HEADER];
        file.read_exact_at(
            &mut segment,
            first.saturating_add(index * SEGMENT_HEADER as u64),
        )?;
        let (start, in_file) = (number(&segment[24..32]), number(&segment[32..40]));
        let size = number(&segment[40..48]);
        if number(&segment[..4]) != LOADABLE || size <= in_file {
            continue;
        }
        let end = start.saturating_add(size);
        let mut at = start.saturating_add(in_file);
        while at < end {
            let bytes = ZEROES.len().min((end - at) as usize);
            memory
                .write_slice(&ZEROES[..bytes], GuestAddress(at))
                .map_err(io::Error::other)?;
            at += bytes as u64;
        }
    }
    Ok(())
}

fn too_small(needed: u64) -> PayloadError {
    PayloadError::TooSmall {
        needed_mib: (needed >> 20) + 1,
    }
}

fn open(what: &'static str, path: &Path) -> Result<File, PayloadError> {
    File::open(path).map_err(|source| PayloadError::Open {
        what,
        path: path.to_owned(),
        source,
    })
}

impl Kernel {
    fn recognise(mut file: File, path: &Path) -> Result<Self, PayloadError> {
        let mut start = vec![0; 0x260];
        let unreadable = |source: io::Error| PayloadError::Read {
            what: "kernel",
            path: path.to_owned(),
            reason: source.to_string(),
        };
        let not_bootable = |reason: &str| PayloadError::Kind {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let size = file.metadata().map_err(unreadable)?.len();
        if size < start.len() as u64 {
            return Err(not_bootable("it is too short"));
        }
        file.read_exact(&mut start).map_err(unreadable)?;
        if start.starts_with(b"\x7FELF") {
            return Ok(Self::Elf(file));
        }
        if &start[0x202..0x206] != b"HdrS" {
            return Err(not_bootable("it has the signature of neither"));
        }
        let version = u16::from_le_bytes([start[0x206], start[0x207]]);
        let has_64_bit_entry = start[0x236] & 1 != 0;
        if version < 0x20C || !has_64_bit_entry {
            return Err(not_bootable(
                "its boot protocol is older than 2.12 or it is a 32-bit kernel",
            ));
        }
        Ok(Self::BzImage(file))
    }
}

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

fn write_zero_page(
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

fn write_start_info(
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

#[cfg(test)]
mod tests;
