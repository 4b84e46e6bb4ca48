//! What the tests of the legacy devices attach: an event sink and an interrupt line that remember.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::lock;
use crate::event::{EventSink, GuestEvent};
use crate::interrupt::IntxLine;

/// Remembers the events sent to it and the level it was last set to.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Vec<GuestEvent>>,
    level: Mutex<bool>,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The events since the last call.
    pub fn take(&self) -> Vec<GuestEvent> {
        std::mem::take(&mut lock(&self.events))
    }

    pub fn level(&self) -> bool {
        *lock(&self.level)
    }
}

impl EventSink for Recorder {
    fn send(&self, event: GuestEvent, _at: Instant) {
        lock(&self.events).push(event);
    }
}

impl IntxLine for Recorder {
    fn set(&self, asserted: bool) {
        *lock(&self.level) = asserted;
    }
}
