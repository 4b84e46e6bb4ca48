//! One virtual machine: what it is made of, and the states that it goes through.
//!
//! ```text
//!   Created ──boot──▶ Running ◀──pause/resume──▶ Paused
//!                      ▲  │                        │
//!         (After::Boot)│  │ reset, power-off, vm.shutdown, …
//!                      │  ▼                        ▼
//!                     TearingDown ◀────────────────┘
//!                         │ (After::Stop)
//!                         ▼
//!                      Stopped ──boot──▶ Running
//! ```
//!
//! Every boot, the first and those after a reset, takes the same path: [`Machine::start`].

mod chipset;
mod create;
mod guest;
mod history;
mod order;
mod passed;
mod past;
mod settings;
mod start;
mod teardown;

use std::sync::Arc;
use std::time::Instant;

use api::config::VmConfig;
use api::error::{ApiError, ErrorCode};
use api::events::{EventKind, EventLog};
use api::report::Cause;
use api::request::{Reply, Response};
use api::state::BootMarker;

pub use chipset::KvmError;
pub use create::CreateError;
pub use history::History;
pub use past::Past;
pub use start::StartError;
pub use teardown::After;
pub(crate) use teardown::answer;

use crate::boot::Payload;
use crate::boot::acpi::AcpiTables;
use crate::clock::Clock;
use crate::device_manager::{DeviceManager, Stuck};
use crate::mailbox::Mailbox;
use crate::memory::GuestRam;
use crate::vcpu::Vcpus;
use crate::vmm::Subscriber;
use chipset::Chipset;
use teardown::{Request, TeardownThread, TearingDown};

/// A virtual machine. The order of the fields is the order in which they are given back: the vCPUs end
/// before the devices that they reach, the devices before the memory that they use.
pub struct Machine {
    vcpus: Vcpus,
    teardown_thread: TeardownThread,
    devices: DeviceManager,
    chipset: Chipset,
    acpi: AcpiTables,
    payload: Payload,
    memory: GuestRam,
    config: VmConfig,
    state: State,
    boot: u64,
    /// The devices for whose sake the machine must not boot again: they may still write to guest memory.
    stuck: Vec<Stuck>,
    /// The reset request that led to the present boot.
    reset_requested: Option<Instant>,
    markers: Vec<BootMarker>,
    history: History,
    mailbox: Arc<Mailbox>,
    events: Arc<EventLog>,
    clock: Clock,
}

/// What the machine is doing.
enum State {
    Created,
    Running,
    Paused,
    TearingDown(Box<TearingDown>),
    Stopped,
}

/// What the owner of the machine has to do next.
#[derive(Debug)]
pub enum Next {
    /// Nothing: it goes on by itself.
    GoOn,
    /// Nothing, but the machine stands still though it should have booted.
    Failed,
    /// Drop the machine, then say so: its files are free for another process by then.
    Delete(Vec<Reply>),
    /// Drop the machine, say so, and end the process with this exit code.
    Exit(u8, Vec<Reply>),
}

impl Machine {
    /// Boots a machine that stands still, and answers `reply` when its vCPUs run.
    pub fn boot(&mut self, reply: Reply) {
        match self.begin_boot() {
            Ok(true) => reply.send(Ok(Response::Done)),
            Ok(false) => {
                if let State::TearingDown(under_way) = &mut self.state {
                    under_way.boots.push(reply);
                }
            }
            Err(error) => reply.send(Err(error)),
        }
    }

    /// Begins to boot a machine that stands still. Says whether its vCPUs run: devices that are passed through and were
    /// gone are shut down first, which brings back those that are there again.
    pub fn begin_boot(&mut self) -> Result<bool, ApiError> {
        match self.state {
            State::Created | State::Stopped => {}
            _ => return Err(self.wrong_state("vm.boot", "it must be created or shut down")),
        }
        self.check_stuck()?;
        if self.devices.has_devices_away() {
            self.tear_down(Request::now(Cause::Boot, After::Boot));
            return Ok(false);
        }
        self.reset_requested = None;
        self.start()?;
        Ok(true)
    }

    /// Stops the vCPUs. One that waits for a passed-through device is waited for, no longer than its client allows: the
    /// guest goes on afterwards, and must not have lost what it asked for.
    pub fn pause(&mut self) -> Result<(), ApiError> {
        let State::Running = self.state else {
            return Err(self.wrong_state("vm.pause", "it must be running"));
        };
        self.vcpus.pause(|| {});
        self.state = State::Paused;
        self.events.push(EventKind::VmPaused);
        Ok(())
    }

    /// Lets the vCPUs go on.
    pub fn resume(&mut self) -> Result<(), ApiError> {
        let State::Paused = self.state else {
            return Err(self.wrong_state("vm.resume", "it must be paused"));
        };
        self.vcpus.resume();
        self.state = State::Running;
        self.events.push(EventKind::VmResumed);
        Ok(())
    }

    /// Presses the power button.
    pub fn power_button(&mut self) -> Result<(), ApiError> {
        let State::Running = self.state else {
            return Err(self.wrong_state("vm.power-button", "it must be running"));
        };
        self.devices.press_power_button();
        Ok(())
    }

    /// Reboots the machine on a client's request.
    pub fn reboot(&mut self) -> Result<(), ApiError> {
        match self.state {
            State::Running | State::Paused => {
                self.tear_down(Request::now(Cause::Api, After::Boot));
                Ok(())
            }
            _ => Err(self.wrong_state("vm.reboot", "it must be running or paused")),
        }
    }

    /// Shuts the devices down, then does `after`; answers `reply` when the teardown has ended.
    pub fn shut_down(&mut self, after: After, reply: Option<Reply>) -> Next {
        match &mut self.state {
            State::Running | State::Paused => {
                self.tear_down(Request::now(Cause::Shutdown, after));
                self.add_reply(reply);
                Next::GoOn
            }
            State::TearingDown(under_way) => {
                // What goes further wins: a machine that is to be deleted is not rebooted first.
                under_way.after = under_way.after.max(after);
                self.add_reply(reply);
                Next::GoOn
            }
            State::Created | State::Stopped => {
                let replies = Vec::from_iter(reply);
                if let After::Boot | After::Stop = after {
                    for reply in replies {
                        let wanted = "it must be running or paused";
                        reply.send(Err(self.wrong_state("vm.shutdown", wanted)));
                    }
                    return Next::GoOn;
                }
                after.next(replies)
            }
        }
    }

    fn add_reply(&mut self, reply: Option<Reply>) {
        if let State::TearingDown(under_way) = &mut self.state {
            under_way.replies.extend(reply);
        }
    }

    /// The teardowns of this machine.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether the machine stands still after a teardown.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// What is to be registered with the event loop for the serial port, once.
    pub fn take_serial_input(&mut self) -> Option<Subscriber> {
        self.devices
            .take_serial_input()
            .map(|input| Box::new(input) as Subscriber)
    }

    fn warn(&self, message: String) {
        tracing::warn!("{message}");
        self.events.push(EventKind::Warning { message });
    }

    fn wrong_state(&self, call: &str, wanted: &str) -> ApiError {
        ApiError::new(
            ErrorCode::WrongState,
            format!("{call}: the machine is {:?}; {wanted}", self.state()),
        )
    }
}
