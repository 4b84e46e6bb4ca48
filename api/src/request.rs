//! The whole interface of the VMM: one enum of requests, one of responses, and the way from the API
//! thread to the thread that owns the machine.

use tokio::sync::oneshot;

use crate::config::{
    AddDevice, AddUserDevice, BehaviourUpdate, DeviceAdded, DeviceBehaviour, VmConfig,
};
use crate::error::{ApiError, ErrorCode};
use crate::plan::Plans;
use crate::report::{TeardownReport, TeardownSummary};
use crate::state::{PolicyUpdate, TeardownPolicyInfo, Topology, VmInfo, VmmPing};

/// What a client can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `vmm.ping`. Answered with [`Response::Ping`].
    Ping,
    /// `vmm.shutdown`: the machine is shut down, the process ends.
    Shutdown,
    /// `vm.create`. The configuration has been validated; the files in it have not been looked at.
    Create(Box<VmConfig>),
    /// `vm.boot`.
    Boot,
    /// `vm.info`. Answered with [`Response::Info`].
    Info,
    /// `vm.pause`.
    Pause,
    /// `vm.resume`.
    Resume,
    /// `vm.shutdown`: teardown; the machine can be booted again.
    ShutdownVm,
    /// `vm.reboot`: teardown, reset in place, boot. Answered when the reboot has begun.
    Reboot,
    /// `vm.power-button`.
    PowerButton,
    /// `vm.delete`.
    Delete,
    /// `vm.topology`. Answered with [`Response::Topology`].
    Topology,
    /// `vm.devices/{id}/behaviour`, read. Answered with [`Response::Behaviour`].
    GetBehaviour(String),
    /// `vm.devices/{id}/behaviour`, written. Has been checked to change something.
    SetBehaviour(String, Box<BehaviourUpdate>),
    /// `vm.add-device`. Answered with [`Response::Added`]. The device has not been checked.
    AddDevice(Box<AddDevice>),
    /// `vm.add-user-device`. Answered with [`Response::Added`]. The device has not been checked.
    AddUserDevice(Box<AddUserDevice>),
    /// `vm.remove-device`.
    RemoveDevice(String),
    /// `vm.plan`. Answered with [`Response::Plan`].
    Plan,
    /// `vm.teardown-policy`, read. Answered with [`Response::TeardownPolicy`].
    GetTeardownPolicy,
    /// `vm.teardown-policy`, written. Has been checked to be in range and to change something.
    SetTeardownPolicy(PolicyUpdate),
    /// `vm.teardowns`. Answered with [`Response::Teardowns`].
    Teardowns,
    /// `vm.teardowns/{n}`. Answered with [`Response::Teardown`].
    Teardown(u64),
}

impl Request {
    /// The name of the call, as it stands in the route.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "vmm.ping",
            Self::Shutdown => "vmm.shutdown",
            Self::Create(_) => "vm.create",
            Self::Boot => "vm.boot",
            Self::Info => "vm.info",
            Self::Pause => "vm.pause",
            Self::Resume => "vm.resume",
            Self::ShutdownVm => "vm.shutdown",
            Self::Reboot => "vm.reboot",
            Self::PowerButton => "vm.power-button",
            Self::Delete => "vm.delete",
            Self::Topology => "vm.topology",
            Self::GetBehaviour(_) | Self::SetBehaviour(..) => "vm.devices/{id}/behaviour",
            Self::AddDevice(_) => "vm.add-device",
            Self::AddUserDevice(_) => "vm.add-user-device",
            Self::RemoveDevice(_) => "vm.remove-device",
            Self::Plan => "vm.plan",
            Self::GetTeardownPolicy | Self::SetTeardownPolicy(_) => "vm.teardown-policy",
            Self::Teardowns => "vm.teardowns",
            Self::Teardown(_) => "vm.teardowns/{n}",
        }
    }
}

/// What a request is answered with when it succeeds.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// It is done; status 204.
    Done,
    /// Of [`Request::Ping`].
    Ping(VmmPing),
    /// Of [`Request::Info`].
    Info(Box<VmInfo>),
    /// Of [`Request::Topology`].
    Topology(Box<Topology>),
    /// Of [`Request::GetBehaviour`].
    Behaviour(Box<DeviceBehaviour>),
    /// Of [`Request::AddDevice`] and [`Request::AddUserDevice`].
    Added(DeviceAdded),
    /// Of [`Request::Plan`].
    Plan(Box<Plans>),
    /// Of [`Request::GetTeardownPolicy`].
    TeardownPolicy(TeardownPolicyInfo),
    /// Of [`Request::Teardowns`], oldest first.
    Teardowns(Vec<TeardownSummary>),
    /// Of [`Request::Teardown`].
    Teardown(Box<TeardownReport>),
}

/// How a request ended.
pub type Answer = Result<Response, ApiError>;

/// The way to the thread that owns the machine.
///
/// `submit` is called on the API thread and must not block: it queues the request and wakes the owner.
/// Every request, `vmm.ping` too, is answered by the owner, so that an answer proves that it is alive.
pub trait Submit: Send + Sync + 'static {
    /// Hands a request over, and where its answer goes.
    fn submit(&self, request: Request, reply: Reply);
}

/// Where the answer to a request goes. Dropped unanswered, the client gets status 500.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Answer>);

impl Reply {
    /// A reply, and the end at which its answer arrives.
    pub fn channel() -> (Self, Pending) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), Pending(receiver))
    }

    /// Answers, from any thread, without blocking. A client that is gone by now misses the answer.
    pub fn send(self, answer: Answer) {
        // The client may have closed its connection; nobody is left to tell.
        let _ = self.0.send(answer);
    }
}

/// The end at which the answer to a request arrives.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Answer>);

impl Pending {
    /// Waits for the answer on a thread that runs no asynchronous code.
    pub fn wait(self) -> Answer {
        self.0.blocking_recv().unwrap_or_else(|_| Err(unanswered()))
    }

    /// Waits for the answer.
    pub(crate) async fn answer(self) -> Answer {
        self.0.await.unwrap_or_else(|_| Err(unanswered()))
    }
}

fn unanswered() -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        "the request was dropped without an answer: the machine is going down, or its main thread has failed",
    )
}
