//! What outlives a machine that is made anew with other devices.

use api::error::{ApiError, ErrorCode};
use api::state::BootMarker;

use super::{History, Machine, State};
use crate::clock::Clock;

/// What a machine has been through.
pub struct Past {
    /// It had been booted, and stands still since.
    stopped: bool,
    boot: u64,
    markers: Vec<BootMarker>,
    history: History,
    clock: Clock,
}

impl Machine {
    /// Checks that the machine's devices may come and go: that nothing of it runs.
    ///
    /// # Errors
    /// Something does.
    pub fn check_changeable(&self, call: &str) -> Result<(), ApiError> {
        if let State::Created | State::Stopped = self.state {
            return Ok(());
        }
        let message = format!(
            "{call}: the machine is {:?}, and devices do not come and go while it runs: hot-plug is not there yet; \
             stop the machine first (vm.shutdown)",
            self.state()
        );
        Err(ApiError::new(ErrorCode::WrongState, message))
    }

    /// Ends a machine that stands still, and keeps what it has been through.
    pub fn end(self) -> Past {
        Past {
            stopped: matches!(self.state, State::Stopped),
            boot: self.boot,
            markers: self.markers,
            history: self.history,
            clock: self.clock,
        }
    }

    /// Goes on where another machine ended: the numbers of boots and teardowns, and the reports that are kept.
    pub fn remember(&mut self, past: Past) {
        if past.stopped {
            self.state = State::Stopped;
        }
        self.boot = past.boot;
        self.markers = past.markers;
        self.history = past.history;
        self.clock = past.clock;
    }
}
