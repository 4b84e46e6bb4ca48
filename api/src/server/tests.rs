//! The server on real sockets, before an owner of the machine that the tests play.

mod devices;
mod events;
mod sockets;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    BASE, BODY_LIMIT, CONNECTIONS, Listen, ServerConfig, ServerError, ServerHandle, start,
};
use crate::client::{Client, ClientError};
use crate::config::{DeviceAdded, TeardownPolicy, VmConfig};
use crate::events::{EventKind, EventLog, GapReason};
use crate::request::{Reply, Request, Response, Submit};
use crate::state::{PolicyUpdate, VmmPing};
use crate::{ApiError, ErrorCode};

/// Stands in for the thread that owns the machine.
#[derive(Default)]
struct Owner {
    seen: Mutex<Vec<Request>>,
    /// Requests that are never answered.
    hanging: Mutex<Vec<Reply>>,
}

impl Submit for Owner {
    fn submit(&self, request: Request, reply: Reply) {
        self.seen.lock().unwrap().push(request.clone());
        match request {
            Request::Ping => reply.send(Ok(Response::Ping(VmmPing {
                build_version: "test".into(),
                version: "0".into(),
                pid: i64::from(std::process::id()),
                features: vec![],
            }))),
            Request::ShutdownVm => self.hanging.lock().unwrap().push(reply),
            Request::Resume => drop(reply),
            Request::Boot => {
                let error =
                    ApiError::new(ErrorCode::WrongState, "booting: the machine runs already");
                reply.send(Err(error));
            }
            Request::Create(config) if config.payload.kernel == Path::new("/locked") => {
                let error = ApiError::new(ErrorCode::FileLocked, "opening `/d`: locked")
                    .with_cause("pid 7 holds it");
                reply.send(Err(error.with_device("d0")));
            }
            Request::AddDevice(added) => {
                let id = added.device.id().to_owned();
                reply.send(Ok(Response::Added(DeviceAdded { id })));
            }
            Request::AddUserDevice(added) => {
                let id = added.id.unwrap_or_default();
                reply.send(Ok(Response::Added(DeviceAdded { id })));
            }
            Request::Teardowns => reply.send(Ok(Response::Teardowns(vec![]))),
            Request::Teardown(number) => {
                reply.send(Err(ApiError::new(
                    ErrorCode::NotFound,
                    format!("no teardown {number}"),
                )));
            }
            // From another thread, a little later: what the VMM does.
            _ => drop(thread::spawn(move || reply.send(Ok(Response::Done)))),
        }
    }
}

struct Bench {
    _directory: tempfile::TempDir,
    path: PathBuf,
    owner: Arc<Owner>,
    events: Arc<EventLog>,
    server: Option<ServerHandle>,
    client: Client,
}

fn listen(path: &Path) -> ServerConfig {
    ServerConfig {
        listen: Listen::Path(path.to_owned()),
    }
}

impl Bench {
    fn new() -> Self {
        Self::with_log(EventLog::new())
    }

    fn with_log(log: EventLog) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let (owner, events) = (Arc::new(Owner::default()), Arc::new(log));
        let server = start(listen(&path), owner.clone(), events.clone()).unwrap();
        let client = Client::new(&path).with_timeout(Duration::from_secs(20));
        Self {
            _directory: directory,
            path,
            owner,
            events,
            server: Some(server),
            client,
        }
    }

    #[track_caller]
    fn refused(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> (u16, ApiError) {
        match self.client.call(method, path, body.into()) {
            Err(ClientError::Api { status, error, .. }) => (status, *error),
            other => panic!("{path} should have been refused: {other:?}"),
        }
    }

    fn seen(&self) -> Vec<Request> {
        self.owner.seen.lock().unwrap().clone()
    }
}

fn machine() -> VmConfig {
    VmConfig::from_json(br#"{ "payload": { "kernel": "/vmlinuz" } }"#).unwrap()
}

#[test]
fn every_call_becomes_its_request() {
    let bench = Bench::new();
    let client = &bench.client;
    assert_eq!(client.ping().unwrap().pid, i64::from(std::process::id()));
    client.create(&machine()).unwrap();
    client.pause().unwrap();
    client.reboot().unwrap();
    client.power_button().unwrap();
    client.delete().unwrap();
    let update = PolicyUpdate {
        policy: Some(TeardownPolicy::Serial),
        workers: Some(3),
    };
    client.set_teardown_policy(update).unwrap();
    assert!(client.teardowns().unwrap().is_empty());
    assert_eq!(client.teardown(9).unwrap_err().status(), Some(404));
    client.vmm_shutdown().unwrap();
    let expected = [
        Request::Ping,
        Request::Create(Box::new(machine())),
        Request::Pause,
        Request::Reboot,
        Request::PowerButton,
        Request::Delete,
        Request::SetTeardownPolicy(update),
        Request::Teardowns,
        Request::Teardown(9),
        Request::Shutdown,
    ];
    assert_eq!(bench.seen(), expected);
}

#[test]
fn errors_of_the_owner_keep_all_they_say() {
    let bench = Bench::new();
    let (status, error) = bench.refused(Method::PUT, "/vm.boot", "");
    assert_eq!((status, error.code), (409, ErrorCode::WrongState));
    let locked = json!({ "payload": { "kernel": "/locked" } }).to_string();
    let (status, error) = bench.refused(Method::PUT, "/vm.create", locked);
    assert_eq!((status, error.device.as_deref()), (409, Some("d0")));
    assert_eq!(error.causes, ["pid 7 holds it"]);
    // A request that is dropped is answered all the same.
    assert_eq!(bench.refused(Method::PUT, "/vm.resume", "").0, 500);
}

#[test]
fn bad_bodies_are_refused_by_name_and_do_not_reach_the_owner() {
    let bench = Bench::new();
    let drive = json!({ "type": "nvme", "id": "d0", "namespaces": [{ "path": "/a", "size": 1 }] });
    let config = json!({ "payload": { "kernel": "/k" }, "pci": [drive] }).to_string();
    let (status, error) = bench.refused(Method::PUT, "/vm.create", config);
    assert_eq!((status, error.code), (400, ErrorCode::Malformed));
    assert_eq!(error.field.as_deref(), Some("pci[0].namespaces[0].size"));
    assert_eq!(error.device.as_deref(), Some("d0"));

    let config = json!({ "payload": { "kernel": "" } }).to_string();
    let (status, error) = bench.refused(Method::PUT, "/vm.create", config);
    assert_eq!(
        (status, error.field.as_deref()),
        (400, Some("payload.kernel"))
    );

    for (body, field) in [
        ("", None),
        ("nonsense", None),
        ("{}", None),
        (r#"{"policy":"fast"}"#, Some("policy")),
        (r#"{"worker":1}"#, Some("worker")),
        (r#"{"workers":0}"#, Some("workers")),
        (r#"{"workers":"1"}"#, Some("workers")),
    ] {
        let (status, error) = bench.refused(Method::PUT, "/vm.teardown-policy", body);
        assert_eq!((status, error.field.as_deref()), (400, field), "{body}");
    }
    assert_eq!(bench.refused(Method::GET, "/vm.teardowns/one", "").0, 400);
    assert!(bench.seen().is_empty());
}

#[test]
fn unknown_routes_and_methods_are_answered_in_json() {
    let bench = Bench::new();
    let (status, error) = bench.refused(Method::GET, "/vm.bot", "");
    assert_eq!((status, error.code), (404, ErrorCode::UnknownRoute));
    assert!(error.message.contains("/api/v1/vm.bot"), "{error}");
    let (status, error) = bench.refused(Method::GET, "/vm.boot", "");
    assert_eq!((status, error.code), (405, ErrorCode::MethodNotAllowed));
    assert!(error.message.ends_with("use PUT"), "{error}");
    let (_, error) = bench.refused(Method::DELETE, "/vm.teardown-policy", "");
    assert!(error.message.ends_with("use GET or PUT"), "{error}");
    assert!(
        bench
            .refused(Method::PUT, "/vm.teardowns/3", "")
            .1
            .message
            .ends_with("use GET")
    );
}

#[test]
fn a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let bench = Bench::new();
    let of_length = |length: usize| {
        let mut body = br#"{"policy":"serial"}"#.to_vec();
        body.resize(length, b' ');
        body
    };
    bench
        .client
        .call(Method::PUT, "/vm.teardown-policy", of_length(BODY_LIMIT))
        .unwrap();
    for length in [BODY_LIMIT + 1, 8 * BODY_LIMIT] {
        let (status, error) = bench.refused(Method::PUT, "/vm.teardown-policy", of_length(length));
        assert_eq!((status, error.code), (413, ErrorCode::BodyTooLarge));
    }
    // A client that asks first does not have to send it.
    let mut stream = UnixStream::connect(&bench.path).unwrap();
    write!(
        stream,
        "PUT {BASE}/vm.create HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        2 * BODY_LIMIT
    )
    .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[test]
fn others_are_answered_while_a_request_hangs_and_clients_are_silent() {
    let bench = Bench::new();
    let silent: Vec<_> = (0..CONNECTIONS / 2)
        .map(|_| UnixStream::connect(&bench.path).unwrap())
        .collect();
    let mut slow = UnixStream::connect(&bench.path).unwrap();
    slow.write_all(b"PUT /api/v1/vm.create HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        .unwrap();
    let hanging = bench.client.clone().with_timeout(Duration::from_secs(1));
    let hanging = thread::spawn(move || hanging.shutdown());
    while !bench.seen().contains(&Request::ShutdownVm) {
        thread::sleep(Duration::from_millis(1));
    }
    let begin = Instant::now();
    for _ in 0..20 {
        bench.client.ping().unwrap();
    }
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    assert!(matches!(
        hanging.join().unwrap(),
        Err(ClientError::Timeout { .. })
    ));
    drop(silent);
}

#[test]
fn an_answer_on_its_way_is_delivered_before_the_server_ends() {
    let mut bench = Bench::new();
    let client = bench.client.clone();
    let waiting = thread::spawn(move || client.shutdown());
    let reply = loop {
        if let Some(reply) = bench.owner.hanging.lock().unwrap().pop() {
            break reply;
        }
        thread::sleep(Duration::from_millis(1));
    };
    reply.send(Ok(Response::Done));
    bench.server.take().unwrap().stop();
    waiting.join().unwrap().unwrap();
}

#[test]
fn the_document_is_served() {
    let bench = Bench::new();
    let served = bench.client.call(Method::GET, "/openapi.json", "").unwrap();
    assert_eq!(served, crate::openapi::document().unwrap());
}
