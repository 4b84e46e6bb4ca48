//! What the owner of the machine makes of its drive while the guest uses it.

use std::time::Duration;

use devices::latency::Latency;
use nvme::faults::{
    CommandFault, Effect, FaultSet, FlushFault, MediaFault, QueueKind, ShutdownFault,
};
use nvme::shutdown::{Behaviour, ShutdownModel};
use nvme::spec::Status;

use crate::input::Input;

/// A behaviour; in one of four, the drive's own.
pub fn behaviour(input: &mut Input<'_>) -> Behaviour {
    if input.once_in(4) {
        return Behaviour::default();
    }
    let mut commands = Vec::new();
    for _ in 0..input.below(3) {
        commands.push(command(input));
    }
    let media = (0..input.below(3)).map(|_| MediaFault {
        namespace: u32::from(input.below(4)),
        first_block: input.small().into(),
        blocks: input.small().into(),
    });
    let media = media.collect();
    let faults = FaultSet {
        removed: input.once_in(12),
        shutdown: input.pick(&[
            None,
            None,
            Some(ShutdownFault::Hang),
            Some(ShutdownFault::Fatal),
        ]),
        flush: input.pick(&[None, None, Some(FlushFault::Fail), Some(FlushFault::Stuck)]),
        media,
        commands,
    };
    Behaviour {
        shutdown: ShutdownModel {
            latency: latency(input),
            abrupt_latency: latency(input),
            estimate: None,
        },
        teardown: latency(input),
        faults,
    }
}

fn command(input: &mut Input<'_>) -> CommandFault {
    CommandFault {
        queue: input.pick(&[None, Some(QueueKind::Io), Some(QueueKind::Admin)]),
        opcode: input.pick(&[None, Some(1), Some(2), Some(0), Some(6), Some(5)]),
        nth: u64::from(input.below(4)) + 1,
        every: input.once_in(2),
        effect: match input.below(4) {
            0 => Effect::Status(Status::of(input.byte(), input.byte())),
            1 => Effect::Slow(latency(input)),
            _ => Effect::Stuck,
        },
    }
}

fn latency(input: &mut Input<'_>) -> Latency {
    let short = |input: &mut Input<'_>| Duration::from_micros(u64::from(input.byte()) * 4);
    match input.below(8) {
        0 => Latency::Fixed(short(input)),
        1 => Latency::Uniform {
            min: Duration::ZERO,
            max: short(input),
        },
        2 => Latency::LogNormal {
            median: short(input),
            sigma: f64::from(input.below(4)) / 4.0,
        },
        3 => Latency::Written {
            base: short(input),
            ms_per_mib: f64::from(input.byte()),
            cap: Duration::from_millis(2),
        },
        // Longer than any game.
        4 => Latency::Fixed(Duration::from_secs(3600)),
        _ => Latency::default(),
    }
}
