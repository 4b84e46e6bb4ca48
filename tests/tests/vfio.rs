//! Drives of the lab host through the kernel's VFIO, without a machine around them: `passthrough/tests/kernel`.

use std::time::Duration;

use lab::artifacts::{build_static, stripped};
use lab::{Drive, Job, LabHost, workspace};

#[test]
fn drives_are_opened_reset_and_given_back_through_vfio() {
    let binaries = build_static(&["-p", "passthrough", "--test", "kernel"]).unwrap();
    let program = stripped(&binaries["kernel"]).unwrap();
    let drive = Drive {
        size_mib: 8,
        vfio: true,
    };
    let host = LabHost {
        memory_mib: 1024,
        drives: vec![drive; 4],
        time_limit: Duration::from_secs(180),
        ..LabHost::default()
    };
    let command = [
        "/root/kernel",
        "--ignored",
        "--test-threads=1",
        "--nocapture",
    ];
    let output = workspace::lab_target().join("tests/vfio");
    let code = host
        .run(&Job::new(command, output).file(program, "/root/kernel"))
        .unwrap();
    assert_eq!(code, 0);
}
