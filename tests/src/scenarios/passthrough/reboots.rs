//! How long a reboot waits for passed-through devices: eight drives by VFIO under Sundown, together and one after
//! the other, and under QEMU, in the same lab host; and thirty-two device processes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::clock::monotonic_ns;
use api::config::TeardownPolicy;
use api::events::EventKind;
use api::report::{Cause, TeardownReport};
use api::state::PolicyUpdate;
use serde::{Deserialize, Serialize};

use super::super::console::Console;
use super::super::design::{Design, root_port};
use super::super::machine::Machine;
use super::super::run::Place;
use super::super::served::Served;
use super::super::tiny::READY;
use super::super::{Files, Stage};
use super::host_drives;

/// Where the table lies in the output folder: a list of [`Row`].
pub const REBOOTS: &str = "passthrough.json";

const DRIVES: usize = 8;
/// Reboots of each kind.
const ROUNDS: usize = 5;
const PROCESSES: usize = 32;
const RESET_MS: u64 = 200;
const DEADLINE_MS: u64 = 1000;
const LIMIT: Duration = Duration::from_secs(1200);
const BOOT: Duration = Duration::from_secs(120);
const MEMORY_MIB: u64 = 512;
/// What Linux says last, as it asks for its reset.
const LAST_LINE: &str = "reboot: Restarting system";

/// One line of the table. Times are medians, in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was rebooted, and how.
    pub what: String,
    /// From the first device's start to the last device's end; none where nobody says.
    pub teardown_ms: Option<f64>,
    /// The longest of one device.
    pub slowest_ms: Option<f64>,
    /// From the guest's last line to its vCPUs' first instruction.
    pub last_line_to_vcpus_ms: Option<f64>,
    /// What `teardown_ms` should be at most.
    pub aim_ms: Option<f64>,
}

/// Measures.
///
/// # Errors
/// When a machine cannot be run.
pub fn measure(place: &Place) -> Result<Vec<Row>> {
    let files: Files = place.files.clone();
    let mut stage = Stage::new(files, place.work.join("reboots"), LIMIT)?;
    let mut rows = by_vfio(&mut stage)?;
    rows.push(by_qemu(&stage)?);
    rows.extend(by_vfio_user(&mut stage)?);
    Ok(rows)
}

/// Prints the table.
pub fn print(title: &str, rows: &[Row]) {
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}"));
    println!("{title}\n");
    println!(
        "{:<52}  {:>12}  {:>12}  {:>22}  aim, ms",
        "", "teardown, ms", "slowest, ms", "last line → vCPUs, ms"
    );
    for row in rows {
        let met = match (row.teardown_ms, row.aim_ms) {
            (Some(teardown), Some(aim)) if teardown <= aim => format!("≤ {aim:.1}: met"),
            (_, Some(aim)) => format!("≤ {aim:.1}: MISSED"),
            (_, None) => String::new(),
        };
        println!(
            "{:<52}  {:>12}  {:>12}  {:>22}  {met}",
            row.what,
            number(row.teardown_ms),
            number(row.slowest_ms),
            number(row.last_line_to_vcpus_ms),
        );
    }
}

/// Writes the table to the output folder.
///
/// # Errors
/// When it cannot be written.
pub fn write(rows: &[Row], output: &Path) -> Result<()> {
    let path = output.join(REBOOTS);
    let text = serde_json::to_vec_pretty(rows).context("could not write the table")?;
    fs::create_dir_all(output)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("could not write {}", path.display()))
}

fn by_vfio(stage: &mut Stage) -> Result<Vec<Row>> {
    let ports = host_drives(stage, DRIVES)?.into_iter().enumerate();
    let ports = ports.map(|(number, drive)| root_port(format!("rp{number}"), [drive]));
    let config = stage
        .linux()
        .memory_mib(MEMORY_MIB)
        .words("sundown.drives=8")
        .with(ports);
    let mut machine = stage.launch_ready(config)?;
    let mut rows = Vec::new();
    for policy in [TeardownPolicy::Completion, TeardownPolicy::Serial] {
        let update = PolicyUpdate {
            policy: Some(policy),
            ..PolicyUpdate::default()
        };
        machine.client().set_teardown_policy(update)?;
        let (mut teardowns, mut waits, mut slowest) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (report, wait) = guest_reboot(&mut machine)?;
            teardowns.push(milliseconds(report.teardown_ns));
            slowest.push(slowest_of(&report));
            waits.push(wait);
        }
        let slowest = median(&mut slowest);
        let together = policy == TeardownPolicy::Completion;
        rows.push(Row {
            what: format!("{DRIVES} drives by VFIO, Sundown, {policy:?}").to_lowercase(),
            teardown_ms: Some(median(&mut teardowns)),
            slowest_ms: Some(slowest),
            last_line_to_vcpus_ms: Some(median(&mut waits)),
            aim_ms: together.then_some((1.5 * slowest).min(250.0)),
        });
    }
    machine.end()?;
    Ok(rows)
}

/// One reboot by the guest: its report, and the time from the guest's last line to its vCPUs' first instruction.
fn guest_reboot(machine: &mut Machine) -> Result<(TeardownReport, f64)> {
    machine.order("reboot -f")?;
    let by = Instant::now() + BOOT;
    let asked = monotonic_ns();
    let console = &mut machine.process.console;
    let last_line = console.stamp_of("the guest's last line", by, |line| line.contains(LAST_LINE));
    let last_line = last_line?.max(asked);
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
    machine.ready()?;
    let report = machine.report(number)?;
    Ok((report, milliseconds(booted.saturating_sub(last_line))))
}

/// Device processes whose reset takes its time; then three of them hang.
fn by_vfio_user(stage: &mut Stage) -> Result<Vec<Row>> {
    let processes = (0..PROCESSES)
        .map(|number| Served::start(stage, &format!("u{number}"), RESET_MS))
        .collect::<Result<Vec<_>>>()?;
    let devices = processes.iter().enumerate().map(|(number, process)| {
        let device = process.device(DEADLINE_MS, true);
        root_port(format!("rp{number}"), [device])
    });
    let devices: Vec<_> = devices.collect();
    let config = stage.tiny(&[READY])?.with(devices);
    let mut machine = stage.launch_ready(config)?;
    let what = format!("{PROCESSES} device processes of {RESET_MS} ms, Sundown");
    let (mut teardowns, mut slowest) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let report = machine.reboot()?;
        machine.ready()?;
        teardowns.push(milliseconds(report.teardown_ns));
        slowest.push(slowest_of(&report));
    }
    let together = Row {
        what: what.clone(),
        teardown_ms: Some(median(&mut teardowns)),
        slowest_ms: Some(median(&mut slowest)),
        last_line_to_vcpus_ms: None,
        aim_ms: Some(230.0),
    };
    for process in &processes[..3] {
        process.hang()?;
    }
    let report = machine.reboot()?;
    machine.ready()?;
    let hung = Row {
        what: format!("{what}, 3 of them hung"),
        teardown_ms: Some(milliseconds(report.teardown_ns)),
        slowest_ms: Some(slowest_of(&report)),
        last_line_to_vcpus_ms: None,
        aim_ms: Some(1.1 * DEADLINE_MS as f64),
    };
    machine.end()?;
    Ok(vec![together, hung])
}

fn by_qemu(stage: &Stage) -> Result<Row> {
    let mut qemu = Qemu::start(stage)?;
    let mut waits = Vec::new();
    for _ in 0..ROUNDS {
        waits.push(qemu.reboot()?);
    }
    Ok(Row {
        what: format!("{DRIVES} drives by VFIO, {}", version(&stage.files.qemu)?),
        teardown_ms: None,
        slowest_ms: None,
        last_line_to_vcpus_ms: Some(median(&mut waits)),
        aim_ms: None,
    })
}

/// A machine of QEMU with the same drives, which ends with it.
struct Qemu {
    child: Child,
    console: Console,
    monitor: BufReader<UnixStream>,
    orders: u64,
}

impl Qemu {
    fn start(stage: &Stage) -> Result<Self> {
        let files = &stage.files;
        let folder = stage.folder().join("sundown-qemu");
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not make {}", folder.display()))?;
        let socket = folder.join("qmp");
        let mut command = Command::new(&files.qemu);
        command
            .args(["-machine", "q35", "-accel", "kvm", "-cpu", "host"])
            .args(["-smp", "1", "-m", &format!("{MEMORY_MIB}M")])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-serial", "stdio", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .arg("-kernel")
            .arg(&files.kernel)
            .arg("-initrd")
            .arg(&files.initramfs)
            .args([
                "-append",
                "console=ttyS0 quiet panic=-1 sundown.job=obey sundown.drives=8",
            ]);
        for (number, address) in files.passed_through.iter().take(DRIVES).enumerate() {
            command
                .arg("-device")
                .arg(format!(
                    "pcie-root-port,id=rp{number},chassis={}",
                    number + 1
                ))
                .arg("-device")
                .arg(format!("vfio-pci,host={address},bus=rp{number}"));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {}", files.qemu.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).context("QEMU has no pipes")?;
        let console = Console::follow(input, output, &folder.join("console.log"))?;
        let monitor = BufReader::new(connect(&socket)?);
        let mut qemu = Self {
            child,
            console,
            monitor,
            orders: 0,
        };
        qemu.monitor
            .get_mut()
            .write_all(b"{\"execute\": \"qmp_capabilities\"}\n")
            .context("could not write to QEMU's monitor")?;
        qemu.wait_until_ready()?;
        Ok(qemu)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let by = Instant::now() + BOOT;
        let seen = format!("SUNDOWN: namespaces {DRIVES}");
        self.console
            .wait_for("QEMU's guest", by, |line| (line == seen).then_some(()))
    }

    /// One reboot by the guest: from its last line to the end of the reset, after which the vCPU runs.
    fn reboot(&mut self) -> Result<f64> {
        self.orders += 1;
        self.console
            .type_line(&format!("{} reboot -f", self.orders))?;
        let by = Instant::now() + BOOT;
        let last_line = self
            .console
            .stamp_of("the guest's last line", by, |line| line.contains(LAST_LINE))?;
        let reset = self.reset_event()?;
        self.wait_until_ready()?;
        Ok(milliseconds(reset.saturating_sub(last_line)))
    }

    /// When QEMU told of its reset, which it does when all devices are reset.
    fn reset_event(&mut self) -> Result<u64> {
        loop {
            let mut line = String::new();
            let count = self.monitor.read_line(&mut line);
            if count.context("could not read from QEMU's monitor")? == 0 {
                bail!("QEMU's monitor ended before the reset");
            }
            if line.contains("\"event\": \"RESET\"") {
                return Ok(monotonic_ns());
            }
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(socket: &Path) -> Result<UnixStream> {
    let by = Instant::now() + BOOT;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                stream.set_read_timeout(Some(BOOT))?;
                return Ok(stream);
            }
            Err(_) if Instant::now() < by => sleep(Duration::from_millis(20)),
            Err(error) => {
                return Err(error).with_context(|| format!("no monitor at {}", socket.display()));
            }
        }
    }
}

fn version(qemu: &Path) -> Result<String> {
    let output = Command::new(qemu)
        .arg("--version")
        .output()
        .with_context(|| format!("could not run {}", qemu.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<_> = said.split_whitespace().take(4).collect();
    Ok(words.join(" "))
}

fn slowest_of(report: &TeardownReport) -> f64 {
    let times = report.devices.iter();
    let longest = times.map(|device| device.end_ns - device.start_ns).max();
    milliseconds(longest.unwrap_or(0))
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}
