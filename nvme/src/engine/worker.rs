//! What an I/O thread has in hand: its queues and its transfers, and one round of work on them.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::warn;

use super::ring::Ring;
use super::{Serve, Transfers, Turn};

/// See the module's header.
pub(super) struct Worker {
    pub(super) transfers: Transfers,
    pub(super) queues: Queues,
}

/// The queues that a thread has in hand.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) ready: VecDeque<Arc<dyn Serve>>,
    /// Those that have nothing to do and tell nobody when they have.
    watched: Vec<Arc<dyn Serve>>,
}

impl Worker {
    /// Works by blocking calls alone unless `with_ring`, or where the host gives no ring.
    pub(super) fn new(with_ring: bool) -> Self {
        let ring = with_ring.then(Ring::new).and_then(|ring| {
            ring.inspect_err(|failure| warn!("an NVMe I/O thread got no io_uring: {failure}"))
                .ok()
        });
        Self {
            transfers: Transfers::new(ring),
            queues: Queues::default(),
        }
    }

    /// Serves a burst of every queue that is ready, hands over once, and takes completions. Returns whether
    /// there is more to do.
    pub(super) fn round(&mut self) -> bool {
        if self.queues.ready.is_empty() {
            // What came while the thread looked out for it is served at once.
            self.queues.look();
        }
        self.queues.serve(&mut self.transfers);
        self.transfers.submit();
        let ended = self.transfers.finish();
        self.queues.look();
        ended || !self.queues.ready.is_empty()
    }
}

impl Queues {
    /// Gives every ready queue a burst.
    fn serve(&mut self, transfers: &mut Transfers) {
        for _ in 0..self.ready.len() {
            let Some(queue) = self.ready.pop_front() else {
                return;
            };
            match Arc::clone(&queue).serve(transfers) {
                Turn::Done => {}
                Turn::More => self.ready.push_back(queue),
                Turn::Watch if self.watched.iter().any(|other| Arc::ptr_eq(other, &queue)) => {}
                Turn::Watch => self.watched.push(queue),
            }
        }
    }

    /// Looks which of the watched queues are ready.
    fn look(&mut self) {
        let mut at = 0;
        while let Some(queue) = self.watched.get(at) {
            if queue.has_more() {
                self.ready.push_back(self.watched.swap_remove(at));
            } else {
                at += 1;
            }
        }
    }

    /// Whether a watched queue is ready.
    pub(super) fn has_more(&self) -> bool {
        self.watched.iter().any(|queue| queue.has_more())
    }

    /// Lets the watched queues rest. Returns whether one is ready instead.
    pub(super) fn rest(&mut self) -> bool {
        let ready = self.watched.drain(..).filter(|queue| queue.rest());
        self.ready.extend(ready);
        !self.ready.is_empty()
    }
}
