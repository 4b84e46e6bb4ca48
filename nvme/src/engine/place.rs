//! A transfer's place in an I/O thread's table, and how far it is.

use std::io;
use std::sync::Arc;

use super::{Ended, Serve, Transfer};

/// Where a transfer is kept. On the heap, so that its vectors stay where they are.
pub(super) struct Place {
    pub(super) running: Option<Running>,
    /// Tells the completion of an earlier user of the place from one of this.
    pub(super) generation: u32,
}

/// A transfer under way.
pub(super) struct Running {
    pub(super) owner: Arc<dyn Serve>,
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
