//! A transfer's place in an I/O thread's table, and how far it is; and those who started transfers.

use std::io;
use std::sync::Arc;

use super::{End, Ended, Serve, Transfer};

/// Where a transfer is kept. On the heap, so that its vectors stay where they are.
pub(super) struct Place {
    pub(super) running: Option<Running>,
    /// Tells the completion of an earlier user of the place from one of this.
    pub(super) generation: u32,
}

/// A transfer under way.
pub(super) struct Running {
    /// Its number among the thread's owners.
    pub(super) owner: u32,
    pub(super) tag: u32,
    pub(super) transfer: Transfer,
    /// Vectors before this one are done.
    pub(super) first: usize,
    pub(super) cancelled: bool,
}

impl Running {
    /// Accounts for `moved` bytes. Returns how the transfer ended, or that it goes on.
    pub(super) fn advance(&mut self, moved: usize) -> Option<Ended> {
        let mut left = moved;
        self.transfer.offset += moved as u64;
        while let Some(vector) = self.transfer.vectors.get_mut(self.first) {
            if left < vector.iov_len {
                vector.iov_base = vector.iov_base.cast::<u8>().wrapping_add(left).cast();
                vector.iov_len -= left;
                break;
            }
            left -= vector.iov_len;
            self.first += 1;
        }
        if self.first >= self.transfer.vectors.len() {
            Some(Ended::Done)
        } else if moved == 0 {
            // The file was cut short behind our back.
            Some(Ended::Failed(io::ErrorKind::UnexpectedEof.into()))
        } else if self.cancelled {
            Some(Ended::Cancelled)
        } else {
            None
        }
    }
}

/// Those who have transfers under way on a thread. A transfer names its owner by a number: to count references
/// would cost more than all else that is done for one.
#[derive(Default)]
pub(super) struct Owners {
    all: Vec<Owner>,
    /// Who started a transfer last.
    last: usize,
    /// Those who are to be told something.
    told: Vec<u32>,
}

#[derive(Default)]
struct Owner {
    /// Nobody: the number is free.
    queue: Option<Arc<dyn Serve>>,
    /// Its transfers that have not ended.
    running: usize,
    /// What it has not been told of.
    ends: Vec<End>,
}

impl Owner {
    fn is(&self, other: *const ()) -> bool {
        let own = self.queue.as_ref().map(Arc::as_ptr);
        own.is_some_and(|own| std::ptr::addr_eq(own, other))
    }
}

impl Owners {
    /// Counts a transfer of `queue`. Returns its number.
    pub(super) fn begin<S: Serve + 'static>(&mut self, queue: &Arc<S>) -> u32 {
        let at = Arc::as_ptr(queue).cast();
        if !(self.all.get(self.last)).is_some_and(|owner| owner.is(at)) {
            let known = self.all.iter().position(|owner| owner.is(at));
            let free = || self.all.iter().position(|owner| owner.queue.is_none());
            self.last = known.or_else(free).unwrap_or(self.all.len());
            if self.last == self.all.len() {
                self.all.push(Owner::default());
            }
        }
        if let Some(owner) = self.all.get_mut(self.last) {
            if owner.queue.is_none() {
                owner.queue = Some(Arc::clone(queue) as _);
            }
            owner.running += 1;
        }
        self.last as u32
    }

    pub(super) fn get(&self, owner: u32) -> Option<&Arc<dyn Serve>> {
        self.all.get(owner as usize)?.queue.as_ref()
    }

    /// A transfer has ended. Its owner is told when [`tell`](Self::tell) is called.
    pub(super) fn end(&mut self, owner: u32, end: End) {
        let Some(ended) = self.all.get_mut(owner as usize) else {
            return;
        };
        if ended.ends.is_empty() {
            self.told.push(owner);
        }
        ended.ends.push(end);
        ended.running -= 1;
    }

    /// Tells owners what has ended, and forgets those that have nothing under way any more.
    pub(super) fn tell(&mut self) {
        for owner in self.told.drain(..) {
            let Some(owner) = self.all.get_mut(owner as usize) else {
                continue;
            };
            if let Some(queue) = &owner.queue {
                queue.ended(&mut owner.ends);
            }
            owner.ends.clear();
            if owner.running == 0 {
                owner.queue = None;
            }
        }
    }
}
