//! How long a reboot waits for passed-through devices: eight drives by VFIO under Sundown, together and one after
//! the other, and under QEMU, on the same host; and thirty-two device processes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::clock::monotonic_ns;
use api::config::TeardownPolicy;
use api::events::EventKind;
use api::report::{Cause, Outcome, TeardownReport};
use api::state::PolicyUpdate;

use super::super::console::Console;
use super::super::design::{Design, root_port};
use super::super::figures::Guests;
use super::super::machine::Machine;
use super::super::qemu::{self, Guest, Qemu};
use super::super::run::{self, Place};
use super::super::served::Served;
use super::super::tiny::READY;
use super::super::{Files, Stage};
use super::monitor::Monitor;
use super::table::{Measured, Row};
use super::{check_resets, device, host_drives, ids};

const DRIVES: usize = 8;
/// Parts are measured so often until one succeeds: an emulated host now and then corrupts a guest.
const ATTEMPTS: u32 = 3;
/// Reboots of each kind.
const ROUNDS: usize = 5;
const PROCESSES: usize = 32;
const HUNG: usize = 3;
const RESET_MS: u64 = 200;
const DEADLINE_MS: u64 = 1000;
const LIMIT: Duration = Duration::from_secs(1200);
/// How long a guest may take to boot.
const BOOT: Duration = Duration::from_secs(60);
const MEMORY_MIB: u64 = 512;
/// What Linux says last, as it asks for its reset.
const LAST_LINE: &str = "reboot: Restarting system";

type Part = fn(&mut Stage) -> Result<Measured>;

/// Measures what there is with these guests. A part that fails is measured again; the table says what could not be
/// measured at all.
///
/// # Errors
/// When a machine cannot be run.
pub fn measure(place: &Place, guests: Guests) -> Result<Measured> {
    // QEMU last: its guests hang more often in an emulated host.
    let parts: [(&str, Guests, Part); 3] = [
        ("drives by VFIO", Guests::Linux, by_vfio),
        ("device processes", Guests::Tiny, by_vfio_user),
        ("drives by VFIO, under QEMU", Guests::Linux, by_qemu),
    ];
    let mut measured = Measured::default();
    for (what, with, part) in parts {
        if guests != Guests::All && guests != with {
            continue;
        }
        for attempt in 1.. {
            println!("measuring: {what}");
            let files: Files = place.files.clone();
            let mut stage = Stage::new(files, place.work.join("reboots"), LIMIT)?;
            match part(&mut stage) {
                Ok(found) => {
                    for row in &found.rows {
                        println!("    {row}");
                    }
                    measured.rows.extend(found.rows);
                    measured.pictured.extend(found.pictured);
                    break;
                }
                Err(error) => {
                    let error = run::evidence(&error, stage.folder());
                    println!("FAILED. {error}");
                    if attempt == ATTEMPTS {
                        measured.rows.push(Row::missing(what));
                        break;
                    }
                }
            }
        }
    }
    Ok(measured)
}

fn by_vfio(stage: &mut Stage) -> Result<Measured> {
    let ports = host_drives(stage, DRIVES)?.into_iter().enumerate();
    let ports = ports.map(|(number, drive)| root_port(format!("rp{number}"), [drive]));
    let config = stage
        .linux()
        .memory_mib(MEMORY_MIB)
        .words("sundown.drives=8")
        .with(ports);
    let mut machine = stage.launch_ready(config)?;
    let mut measured = Measured::default();
    for policy in [TeardownPolicy::Completion, TeardownPolicy::Serial] {
        let update = PolicyUpdate {
            policy: Some(policy),
            ..PolicyUpdate::default()
        };
        machine.client().set_teardown_policy(update)?;
        let together = policy == TeardownPolicy::Completion;
        let name = format!("{policy:?}").to_lowercase();
        let (mut reports, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (report, wait) = guest_reboot(&mut machine)?;
            check_resets(&report, &ids(DRIVES), together)?;
            reports.push(report);
            waits.push(wait);
        }
        let slowest = median(reports.iter().map(slowest_of));
        measured.rows.push(Row {
            what: format!("{DRIVES} drives by VFIO, Sundown, {name}"),
            teardown_ms: Some(median(reports.iter().map(teardown_of))),
            slowest_ms: Some(slowest),
            last_line_to_vcpus_ms: Some(median(waits)),
            aim_ms: together.then_some((1.5 * slowest).min(250.0)),
        });
        measured.pictured.extend(reports.pop());
    }
    machine.end()?;
    Ok(measured)
}

/// One reboot by the guest: its report, and the time from the guest's last line to its vCPUs' first instruction.
fn guest_reboot(machine: &mut Machine) -> Result<(TeardownReport, f64)> {
    machine.order("reboot -f")?;
    let last_line = last_line(&mut machine.process.console)?;
    let cause = machine.event("reset-requested", |event| match event {
        EventKind::ResetRequested { cause, .. } => Some(*cause),
        _ => None,
    })?;
    let number = machine.event("teardown-started", |event| match event {
        EventKind::TeardownStarted { number, .. } => Some(*number),
        _ => None,
    })?;
    ensure!(cause != Cause::Api, "the API has rebooted the guest");
    let booted = loop {
        let event = machine.next_event("vm-booted")?;
        if matches!(event.event, EventKind::VmBooted { .. }) {
            break event.at_ns;
        }
    };
    machine.boot += 1;
    ready(machine)?;
    let report = machine.report(number)?;
    Ok((report, milliseconds(booted.saturating_sub(last_line))))
}

/// Waits for the guest. One that hangs, as some do in an emulated host, is reset: what was measured is over by then.
fn ready(machine: &mut Machine) -> Result<()> {
    for _ in 1..ATTEMPTS {
        let Err(error) = machine.ready_within(BOOT) else {
            return Ok(());
        };
        println!("{error:#}; it is reset");
        machine.reboot()?;
    }
    machine.ready_within(BOOT)
}

/// Device processes whose reset takes its time; then three of them hang.
fn by_vfio_user(stage: &mut Stage) -> Result<Measured> {
    let mut processes = (0..PROCESSES)
        .map(|number| Served::start(stage, &format!("u{number}"), RESET_MS))
        .collect::<Result<Vec<_>>>()?;
    let devices = processes.iter().enumerate().map(|(number, process)| {
        let device = process.device(DEADLINE_MS, true);
        // More ports than the root bus has devices: eight functions each.
        let (slot, function) = (1 + number / 8, number % 8);
        root_port(format!("rp{number}"), [device]).at(slot as u8, function as u8)
    });
    let devices: Vec<_> = devices.collect();
    let config = stage.tiny(&[READY])?.with(devices);
    let mut machine = stage.launch_ready(config)?;
    let what = format!("{PROCESSES} device processes of {RESET_MS} ms, Sundown");
    let mut reports = Vec::new();
    for _ in 0..ROUNDS {
        let report = machine.reboot()?;
        machine.ready()?;
        processes_ended(&report, &mut processes, 0)?;
        reports.push(report);
    }
    let together = Row {
        what: what.clone(),
        teardown_ms: Some(median(reports.iter().map(teardown_of))),
        slowest_ms: Some(median(reports.iter().map(slowest_of))),
        last_line_to_vcpus_ms: None,
        aim_ms: Some(230.0),
    };
    for process in &processes[..HUNG] {
        process.hang()?;
    }
    let report = machine.reboot()?;
    machine.ready()?;
    processes_ended(&report, &mut processes, HUNG)?;
    let hung = Row {
        what: format!("{what}, {HUNG} of them hung"),
        teardown_ms: Some(teardown_of(&report)),
        slowest_ms: Some(slowest_of(&report)),
        last_line_to_vcpus_ms: None,
        aim_ms: Some(1.1 * DEADLINE_MS as f64),
    };
    machine.end()?;
    Ok(Measured {
        rows: vec![together, hung],
        pictured: Vec::new(),
    })
}

/// The first `hung` processes must be given up at their deadline, and ended; the others are reset.
fn processes_ended(report: &TeardownReport, processes: &mut [Served], hung: usize) -> Result<()> {
    for (number, process) in processes.iter_mut().enumerate() {
        let id = format!("u{number}");
        let outcome = &device(report, &id)?.outcome;
        let wanted = if number < hung {
            Outcome::TimedOut
        } else {
            Outcome::Done
        };
        ensure!(*outcome == wanted, "{id} ended with {outcome:?}");
        ensure!(
            process.has_ended()? == (number < hung),
            "whether the process of {id} has ended is not as it should be"
        );
    }
    Ok(())
}

fn by_qemu(stage: &mut Stage) -> Result<Measured> {
    let socket = stage.folder().join("qmp");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let mut options = vec!["-qmp".to_owned(), monitor];
    for (number, address) in stage.files.passed_through.iter().take(DRIVES).enumerate() {
        let chassis = number + 1;
        let port = format!("pcie-root-port,id=rp{number},chassis={chassis}");
        let drive = format!("vfio-pci,host={address},bus=rp{number}");
        options.extend(["-device".to_owned(), port, "-device".to_owned(), drive]);
    }
    let guest = Guest {
        name: "vfio",
        initramfs: &stage.files.initramfs,
        memory_mib: MEMORY_MIB,
        drives: DRIVES,
        options,
    };
    let mut qemu = Qemu::start(stage, &guest)?;
    let mut monitor = Monitor::connect(&socket)?;
    let mut waits = Vec::new();
    for _ in 0..ROUNDS {
        let asked = monotonic_ns();
        qemu.order("reboot -f")?;
        let last_line = last_line(&mut qemu.console)?;
        // The vCPU runs as soon as QEMU has told.
        let reset = monitor.reset_after(asked)?;
        waits.push(milliseconds(reset.saturating_sub(last_line)));
        if let Err(error) = qemu.wait_until_ready() {
            println!("{error:#}; it is reset");
            monitor.reset()?;
            qemu.wait_until_ready()?;
        }
    }
    let row = Row {
        what: format!("{DRIVES} drives by VFIO, {}", version(&stage.files.qemu)?),
        teardown_ms: None,
        slowest_ms: None,
        last_line_to_vcpus_ms: Some(median(waits)),
        aim_ms: None,
    };
    Ok(Measured {
        rows: vec![row],
        pictured: Vec::new(),
    })
}

/// When the guest said its last line.
fn last_line(console: &mut Console) -> Result<u64> {
    let by = Instant::now() + BOOT;
    console.stamp_of("the guest's last line", by, |line| line.contains(LAST_LINE))
}

/// The first words of what QEMU says of its version.
fn version(program: &Path) -> Result<String> {
    let said = qemu::version(program)?;
    let words: Vec<_> = said.split_whitespace().take(4).collect();
    Ok(words.join(" "))
}

fn teardown_of(report: &TeardownReport) -> f64 {
    milliseconds(report.teardown_ns)
}

fn slowest_of(report: &TeardownReport) -> f64 {
    let times = report.devices.iter();
    let longest = times.map(|device| device.end_ns - device.start_ns).max();
    milliseconds(longest.unwrap_or(0))
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}
