//! Commands in the queues, and their completions.

use std::os::unix::fs::FileExt;

use zerocopy::IntoBytes;

use super::{ACQ, ASQ, CQ, Driver, ENTRIES, Queue, SOON, SQ};

impl Driver {
    fn ring(&mut self, offset: u64, value: u32) {
        if self.shadow && self.ring_in_memory(offset, value) {
            return;
        }
        match &self.doorbells {
            Some(page) => page.write_all_at(&value.to_le_bytes(), offset).unwrap(),
            None => self.set_register(offset, value),
        }
    }

    /// Puts a command into a queue and rings.
    fn send(&mut self, queue: usize, words: [u32; 16]) {
        let base = [ASQ, SQ][queue];
        let tail = self.queues[queue].tail;
        self.put(base + u64::from(tail) * 64, words.as_bytes());
        self.queues[queue].tail = (tail + 1) % ENTRIES;
        self.ring(0x1000 + queue as u64 * 8, self.queues[queue].tail);
    }

    /// Puts an I/O command as it stands into its queue, and rings.
    pub fn send_io(&mut self, words: [u32; 16]) {
        self.send(1, words);
    }

    /// The next completion of the I/O queue, if it is in memory: identifier and status. The drive is not told,
    /// which may be dead.
    pub fn take_io(&mut self) -> Option<(u16, u16)> {
        let Queue { head, phase, .. } = self.queues[1];
        let raw = self.get(CQ + u64::from(head) * 16 + 12, 4);
        let (cid, status) = (
            u16::from_le_bytes([raw[0], raw[1]]),
            u16::from_le_bytes([raw[2], raw[3]]),
        );
        if (status & 1 == 1) != phase {
            return None;
        }
        let queue = &mut self.queues[1];
        queue.head = (head + 1) % ENTRIES;
        queue.phase ^= queue.head == 0;
        Some((cid, status >> 1))
    }

    /// Tells the drive of the completions that were taken.
    pub fn release_io(&mut self) {
        self.ring(0x100C, self.queues[1].head);
    }

    /// Waits for the next completion of a queue; its status.
    fn complete(&mut self, queue: usize) -> u16 {
        let base = [ACQ, CQ][queue];
        let Queue { head, phase, .. } = self.queues[queue];
        let at = base + u64::from(head) * 16 + 14;
        let memory = &self.memory;
        let status = || {
            let mut raw = [0; 2];
            memory.read_exact_at(&mut raw, at).unwrap();
            u16::from_le_bytes(raw)
        };
        let done = || (status() & 1 == 1) == phase;
        let came = self.client.serve(&self.remote, SOON, done).unwrap();
        assert!(came, "no completion");
        let status = status() >> 1;
        let queue_state = &mut self.queues[queue];
        queue_state.head = (head + 1) % ENTRIES;
        queue_state.phase ^= queue_state.head == 0;
        let head = queue_state.head;
        self.ring(0x1004 + queue as u64 * 8, head);
        status
    }

    pub(super) fn admin(&mut self, words: [u32; 16]) {
        self.send(0, words);
        assert_eq!(self.complete(0), 0, "an admin command failed");
    }

    /// Identify Controller, to `at`.
    pub fn identify(&mut self, at: u64) -> Vec<u8> {
        let mut words = [0; 16];
        words[0] = 6;
        (words[6], words[7]) = (at as u32, (at >> 32) as u32);
        words[10] = 1;
        self.admin(words);
        self.get(at, 4096)
    }

    pub fn make_queues(&mut self) {
        let mut words = [0; 16];
        (words[0], words[6]) = (5, CQ as u32);
        (words[10], words[11]) = ((ENTRIES - 1) << 16 | 1, 1 << 16 | 0b11);
        self.admin(words);
        (words[0], words[6]) = (1, SQ as u32);
        words[11] = 1 << 16 | 1;
        self.admin(words);
    }

    /// Sends a read (2) or write (1) of `blocks` blocks.
    pub fn submit(&mut self, opcode: u32, at: u64, block: u32, blocks: u32) {
        self.submit_list(opcode, [at, 0], block, blocks);
    }

    fn submit_list(&mut self, opcode: u32, [first, second]: [u64; 2], block: u32, blocks: u32) {
        let mut words = [0; 16];
        (words[0], words[1]) = (opcode, 1);
        (words[6], words[7]) = (first as u32, (first >> 32) as u32);
        (words[8], words[9]) = (second as u32, (second >> 32) as u32);
        (words[10], words[12]) = (block, blocks - 1);
        self.send(1, words);
    }

    /// Waits for the next I/O command to end, however it does.
    pub fn finish(&mut self) -> u16 {
        self.complete(1)
    }

    pub fn try_transfer(&mut self, opcode: u32, at: u64, block: u32, blocks: u32) -> u16 {
        self.submit(opcode, at, block, blocks);
        self.finish()
    }

    pub fn transfer(&mut self, opcode: u32, at: u64, block: u32, blocks: u32) {
        assert_eq!(self.try_transfer(opcode, at, block, blocks), 0);
    }

    /// From block 0 on, with a list of further pages.
    pub fn transfer_list(&mut self, opcode: u32, first: u64, list: u64, blocks: u32) {
        self.submit_list(opcode, [first, list], 0, blocks);
        assert_eq!(self.finish(), 0);
    }
}
