//! The main thread: it owns the machine, and everything that changes the machine comes to it.

mod rebuild;
mod sources;
mod work;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use api::config::VmConfig;
use api::error::{ApiError, ErrorCode};
use api::events::{EventKind, EventLog};
use api::request::{Answer, Reply, Request, Response};
use api::state::VmmPing;
use event_manager::{EventManager, MutEventSubscriber, SubscriberId, SubscriberOps};

use crate::exit;
use crate::mailbox::{Mailbox, Message};
use crate::plan;
use crate::vm::{After, CreateError, Machine, Next, answer};
use sources::{Signals, Wake};
pub use work::Done;
use work::UnderWay;

/// Messages that are dealt with before signals and input are looked at again.
const MESSAGES_AT_ONCE: usize = 256;

/// A process that owns at most one machine.
pub struct Vmm {
    machine: Option<Machine>,
    mailbox: Arc<Mailbox>,
    events: Arc<EventLog>,
    /// Whether clients can reach the process: without any, a machine that has stopped ends it.
    served: bool,
    serial: Option<SubscriberId>,
    exit: Option<u8>,
    /// A machine is being made or given back; there is none meanwhile.
    under_way: Option<UnderWay>,
    /// What is dealt with after that.
    held: Vec<Message>,
}

/// What the main thread's event loop calls when a file descriptor is ready.
pub type Subscriber = Box<dyn MutEventSubscriber>;

impl Vmm {
    /// A process without a machine.
    pub fn new(mailbox: Arc<Mailbox>, events: Arc<EventLog>, served: bool) -> Self {
        Self {
            machine: None,
            mailbox,
            events,
            served,
            serial: None,
            exit: None,
            under_way: None,
            held: Vec::new(),
        }
    }

    /// Deals with messages until the process is to end. Returns its exit code.
    ///
    /// `signals` is readable when the process is asked to end.
    pub fn run(
        mut self,
        signals: impl AsRawFd + io::Read + 'static,
    ) -> Result<u8, event_manager::Error> {
        let mut manager = EventManager::<Subscriber>::new()?;
        manager.add_subscriber(Box::new(Wake(self.mailbox.clone())));
        manager.add_subscriber(Box::new(Signals::new(signals, self.mailbox.clone())));
        loop {
            for _ in 0..MESSAGES_AT_ONCE {
                let Some(message) = self.mailbox.take() else {
                    break;
                };
                if let Some(message) = self.hold(message) {
                    self.handle(message);
                }
                if let Some(code) = self.exit {
                    return Ok(code);
                }
                // At once: the next message may create a machine that wants what this one's port holds.
                self.follow_serial(&mut manager);
            }
            self.follow_serial(&mut manager);
            let forever = self.mailbox.is_empty();
            manager.run_with_timeout(if forever { -1 } else { 0 })?;
        }
    }

    fn handle(&mut self, message: Message) {
        let next = match message {
            Message::Request(request, reply) => {
                self.request(request, reply);
                return;
            }
            Message::Guest { event, at, boot } => match &mut self.machine {
                Some(machine) => machine.guest_event(event, at, boot),
                None => Next::GoOn,
            },
            Message::VcpuFailed { vcpu, reason } => {
                let after = if self.served {
                    After::Stop
                } else {
                    After::Exit(exit::CRASH)
                };
                if let Some(machine) = &mut self.machine {
                    machine.vcpu_failed(vcpu, &reason, after);
                }
                Next::GoOn
            }
            Message::EndNow => {
                // Giving it back waits for devices; the kernel does that for a process that has ended.
                std::mem::forget(self.machine.take());
                self.exit = Some(exit::ERROR);
                Next::GoOn
            }
            Message::Machine(done) => {
                self.work_has_ended(done);
                Next::GoOn
            }
            Message::Device { of, id, news } => {
                if let Some(machine) = &mut self.machine {
                    machine.device_news(&of, id, news);
                }
                Next::GoOn
            }
            Message::TeardownEnded(run) => match &mut self.machine {
                Some(machine) => machine.teardown_ended(*run),
                None => Next::GoOn,
            },
        };
        self.go(next);
    }

    fn go(&mut self, next: Next) {
        match next {
            Next::GoOn => {}
            Next::Failed if !self.served => {
                self.start_giving_back(UnderWay::Exiting(exit::ERROR, Vec::new()));
            }
            Next::Failed => {}
            Next::Delete(replies) => self.start_giving_back(UnderWay::Deleting(replies)),
            Next::Exit(code, replies) => self.start_giving_back(UnderWay::Exiting(code, replies)),
        }
        let stopped = self.machine.as_ref().is_some_and(Machine::is_stopped);
        if stopped && !self.served {
            self.start_giving_back(UnderWay::Exiting(exit::OFF, Vec::new()));
        }
    }
}

impl Vmm {
    /// Registers the serial port's input with the event loop while there is a machine.
    fn follow_serial(&mut self, manager: &mut EventManager<Subscriber>) {
        match (&mut self.machine, self.serial) {
            (Some(machine), _) => {
                if let Some(subscriber) = machine.take_serial_input() {
                    self.serial = Some(manager.add_subscriber(subscriber));
                }
            }
            (None, Some(id)) => {
                // Gone already where its file descriptor ended.
                let _ = manager.remove_subscriber(id);
                self.serial = None;
            }
            (None, None) => {}
        }
    }

    fn request(&mut self, request: Request, reply: Reply) {
        let call = request.name();
        let answer = match (request, &mut self.machine) {
            (Request::Ping, _) => Ok(Response::Ping(ping())),
            (_, None) if let Some(under_way) = &self.under_way => {
                let reason = format!(
                    "the machine is {}; ask again when that is done",
                    under_way.name()
                );
                Err(conflict(call, &reason))
            }
            (Request::Create(_), Some(_)) => Err(conflict(
                call,
                "there is a machine already; delete it first (vm.delete)",
            )),
            (Request::Create(config), None) => {
                return self.start_making(*config, UnderWay::Creating(reply));
            }
            (Request::Shutdown, Some(machine)) => {
                let next = machine.shut_down(After::Exit(exit::OFF), Some(reply));
                return self.go(next);
            }
            (Request::Shutdown, None) => {
                return self.go(Next::Exit(exit::OFF, vec![reply]));
            }
            (_, None) => Err(conflict(
                call,
                "there is no machine; create one first (vm.create)",
            )),
            (Request::ShutdownVm, Some(machine)) => {
                let next = machine.shut_down(After::Stop, Some(reply));
                return self.go(next);
            }
            (Request::Delete, Some(machine)) => {
                let next = machine.shut_down(After::Delete, Some(reply));
                return self.go(next);
            }
            (Request::Boot, Some(machine)) => return machine.boot(reply),
            (Request::Pause, Some(machine)) => done(machine.pause()),
            (Request::Resume, Some(machine)) => done(machine.resume()),
            (Request::Reboot, Some(machine)) => done(machine.reboot()),
            (Request::PowerButton, Some(machine)) => done(machine.power_button()),
            (Request::Info, Some(machine)) => Ok(Response::Info(Box::new(machine.describe()))),
            (Request::Topology, Some(machine)) => {
                Ok(Response::Topology(Box::new(machine.topology())))
            }
            (Request::GetBehaviour(id), Some(machine)) => {
                let behaviour = machine.behaviour(&id);
                behaviour.map(|behaviour| Response::Behaviour(Box::new(behaviour)))
            }
            (Request::SetBehaviour(id, update), Some(machine)) => {
                done(machine.set_behaviour(&id, &update))
            }
            (Request::AddDevice(added), Some(_)) => {
                return self.add_device(call, |_| Ok(*added), reply);
            }
            (Request::AddUserDevice(added), Some(_)) => {
                return self.add_device(call, |config| added.into_device(config), reply);
            }
            (Request::RemoveDevice(id), Some(_)) => {
                return self.remove_device(call, id, reply);
            }
            (Request::Plan, Some(machine)) => {
                let resets = machine.resets();
                return plan::answer(machine.config().clone(), resets, reply);
            }
            (Request::GetTeardownPolicy, Some(machine)) => {
                Ok(Response::TeardownPolicy(machine.teardown_policy()))
            }
            (Request::SetTeardownPolicy(update), Some(machine)) => {
                machine.set_teardown_policy(update);
                Ok(Response::Done)
            }
            (Request::Teardowns, Some(machine)) => {
                Ok(Response::Teardowns(machine.history().summaries()))
            }
            (Request::Teardown(number), Some(machine)) => match machine.history().get(number) {
                Some(report) => Ok(Response::Teardown(Box::new(report.clone()))),
                None => Err(ApiError::new(
                    ErrorCode::NotFound,
                    format!(
                        "{call}: there is no report of teardown {number}; vm.teardowns lists those that are kept"
                    ),
                )),
            },
        };
        reply.send(answer);
    }

    /// A machine is there, or could not be made.
    fn is_made(&mut self, made: Result<Machine, CreateError>) -> Result<(), ApiError> {
        let machine = made?;
        self.events.push(EventKind::VmCreated);
        machine.warn_of_order();
        self.machine = Some(machine);
        Ok(())
    }

    /// Creates the machine of `config`, which has been validated, before [`Vmm::run`].
    pub fn create(&mut self, config: VmConfig) -> Result<(), ApiError> {
        let (mailbox, events) = (self.mailbox.clone(), self.events.clone());
        self.is_made(Machine::create(config, mailbox, events))
    }

    /// Boots the machine that was created, before [`Vmm::run`].
    pub fn boot(&mut self) -> Result<(), ApiError> {
        match &mut self.machine {
            Some(machine) => machine.begin_boot().map(drop),
            None => Ok(()),
        }
    }
}

fn done(result: Result<(), ApiError>) -> Answer {
    result.map(|()| Response::Done)
}

fn conflict(call: &str, reason: &str) -> ApiError {
    ApiError::new(ErrorCode::WrongState, format!("{call}: {reason}"))
}

fn ping() -> VmmPing {
    VmmPing {
        build_version: concat!("sundown-", env!("CARGO_PKG_VERSION")).to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: i64::from(std::process::id()),
        features: vec!["kvm".to_owned()],
    }
}
