//! What the report says of the guest's own way down, on a stock kernel, which shuts its drives down one
//! after the other.

use anyhow::{Context, Result, ensure};
use api::report::{Cause, GuestAct, GuestDevice, GuestOrder};

use super::design::{Design, root_port};
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "a_stock_guest_shuts_its_drives_down_one_after_the_other",
    300,
    serial_guest,
)];

const MS: u64 = 1_000_000;
const DRIVES: usize = 4;
/// What each drive makes the guest wait for, in ms.
const LATENCY: u64 = 100;

fn serial_guest(stage: &mut Stage) -> Result<()> {
    let ports = (0..DRIVES)
        .map(|number| {
            let drive = stage.drive(&format!("d{number}"))?.shutdown_ms(LATENCY);
            Ok(root_port(format!("rp{number}"), [drive]))
        })
        .collect::<Result<Vec<_>>>()?;
    let config = stage
        .linux()
        .cpus(2)
        .words(&format!("sundown.drives={DRIVES}"))
        .with(ports);
    let mut machine = stage.launch_ready(config)?;

    machine.run("echo acpi >/sys/kernel/reboot/type")?;
    machine.order("reboot -f")?;
    let guest = machine.reset_by(Cause::AcpiReset)?.guest;
    ensure!(
        guest.order == GuestOrder::Serial,
        "the guest went {:?}",
        guest.order
    );
    let drives: Vec<_> = guest
        .devices
        .iter()
        .filter(|device| device.class == "nvme")
        .collect();
    ensure!(drives.len() == DRIVES, "{} drives in it", drives.len());
    drives.into_iter().try_for_each(way_down)?;
    ensure!(
        guest.handshake_sum_ns >= DRIVES as u64 * LATENCY * MS,
        "{DRIVES} handshakes of {LATENCY} ms in {} ns",
        guest.handshake_sum_ns
    );
    let overlap = guest.overlap.context("there is no overlap")?;
    ensure!(
        overlap <= 1.0 && guest.span_ns >= guest.handshake_sum_ns,
        "handshakes that do not overlap have an overlap of {overlap}"
    );
    stage.note(format!(
        "{DRIVES} × {LATENCY} ms by the guest: {} ms of handshakes in {} ms, overlap {overlap:.2}",
        guest.handshake_sum_ns / MS,
        guest.span_ns / MS
    ));

    // What the boot before did is not this one's.
    machine.ready()?;
    let guest = machine.reboot()?.guest;
    ensure!(
        guest.order == GuestOrder::None && guest.handshake_sum_ns == 0,
        "a guest that was reset from outside is said to have gone {:?}",
        guest.order
    );
    machine.end()
}

/// Checks what one drive noted: queues deleted, then the handshake, then the reset request.
fn way_down(drive: &GuestDevice) -> Result<()> {
    let id = &drive.id;
    let handshake = drive.handshake.with_context(|| format!("{id}: none"))?;
    let (Some(completed), Some(seen)) = (handshake.completed_ns, handshake.seen_ns) else {
        anyhow::bail!("{id}: the handshake was not finished: {handshake:?}");
    };
    ensure!(
        completed - handshake.requested_ns >= (LATENCY * MS) as i64,
        "{id}: a handshake of {LATENCY} ms in {} ns",
        completed - handshake.requested_ns
    );
    ensure!(
        completed <= seen && seen < 0 && handshake.polls >= 1,
        "{id}: completed, seen, reset request out of order: {handshake:?}"
    );
    for act in [
        GuestAct::DeleteSubmissionQueue,
        GuestAct::DeleteCompletionQueue,
    ] {
        let deleted = drive.events.iter().find(|event| event.act == act);
        let deleted = deleted.with_context(|| format!("{id}: no {act:?}"))?;
        ensure!(
            deleted.last_ns <= handshake.requested_ns,
            "{id}: {act:?} at {} ns, after CC.SHN at {} ns",
            deleted.last_ns,
            handshake.requested_ns
        );
    }
    Ok(())
}
