//! Commands near valid ones, which reach deeper than noise does.

use nvme::spec::command::{admin, io, sgl};
use nvme::spec::log::id as log;
use nvme::spec::{BLOCK_SIZES, CopyRange, DsmRange, Submission, feature};
use zerocopy::{FromBytes, IntoBytes};

use crate::input::Input;
use crate::machine::{CONSTANT, DATA, DISK, GUEST, HIGH, Machine, NEXT, REMOTE, SHADOW};

const PAGE: u64 = 4096;

/// An address: of data mostly, and of everything where a guest has no business.
pub fn address(input: &mut Input<'_>) -> u64 {
    let page = u64::from(input.byte());
    let at = match input.below(20) {
        // Over the border of two regions as well.
        0..10 => DATA + page % 128 * PAGE,
        10 => NEXT - PAGE + page % 2 * PAGE,
        11 => GUEST + page % 33 * PAGE,
        12 => CONSTANT + page % 16 * PAGE,
        13 => REMOTE + page % 17 * PAGE,
        14 => HIGH + page % 16 * PAGE,
        15 => SHADOW + page % 2 * PAGE,
        // Queues.
        16 => 0x1_0000 + page % 16 * PAGE,
        17 => 0x10_0000 + page * PAGE,
        18 => return input.long(),
        _ => u64::MAX - page,
    };
    match input.below(12) {
        0 => at.wrapping_add(u64::from(input.half())),
        1 => at.wrapping_add(u64::from(input.byte()) * 4),
        2 => at.wrapping_add(512),
        _ => at,
    }
}

/// An I/O command.
pub fn io(input: &mut Input<'_>, machine: &Machine) -> Submission {
    let opcode = match input.below(16) {
        0..4 => io::READ,
        4..7 => io::WRITE,
        7 => io::FLUSH,
        8 => io::COMPARE,
        9 => io::WRITE_ZEROES,
        10 => io::DATASET_MANAGEMENT,
        11 => io::VERIFY,
        12 => io::COPY,
        13 => io::WRITE_UNCORRECTABLE,
        _ => input.pick(&[io::READ, io::WRITE]),
    };
    let mut command = Submission {
        opcode,
        nsid: nsid(input),
        cdw10: block(input),
        cdw12: blocks(input),
        ..Submission::zeroed()
    };
    pointer(input, machine, &mut command);
    match opcode {
        io::DATASET_MANAGEMENT => {
            let count = input.below(8);
            (command.cdw10, command.cdw11) = (count.into(), input.pick(&[4, 4, 0, 7]));
            for number in 0..=u64::from(count) {
                let range = DsmRange {
                    attributes: 0,
                    blocks: blocks(input),
                    starting_block: block(input).into(),
                };
                machine.put(command.prp1.wrapping_add(number * 16), range.as_bytes());
            }
        }
        io::COPY => {
            let count = input.below(5);
            command.cdw12 = count.into();
            for number in 0..=u64::from(count) {
                let range = CopyRange::new(block(input).into(), blocks(input) & 0xFF);
                machine.put(command.prp1.wrapping_add(number * 32), range.as_bytes());
            }
        }
        io::COMPARE => {}
        _ if input.once_in(8) => command.cdw12 |= 1 << 30,
        _ => {}
    }
    warp(input, command)
}

fn nsid(input: &mut Input<'_>) -> u32 {
    match input.below(16) {
        0..8 => 1,
        8..12 => 2,
        12 | 13 => 3,
        14 => u32::MAX,
        _ => input.small(),
    }
}

fn block(input: &mut Input<'_>) -> u32 {
    match input.below(8) {
        0 => input.word(),
        1 => (DISK / 512) as u32 - u32::from(input.below(4)),
        2 => (DISK / 4096) as u32 - u32::from(input.below(4)),
        _ => input.below(60).into(),
    }
}

/// Blocks, zero-based.
fn blocks(input: &mut Input<'_>) -> u32 {
    match input.below(8) {
        0 => input.half().into(),
        1 => input.byte().into(),
        2 => 63,
        _ => input.below(24).into(),
    }
}

/// A data pointer of either kind, with its lists.
fn pointer(input: &mut Input<'_>, machine: &Machine, command: &mut Submission) {
    command.prp1 = address(input);
    command.prp2 = match input.below(4) {
        0 => 0,
        1 => address(input),
        _ => prp_list(input, machine),
    };
    if input.once_in(4) {
        command.flags = input.pick(&[0x40, 0x40, 0x40, 0x80, 0xC0, 0x41]);
        let length = match input.below(4) {
            0 => input.word(),
            _ => (blocks(input) + 1) * 512,
        };
        let kind = input.pick(&[
            sgl::DATA_BLOCK,
            sgl::SEGMENT,
            sgl::LAST_SEGMENT,
            sgl::LAST_SEGMENT,
            0x01,
            0x10,
            0x50,
        ]);
        if kind & 0xF0 != 0 {
            command.prp1 = sgl_segment(input, machine);
            let descriptors = u32::from(input.below(9)) * 16;
            command.prp2 = u64::from(kind) << 56 | u64::from(descriptors);
        } else {
            command.prp2 = u64::from(kind) << 56 | u64::from(length);
        }
    }
}

/// Makes a list of pages; where it is.
pub fn prp_list(input: &mut Input<'_>, machine: &Machine) -> u64 {
    let at = address(input);
    let entries = u64::from(input.below(24));
    // A list that ends with its page goes on in another one, perhaps itself.
    let start = match input.once_in(4) {
        true => (at | (PAGE - 1)).wrapping_sub(entries * 8 + 7),
        false => at,
    };
    for number in 0..=entries {
        let entry = match input.once_in(16) {
            true => start,
            false => address(input),
        };
        machine.put(start.wrapping_add(number * 8), &entry.to_le_bytes());
    }
    start
}

/// Makes a segment of descriptors; where it is.
pub fn sgl_segment(input: &mut Input<'_>, machine: &Machine) -> u64 {
    let start = address(input);
    for number in 0..=u64::from(input.below(10)) {
        let kind = input.pick(&[
            sgl::DATA_BLOCK,
            sgl::DATA_BLOCK,
            sgl::DATA_BLOCK,
            sgl::SEGMENT,
            sgl::LAST_SEGMENT,
            0x10,
        ]);
        let at = match input.once_in(16) {
            true => start,
            false => address(input),
        };
        let length = match input.below(8) {
            0 => input.word(),
            1 => 0,
            _ => u32::from(input.below(16)) * 256,
        };
        let raw = [at, u64::from(kind) << 56 | u64::from(length)];
        machine.put(start.wrapping_add(number * 16), raw.as_bytes());
    }
    start
}

/// An admin command.
pub fn admin(input: &mut Input<'_>, machine: &Machine) -> Submission {
    let mut command = Submission {
        nsid: nsid(input),
        prp1: address(input),
        ..Submission::zeroed()
    };
    if input.once_in(4) {
        command.prp2 = address(input);
    }
    match input.below(20) {
        0 | 1 => {
            command.opcode = admin::IDENTIFY;
            command.cdw10 = u32::from(input.byte()) % 0x20;
        }
        2 | 3 => {
            command.opcode = admin::GET_LOG_PAGE;
            let page = input.pick(&[
                log::SUPPORTED_PAGES,
                log::ERRORS,
                log::SMART,
                log::FIRMWARE_SLOTS,
                log::CHANGED_NAMESPACES,
                log::COMMAND_EFFECTS,
                log::SELF_TEST,
                log::FEATURE_EFFECTS,
                log::SANITIZE,
            ]);
            command.cdw10 = (u32::from(input.half()) % 0x800) << 16 | u32::from(page);
            command.cdw12 = input.pick(&[0, 0, 0, 4, 512, u32::MAX]);
        }
        4 | 5 => {
            command.opcode = input.pick(&[admin::SET_FEATURES, admin::GET_FEATURES]);
            command.cdw10 = input.byte() as u32 % 0x20;
            if input.once_in(4) {
                command.cdw10 |= u32::from(input.byte()) << 8;
            }
            command.cdw11 = input.small();
        }
        6 => {
            // A host that is silent for so many milliseconds counts as gone.
            command.opcode = admin::SET_FEATURES;
            (command.cdw10, command.cdw11) = (feature::KEEP_ALIVE.into(), input.small());
        }
        7..10 => {
            let number = input.below(5);
            let one = usize::from(input.once_in(2));
            command = match number {
                0 => machine.creation(1)[one],
                number => machine.creation(number.min(3))[one],
            };
            match input.below(8) {
                0 => command.cdw10 = u32::from(input.half()) << 16 | input.small(),
                1 => command.cdw11 = input.word(),
                2 => command.prp1 = address(input),
                _ => {}
            }
        }
        10 | 11 => {
            command.opcode = input.pick(&[admin::DELETE_SQ, admin::DELETE_CQ]);
            command.cdw10 = input.below(5).into();
        }
        12 => {
            command.opcode = admin::ABORT;
            let opcode = input.pick(&[1, 2, 0, 0x0C, 0x80, 5]);
            command.cdw10 = u32::from(input.byte()) << 24 | opcode << 16;
            command.cdw10 |= u32::from(input.below(4));
        }
        13 => {
            command.opcode = admin::ASYNC_EVENT_REQUEST;
        }
        14 => {
            command.opcode = admin::DOORBELL_BUFFER_CONFIG;
            (command.prp1, command.prp2) = match input.once_in(3) {
                true => (address(input), address(input)),
                false => (SHADOW, SHADOW + PAGE),
            };
        }
        15 => {
            command.opcode = admin::SELF_TEST;
            command.cdw10 = input.pick(&[1, 2, 0xF, 0]);
        }
        16 => {
            command.opcode = admin::FORMAT;
            command.cdw10 = input.small() | u32::from(input.once_in(4)) << 9;
        }
        17 => {
            command.opcode = admin::SANITIZE;
            command.cdw10 = input.pick(&[1, 2, 3, 0x13, 0x1B, 0xA, 0x123, 4]);
            command.cdw11 = input.word();
        }
        18 => namespaces(input, machine, &mut command),
        _ => {
            command.opcode = input.pick(&[admin::KEEP_ALIVE, 0x11, 0x10, 0x81, 0x7F, 0xFF]);
        }
    }
    warp(input, command)
}

/// Namespace Management and Attachment.
fn namespaces(input: &mut Input<'_>, machine: &Machine, command: &mut Submission) {
    if input.once_in(2) {
        command.opcode = admin::NAMESPACE_MANAGEMENT;
        command.cdw10 = input.pick(&[0, 0, 0, 1, 1, 2]);
        let format = input.below(3);
        let size = BLOCK_SIZES.get(usize::from(format)).copied();
        let blocks =
            u64::from(input.byte()) * (1024 / u64::from(size.unwrap_or(512)).min(1024)).max(1);
        let mut wanted = [0; 384];
        wanted[..8].copy_from_slice(&blocks.to_le_bytes());
        wanted[8..16].copy_from_slice(&blocks.to_le_bytes());
        wanted[26] = format as u8;
        machine.put(command.prp1, &wanted);
    } else {
        command.opcode = admin::NAMESPACE_ATTACHMENT;
        command.cdw10 = input.pick(&[0, 1]);
        let count = input.pick(&[1_u16, 1, 1, 0, 2, 2047, u16::MAX]);
        machine.put(command.prp1, &[count, 1].map(u16::to_le_bytes).concat());
    }
}

/// Now and then something in the command is nonsense.
fn warp(input: &mut Input<'_>, command: Submission) -> Submission {
    if !input.once_in(6) {
        return command;
    }
    let mut words = [0_u32; 16];
    words.as_mut_bytes().copy_from_slice(command.as_bytes());
    let at = usize::from(input.below(16));
    words[at] = match input.below(3) {
        0 => input.word(),
        1 => words[at] ^ 1 << input.below(32),
        _ => u32::MAX,
    };
    Submission::read_from_bytes(words.as_bytes()).unwrap_or(command)
}
