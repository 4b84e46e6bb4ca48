//! What a guest of a few instructions sees of its CPU: string instructions on ports, and registers that
//! a reset puts back.

use std::fs;

use anyhow::{Context, Result, ensure};
use api::config::{SerialConfig, SerialMode};
use api::events::EventKind;

use super::machine::Machine;
use super::tiny::Step;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "a_string_instruction_reaches_one_port_again_and_again",
        60,
        strings,
    ),
    Scenario::new(
        "a_reset_puts_back_what_lies_beyond_the_general_registers",
        60,
        put_back,
    ),
];

/// What the second guest's marker says of the register it found.
const CLEAN: u8 = 2;
const DIRTY: u8 = 3;

/// Writes "ABCD" to COM1 by `rep outsb`; then 7 to the boot-marker port, reads that port four times by
/// `rep insb`, and writes what it got.
const STRINGS: Step = Step::Code(&[
    0xFC, // cld
    0xBF, 0x00, 0x80, 0x10, 0x00, // mov edi, 0x108000
    0xC7, 0x07, b'A', b'B', b'C', b'D', // mov dword [edi], "ABCD"
    0x89, 0xFE, // mov esi, edi
    0xB9, 4, 0, 0, 0, // mov ecx, 4
    0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
    0xF3, 0x6E, // rep outsb
    0x66, 0xBA, 0xF0, 0x03, // mov dx, 0x3F0
    0xB0, 7, 0xEE, // mov al, 7; out dx, al
    0xB9, 4, 0, 0, 0,    // mov ecx, 4
    0x57, // push edi
    0xF3, 0x6C, // rep insb
    0x5E, // pop esi
    0xB9, 4, 0, 0, 0, // mov ecx, 4
    0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
    0xF3, 0x6E, // rep outsb
]);

/// Where `STRINGS` may push: a stack right above its buffer.
const STACK: Step = Step::Code(&[0xBC, 0x00, 0x90, 0x10, 0x00]); // mov esp, 0x109000

/// Says by a marker whether XMM3 is zero, then fills it.
const LOOK_AND_FILL: Step = Step::Code(&[
    0x0F, 0x20, 0xE0, // mov eax, cr4
    0x0D, 0x00, 0x06, 0x00, 0x00, // or eax, OSFXSR | OSXMMEXCPT
    0x0F, 0x22, 0xE0, // mov cr4, eax
    0x66, 0x0F, 0x7E, 0xDB, // movd ebx, xmm3
    0xB8, 0xA5, 0xA5, 0xA5, 0xA5, // mov eax, 0xA5A5A5A5
    0x66, 0x0F, 0x6E, 0xD8, // movd xmm3, eax
    0x66, 0xBA, 0xF0, 0x03, // mov dx, 0x3F0
    0x85, 0xDB, // test ebx, ebx
    0xB0, CLEAN, // mov al, CLEAN
    0x74, 0x02, // jz over
    0xB0, DIRTY, // mov al, DIRTY
    0xEE,  // out dx, al
]);

/// The next boot marker's value.
fn marker(machine: &mut Machine) -> Result<u8> {
    machine.event("the guest's marker", |event| match event {
        EventKind::BootMarker { value, .. } => Some(*value),
        _ => None,
    })
}

fn strings(stage: &mut Stage) -> Result<()> {
    let mut config = stage.tiny(&[STACK, STRINGS, Step::Byte(0x3F0, CLEAN)])?;
    let file = stage.folder().join("com1");
    config.serial = SerialConfig {
        mode: SerialMode::File,
        file: Some(file.clone()),
        socket: None,
    };
    let mut machine = stage.launch(config)?;
    ensure!(marker(&mut machine)? == 7);
    ensure!(marker(&mut machine)? == CLEAN);
    // With the machine goes its port, and with that all output is in the file.
    machine.end()?;
    let said = fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
    ensure!(
        said == b"ABCD\x07\x07\x07\x07",
        "the guest wrote ABCD and four times what the marker port reads; COM1 got {said:?}"
    );
    Ok(())
}

fn put_back(stage: &mut Stage) -> Result<()> {
    let config = stage.tiny(&[LOOK_AND_FILL])?;
    let mut machine = stage.launch(config)?;
    for boot in 1..=3 {
        let seen = marker(&mut machine)?;
        ensure!(
            seen == CLEAN,
            "in boot {boot} XMM3 holds what the boot before left (marker {seen})"
        );
        machine.reboot()?;
    }
    machine.end()
}
