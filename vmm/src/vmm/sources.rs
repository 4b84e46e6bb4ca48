//! What wakes the main thread's event loop, beside the serial port: the mailbox, and signals.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use api::request::{Reply, Request};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use crate::mailbox::{Mailbox, Message};

/// Wakes the loop when the mailbox has messages; the loop itself takes them out.
pub(super) struct Wake(pub Arc<Mailbox>);

impl MutEventSubscriber for Wake {
    fn process(&mut self, _: Events, _: &mut EventOps) {
        // An error only says that another wake-up has been taken already.
        let _ = self.0.wake_fd().read();
    }

    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(self.0.wake_fd(), EventSet::IN)) {
            tracing::error!(%error, "watching the mailbox");
        }
    }
}

/// Turns a signal that asks the process to end into the request that a client would send.
pub(super) struct Signals<S> {
    source: S,
    /// The first signal has been seen; a second one waits for no device.
    asked: bool,
    mailbox: Arc<Mailbox>,
}

impl<S> Signals<S> {
    /// `source` is readable when there are signals, a byte each.
    pub(super) fn new(source: S, mailbox: Arc<Mailbox>) -> Self {
        Self {
            source,
            asked: false,
            mailbox,
        }
    }
}

impl<S: AsRawFd + io::Read> MutEventSubscriber for Signals<S> {
    fn process(&mut self, _: Events, _: &mut EventOps) {
        let mut bytes = [0; 16];
        for _ in 0..self.source.read(&mut bytes).unwrap_or(0) {
            let message = if self.asked {
                Message::EndNow
            } else {
                let (reply, _) = Reply::channel();
                Message::Request(Request::Shutdown, reply)
            };
            self.asked = true;
            self.mailbox.put(message);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.source, EventSet::IN)) {
            tracing::error!(%error, "watching for signals");
        }
    }
}
