//! What outlives a machine that is made anew with other devices.

use api::config::VmConfig;
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

    /// Checks that all devices of `config` that are passed through could be opened again: the machine is made anew with
    /// them, and cannot be without.
    ///
    /// # Errors
    /// One of them is away, or may still be at work.
    pub fn check_devices_there(&self, call: &str, config: &VmConfig) -> Result<(), ApiError> {
        for (_, device) in config.devices() {
            let id = device.id();
            let is_stuck = self.stuck.iter().any(|stuck| stuck.id == id);
            let why = match self.devices.why_away(id) {
                Some(why) => why,
                None if is_stuck => "it may still write to guest memory".to_owned(),
                None => continue,
            };
            let message = format!(
                "{call}: all devices are given back and opened again, and {id} could not be ({why}): see that it is \
                 there, then boot the machine and shut it down (vm.boot, vm.shutdown), or remove {id} first \
                 (vm.remove-device)"
            );
            return Err(ApiError::new(ErrorCode::WrongState, message).with_device(id));
        }
        Ok(())
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
