//! Making a machine, and giving one back: what takes long, on a thread of its own. The kernel pins guest memory and
//! resets devices meanwhile, and servers take their time to answer; the main thread goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::Builder;

use api::config::VmConfig;
use api::events::EventKind;
use api::request::{Reply, Request, Response};

use super::rebuild::Rebuild;
use super::{Vmm, answer};
use crate::mailbox::{Mailbox, Message};
use crate::vm::{CreateError, Machine, Past};

/// What the thread has come to.
pub enum Done {
    /// A machine, which does not run, or why there is none.
    Made(Box<Result<Machine, CreateError>>),
    /// A machine is gone, with all that it held of the host.
    GivenBack,
    /// The same, of one that is to be made anew.
    Ended(Box<Past>),
}

/// What the thread is at. There is no machine meanwhile.
pub(super) enum UnderWay {
    /// For `vm.create`.
    Creating(Reply),
    /// For `vm.delete`.
    Deleting(Vec<Reply>),
    /// The process ends then, with this exit code.
    Exiting(u8, Vec<Reply>),
    /// The machine ends, or is made, with other devices.
    Rebuilding(Box<Rebuild>),
}

impl UnderWay {
    /// What becomes of the machine.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Creating(_) => "being made",
            Self::Deleting(_) | Self::Exiting(..) => "being given back",
            Self::Rebuilding(_) => "being made anew with other devices",
        }
    }
}

type Job = Box<dyn FnOnce() -> Done + Send>;

/// Has a thread do `job`, and tell the main thread. Does not block, but where the host has no thread to spare.
fn start(mailbox: &Arc<Mailbox>, job: Job) {
    // The job follows when there is a thread: what a thread that cannot be made was given is lost.
    let (sender, receiver) = channel::<Job>();
    let told = mailbox.clone();
    let work = move || {
        let Ok(job) = receiver.recv() else { return };
        match catch_unwind(AssertUnwindSafe(job)) {
            Ok(done) => told.put(Message::Machine(done)),
            // A defect. Nobody would ever be answered.
            Err(_) => told.put(Message::EndNow),
        }
    };
    match Builder::new().name("machine".to_owned()).spawn(work) {
        // It ends after it has received.
        Ok(_) => drop(sender.send(job)),
        Err(error) => {
            tracing::warn!(%error, "no thread to make a machine or to give one back: the main thread waits");
            mailbox.put(Message::Machine(job()));
        }
    }
}

impl Vmm {
    /// Makes the machine of `config`.
    pub(super) fn start_making(&mut self, config: VmConfig, under_way: UnderWay) {
        let (mailbox, events) = (self.mailbox.clone(), self.events.clone());
        self.under_way = Some(under_way);
        start(
            &self.mailbox,
            Box::new(move || Done::Made(Box::new(Machine::create(config, mailbox, events)))),
        );
    }

    /// Gives the machine back, if there is one.
    pub(super) fn start_giving_back(&mut self, under_way: UnderWay) {
        let machine = self.machine.take();
        self.under_way = Some(under_way);
        start(
            &self.mailbox,
            Box::new(move || {
                drop(machine);
                Done::GivenBack
            }),
        );
    }

    /// The same, and keeps what it has been through.
    pub(super) fn start_ending(&mut self, machine: Machine, rebuild: Rebuild) {
        self.under_way = Some(UnderWay::Rebuilding(Box::new(rebuild)));
        start(
            &self.mailbox,
            Box::new(move || Done::Ended(Box::new(machine.end()))),
        );
    }

    /// Deals with what the thread has come to.
    pub(super) fn work_has_ended(&mut self, done: Done) {
        match (self.under_way.take(), done) {
            (Some(UnderWay::Creating(reply)), Done::Made(made)) => {
                reply.send(self.is_made(*made).map(|()| Response::Done));
            }
            (Some(UnderWay::Deleting(replies)), _) => {
                self.events.push(EventKind::VmDeleted);
                answer(replies);
            }
            (Some(UnderWay::Exiting(code, replies)), _) => {
                self.exit = Some(code);
                answer(replies);
            }
            (Some(UnderWay::Rebuilding(rebuild)), Done::Ended(past)) => {
                self.is_ended(*rebuild, *past);
            }
            (Some(UnderWay::Rebuilding(rebuild)), Done::Made(made)) => {
                self.is_made_anew(*rebuild, *made);
            }
            (under_way, _) => self.under_way = under_way,
        }
        if self.under_way.is_some() {
            return;
        }
        // What came meanwhile, in its order: nobody else has put anything in front of it.
        for message in std::mem::take(&mut self.held) {
            if let Some(message) = self.hold(message) {
                self.handle(message);
            }
        }
    }

    /// Keeps what comes for a machine that is not there yet, and the end of the process. What it cannot keep it
    /// returns.
    pub(super) fn hold(&mut self, message: Message) -> Option<Message> {
        match (&mut self.under_way, message) {
            (Some(UnderWay::Exiting(_, replies)), Message::Request(Request::Shutdown, reply)) => {
                replies.push(reply);
                None
            }
            (
                Some(_),
                message @ (Message::Device { .. } | Message::Request(Request::Shutdown, _)),
            ) => {
                self.held.push(message);
                None
            }
            (_, message) => Some(message),
        }
    }
}
