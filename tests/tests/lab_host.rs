//! The lab host itself: a command's exit code and output come back, drives are handed to
//! VFIO, and the time limit holds.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Drive, Job, LabHost, workspace};

const SCRIPT: &str = r#"
[ -w /dev/kvm ] || exit 1
set -- $LAB_VFIO
[ $# = 2 ] && [ -e "/sys/bus/pci/drivers/vfio-pci/$2" ] || exit 2
[ "$(ls /dev/vfio | grep -c '^[0-9]')" = 2 ] || exit 3
[ -b "$LAB_DRIVES" ] || exit 4
cp /input/here "$LAB_OUTPUT/there"
[ ! -t 1 ] || exit 5
exit 42
"#;

fn output_folder(name: &str) -> PathBuf {
    let folder = workspace::lab_target().join("tests").join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_command_runs_with_kvm_and_vfio_and_its_output_comes_back() {
    let output = output_folder("command");
    let input = workspace::root().join("Cargo.toml");
    let drive = Drive {
        size_mib: 8,
        vfio: true,
    };
    let host = LabHost {
        memory_mib: 1024,
        drives: vec![
            drive,
            Drive {
                vfio: false,
                ..drive
            },
            drive,
        ],
        time_limit: Duration::from_secs(120),
        ..LabHost::default()
    };

    let code = host
        .run(&Job::new(["sh", "-c", SCRIPT], &output).file(&input, "/input/here"))
        .unwrap();

    assert_eq!(code, 42);
    assert_eq!(
        fs::read(output.join("there")).unwrap(),
        fs::read(input).unwrap()
    );
}

#[test]
fn a_lab_host_past_its_time_limit_is_ended() {
    let host = LabHost {
        memory_mib: 512,
        cpus: 1,
        time_limit: Duration::from_secs(3),
        ..LabHost::default()
    };
    let started = Instant::now();

    let error = host
        .run(&Job::new(["sleep", "60"], output_folder("limit")))
        .unwrap_err();

    assert!(error.to_string().contains("time limit of 3 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
}
