//! A machine's life beside its resets: power button, pause, shutdown and boot again, delete and create.

use anyhow::{Context, Result, ensure};
use api::error::ErrorCode;
use api::events::EventKind;
use api::report::Cause;
use api::state::VmState;

use super::design::{Design, root_port};
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] =
    &[Scenario::new("from_the_power_button_to_delete", 150, life)];

/// KEY_POWER, pressed: EV_KEY, the key, 1. In units of 16 bits.
const POWER_KEY: &str = "1 116 1 0";

fn life(stage: &mut Stage) -> Result<()> {
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=1")
        .with([root_port("rp0", [stage.drive("d0")?])]);
    let mut machine = stage.launch_ready(config)?;

    // The stock drivers of the button and of input events are modules.
    machine.run("insmod /lib/modules/evdev.ko && insmod /lib/modules/button.ko")?;
    machine.run("dd if=/dev/input/event0 bs=24 count=1 of=/run/pressed 2>/dev/null & sleep 1")?;
    machine
        .client()
        .power_button()
        .context("vm.power-button failed")?;
    let wait = "for try in $(seq 100); do [ -s /run/pressed ] && break; sleep 0.1; done";
    machine.run(wait)?;
    let pressed = machine.run("od -An -tu2 -j16 -N8 /run/pressed | xargs echo")?;
    ensure!(
        pressed == [POWER_KEY],
        "the guest's input event is {pressed:?}"
    );
    let counted = machine.run("cat /sys/firmware/acpi/interrupts/ff_pwr_btn")?;
    ensure!(
        counted.iter().any(|line| line.trim().starts_with('1')),
        "the guest counts its power button as {counted:?}"
    );

    machine.client().pause().context("vm.pause failed")?;
    let state = machine.state()?;
    ensure!(
        state == VmState::Paused,
        "after vm.pause the machine is {state:?}"
    );
    machine.order("echo after the pause")?;
    machine.client().resume().context("vm.resume failed")?;
    machine.event("vm-resumed", |event| {
        matches!(event, EventKind::VmResumed).then_some(())
    })?;
    machine.run("true")?;
    let lines = machine.process.console.lines();
    ensure!(
        lines.iter().any(|line| line == "after the pause"),
        "what was typed in the pause is lost: {lines:#?}"
    );

    let words = "words that outlive the boot";
    machine.run(&format!(
        "echo {words} | dd of=/dev/nvme0n1 conv=fsync 2>/dev/null"
    ))?;
    machine.client().shutdown().context("vm.shutdown failed")?;
    machine.stopped_by(Cause::Shutdown)?;
    machine.start()?;
    machine.ready()?;
    let read = machine.run("head -n 1 /dev/nvme0n1")?;
    ensure!(
        read == [words],
        "after vm.shutdown and vm.boot the drive holds {read:?}"
    );

    machine.client().shutdown().context("vm.shutdown failed")?;
    machine.check_reports()?;
    machine.client().delete().context("vm.delete failed")?;
    machine.event("vm-deleted", |event| {
        matches!(event, EventKind::VmDeleted).then_some(())
    })?;
    let none = machine.client().info();
    ensure!(
        none.as_ref().err().and_then(|error| error.code()) == Some(ErrorCode::WrongState),
        "after vm.delete, vm.info answers {none:?}"
    );

    // The process is as good as new.
    let next = stage.tiny(&[READY])?;
    machine
        .client()
        .create(&next)
        .context("vm.create after vm.delete failed")?;
    machine
        .client()
        .boot()
        .context("vm.boot after vm.delete failed")?;
    machine.event("the new machine's marker", |event| {
        matches!(
            event,
            EventKind::BootMarker {
                value: 2,
                boot: 1,
                ..
            }
        )
        .then_some(())
    })?;
    machine
        .client()
        .delete()
        .context("vm.delete of a running machine failed")?;
    machine.event("the second vm-deleted", |event| {
        matches!(event, EventKind::VmDeleted).then_some(())
    })?;
    machine
        .client()
        .vmm_shutdown()
        .context("vmm.shutdown failed")?;
    Ok(())
}
