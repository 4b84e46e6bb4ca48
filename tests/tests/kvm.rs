//! The unit tests of the machine that need a KVM of the host, whatever guests it can run: on this machine where it has
//! one, in the lab host elsewhere.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use lab::artifacts::{build_static_tests, build_tests_here, stripped};
use lab::{Job, LabHost, workspace};

const OPTIONS: [&str; 2] = ["--ignored", "--test-threads=1"];

#[test]
fn unit_tests_that_need_kvm_pass() {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let code = match kvm {
        Ok(_) => on_this_machine(&build_tests_here(&["-p", "vmm", "--lib"]).unwrap()["vmm"]),
        Err(_) => in_the_lab_host(&build_static_tests(&["-p", "vmm", "--lib"]).unwrap()["vmm"]),
    };
    assert_eq!(code.unwrap(), Some(0));
}

fn on_this_machine(tests: &Path) -> Result<Option<i32>> {
    Ok(Command::new(tests).args(OPTIONS).status()?.code())
}

fn in_the_lab_host(tests: &Path) -> Result<Option<i32>> {
    let host = LabHost {
        memory_mib: 1024,
        time_limit: Duration::from_secs(180),
        ..LabHost::default()
    };
    let command = ["/root/tests"].into_iter().chain(OPTIONS);
    let job = Job::new(command, workspace::lab_target().join("tests/kvm"));
    let job = job.file(stripped(tests)?, "/root/tests");
    host.run(&job).map(Some)
}
