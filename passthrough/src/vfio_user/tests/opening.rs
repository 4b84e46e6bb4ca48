//! Servers whose device cannot be opened: each error names the socket, says why, and what to do.

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use vfio_user::protocol::*;
use zerocopy::IntoBytes;

use super::ordinary::device;
use super::*;

fn refusal(path: &Path) -> String {
    let watcher = Arc::new(Watcher::default());
    let opened = connect(path, options(20_000), &memory(), watcher);
    let text = opened.err().expect("it was opened").to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    text
}

fn says(path: &Path, words: &[&str]) {
    let text = refusal(path);
    for word in words {
        assert!(text.contains(word), "{text}");
    }
}

fn server_says(rule: impl Fn(&Asked<'_>) -> Verdict + Send + Sync + 'static, words: &[&str]) {
    let server = Played::new(rule);
    says(&server.path, words);
}

#[test]
fn where_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    says(&path, &["no such socket", "start the server"]);
    says(&path.join("below"), &["no such socket"]);
    std::fs::write(&path, "").unwrap();
    says(&path, &["nobody listens", "start the server anew"]);
    std::fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    says(&path, &["nobody listens", "start the server anew"]);
    let long = folder.path().join("s".repeat(120));
    says(&long, &["107 bytes", "shorter"]);
    let other = folder.path().join("datagrams");
    let _other = UnixDatagram::bind(&other).unwrap();
    says(&other, &["socket of another kind"]);
}

#[test]
fn a_server_that_takes_no_client_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
    let kind = rustix::net::SocketType::STREAM;
    let listener = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    says(&path, &["takes no more connections", "stuck"]);
}

#[test]
fn a_server_that_does_not_answer_or_closes_at_once() {
    let silent = Played::new(|_| Verdict::Silence);
    let watcher = Arc::new(Watcher::default());
    let opened = connect(&silent.path, options(50), &memory(), watcher);
    let text = opened.err().unwrap().to_string();
    assert!(
        text.contains("did not answer who it is within 50 ms"),
        "{text}"
    );
    server_says(
        |_| Verdict::Leave,
        &["closed the connection", "another machine"],
    );
}

#[test]
fn a_server_of_another_protocol_or_version() {
    let words = ["does not speak vfio-user"];
    server_says(
        |_| Verdict::Die(b"HTTP/1.1 400 Bad Request\r\n\r\n".into()),
        &words,
    );
    server_says(|_| Verdict::Reply(vec![0; 3], Vec::new()), &words);
    let json = b"\0\0\x01\0{\"capabilities\": 7}";
    server_says(|_| Verdict::Reply(json.to_vec(), Vec::new()), &words);
    let other = |_: &Asked<'_>| Verdict::Reply(vec![1, 0, 7, 0], Vec::new());
    server_says(other, &["speaks version 1.7", "use a server"]);
    server_says(
        |_| Verdict::Refuse(22),
        &["refused who it is", "Invalid argument"],
    );
}

#[test]
fn a_server_that_takes_no_descriptors() {
    let stated = Capabilities {
        max_msg_fds: Some(0),
        ..Capabilities::default()
    };
    let server = Played::stating(stated, |_| Verdict::Ordinary);
    says(&server.path, &["takes no descriptors", "max_msg_fds"]);
}

#[test]
fn a_server_that_refuses_guest_memory() {
    let rule = |asked: &Asked<'_>| match asked.command {
        command::DMA_MAP => Verdict::Refuse(12),
        _ => Verdict::Ordinary,
    };
    server_says(rule, &["refused guest memory", "Cannot allocate memory"]);
}

fn with_device(change: impl Fn(&mut DeviceInfo)) -> impl Fn(&Asked<'_>) -> Verdict {
    let mut info = device();
    change(&mut info);
    move |asked| match asked.command {
        command::DEVICE_GET_INFO => Verdict::Reply(info.as_bytes().to_vec(), Vec::new()),
        _ => Verdict::Ordinary,
    }
}

#[test]
fn a_device_that_is_none_that_a_guest_can_have() {
    server_says(
        with_device(|info| info.flags = device_flag::RESET),
        &["no PCI device"],
    );
    server_says(
        with_device(|info| info.regions = 7),
        &["no configuration space"],
    );
    let nothing = |asked: &Asked<'_>| match asked.command {
        command::REGION_READ => Verdict::Reply([asked.payload, &[0xFF; 4]].concat(), Vec::new()),
        _ => Verdict::Ordinary,
    };
    server_says(nothing, &["no function behind"]);
    let vectors = |asked: &Asked<'_>| match asked.command {
        command::DEVICE_GET_IRQ_INFO => {
            let info = IrqInfo {
                argsz: 16,
                flags: 1,
                index: asked.payload[8].into(),
                count: u32::MAX,
            };
            Verdict::Reply(info.as_bytes().to_vec(), Vec::new())
        }
        _ => Verdict::Ordinary,
    };
    server_says(vectors, &["4294967295 interrupts", "at most"]);
}

#[test]
fn answers_that_are_too_short_are_no_protocol() {
    for short in [
        command::DEVICE_GET_INFO,
        command::DEVICE_GET_REGION_INFO,
        command::DEVICE_GET_IRQ_INFO,
        command::REGION_READ,
    ] {
        let rule = move |asked: &Asked<'_>| match asked.command == short {
            true => Verdict::Reply(vec![0; 15], Vec::new()),
            false => Verdict::Ordinary,
        };
        server_says(rule, &["does not speak vfio-user", "size"]);
    }
}
