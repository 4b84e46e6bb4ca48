//! What follows a reset, a power-off, a signal: the machine runs again, stands still, or the process ends.

use std::ffi::OsStr;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::config::{OnPowerOff, OnReset};
use api::events::EventKind;
use api::report::Cause;
use api::state::VmState;

use super::design::{Design, root_port};
use super::process::Sundown;
use super::tiny::{POWER_OFF, READY, RESET, Step};
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("on_reset_stops_or_exits", 60, on_reset),
    Scenario::new("on_poweroff_stops_exits_or_reboots", 60, on_poweroff),
    Scenario::new("a_configuration_boots_without_a_client", 60, without_client),
    Scenario::new("sigterm_ends_with_a_teardown", 60, sigterm),
    Scenario::new("a_live_socket_is_refused_a_stale_one_taken", 60, sockets),
    Scenario::new("a_triple_fault_is_a_reset", 60, triple_fault),
];

const END: Duration = Duration::from_secs(20);
/// Exit code of a reset under `on_reset: exit`.
const RESET_EXIT: i32 = 32;

fn on_reset(stage: &mut Stage) -> Result<()> {
    let mut stopping = stage.tiny(&[READY, RESET])?;
    stopping.on_reset = OnReset::Stop;
    let mut machine = stage.launch(stopping)?;
    machine.stopped_by(Cause::I8042)?;
    // It can be booted again, and stops again.
    machine.start()?;
    machine.stopped_by(Cause::I8042)?;
    machine.end()?;

    let mut exiting = stage.tiny(&[READY, RESET])?;
    exiting.on_reset = OnReset::Exit;
    let mut machine = stage.launch(exiting)?;
    let code = machine.process.exit_code(END)?;
    ensure!(code == RESET_EXIT, "exit code {code} after a reset");
    Ok(())
}

fn on_poweroff(stage: &mut Stage) -> Result<()> {
    let mut stopping = stage.tiny(&[READY, POWER_OFF])?;
    stopping.on_poweroff = OnPowerOff::Stop;
    let mut machine = stage.launch(stopping)?;
    machine.stopped_by(Cause::PowerOff)?;
    machine.end()?;

    let mut exiting = stage.tiny(&[READY, POWER_OFF])?;
    exiting.on_poweroff = OnPowerOff::Exit;
    let mut machine = stage.launch(exiting)?;
    let code = machine.process.exit_code(END)?;
    ensure!(code == 0, "exit code {code} after a power-off");

    let mut rebooting = stage.tiny(&[READY, POWER_OFF])?;
    rebooting.on_poweroff = OnPowerOff::Reboot;
    let mut machine = stage.launch(rebooting)?;
    for _ in 0..3 {
        machine.reset_by(Cause::PowerOff)?;
    }
    Ok(())
}

/// `sundown --config`, without an API: the guest's end is the process's end.
fn without_client(stage: &mut Stage) -> Result<()> {
    let mut resetting = stage.tiny(&[READY, RESET])?;
    resetting.on_reset = OnReset::Exit;
    let switched_off = stage.tiny(&[READY, POWER_OFF])?;
    for (config, wanted) in [(resetting, RESET_EXIT), (switched_off, 0)] {
        let folder = stage.process_folder();
        fs::create_dir_all(&folder).context("could not make a folder")?;
        let path = folder.join("vm.json");
        fs::write(&path, serde_json::to_vec(&config)?).context("could not write vm.json")?;
        let arguments = [OsStr::new("--config"), path.as_os_str()];
        let mut process = Sundown::with_arguments(&stage.files.sundown, &folder, &arguments)?;
        let code = process.exit_code(END)?;
        ensure!(
            code == wanted,
            "exit code {code}, not {wanted}: {}",
            process.said()
        );
    }
    Ok(())
}

fn sigterm(stage: &mut Stage) -> Result<()> {
    let drive = stage.drive("d0")?.teardown_ms(300);
    let config = stage.tiny(&[READY])?.with([root_port("rp0", [drive])]);
    let mut machine = stage.launch(config)?;
    machine.ready()?;
    machine.process.terminate()?;
    machine.teardown_by(Cause::Shutdown)?;
    let took = machine.event("teardown-ended", |event| match event {
        EventKind::TeardownEnded { teardown_ns, .. } => Some(*teardown_ns),
        _ => None,
    })?;
    ensure!(
        took >= 300_000_000,
        "the drive takes 300 ms to shut down, the teardown took {took} ns"
    );
    let code = machine.process.exit_code(END)?;
    ensure!(code == 0, "exit code {code} after SIGTERM");
    ensure!(
        !machine.client().socket().exists(),
        "sundown has ended, but its socket is still there"
    );
    Ok(())
}

fn sockets(stage: &mut Stage) -> Result<()> {
    let config = stage.tiny(&[READY])?;
    let first = stage.launch(config)?;
    let socket = first.client().socket().to_owned();
    let mode = {
        use std::os::unix::fs::PermissionsExt;
        let metadata = fs::metadata(&socket).context("could not look at the socket")?;
        metadata.permissions().mode() & 0o777
    };
    ensure!(mode == 0o600, "the socket's mode is {mode:o}");

    let arguments = [OsStr::new("--api-socket"), socket.as_os_str()];
    let folder = stage.process_folder();
    let mut second = Sundown::with_arguments(&stage.files.sundown, &folder, &arguments)?;
    let code = second.exit_code(END)?;
    let said = second.said();
    ensure!(
        code == 1,
        "a second sundown on a live socket ended with {code}"
    );
    ensure!(
        said.contains("api.sock"),
        "the error does not name the socket: {said}"
    );
    let state = first.state()?;
    ensure!(
        state == VmState::Running,
        "the first machine is {state:?} now"
    );

    // Killed, it leaves its socket behind: nobody listens there, so the next one takes it.
    first.process.kill()?;
    drop(first);
    ensure!(
        socket.exists(),
        "a killed process cannot have removed its socket"
    );
    let folder = socket.parent().context("the socket has no folder")?;
    let mut third = Sundown::spawn(&stage.files.sundown, folder)?;
    third.wait_until_ready()?;
    third.client.vmm_shutdown().context("vmm.shutdown failed")?;
    let code = third.exit_code(END)?;
    ensure!(
        code == 0,
        "exit code {code} after vmm.shutdown without a machine"
    );
    Ok(())
}

fn triple_fault(stage: &mut Stage) -> Result<()> {
    let config = stage.tiny(&[READY, Step::TripleFault])?;
    let mut machine = stage.launch(config)?;
    for _ in 0..3 {
        machine.reset_by(Cause::TripleFault)?;
    }
    Ok(())
}
