//! Processes that are not a sundown: they die at once, or never answer.

use std::os::unix::net::UnixListener;

use super::*;

fn start(program: &str, interrupted: bool) -> String {
    let temporary = tempfile::tempdir().unwrap();
    let folder = Folder::open(&temporary.path().join("out"), false).unwrap();
    let config = VmConfig::from_json(br#"{"payload": {"kernel": "bzImage"}}"#).unwrap();
    let interrupted = AtomicBool::new(interrupted);
    let started = Sundown::start(Path::new(program), &folder, &config, &interrupted);
    started.unwrap_err().to_string()
}

/// A process that runs for a minute, and a socket on which calls are never answered.
fn silent() -> (Sundown, UnixListener) {
    let sockets = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(sockets.path().join("api.sock")).unwrap();
    let mut command = Command::new("sleep");
    let child = command.arg("60").process_group(0).spawn().unwrap();
    let sundown = Sundown {
        child,
        sockets,
        logs: Vec::new(),
    };
    (sundown, listener)
}

#[test]
fn one_that_dies_at_its_start_is_told_with_its_status_and_last_words() {
    // It knows no --api-socket.
    let error = start("ls", false);
    assert!(
        error.contains("exit status: 2 before it answered"),
        "{error}"
    );
    assert!(
        error.contains("the end of") && error.contains("api-socket"),
        "{error}"
    );
}

#[test]
fn an_interrupt_ends_the_waiting_for_an_answer() {
    let error = start("ls", true);
    assert!(
        error.contains("interrupted, waiting for sundown to answer"),
        "{error}"
    );
}

#[test]
fn an_interrupt_ends_the_waiting_for_the_end_and_the_process() {
    let (sundown, _listener) = silent();
    let group = Pid::from_raw(i32::try_from(sundown.child.id()).unwrap()).unwrap();
    let error = sundown
        .end(Ok(()), END, &AtomicBool::new(true))
        .unwrap_err();
    assert!(error.to_string().contains("interrupted"), "{error}");
    assert!(
        kill_process_group(group, Signal::KILL).is_err(),
        "it still runs"
    );
}

#[test]
fn a_measurement_that_failed_ends_it_without_a_question() {
    let (sundown, _listener) = silent();
    let measured = Err(anyhow!("the guest did not boot"));
    let error = sundown
        .end(measured, END, &AtomicBool::new(false))
        .unwrap_err();
    assert_eq!(error.to_string(), "the guest did not boot");
}
