//! From a reset request to vCPUs that run again: pause, teardown, reset, boot, each step stamped.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;
use std::time::Instant;

use api::config::{OnPowerOff, OnReset};
use api::events::{EventKind, EventLog};
use api::report::{Cause, Outcome};
use api::request::{Reply, Response};
use devices::guest_acts::GuestActs;

use super::{Machine, Next, State};
use crate::device_manager::teardown::{self, Observer, Teardown, TeardownRun};
use crate::mailbox::{Mailbox, Message};

/// What follows a teardown. Ordered: what goes further is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// The machine is reset in place and boots again.
    Boot,
    /// The machine stands still and can be booted again.
    Stop,
    /// The machine is given back.
    Delete,
    /// The process ends with this exit code.
    Exit(u8),
}

impl After {
    /// What a guest reset leads to.
    pub fn of_reset(on_reset: OnReset) -> Self {
        match on_reset {
            OnReset::Reboot => Self::Boot,
            OnReset::Stop => Self::Stop,
            OnReset::Exit => Self::Exit(crate::exit::RESET),
        }
    }

    /// What a guest power-off leads to.
    pub fn of_power_off(on_poweroff: OnPowerOff) -> Self {
        match on_poweroff {
            OnPowerOff::Reboot => Self::Boot,
            OnPowerOff::Stop => Self::Stop,
            OnPowerOff::Exit => Self::Exit(crate::exit::OFF),
        }
    }

    /// What the owner of the machine has to do, and whom it has to answer.
    pub(super) fn next(self, replies: Vec<Reply>) -> Next {
        match self {
            Self::Boot | Self::Stop => {
                answer(replies);
                Next::GoOn
            }
            Self::Delete => Next::Delete(replies),
            Self::Exit(code) => Next::Exit(code, replies),
        }
    }
}

/// Tells everybody who waited that it is done.
pub(crate) fn answer(replies: Vec<Reply>) {
    for reply in replies {
        reply.send(Ok(Response::Done));
    }
}

/// Who asked for a teardown, when, and what is to follow.
pub(super) struct Request {
    pub cause: Cause,
    pub at: Instant,
    pub after: After,
}

impl Request {
    pub(super) fn now(cause: Cause, after: After) -> Self {
        Self {
            cause,
            at: Instant::now(),
            after,
        }
    }
}

/// A teardown that is under way.
pub(super) struct TearingDown {
    number: u64,
    cause: Cause,
    requested: Instant,
    paused: Instant,
    /// What the guest had done to the devices, by number.
    guest_acts: Vec<GuestActs>,
    pub after: After,
    /// Those who wait for its end.
    pub replies: Vec<Reply>,
    /// Those who wait for a machine that runs.
    pub boots: Vec<Reply>,
}

/// Turns the engine's progress into events.
struct Progress {
    number: u64,
    ids: Vec<String>,
    events: Arc<EventLog>,
}

impl Observer for Progress {
    fn ended(&self, device: usize, outcome: &Outcome) {
        let Some(id) = self.ids.get(device).cloned() else {
            return;
        };
        self.events.push(EventKind::DeviceShutDown {
            number: self.number,
            id,
            outcome: outcome.clone(),
        });
    }

    fn returned_late(&self, device: usize) {
        let Some(id) = self.ids.get(device) else {
            return;
        };
        let message = format!(
            "{id} returned from teardown {} after it had been given up",
            self.number
        );
        self.events.push(EventKind::Warning { message });
    }
}

/// The thread that teardowns run on: the kernel's "calling thread". Made with the machine, so that no
/// reset depends on whether the host has a thread to spare.
pub(super) struct TeardownThread(Sender<Teardown>);

impl TeardownThread {
    /// Starts the thread. It ends when this is dropped and the teardown that it runs has ended.
    pub(super) fn start(mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let (sender, teardowns) = channel::<Teardown>();
        Builder::new().name("teardown".to_owned()).spawn(move || {
            for teardown in teardowns {
                mailbox.put(Message::TeardownEnded(Box::new(teardown.run())));
            }
        })?;
        Ok(Self(sender))
    }

    fn run(&self, teardown: Teardown) {
        // The thread only ends after the sender is gone.
        let _ = self.0.send(teardown);
    }
}

impl Machine {
    /// Pauses the vCPUs and hands the teardown to its thread; the main thread goes on to answer requests,
    /// and is told of the end by a message.
    pub(super) fn tear_down(&mut self, request: Request) {
        let Request {
            cause,
            at: requested,
            after,
        } = request;
        // What they still read of a device is nobody's concern any more.
        self.vcpus.pause(|| self.devices.cancel_waits());
        let paused = Instant::now();
        let guest_acts = self.devices.guest_acts();
        let number = self.history.next_number();
        let policy = self.config.teardown.policy;
        self.events.push_at(
            self.clock.ns(requested),
            EventKind::ResetRequested {
                cause,
                boot: self.boot,
            },
        );
        self.events
            .push(EventKind::TeardownStarted { number, policy });
        tracing::info!(
            number,
            ?cause,
            ?policy,
            boot = self.boot,
            "teardown started"
        );
        let progress = Progress {
            number,
            ids: self.devices.ids(),
            events: self.events.clone(),
        };
        let teardown = self
            .devices
            .teardown(policy, self.config.workers(), Arc::new(progress));
        self.state = State::TearingDown(Box::new(TearingDown {
            number,
            cause,
            requested,
            paused,
            guest_acts,
            after,
            replies: Vec::new(),
            boots: Vec::new(),
        }));
        self.teardown_thread.run(teardown);
    }

    /// Deals with the end of the teardown: gives up what did not end, then does what is to follow.
    pub fn teardown_ended(&mut self, run: TeardownRun) -> Next {
        let State::TearingDown(under_way) = std::mem::replace(&mut self.state, State::Stopped)
        else {
            return Next::GoOn;
        };
        let TearingDown {
            number,
            cause,
            requested,
            paused,
            guest_acts,
            mut after,
            replies,
            boots,
        } = *under_way;
        let mut failed = false;
        let mut report = run.report(&teardown::Request {
            number,
            boot: self.boot,
            cause,
            at: requested,
            at_ns: self.clock.ns(requested),
            vcpus_paused: paused,
        });
        report.guest = teardown::guest_report(&run.graph, &guest_acts, requested);
        self.events.push(EventKind::TeardownEnded {
            number,
            teardown_ns: report.teardown_ns,
            guest_order: report.guest.order,
            guest_span_ns: report.guest.span_ns,
        });
        tracing::info!(
            number,
            teardown_ms = report.teardown_ns / 1_000_000,
            "teardown ended"
        );
        for message in &report.warnings {
            tracing::warn!("teardown {number}: {message}");
        }
        if self.judge(&mut report) {
            failed = after == After::Boot;
            after = after.max(After::Stop);
        }
        match after {
            After::Boot => {
                self.reset_requested = (cause != Cause::Boot).then_some(requested);
                match self.start() {
                    Ok(resumed) => teardown::vcpus_resumed(&mut report, resumed - requested),
                    Err(error) => {
                        let message = format!(
                            "the machine could not be booted again and stays stopped: {error}"
                        );
                        report.warnings.push(message.clone());
                        self.warn(message);
                        failed = true;
                    }
                }
            }
            After::Stop | After::Delete | After::Exit(_) => {
                self.events.push(EventKind::VmStopped);
            }
        }
        self.history.keep(report);
        if let State::Running = self.state {
            answer(boots);
        } else {
            self.refuse_boot(boots, failed);
        }
        if failed {
            answer(replies);
            return Next::Failed;
        }
        after.next(replies)
    }
}
