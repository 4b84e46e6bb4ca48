//! A guest of a few instructions: an ELF file with a PVH entry that writes to ports and then halts. Where
//! a scenario is about what follows a reset and not about Linux, it saves the time of a boot.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Where the code is loaded and entered, in 32-bit protected mode.
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

/// What the guest does, in order; it then halts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Writes a byte to a port.
    Byte(u16, u8),
    /// Writes two bytes to a port.
    Word(u16, u16),
    /// Executes these bytes.
    Code(&'static [u8]),
    /// Has no interrupt table and takes an exception.
    TripleFault,
}

/// The boot marker that scenarios wait for.
pub(super) const READY: Step = Step::Byte(0x3F0, 2);
/// The keyboard controller's reset.
pub(super) const RESET: Step = Step::Byte(0x64, 0xFE);
/// S5: SLP_TYP 5 and SLP_EN into PM1a control.
pub(super) const POWER_OFF: Step = Step::Word(0x604, 5 << 10 | 1 << 13);

/// Writes the guest to `path`.
pub(super) fn write(path: &Path, steps: &[Step]) -> Result<()> {
    fs::write(path, image(&code(steps)))
        .with_context(|| format!("could not write the guest {}", path.display()))
}

fn code(steps: &[Step]) -> Vec<u8> {
    let mut code = Vec::new();
    for step in steps {
        match *step {
            Step::Byte(port, value) => {
                code.extend(load_dx(port));
                // mov al, value; out dx, al
                code.extend([0xB0, value, 0xEE]);
            }
            Step::Word(port, value) => {
                code.extend(load_dx(port));
                let [low, high] = value.to_le_bytes();
                // mov ax, value; out dx, ax
                code.extend([0x66, 0xB8, low, high, 0x66, 0xEF]);
            }
            Step::Code(bytes) => code.extend(bytes),
            // ud2
            Step::TripleFault => code.extend([0x0F, 0x0B]),
        }
    }
    // cli; hlt; jmp to the hlt
    code.extend([0xFA, 0xF4, 0xEB, 0xFD]);
    code
}

/// mov dx, port
fn load_dx(port: u16) -> [u8; 4] {
    let [low, high] = port.to_le_bytes();
    [0x66, 0xBA, low, high]
}

fn image(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0; CODE];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // ELF, 64-bit, little-endian, version 1; an executable for x86-64.
    put(0, &[0x7F, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &u64::from(BASE).to_le_bytes());
    put(32, &(HEADER as u64).to_le_bytes());
    put(52, &(HEADER as u16).to_le_bytes());
    put(54, &(PROGRAM_HEADER as u16).to_le_bytes());
    put(56, &2u16.to_le_bytes());

    let note = [
        4u32.to_le_bytes(),
        4u32.to_le_bytes(),
        PVH_ENTRY.to_le_bytes(),
        *b"Xen\0",
        BASE.to_le_bytes(),
    ]
    .concat();
    put(NOTE, &note);
    put(HEADER, &program_header(PT_LOAD, CODE, BASE, code.len()));
    put(
        HEADER + PROGRAM_HEADER,
        &program_header(PT_NOTE, NOTE, 0, note.len()),
    );
    image.extend(code);
    image
}

fn program_header(kind: u32, offset: usize, address: u32, size: usize) -> Vec<u8> {
    let align: u64 = if kind == PT_NOTE { 4 } else { 1 };
    let (offset, size, address) = (offset as u64, size as u64, u64::from(address));
    let mut header = Vec::with_capacity(PROGRAM_HEADER);
    header.extend(kind.to_le_bytes());
    // Readable and executable.
    header.extend(5u32.to_le_bytes());
    for value in [offset, address, address, size, size, align] {
        header.extend(value.to_le_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_where_the_header_says() {
        let image = image(&code(&[READY, RESET]));
        let header = &image[HEADER..];
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        assert_eq!(number(8), CODE as u64);
        assert_eq!(number(24), u64::from(BASE));
        assert_eq!(number(32) as usize, image.len() - CODE);
        assert_eq!(
            &image[CODE..CODE + 7],
            [0x66, 0xBA, 0xF0, 0x03, 0xB0, 2, 0xEE]
        );
    }
}
