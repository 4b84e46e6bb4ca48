//! Guests of a few instructions: an ELF file with a PVH entry, entered in 32-bit protected mode without paging.

use std::fs;
use std::path::Path;

/// Where the code is loaded and entered.
const BASE: u32 = 0x10_0000;
/// Where the code lies in the file.
const CODE: usize = 0x1000;
const NOTE: usize = 0x100;
const HEADER: usize = 0x40;
const PROGRAM_HEADER: usize = 0x38;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// XEN_ELFNOTE_PHYS32_ENTRY.
const PVH_ENTRY: u32 = 18;

const MARKER: u16 = 0x3F0;
const CONFIG_ADDRESS: u16 = 0xCF8;
const CONFIG_DATA: u16 = 0xCFC;

/// Instructions, one after the other.
#[derive(Default)]
pub struct Guest(Vec<u8>);

impl Guest {
    /// Writes a boot marker.
    pub fn marker(mut self, value: u8) -> Self {
        // mov al, value
        self.0.extend([0xB0, value]);
        self.out_al(MARKER)
    }

    /// Writes the low byte of a register in the configuration space of a device on the root bus as a boot marker.
    pub fn marker_of_register(self, device: u32, offset: u32) -> Self {
        let mut guest = self.select(device, offset);
        // mov dx, port; in eax, dx
        guest.load_dx(CONFIG_DATA);
        guest.0.push(0xED);
        guest.out_al(MARKER)
    }

    /// Writes a register in the configuration space of a device on the root bus.
    pub fn set_register(self, device: u32, offset: u32, value: u32) -> Self {
        self.select(device, offset).out_eax(CONFIG_DATA, value)
    }

    /// Reads four bytes of memory, again and again.
    pub fn read_for_ever(mut self, address: u32) -> Self {
        // mov eax, [address]; jmp to it
        self.0.push(0xA1);
        self.0.extend(address.to_le_bytes());
        self.0.extend([0xEB, 0xF9]);
        self
    }

    /// Writes the guest, which halts in the end, to a file.
    pub fn write(mut self, path: &Path) {
        // cli; hlt; jmp to the hlt
        self.0.extend([0xFA, 0xF4, 0xEB, 0xFD]);
        fs::write(path, image(&self.0)).unwrap();
    }

    fn select(self, device: u32, offset: u32) -> Self {
        self.out_eax(CONFIG_ADDRESS, 1 << 31 | device << 11 | offset)
    }

    fn load_dx(&mut self, port: u16) {
        self.0.extend([0x66, 0xBA]);
        self.0.extend(port.to_le_bytes());
    }

    fn out_al(mut self, port: u16) -> Self {
        self.load_dx(port);
        self.0.push(0xEE);
        self
    }

    fn out_eax(mut self, port: u16, value: u32) -> Self {
        self.load_dx(port);
        // mov eax, value; out dx, eax
        self.0.push(0xB8);
        self.0.extend(value.to_le_bytes());
        self.0.push(0xEF);
        self
    }
}

fn image(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0; CODE];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // ELF, 64-bit, little-endian, version 1; an executable for x86-64.
    put(0, &[0x7F, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &u64::from(BASE).to_le_bytes());
    put(32, &(HEADER as u64).to_le_bytes());
    put(52, &[HEADER as u8, 0, PROGRAM_HEADER as u8, 0, 2]);
    let words = [4, 4, PVH_ENTRY, u32::from_le_bytes(*b"Xen\0"), BASE];
    put(NOTE, &words.map(u32::to_le_bytes).concat());
    put(HEADER, &program_header(PT_LOAD, CODE, BASE, code.len()));
    put(
        HEADER + PROGRAM_HEADER,
        &program_header(PT_NOTE, NOTE, 0, size_of_val(&words)),
    );
    image.extend(code);
    image
}

fn program_header(kind: u32, offset: usize, address: u32, size: usize) -> Vec<u8> {
    // Readable and executable.
    let kinds = u64::from(kind) | 5 << 32;
    let (offset, size, address) = (offset as u64, size as u64, u64::from(address));
    let words = [kinds, offset, address, address, size, size, 4];
    words.map(u64::to_le_bytes).concat()
}
