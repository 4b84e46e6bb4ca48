//! From power-on to I/O queues.

use devices::pci::PciFunction;
use nvme::spec::Submission;
use nvme::spec::command::admin;
use nvme::spec::registers::offset;
use vm_memory::GuestAddress;

use super::{ADMIN, ENTRIES, Guest, IO, PAGE, SHADOW, VECTOR};

impl Guest {
    pub(super) fn enable(&mut self) {
        for at in [ADMIN.completions, IO.completions, SHADOW, SHADOW + PAGE] {
            let zeroes = vec![0; (ENTRIES * 16) as usize];
            let length = if at >= SHADOW {
                PAGE as usize
            } else {
                zeroes.len()
            };
            self.memory
                .write_slice(&zeroes[..length], GuestAddress(at))
                .expect("guest memory");
        }
        self.controller.write_config(4, 0b110, 0xFFFF);
        // MSI-X on; the I/O queue's vector alone is not masked, where somebody waits for it.
        let mut at = self.controller.read_config(0x34) as u16 & 0xFF;
        while at != 0 {
            let header = self.controller.read_config(at);
            if header as u8 == 0x11 {
                self.controller.write_config(at, 1 << 31, 0xFFFF_0000);
                let table = u64::from(self.controller.read_config(at + 4) & !7);
                if self.steps.is_none() {
                    self.write(table + u64::from(VECTOR) * 16 + 12, 0);
                }
            }
            at = (header >> 8 & 0xFF) as u16;
        }
        self.write(offset::AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        self.controller
            .write_bar(0, offset::ASQ, &ADMIN.submissions.to_le_bytes());
        self.controller
            .write_bar(0, offset::ACQ, &ADMIN.completions.to_le_bytes());
        self.write(offset::CC, 1 | 6 << 16 | 4 << 20);
        let mut status = [0; 4];
        while status[0] & 1 == 0 {
            self.controller.read_bar(0, offset::CSTS, &mut status);
            self.wait(0);
        }
    }

    pub(super) fn configure(&mut self, queues: u16) {
        self.admin(Submission {
            opcode: admin::DOORBELL_BUFFER_CONFIG,
            prp1: SHADOW,
            prp2: SHADOW + PAGE,
            ..Submission::zeroed()
        });
        for id in 1..=u32::from(queues) {
            let size = (ENTRIES - 1) << 16 | id;
            self.admin(Submission {
                opcode: admin::CREATE_CQ,
                prp1: IO.completions,
                cdw10: size,
                cdw11: id << 16 | 0b11,
                ..Submission::zeroed()
            });
            self.admin(Submission {
                opcode: admin::CREATE_SQ,
                prp1: IO.submissions,
                cdw10: size,
                cdw11: id << 16 | 1,
                ..Submission::zeroed()
            });
        }
    }

    fn admin(&mut self, command: Submission) {
        self.push(0, command);
        self.write(offset::DOORBELLS, self.tails[0]);
        let mut looks = 0;
        while self.poll(0).is_none() {
            self.wait(looks);
            looks += 1;
        }
        self.write(offset::DOORBELLS + 4, self.heads[0]);
    }
}
