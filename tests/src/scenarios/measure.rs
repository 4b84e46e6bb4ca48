//! `sundownctl measure` and `check` as a fleet uses them: what they leave, and their exit codes. The guests
//! are tiny; the demo measures a stock one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use api::config::{TeardownPolicy, VmConfig};
use api::report::TeardownReport;
use api::state::VmState;

use super::design::Design;
use super::teardown::{drives_behind_ports, set_policy};
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("measure_leaves_reports_figures_and_a_page", 90, results),
    Scenario::new(
        "measure_says_by_its_exit_code_what_went_wrong",
        120,
        exit_codes,
    ),
    Scenario::new("measure_leaves_a_running_machine_as_it_was", 90, running),
];

/// What `measure` writes.
const FILES: [&str; 6] = [
    "reports.json",
    "summary.json",
    "teardowns.csv",
    "devices.csv",
    "page.html",
    "trace.json",
];
/// The boot marker of the tiny guest.
const MARKER: [&str; 2] = ["--ready-marker", "2"];

/// Runs `sundownctl`. Returns its exit code and what it printed.
fn ctl(stage: &Stage, arguments: &[&str]) -> Result<(i32, String)> {
    let program = stage.files.sundown.with_file_name("sundownctl");
    let output = Command::new(&program)
        .args(arguments)
        .output()
        .with_context(|| format!("could not run {}", program.display()))?;
    let code = output.status.code().context("it was ended by a signal")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((code, String::from_utf8_lossy(&said).into_owned()))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// Measures the machine of `config` with more arguments.
fn measure(stage: &Stage, config: &VmConfig, out: &Path, more: &[&str]) -> Result<(i32, String)> {
    let file = out.with_extension("config.json");
    let json = serde_json::to_vec(config).context("could not write the configuration")?;
    fs::write(&file, json).with_context(|| format!("could not write {}", file.display()))?;
    let fixed = ["measure", "--config", text(&file)?, "--out", text(out)?];
    ctl(stage, &[&fixed[..], &MARKER[..], more].concat())
}

/// Four drives of 50 ms, and no console: `measure` starts the process.
fn four_drives(stage: &Stage) -> Result<VmConfig> {
    let mut config = stage
        .tiny(&[READY])?
        .with(drives_behind_ports(stage, 4, 50)?);
    config.serial = Default::default();
    Ok(config)
}

fn reports(out: &Path) -> Result<Vec<TeardownReport>> {
    let path = out.join("reports.json");
    let text = fs::read(&path).with_context(|| format!("there is no {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not understood", path.display()))
}

fn results(stage: &mut Stage) -> Result<()> {
    let config = four_drives(stage)?;
    let out = stage.folder().join("measured");
    let bounds = [
        "--min",
        "completion.speedup=1.5",
        "--max",
        "serial.teardown=20s",
    ];
    let (code, said) = measure(
        stage,
        &config,
        &out,
        &[&["--reboots", "2"][..], &bounds].concat(),
    )?;
    ensure!(code == 0, "measure ended with {code}: {said}");
    for name in FILES {
        let length = fs::metadata(out.join(name)).map_or(0, |file| file.len());
        ensure!(length > 0, "measure left no {name}");
    }
    let reports = reports(&out)?;
    let policies: Vec<_> = reports.iter().map(|report| report.policy).collect();
    let round = [
        TeardownPolicy::Serial,
        TeardownPolicy::Cookie,
        TeardownPolicy::Completion,
    ];
    ensure!(
        policies == round.repeat(2),
        "the policies were not interleaved: {policies:?}"
    );
    let saved = out.join("reports.json");
    let (code, said) = ctl(stage, &["check", text(&saved)?])?;
    ensure!(code == 0, "check ended with {code}: {said}");
    Ok(())
}

fn exit_codes(stage: &mut Stage) -> Result<()> {
    let out = |name: &str| -> PathBuf { stage.folder().join(name) };
    let once = ["--reboots", "1", "--policy", "serial"];
    let bound = [&once[..], &["--max", "serial.teardown=1ms"]].concat();
    let (code, said) = measure(stage, &four_drives(stage)?, &out("missed"), &bound)?;
    ensure!(code == 5, "a missed bound ended with {code}: {said}");

    let (code, said) = measure(stage, &four_drives(stage)?, &out("missed"), &once)?;
    ensure!(code == 2, "a folder in use ended with {code}: {said}");

    let late = stage.drive("late")?.teardown_ms(400).deadline_ms(40);
    let mut config = stage.tiny(&[READY])?.with([late]);
    config.serial = Default::default();
    let (code, said) = measure(stage, &config, &out("late"), &once)?;
    ensure!(code == 3, "a device given up ended with {code}: {said}");

    let mut config = four_drives(stage)?;
    config.payload.kernel = "no-such-kernel".into();
    let (code, said) = measure(stage, &config, &out("nothing"), &once)?;
    ensure!(
        code == 1 && said.contains("no-such-kernel"),
        "a machine without a kernel ended with {code}: {said}"
    );
    Ok(())
}

fn running(stage: &mut Stage) -> Result<()> {
    let config = stage
        .tiny(&[READY])?
        .with(drives_behind_ports(stage, 4, 50)?);
    let mut machine = stage.launch_ready(config)?;
    set_policy(&mut machine, TeardownPolicy::Cookie)?;
    let out = stage.folder().join("measured");
    let socket = machine.client().socket().to_owned();
    let ours = [
        "--api-socket",
        text(&socket)?,
        "measure",
        "--out",
        text(&out)?,
    ];
    let what = ["--reboots", "1", "--policy", "serial,completion"];
    let (code, said) = ctl(stage, &[&ours[..], &MARKER[..], &what[..]].concat())?;
    ensure!(code == 0, "measure ended with {code}: {said}");
    ensure!(reports(&out)?.len() == 2, "there are not two reports");
    let state = machine.state()?;
    ensure!(state == VmState::Running, "the machine is {state:?} now");
    let policy = machine.client().teardown_policy()?.policy;
    ensure!(
        policy == TeardownPolicy::Cookie,
        "the policy was left at {policy}"
    );
    // Two boots that this scenario did not follow.
    for _ in 0..2 {
        machine.booted()?;
    }
    machine.end()
}
