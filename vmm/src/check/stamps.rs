//! Each device's stamps by themselves: one after the other, phases within.

use api::report::{DeviceReport, Outcome, TeardownReport};

use super::violation::{Found, Rule, ms};

/// Checks the stamps of every device.
pub(super) fn check(report: &TeardownReport, found: &mut Found) {
    let mut before: Option<&DeviceReport> = None;
    for device in &report.devices {
        let id = &device.id;
        let pause = report.vcpu_pause_ns;
        found.unless(device.start_ns >= pause, Rule::Stamps, &[device], || {
            format!(
                "{id} began before the vCPUs stood still at {} ms",
                ms(pause)
            )
        });
        found.unless(
            device.ready_ns <= device.start_ns,
            Rule::Stamps,
            &[device],
            || {
                format!(
                    "{id} began before it was ready at {} ms",
                    ms(device.ready_ns)
                )
            },
        );
        found.unless(
            device.start_ns <= device.end_ns,
            Rule::Stamps,
            &[device],
            || format!("{id} ended before it began"),
        );
        if let Some(before) = before {
            let both = [before, device];
            found.unless(before.end_ns <= device.end_ns, Rule::Stamps, &both, || {
                format!("{id} ended before {}, but is listed behind it", before.id)
            });
        }
        before = Some(device);
        check_phases(device, found);
        if device.outcome == Outcome::Removed {
            let idle = device.start_ns == device.end_ns && device.phases.is_empty();
            found.unless(idle, Rule::Removed, &[device], || {
                format!("{id} was removed, but its teardown took time")
            });
        }
    }
}

fn check_phases(device: &DeviceReport, found: &mut Found) {
    for phase in &device.phases {
        let within = device.start_ns <= phase.start_ns
            && phase.start_ns <= phase.end_ns
            && phase.end_ns <= device.end_ns;
        found.unless(within, Rule::Stamps, &[device], || {
            format!(
                "the phase {} of {}, {} to {} ms, is not within its teardown",
                phase.name,
                device.id,
                ms(phase.start_ns),
                ms(phase.end_ns)
            )
        });
    }
}
