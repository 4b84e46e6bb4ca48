//! The payload: a kernel, an initramfs and a command line, put into guest memory at every boot.

mod parameters;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use api::config::PayloadConfig;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::entry;
use crate::memory::GuestRam;
use crate::vcpu::EntryState;
use parameters::{COMMAND_LINE, KERNEL, START_INFO, ZERO_PAGE, write_start_info, write_zero_page};

/// Most bytes of a command line, with the zero that ends it.
const COMMAND_LINE_SIZE: usize = 4096;

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

#[cfg(test)]
mod tests;
