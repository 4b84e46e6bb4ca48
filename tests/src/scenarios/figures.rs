//! The figures that Sundown is held to: reset times, teardown costs, resident memory, answer times.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::config::{TeardownPolicy, VmConfig};
use api::report::{Cause, TeardownReport};
use api::state::PolicyUpdate;
use serde::{Deserialize, Serialize};

use super::design::{Design, root_port};
use super::machine::Machine;
use super::process::Sundown;
use super::run::Place;
use super::teardown::drives_behind_ports;
use super::tiny::READY;
use super::usage::Usage;
use super::{Files, Stage};

/// Where the figures lie in the output folder: an array of [`Figure`].
pub const FIGURES: &str = "figures.json";

/// All measurements must be done by then.
const LIMIT: Duration = Duration::from_secs(1200);
const RUNS: usize = 20;

type Measurement = fn(&mut Stage) -> Result<Vec<Figure>>;

/// One measured figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value, a median unless the name says otherwise.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// What it should not exceed, if it is a figure with an aim.
    pub aim: Option<f64>,
    /// How it was measured, and what spread it has.
    pub remark: String,
}

impl Figure {
    fn new(name: &str, value: f64, unit: &str, aim: Option<f64>, remark: String) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            aim,
            remark,
        }
    }

    /// Whether the aim is reached; a figure without one always is.
    pub fn is_met(&self) -> bool {
        self.aim.is_none_or(|aim| self.value <= aim)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Guests {
    /// Everything.
    All,
    /// What needs no guest but one of a few instructions.
    Tiny,
    /// What needs Linux as a guest.
    Linux,
}

/// Measures.
///
/// # Errors
/// When a machine cannot be run.
pub fn measure(place: &Place, guests: Guests) -> Result<Vec<Figure>> {
    let measurements: [(&str, Guests, Measurement); 6] = [
        ("start", Guests::Tiny, start),
        ("ping", Guests::Tiny, ping),
        ("resident", Guests::Tiny, resident),
        ("scheduling", Guests::Tiny, scheduling),
        ("parallel", Guests::Tiny, parallel),
        ("memory-size", Guests::Linux, memory_size),
    ];
    let mut figures = Vec::new();
    for (name, needs, measurement) in measurements {
        if guests != Guests::All && guests != needs {
            continue;
        }
        println!("measuring: {name}");
        let files: Files = place.files.clone();
        let mut stage = Stage::new(files, place.work.join(name), LIMIT)?;
        figures.extend(measurement(&mut stage).with_context(|| format!("measuring {name}"))?);
        // Drives may lie in memory.
        let _ = std::fs::remove_dir_all(place.work.join(name));
    }
    Ok(figures)
}

/// Prints the figures as a table.
pub fn print(title: &str, figures: &[Figure]) {
    println!("{title}");
    for figure in figures {
        let aim = match figure.aim {
            Some(aim) if figure.is_met() => format!("≤ {aim}: met"),
            Some(aim) => format!("≤ {aim}: MISSED"),
            None => String::new(),
        };
        let Figure {
            name,
            value,
            unit,
            remark,
            ..
        } = figure;
        println!("  {name:<52} {value:>10.2} {unit:<8} {aim:<16} {remark}");
    }
}

/// The middle of the values, and the least and the greatest.
fn spread(mut values: Vec<f64>) -> (f64, String) {
    values.sort_by(f64::total_cmp);
    let [least, .., greatest] = values.as_slice() else {
        return (
            values.first().copied().unwrap_or(f64::NAN),
            "one run".to_owned(),
        );
    };
    let remark = format!("{} runs, {least:.2} to {greatest:.2}", values.len());
    (values[values.len() / 2], remark)
}

/// The value that 99 in 100 do not exceed.
fn percentile_99(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * 99).div_ceil(100).saturating_sub(1);
    values.get(index).copied().unwrap_or(f64::NAN)
}

fn reports(machine: &mut Machine, runs: usize) -> Result<Vec<TeardownReport>> {
    (0..runs)
        .map(|_| {
            sleep(Duration::from_millis(20));
            machine.reboot()
        })
        .collect()
}

fn start(stage: &mut Stage) -> Result<Vec<Figure>> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let folder = stage.process_folder();
        let begin = Instant::now();
        let mut process = Sundown::spawn(&stage.files.sundown, &folder)?;
        process.wait_until_ready()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        process.client.vmm_shutdown()?;
        process.exit_code(Duration::from_secs(20))?;
    }
    let (median, remark) = spread(times);
    let name = "process start to first answer of the API";
    Ok(vec![Figure::new(name, median, "ms", Some(20.0), remark)])
}

fn ping(stage: &mut Stage) -> Result<Vec<Figure>> {
    let drive = stage.drive("slow")?.teardown_ms(4000);
    let config = stage.tiny(&[READY])?.with([root_port("rp0", [drive])]);
    let mut machine = stage.launch(config)?;
    machine.ready()?;
    machine.client().reboot()?;
    machine.teardown_by(Cause::Api)?;
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < Duration::from_millis(3500) {
        let asked = Instant::now();
        machine.client().ping()?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        sleep(Duration::from_millis(2));
    }
    machine.booted()?;
    machine.end()?;
    let value = percentile_99(&mut times);
    let longest = times.last().copied().unwrap_or(f64::NAN);
    let remark = format!(
        "{} pings, the slowest {longest:.2} ms; with the connection",
        times.len()
    );
    let name = "vmm.ping in a 4 s teardown, 99th percentile";
    Ok(vec![Figure::new(name, value, "ms", Some(5.0), remark)])
}

fn resident(stage: &mut Stage) -> Result<Vec<Figure>> {
    let mut of = |drives: u8| -> Result<Usage> {
        let devices = drives_behind_ports(stage, drives, 0)?;
        let config = stage.tiny(&[READY])?.with(devices);
        let mut machine = stage.launch(config)?;
        reports(&mut machine, 3)?;
        let usage = Usage::of(machine.process.pid())?;
        machine.end()?;
        Ok(usage)
    };
    let (one, many) = (of(1)?, of(65)?);
    let more = many.resident_kib.saturating_sub(one.resident_kib) as f64 / 64.0;
    Ok(vec![
        Figure::new(
            "resident beside guest memory, one drive",
            one.resident_kib as f64 / 1024.0,
            "MiB",
            Some(20.0),
            one.to_string(),
        ),
        Figure::new(
            "resident for each further drive (and its port)",
            more,
            "KiB",
            Some(200.0),
            format!("65 drives: {many}"),
        ),
    ])
}

fn scheduling(stage: &mut Stage) -> Result<Vec<Figure>> {
    let devices = drives_behind_ports(stage, 64, 0)?;
    let config = stage.tiny(&[READY])?.cpus(2).with(devices);
    let mut machine = stage.launch(config)?;
    machine.ready()?;
    let mut figures = Vec::new();
    for policy in [TeardownPolicy::Serial, TeardownPolicy::Completion] {
        let update = PolicyUpdate {
            policy: Some(policy),
            workers: None,
        };
        machine.client().set_teardown_policy(update)?;
        let reports = reports(&mut machine, RUNS)?;
        // Beyond the devices' own time: one by one that is their sum; at once, their longest chain, or
        // what the CPUs there are must take for all of them.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let cost = |report: &TeardownReport| {
            let own = match policy {
                TeardownPolicy::Serial => report.serial_sum_ns,
                TeardownPolicy::Cookie | TeardownPolicy::Completion => {
                    report.critical_path_ns.max(report.serial_sum_ns / cpus)
                }
            };
            let beyond = report.teardown_ns.saturating_sub(own);
            beyond as f64 / 1e3 / report.devices.len() as f64
        };
        let (median, remark) = spread(reports.iter().map(cost).collect());
        let name = format!("scheduling a device, 64 drives, {policy:?}");
        figures.push(Figure::new(&name, median, "µs", Some(20.0), remark));
        let whole = reports.iter().map(|report| report.teardown_ns as f64 / 1e6);
        let (median, remark) = spread(whole.collect());
        let name = format!("teardown of 64 idle drives and ports, {policy:?}");
        figures.push(Figure::new(&name, median, "ms", None, remark));
    }
    machine.end()?;
    Ok(figures)
}

fn parallel(stage: &mut Stage) -> Result<Vec<Figure>> {
    let devices = drives_behind_ports(stage, 64, 100)?;
    let config = stage.tiny(&[READY])?.cpus(2).with(devices);
    let mut machine = stage.launch(config)?;
    let reports = reports(&mut machine, RUNS)?;
    machine.end()?;
    let times = reports.iter().map(|report| report.teardown_ns as f64 / 1e6);
    let (median, remark) = spread(times.collect());
    let name = "teardown of 64 drives of 100 ms";
    Ok(vec![Figure::new(name, median, "ms", Some(110.0), remark)])
}

/// From the pause of the vCPUs until they run, without the teardown: a stock kernel is loaded again.
fn memory_size(stage: &mut Stage) -> Result<Vec<Figure>> {
    let mut of = |mib: u64, times: &mut Vec<f64>| -> Result<()> {
        let drive = stage.drive(&format!("d{mib}"))?;
        let mut config: VmConfig = stage
            .linux()
            .memory_mib(mib)
            .with([root_port("rp0", [drive])]);
        // All of it is there, as in a guest that has used it all.
        config.memory.prefault = true;
        let mut machine = stage.launch_ready(config)?;
        let reports = reports(&mut machine, RUNS)?;
        machine.end()?;
        times.extend(reports.iter().filter_map(|report| {
            let reset = report.reset_ns?;
            Some(reset.saturating_sub(report.teardown_ns) as f64 / 1e6)
        }));
        Ok(())
    };
    let (mut small, mut large) = (Vec::new(), Vec::new());
    // In turn, so that what else the host does weighs on both alike.
    for _ in 0..3 {
        of(256, &mut small)?;
        of(8 << 10, &mut large)?;
    }
    let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let least_ratio = least(&large) / least(&small);
    let ((small, small_spread), (large, large_spread)) = (spread(small), spread(large));
    let figure = |name: &str, value, unit: &str, aim, remark: &str| {
        Figure::new(name, value, unit, aim, remark.to_owned())
    };
    Ok(vec![
        figure(
            "reset without teardown, 256 MiB",
            small,
            "ms",
            None,
            &small_spread,
        ),
        figure(
            "reset without teardown, 8 GiB",
            large,
            "ms",
            None,
            &large_spread,
        ),
        figure(
            "the same, 8 GiB to 256 MiB",
            large / small,
            "×",
            Some(1.1),
            &format!("of the least: {least_ratio:.2}; stock kernel, all memory faulted in"),
        ),
    ])
}

/// Writes the figures to the output folder.
///
/// # Errors
/// When they cannot be written.
pub fn write(figures: &[Figure], output: &Path) -> Result<()> {
    let path = output.join(FIGURES);
    let text = serde_json::to_vec_pretty(figures).context("could not write the figures")?;
    std::fs::create_dir_all(output)
        .and_then(|()| std::fs::write(&path, text))
        .with_context(|| format!("could not write {}", path.display()))
}
