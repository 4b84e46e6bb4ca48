//! The main thread: it owns the machine, and everything that changes the machine comes to it.

mod rebuild;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use api::config::VmConfig;
use api::error::{ApiError, ErrorCode};
use api::events::{EventKind, EventLog};
use api::request::{Answer, Reply, Request, Response};
use api::state::VmmPing;
use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberId, SubscriberOps,
};

use crate::exit;
use crate::mailbox::{Mailbox, Message};
use crate::plan;
use crate::vm::{After, Machine, Next, answer};
use rebuild::Rebuild;

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
    /// The machine that is to be made anew, when the serial port of the one before is closed too.
    rebuild: Option<Rebuild>,
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
            rebuild: None,
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
        manager.add_subscriber(Box::new(Signals {
            source: signals,
            asked: false,
            mailbox: self.mailbox.clone(),
        }));
        loop {
            for _ in 0..MESSAGES_AT_ONCE {
                let Some(message) = self.mailbox.take() else {
                    break;
                };
                self.handle(message);
                if let Some(code) = self.exit {
                    return Ok(code);
                }
                // At once: the next message may create a machine that wants what this one's port holds.
                self.follow_serial(&mut manager);
                self.end_rebuild();
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
                self.exit = Some(exit::ERROR);
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
            Next::Failed => {
                if !self.served {
                    self.exit = Some(exit::ERROR);
                }
            }
            Next::Delete(replies) => {
                self.machine = None;
                self.events.push(EventKind::VmDeleted);
                answer(replies);
            }
            Next::Exit(code, replies) => {
                self.machine = None;
                self.exit = Some(code);
                answer(replies);
            }
        }
        let stopped = self.machine.as_ref().is_some_and(Machine::is_stopped);
        if stopped && !self.served {
            self.machine = None;
            self.exit.get_or_insert(exit::OFF);
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
            (Request::Create(_), Some(_)) => Err(conflict(
                call,
                "there is a machine already; delete it first (vm.delete)",
            )),
            (Request::Create(config), None) => self.create(*config),
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

    /// Creates the machine of `config`, which has been validated.
    pub fn create(&mut self, config: VmConfig) -> Answer {
        let machine = Machine::create(config, self.mailbox.clone(), self.events.clone())?;
        self.events.push(EventKind::VmCreated);
        machine.warn_of_order();
        self.machine = Some(machine);
        Ok(Response::Done)
    }

    /// Creates the machine of `config`, which has been validated, and boots it.
    pub fn create_and_boot(&mut self, config: VmConfig) -> Result<(), ApiError> {
        self.create(config)?;
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

/// Wakes the loop when the mailbox has messages; the loop itself takes them out.
struct Wake(Arc<Mailbox>);

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
struct Signals<S> {
    source: S,
    /// The first signal has been seen; a second one waits for no device.
    asked: bool,
    mailbox: Arc<Mailbox>,
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
