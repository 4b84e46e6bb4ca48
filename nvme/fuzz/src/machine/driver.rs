//! What the guest's driver does: registers, capabilities, queues and doorbells.

use devices::pci::PciFunction;
use nvme::spec::command::admin;
use nvme::spec::registers::offset;
use nvme::spec::{Completion, Submission};
use zerocopy::{FromBytes, IntoBytes};

use super::{ENABLE, Machine, SHADOW};
use crate::Endings;

impl Machine {
    /// Writes a 32-bit register.
    pub fn write(&self, at: u64, value: u32) {
        self.controller.write_bar(0, at, &value.to_le_bytes());
    }

    /// Reads a 32-bit register.
    pub fn read(&self, at: u64) -> u32 {
        let mut raw = [0; 4];
        self.controller.read_bar(0, at, &mut raw);
        u32::from_le_bytes(raw)
    }

    /// Memory decoding and bus mastering on, and full power.
    pub fn power_up(&self) {
        self.controller.write_config(4, 0b110, 0xFFFF);
        if let Some(at) = self.capability(1) {
            self.controller.write_config(at + 4, 0, 0b11);
        }
    }

    /// Where a capability is in the configuration space.
    pub fn capability(&self, id: u8) -> Option<u16> {
        let mut at = self.controller.read_config(0x34) as u16 & 0xFC;
        // A drive that was removed reads as ones.
        for _ in 0..48 {
            let header = self.controller.read_config(at);
            if at == 0 || header == u32::MAX {
                return None;
            }
            if header as u8 == id {
                return Some(at);
            }
            at = (header >> 8 & 0xFC) as u16;
        }
        None
    }

    /// Forgets what was in a queue pair.
    pub fn forget(&mut self, number: usize) {
        let pair = &mut self.pairs[number];
        (pair.tail, pair.head, pair.phase) = (0, 0, true);
        let (at, bytes) = (pair.base[1], pair.entries as usize * 16);
        self.put(at, &vec![0; bytes]);
    }

    /// Sets CC.EN with admin queues of 64 entries, without waiting.
    pub fn start(&mut self) {
        self.shadow = false;
        self.forget(0);
        let entries = self.pairs[0].entries - 1;
        self.write(offset::AQA, entries << 16 | entries);
        let [submissions, completions] = self.pairs[0].base;
        self.controller
            .write_bar(0, offset::ASQ, &submissions.to_le_bytes());
        self.controller
            .write_bar(0, offset::ACQ, &completions.to_le_bytes());
        self.write(offset::CC, ENABLE);
    }

    /// The commands that make an I/O queue pair.
    pub fn creation(&self, number: u16) -> [Submission; 2] {
        let pair = &self.pairs[usize::from(number)];
        let size = (pair.entries - 1) << 16 | u32::from(number);
        [
            Submission {
                opcode: admin::CREATE_CQ,
                prp1: pair.base[1],
                cdw10: size,
                cdw11: u32::from(number) << 16 | 0b11,
                ..Submission::zeroed()
            },
            Submission {
                opcode: admin::CREATE_SQ,
                prp1: pair.base[0],
                cdw10: size,
                cdw11: u32::from(number) << 16 | 1,
                ..Submission::zeroed()
            },
        ]
    }

    /// Puts a command into a queue without ringing. Its identifier tells the opcode.
    pub fn push(&mut self, number: usize, mut command: Submission) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        command.cid = self.next_cid << 8 | u16::from(command.opcode);
        self.sent.insert((number as u16, command.cid));
        let pair = &mut self.pairs[number];
        let at = pair.base[0] + u64::from(pair.tail) * 64;
        pair.tail = (pair.tail + 1) % pair.entries;
        self.put(at, command.as_bytes());
        command.cid
    }

    /// Tells the drive of what was pushed.
    pub fn ring(&self, number: usize) {
        self.doorbell(number as u64 * 8, self.pairs[number].tail);
    }

    /// Moves a doorbell, also the one in memory.
    pub fn doorbell(&self, at: u64, value: u32) {
        if self.shadow {
            self.put(SHADOW + at, &value.to_le_bytes());
        }
        self.write(offset::DOORBELLS + at, value);
    }

    /// The next completion of a queue.
    pub fn poll(&mut self, number: usize) -> Option<Completion> {
        let pair = self.pairs[number];
        let raw = self.get(pair.base[1] + u64::from(pair.head) * 16, 16);
        let found = Completion::read_from_bytes(&raw).ok()?;
        if (found.status_phase & 1 == 1) != pair.phase {
            return None;
        }
        let pair = &mut self.pairs[number];
        pair.head = (pair.head + 1) % pair.entries;
        pair.phase ^= pair.head == 0;
        Some(found)
    }

    /// How the commands ended whose completions are in memory: what looks like one and is data is left out.
    pub fn endings(&self) -> Endings {
        let mut endings = Endings::new();
        for pair in &self.pairs {
            for raw in self.get(pair.base[1], 64 * 16).as_chunks::<16>().0 {
                let Ok(found) = Completion::read_from_bytes(raw) else {
                    continue;
                };
                if found.dw1 == 0 && self.sent.contains(&(found.sq_id, found.cid)) {
                    let status = found.status_phase >> 1;
                    endings.insert((found.sq_id == 0, found.cid as u8, status));
                }
            }
        }
        endings
    }

    /// Tells the drive of what was polled.
    pub fn consume(&self, number: usize) {
        self.doorbell(number as u64 * 8 + 4, self.pairs[number].head);
    }
}
