//! The server on real sockets, before an owner of the machine that the tests play.

mod devices;

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
fn the_socket_is_for_its_owner_only_and_goes_with_the_server() {
    let mut bench = Bench::new();
    let file = std::fs::metadata(&bench.path).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        bench.server.as_ref().unwrap().path(),
        Some(bench.path.as_path())
    );
    bench.client.ping().unwrap();
    bench.server.take().unwrap().stop();
    assert!(!bench.path.exists());
    assert!(matches!(
        bench.client.ping(),
        Err(ClientError::Connect { .. })
    ));
}

#[test]
fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let owner = Arc::new(Owner::default());
    let go = |path: &Path| start(listen(path), owner.clone(), Arc::new(EventLog::new()));

    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale socket");
    let server = go(&path).unwrap();
    let inode = std::fs::metadata(&path).unwrap().ino();

    assert!(matches!(go(&path), Err(ServerError::InUse(_))));
    assert_eq!(
        std::fs::metadata(&path).unwrap().ino(),
        inode,
        "the live one is untouched"
    );
    Client::new(&path).ping().unwrap();

    // Another's socket in its place is not removed.
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    server.stop();
    assert!(path.exists());

    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(go(&file), Err(ServerError::NotASocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert!(matches!(
        go(&directory.path().join("none/api.sock")),
        Err(ServerError::Socket { .. })
    ));
    assert!(go(&directory.path().join("x".repeat(200))).is_err());
}

#[test]
fn a_socket_can_be_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let config = ServerConfig {
        listen: Listen::Inherited(listener.into()),
    };
    let server = start(
        config,
        Arc::new(Owner::default()),
        Arc::new(EventLog::new()),
    )
    .unwrap();
    Client::new(&path).ping().unwrap();
    server.stop();
    assert!(path.exists(), "it is its maker's to remove");

    let (one, _other) = UnixStream::pair().unwrap();
    let config = ServerConfig {
        listen: Listen::Inherited(one.into()),
    };
    let started = start(
        config,
        Arc::new(Owner::default()),
        Arc::new(EventLog::new()),
    );
    assert!(matches!(started, Err(ServerError::Inherited(_))));
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
fn events_are_replayed_and_then_followed() {
    let mut bench = Bench::new();
    bench.events.push(EventKind::VmCreated);
    bench.events.push(EventKind::VmBooted { boot: 1 });
    let mut all = bench.client.events(Some(0)).unwrap();
    let mut later = bench.client.events(Some(1)).unwrap();
    let mut live = bench.client.events(None).unwrap();
    let soon = Some(Instant::now() + Duration::from_secs(10));
    assert_eq!(
        all.next_by(soon).unwrap().unwrap().event,
        EventKind::VmCreated
    );
    assert_eq!(all.next_by(soon).unwrap().unwrap().seq, 2);
    assert_eq!(later.next_by(soon).unwrap().unwrap().seq, 2);

    let (log, now) = (
        bench.events.clone(),
        Instant::now() + Duration::from_millis(20),
    );
    assert!(matches!(
        all.next_by(Some(now)),
        Err(ClientError::Timeout { .. })
    ));
    let pusher = thread::spawn(move || {
        for boot in 2..=1000 {
            log.push(EventKind::VmBooted { boot });
        }
    });
    for stream in [&mut all, &mut later, &mut live] {
        for seq in 3..=1001 {
            let event = stream.next_by(soon).unwrap().unwrap();
            assert_eq!(
                (event.seq, event.event),
                (seq, EventKind::VmBooted { boot: seq - 1 })
            );
        }
    }
    pusher.join().unwrap();
    bench.server.take().unwrap().stop();
    assert_eq!(
        all.next_by(soon).unwrap(),
        None,
        "the stream ends with the server"
    );
    assert_eq!(all.seen(), 1001);
}

#[test]
fn a_gap_is_told_of() {
    let bench = Bench::with_log(EventLog::with_capacity(4));
    for boot in 1..=10 {
        bench.events.push(EventKind::VmBooted { boot });
    }
    let lines: Vec<_> = bench
        .client
        .event_lines(Some(2), false)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines.len(), 5);
    let gap: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        (&gap["event"], &gap["reason"], &gap["lost"]),
        (&json!("gap"), &json!("overrun"), &json!(4))
    );
    assert!(lines[1].contains(r#""seq":7"#));
    let mut restarted = bench.client.events(Some(99)).unwrap();
    let first = restarted.next().unwrap().unwrap();
    assert_eq!(
        first.event,
        EventKind::Gap {
            reason: GapReason::Restarted,
            lost: 6
        }
    );
    assert_eq!(restarted.next().unwrap().unwrap().seq, 7);
}

#[test]
fn events_are_sent_to_browsers_too_and_bad_queries_refused() {
    let bench = Bench::new();
    bench.events.push(EventKind::VmCreated);
    let mut stream = UnixStream::connect(&bench.path).unwrap();
    let head = "GET /api/v1/events?since=0&follow=false HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n";
    stream
        .write_all(format!("{head}connection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("content-type: text/event-stream"),
        "{answer}"
    );
    assert!(answer.contains("id: 1\ndata: {\"seq\":1,"), "{answer}");
    for query in ["since=x", "sinc=1", "follow=maybe"] {
        assert_eq!(
            bench
                .refused(Method::GET, &format!("/events?{query}"), "")
                .0,
            400,
            "{query}"
        );
    }
}

#[test]
fn the_document_is_served() {
    let bench = Bench::new();
    let served = bench.client.call(Method::GET, "/openapi.json", "").unwrap();
    assert_eq!(served, crate::openapi::document().unwrap());
}
