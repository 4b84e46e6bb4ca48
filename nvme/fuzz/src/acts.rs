//! What a hostile guest does, one act after the other, while its memory changes under the drive's hands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use devices::lifecycle::{Deadline, Device, Phases, ShutdownError};
use devices::pci::PciFunction;
use nvme::spec::registers::offset;
use zerocopy::IntoBytes;

use crate::behaviour::behaviour;
use crate::commands::{address, admin, io, prp_list, sgl_segment};
use crate::input::Input;
use crate::machine::{ENABLE, Machine, QUEUES, SHADOW};
use crate::ram::Ram;
use crate::random::Random;
use crate::storage::Mood;

/// Registers that do something, so that chance does not have to find them.
const REGISTERS: [u64; 14] = [
    offset::CC,
    offset::CC,
    offset::CSTS,
    offset::AQA,
    offset::ASQ,
    offset::ASQ_HIGH,
    offset::ACQ,
    offset::ACQ_HIGH,
    offset::INTMS,
    offset::INTMC,
    offset::NSSR,
    offset::NSSD,
    offset::CAP,
    offset::CRTO,
];
/// Values that do something there.
const VALUES: [u32; 9] = [
    0,
    ENABLE,
    ENABLE | 1 << 14,
    ENABLE | 2 << 14,
    0x4E56_4D65,
    0x4E72_6D6C,
    0x4162_7074,
    u32::MAX,
    0x003F_003F,
];

/// How long a driver waits for its queues.
const SET_UP: Duration = Duration::from_millis(5);

/// Plays every act of `input`.
pub fn play(machine: &mut Machine, input: &mut Input<'_>) {
    // Bounded, as an act may be one byte.
    for _ in 0..400 {
        if input.is_empty() {
            break;
        }
        act(machine, input);
    }
}

fn act(machine: &mut Machine, input: &mut Input<'_>) {
    match input.below(64) {
        0..10 => {
            let command = admin(input, machine);
            send(machine, input, 0, command);
        }
        10..30 => {
            let command = io(input, machine);
            let queue = input.pick(&[1, 1, 1, 2, 3]);
            send(machine, input, queue, command);
        }
        30 | 31 => set_up(machine, input),
        32 | 33 => register(machine, input),
        34 => wide(machine, input),
        35 => configure(machine, input),
        36 | 37 => {
            let (at, value) = (u64::from(input.below(10)) * 4, input.small());
            machine.doorbell(at, value);
        }
        38 => {
            let at = SHADOW + u64::from(input.byte()) % 64 * 4;
            machine.put(at, &input.small().to_le_bytes());
        }
        39..42 => drop(prp_list(input, machine)),
        42 => drop(sgl_segment(input, machine)),
        43 => {
            let (at, bytes) = (address(input), usize::from(input.byte()) * 16);
            let noise = input.noise(bytes);
            machine.put(at, &noise);
        }
        44..48 => {
            for number in 0..=usize::from(QUEUES) {
                while machine.poll(number).is_some() {}
                machine.consume(number);
            }
        }
        48 | 49 => machine.write(offset::CC, 0),
        50 => machine.controller.bus_reset(),
        51 => tear_down(machine, input),
        52..54 => machine.controller.set_behaviour(&behaviour(input)),
        54 => machine.move_region(),
        55 => machine.refuse(input.once_in(2)),
        56 | 57 => mood(machine, input),
        58 => flr(machine),
        59 => msix(machine, input),
        60 => machine.power_up(),
        61 => machine.shadow = !machine.shadow,
        62 => std::thread::sleep(Duration::from_micros(u64::from(input.byte()))),
        _ => std::thread::yield_now(),
    }
}

fn send(
    machine: &mut Machine,
    input: &mut Input<'_>,
    queue: usize,
    command: nvme::spec::Submission,
) {
    machine.push(queue, command);
    if !input.once_in(4) {
        machine.ring(queue);
    }
}

/// What a driver does that wants to get somewhere.
pub fn set_up(machine: &mut Machine, input: &mut Input<'_>) {
    machine.write(offset::CC, 0);
    machine.power_up();
    for pair in &mut machine.pairs {
        pair.entries = u32::from(input.pick(&[64_u16, 64, 2, 3, 7, 16]));
    }
    machine.start();
    for number in 1..=QUEUES {
        machine.forget(number.into());
        for command in machine.creation(number) {
            machine.push(0, command);
        }
    }
    machine.ring(0);
    // Not ready where something holds the reset up: then all this comes to nothing.
    let by = Instant::now() + SET_UP;
    let mut left = 2 * QUEUES;
    while left > 0 && Instant::now() < by {
        match machine.poll(0) {
            Some(_) => left -= 1,
            None => std::thread::yield_now(),
        }
    }
    machine.consume(0);
}

fn register(machine: &Machine, input: &mut Input<'_>) {
    let at = match input.once_in(3) {
        true => u64::from(input.byte()),
        false => input.pick(&REGISTERS),
    };
    let value = match input.once_in(3) {
        true => input.word(),
        false => input.pick(&VALUES),
    };
    machine.write(at, value);
    machine.read(at);
}

/// Accesses of every width, anywhere in the BAR.
fn wide(machine: &Machine, input: &mut Input<'_>) {
    let bytes = usize::from(input.pick(&[1_u16, 2, 3, 4, 5, 8, 16, 64]));
    let at = match input.below(4) {
        0 => input.half().into(),
        1 => 0x2000 + u64::from(input.byte()),
        2 => 0x1000 + u64::from(input.byte()),
        _ => u64::from(input.byte()),
    };
    let bar = input.pick(&[0, 0, 0, 0, 1, 5, 255]);
    let mut data = input.noise(bytes);
    if input.once_in(2) {
        machine.controller.write_bar(bar, at, &data);
    }
    machine.controller.read_bar(bar, at, &mut data);
}

fn configure(machine: &Machine, input: &mut Input<'_>) {
    let at = match input.below(4) {
        0 => input.half() & 0xFFC,
        1 => 4,
        _ => u16::from(input.byte()) & 0xFC,
    };
    let mask = input.pick(&[u32::MAX, 0xFFFF, 0xFFFF_0000, 0xFF, 0xFF00, 0]);
    let value = match input.once_in(2) {
        true => input.word(),
        false => input.small(),
    };
    machine.controller.write_config(at, value, mask);
    machine.controller.read_config(at);
    machine.controller.decoded_bars();
}

fn flr(machine: &Machine) {
    if let Some(at) = machine.capability(0x10) {
        machine.controller.write_config(at + 8, 1 << 15, 0xFFFF);
    }
}

fn msix(machine: &Machine, input: &mut Input<'_>) {
    for vector in 0..=u64::from(QUEUES) {
        let entry = [0xFEE0_0000_u32, 0, 32, input.below(2).into()];
        let at = 0x2000 + vector * 16;
        machine.controller.write_bar(0, at, entry.as_bytes());
    }
    if let Some(at) = machine.capability(0x11) {
        let value = u32::from(input.below(4)) << 30;
        machine.controller.write_config(at, value, 0xFFFF_0000);
    }
}

fn mood(machine: &Machine, input: &mut Input<'_>) {
    let mood = input.pick(&[
        Mood::Quick,
        Mood::Quick,
        Mood::Slow,
        Mood::Failing,
        Mood::Stuck,
    ]);
    if let Some(storage) = &machine.moody {
        storage.set(mood);
    }
}

/// The machine's own teardown, with little time. What it says must be so.
fn tear_down(machine: &mut Machine, input: &mut Input<'_>) {
    let by = Deadline::after(Duration::from_micros(u64::from(input.byte()) * 20));
    let ended = machine.controller.shut_down(by, &mut Phases::default());
    match ended {
        Ok(_) => assert!(machine.controller.is_quiet(), "shut down, and not quiet"),
        Err(ShutdownError::DeadlinePassed { .. } | ShutdownError::Host { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Changes queues, lists and data until it is told to stop.
pub fn scribble(ram: &Ram, seed: u64, stop: &AtomicBool) {
    let mut random = Random::new(seed);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..32 {
            let at = match random.below(4) {
                0 => SHADOW + random.below(0x800) as u64 * 4,
                1 => 0x1_0000 + random.below(0x2000) as u64 * 4,
                _ => 0x2_0000 + random.below(0x1_8000) as u64 * 4,
            };
            let value = match random.below(3) {
                0 => random.next(),
                1 => 0x2_0000 + random.below(160) as u64 * 4096,
                _ => random.below(64) as u64,
            };
            let bytes = [4, 8][random.below(2)];
            if let Some((_, to)) = ram.at(at, bytes) {
                to.copy_from(&value.to_le_bytes()[..bytes]);
            }
        }
        std::thread::yield_now();
    }
}
