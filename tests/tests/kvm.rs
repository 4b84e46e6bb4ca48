//! The tests of the machine that need a KVM of the host, whatever guests it can run: on this machine where it has one,
//! in the lab host elsewhere.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use lab::artifacts::{build_static_tests, build_tests_here, stripped};
use lab::{Job, LabHost, workspace};

/// Where they are: unit tests of the library, and `vmm/tests/device_process`.
const TESTS: [&str; 2] = ["vmm", "device_process"];
const BUILT_FROM: [&str; 5] = ["-p", "vmm", "--lib", "--test", "device_process"];
const OPTIONS: [&str; 2] = ["--ignored", "--test-threads=1"];

#[test]
fn tests_that_need_kvm_pass() {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => on_this_machine(&build_tests_here(&BUILT_FROM).unwrap()).unwrap(),
        Err(_) => in_the_lab_host(&build_static_tests(&BUILT_FROM).unwrap()).unwrap(),
    }
}

fn on_this_machine(built: &BTreeMap<String, PathBuf>) -> Result<()> {
    for tests in TESTS {
        let status = Command::new(&built[tests]).args(OPTIONS).status()?;
        assert!(status.success(), "{tests}: {status}");
    }
    Ok(())
}

fn in_the_lab_host(built: &BTreeMap<String, PathBuf>) -> Result<()> {
    let host = LabHost {
        time_limit: Duration::from_secs(300),
        ..LabHost::default()
    };
    let lines = TESTS.map(|tests| format!("/root/{tests} {}", OPTIONS.join(" ")));
    let command = ["sh", "-c", &lines.join(" && ")];
    let mut job = Job::new(command, workspace::lab_target().join("tests/kvm")).with_sundown()?;
    for tests in TESTS {
        job = job.file(stripped(&built[tests])?, format!("/root/{tests}"));
    }
    assert_eq!(host.run(&job)?, 0);
    Ok(())
}
