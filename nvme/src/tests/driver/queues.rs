//! A driver's queues: made, rung, and looked at for completions.

use super::*;

impl Guest {
    pub(in crate::tests) fn forget(&mut self, id: u16) {
        let (_, cq) = Self::base(id);
        let zeroes = [0; ENTRIES as usize * 16];
        self.memory.write_slice(&zeroes, GuestAddress(cq)).unwrap();
        let queue = Queue {
            tail: 0,
            head: 0,
            phase: true,
            early: Vec::new(),
        };
        self.queues.insert(id, queue);
    }

    pub(in crate::tests) fn create_cq_command(id: u16, vector: u16) -> Submission {
        Submission {
            opcode: admin::CREATE_CQ,
            prp1: Self::base(id).1,
            cdw10: (ENTRIES - 1) << 16 | u32::from(id),
            cdw11: u32::from(vector) << 16 | 0b11,
            ..Submission::zeroed()
        }
    }

    pub(in crate::tests) fn create_sq_command(id: u16, cq: u16) -> Submission {
        Submission {
            opcode: admin::CREATE_SQ,
            prp1: Self::base(id).0,
            cdw10: (ENTRIES - 1) << 16 | u32::from(id),
            cdw11: u32::from(cq) << 16 | 1,
            ..Submission::zeroed()
        }
    }

    pub(in crate::tests) fn create_pair(&mut self, id: u16) {
        self.forget(id);
        self.admin_ok(Self::create_cq_command(id, id));
        self.admin_ok(Self::create_sq_command(id, id));
    }

    /// Puts a command into queue `id` without ringing. Returns its identifier.
    pub(in crate::tests) fn push(&mut self, id: u16, mut command: Submission) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        command.cid = self.next_cid;
        let queue = self.queues.get_mut(&id).unwrap();
        let at = Self::base(id).0 + u64::from(queue.tail) * 64;
        self.memory
            .write_slice(command.as_bytes(), GuestAddress(at))
            .unwrap();
        queue.tail = (queue.tail + 1) % ENTRIES;
        command.cid
    }

    pub(in crate::tests) fn ring(&self, id: u16) {
        self.doorbell(u64::from(id) * 8, self.queues[&id].tail);
    }

    /// Has the controller look at doorbells in memory.
    pub(in crate::tests) fn use_shadow(&mut self) {
        self.fill(SHADOW, &[0; 8192]);
        self.admin_ok(Submission {
            opcode: admin::DOORBELL_BUFFER_CONFIG,
            prp1: SHADOW,
            prp2: SHADOW + 4096,
            ..Submission::zeroed()
        });
        self.shadow = true;
    }

    /// Moves a doorbell as Linux does (`nvme_dbbuf_update_and_check_event`).
    fn doorbell(&self, at: u64, value: u32) {
        if self.shadow && at >= 8 {
            let word = |at| {
                self.memory
                    .view()
                    .load::<u32>(GuestAddress(at), Ordering::Acquire)
            };
            let old = word(SHADOW + at).unwrap() as u16;
            let place = GuestAddress(SHADOW + at);
            self.memory.store(value, place, Ordering::Release).unwrap();
            fence(Ordering::SeqCst);
            let event = word(SHADOW + 4096 + at).unwrap() as u16;
            let new = value as u16;
            if new.wrapping_sub(event).wrapping_sub(1) >= new.wrapping_sub(old) {
                return;
            }
        }
        self.rings.fetch_add(1, Ordering::Relaxed);
        self.write(offset::DOORBELLS + at, value);
    }

    pub(in crate::tests) fn submit(&mut self, id: u16, command: Submission) -> u16 {
        let cid = self.push(id, command);
        self.ring(id);
        cid
    }

    /// The next completion of queue `id`, if one is there.
    pub(in crate::tests) fn poll(&mut self, id: u16) -> Option<Completion> {
        let queue = self.queues.get_mut(&id).unwrap();
        let at = GuestAddress(Self::base(id).1 + u64::from(queue.head) * 16);
        let mut found = Completion::default();
        self.memory.read_slice(found.as_mut_bytes(), at).unwrap();
        if (found.status_phase & 1 == 1) != queue.phase {
            return None;
        }
        queue.head += 1;
        if queue.head == ENTRIES {
            (queue.head, queue.phase) = (0, !queue.phase);
        }
        let head = queue.head;
        self.doorbell(u64::from(id) * 8 + 4, head);
        Some(found)
    }

    /// Waits for the completion of command `cid` of queue `id`.
    pub(in crate::tests) fn wait(&mut self, id: u16, cid: u16) -> Completion {
        let by = Instant::now() + SOON;
        loop {
            let early = &mut self.queues.get_mut(&id).unwrap().early;
            if let Some(index) = early.iter().position(|found| found.cid == cid) {
                return early.remove(index);
            }
            match self.poll(id) {
                Some(found) => self.queues.get_mut(&id).unwrap().early.push(found),
                None => std::thread::yield_now(),
            }
            assert!(
                Instant::now() < by,
                "command {cid} of queue {id} did not complete"
            );
        }
    }

    /// Whether a completion has come that nobody asked for yet.
    pub(in crate::tests) fn has_completion(&mut self, id: u16) -> bool {
        if let Some(found) = self.poll(id) {
            self.queues.get_mut(&id).unwrap().early.push(found);
        }
        !self.queues[&id].early.is_empty()
    }

    pub(in crate::tests) fn run(&mut self, id: u16, command: Submission) -> Result<u32, u16> {
        let cid = self.submit(id, command);
        result(&self.wait(id, cid))
    }

    pub(in crate::tests) fn admin(&mut self, command: Submission) -> Result<u32, u16> {
        self.run(0, command)
    }

    pub(in crate::tests) fn admin_ok(&mut self, command: Submission) -> u32 {
        self.admin(command).unwrap()
    }
}
