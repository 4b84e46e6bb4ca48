//! What the guest asks for: boot markers, resets, power-off; and vCPUs that cannot go on.

use std::time::Instant;

use api::events::EventKind;
use api::report::Cause;
use api::state::BootMarker;
use devices::event::{GuestEvent, ResetCause};

use super::teardown::Request;
use super::{After, Machine, Next, State};

/// How many boot markers `vm.info` shows.
const MARKERS_KEPT: usize = 32;

impl Machine {
    /// Deals with what the guest asked for in boot number `boot`.
    pub fn guest_event(&mut self, event: GuestEvent, at: Instant, boot: u64) -> Next {
        if let GuestEvent::BootMarker(value) = event {
            if boot == self.boot {
                self.boot_marker(value, at);
            }
            return Next::GoOn;
        }
        let live = boot == self.boot && matches!(self.state, State::Running | State::Paused);
        if !live {
            tracing::debug!(?event, boot, "dropped: this boot has been ended already");
            return Next::GoOn;
        }
        let (cause, after) = match event {
            GuestEvent::Reset(cause) => (reported(cause), After::of_reset(self.config.on_reset)),
            GuestEvent::PowerOff | GuestEvent::BootMarker(_) => {
                self.events
                    .push_at(self.clock.ns(at), EventKind::VmPoweredOff);
                (
                    Cause::PowerOff,
                    After::of_power_off(self.config.on_poweroff),
                )
            }
        };
        self.tear_down(Request { cause, at, after });
        Next::GoOn
    }

    fn boot_marker(&mut self, value: u8, at: Instant) {
        let since_reset_ns = self
            .reset_requested
            .map(|requested| at.saturating_duration_since(requested).as_nanos() as u64);
        let first = !self.markers.iter().any(|marker| marker.boot == self.boot);
        if first && let Some(ns) = since_reset_ns {
            self.history.ready(self.boot, ns);
        }
        if self.markers.len() == MARKERS_KEPT {
            self.markers.remove(0);
        }
        let at_ns = self.clock.ns(at);
        self.markers.push(BootMarker {
            value,
            boot: self.boot,
            at_ns,
            since_reset_ns,
        });
        self.events.push_at(
            at_ns,
            EventKind::BootMarker {
                value,
                boot: self.boot,
                since_reset_ns,
            },
        );
    }

    /// Deals with a vCPU that can't go on: the machine is stopped, the process goes on for a look at it.
    pub fn vcpu_failed(&mut self, vcpu: u8, reason: &str, after: After) {
        self.warn(format!(
            "vCPU {vcpu} can't go on: {reason}; the machine is shut down"
        ));
        if let State::Running | State::Paused = self.state {
            self.tear_down(Request::now(Cause::Crash, after));
        }
    }
}

fn reported(cause: ResetCause) -> Cause {
    match cause {
        ResetCause::I8042 => Cause::I8042,
        ResetCause::PciReset => Cause::PciReset,
        ResetCause::AcpiReset => Cause::AcpiReset,
        ResetCause::TripleFault => Cause::TripleFault,
        ResetCause::Api => Cause::Api,
    }
}
