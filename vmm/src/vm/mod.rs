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
mod history;
mod order;
mod passed;
mod past;
mod start;
mod teardown;

use std::sync::Arc;
use std::time::Instant;

use api::config::{BehaviourUpdate, DeviceBehaviour, VmConfig};
use api::error::{ApiError, ErrorCode};
use api::events::{EventKind, EventLog};
use api::report::Cause;
use api::request::{Reply, Response};
use api::state::{BootMarker, PolicyUpdate, TeardownPolicyInfo, VmInfo, VmState};
use devices::event::{GuestEvent, ResetCause};

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
use crate::device_manager::{DeviceManager, Stuck, behaviour};
use crate::mailbox::Mailbox;
use crate::memory::GuestRam;
use crate::vcpu::Vcpus;
use crate::vmm::Subscriber;
use chipset::Chipset;
use teardown::{Request, TeardownThread, TearingDown};

/// How many boot markers `vm.info` shows.
const MARKERS_KEPT: usize = 32;

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
            Ok(false) => self.add_reply(Some(reply)),
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

    /// Stops the vCPUs.
    pub fn pause(&mut self) -> Result<(), ApiError> {
        let State::Running = self.state else {
            return Err(self.wrong_state("vm.pause", "it must be running"));
        };
        self.vcpus.pause();
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

    /// The machine's state and configuration.
    pub fn describe(&self) -> VmInfo {
        VmInfo {
            config: self.config.clone(),
            state: self.state(),
            memory_actual_size: self.config.memory.size,
            boot: self.boot,
            boot_markers: self.markers.clone(),
            dma: self.devices.dma(),
        }
    }

    /// What the machine is doing.
    pub fn state(&self) -> VmState {
        match self.state {
            State::Created => VmState::Created,
            State::Running => VmState::Running,
            State::Paused => VmState::Paused,
            State::TearingDown(_) => VmState::Rebooting,
            State::Stopped => VmState::Shutdown,
        }
    }

    /// What the machine was created with, and the teardown policy that is set.
    pub fn config(&self) -> &VmConfig {
        &self.config
    }

    /// How the next teardown will run.
    pub fn teardown_policy(&self) -> TeardownPolicyInfo {
        TeardownPolicyInfo {
            policy: self.config.teardown.policy,
            workers: self.config.workers(),
        }
    }

    /// Changes how teardowns run, from the next one on.
    pub fn set_teardown_policy(&mut self, update: PolicyUpdate) {
        let teardown = &mut self.config.teardown;
        let before = teardown.policy;
        let policy = update.policy.unwrap_or(before);
        teardown.policy = policy;
        teardown.workers = update.workers.or(teardown.workers);
        let workers = self.config.workers();
        self.events
            .push(EventKind::TeardownPolicyChanged { policy, workers });
        if policy != before {
            self.warn_of_order();
        }
    }

    /// How a device behaves.
    pub fn behaviour(&self, id: &str) -> Result<DeviceBehaviour, ApiError> {
        let device = self.config.device(id).ok_or_else(|| no_device(id))?;
        Ok(device.behaviour(behaviour::seed(device)))
    }

    /// Changes how a device behaves: shutdowns and teardowns that begin from now on, and faults at once. In
    /// every state: a drive may recover, or die, in the middle of a teardown.
    pub fn set_behaviour(&mut self, id: &str, update: &BehaviourUpdate) -> Result<(), ApiError> {
        let device = self.config.device_mut(id).ok_or_else(|| no_device(id))?;
        update.apply(device)?;
        self.devices.behave(device);
        self.events.push(EventKind::DeviceBehaviourChanged {
            id: id.to_owned(),
            changed: update.given(),
        });
        Ok(())
    }

    /// The device tree as it stands.
    pub fn topology(&self) -> api::state::Topology {
        self.devices.topology()
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

fn no_device(id: &str) -> ApiError {
    let message = format!(
        "vm.devices/{{id}}/behaviour: no PCI device is named `{id}`; vm.topology lists them all"
    );
    ApiError::new(ErrorCode::NotFound, message).with_device(id)
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
