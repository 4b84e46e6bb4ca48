//! How devices behave, from the configuration to the devices: when they are built, and while the machine runs.

use std::sync::Arc;
use std::time::Duration;

use api::config::{self, DeviceConfig, FaultsConfig, NvmeConfig};
use devices::latency::{Latency, seed_of};
use devices::pci::Bridge;
use nvme::faults::{
    CommandFault, Effect, FaultSet, FlushFault, MediaFault, QueueKind, ShutdownFault,
};
use nvme::spec::Status;
use nvme::{Behaviour, Controller, ShutdownModel};

/// A device whose behaviour can be changed.
pub(super) enum Tunable {
    /// A drive.
    Drive(Arc<Controller>),
    /// A bridge.
    Bridge(Arc<Bridge>),
}

impl Tunable {
    /// Has the device behave as `config` says. Returns whether its BARs may have come or gone.
    pub(super) fn behave(&self, config: &DeviceConfig) -> bool {
        match (self, config) {
            (Self::Drive(drive), DeviceConfig::Nvme(nvme)) => drive.set_behaviour(&behaviour(nvme)),
            (Self::Bridge(bridge), _) => {
                if let Some(teardown) = config.teardown() {
                    bridge.set_reset_latency(latency(&teardown.latency));
                }
            }
            (Self::Drive(_), _) => {}
        }
        matches!(self, Self::Drive(_))
    }
}

/// A modelled latency.
pub fn latency(config: &config::Latency) -> Latency {
    let ms = Duration::from_millis;
    match *config {
        config::Latency::Fixed { ms: latency } => Latency::Fixed(ms(latency)),
        config::Latency::Uniform { min_ms, max_ms } => Latency::Uniform {
            min: ms(min_ms),
            max: ms(max_ms),
        },
        config::Latency::LogNormal { median_ms, sigma } => Latency::LogNormal {
            median: ms(median_ms),
            sigma,
        },
        config::Latency::Written {
            base_ms,
            ms_per_mib,
            cap_ms,
        } => Latency::Written {
            base: ms(base_ms),
            ms_per_mib,
            cap: ms(cap_ms),
        },
    }
}

/// What a device's latencies are drawn from.
pub fn seed(config: &DeviceConfig) -> u64 {
    let options = config.options();
    options.seed.unwrap_or_else(|| seed_of(&options.id))
}

/// How a drive behaves.
pub fn behaviour(config: &NvmeConfig) -> Behaviour {
    let shutdown = &config.shutdown;
    Behaviour {
        shutdown: ShutdownModel {
            latency: latency(&shutdown.latency),
            abrupt_latency: latency(
                shutdown
                    .abrupt_latency
                    .as_ref()
                    .unwrap_or(&shutdown.latency),
            ),
            estimate: shutdown.rtd3e_ms.map(Duration::from_millis),
        },
        teardown: latency(&config.teardown.latency),
        faults: faults(&config.faults),
    }
}

fn faults(config: &FaultsConfig) -> FaultSet {
    let media = config.media.iter().map(|media| MediaFault {
        namespace: media.namespace,
        first_block: media.first_block,
        blocks: media.blocks,
    });
    FaultSet {
        removed: config.removed,
        shutdown: config.shutdown.map(|fault| match fault {
            config::ShutdownFault::Hang => ShutdownFault::Hang,
            config::ShutdownFault::Fatal => ShutdownFault::Fatal,
        }),
        flush: config.flush.map(|fault| match fault {
            config::FlushFault::Fail => FlushFault::Fail,
            config::FlushFault::Stuck => FlushFault::Stuck,
        }),
        media: media.collect(),
        commands: config.commands.iter().map(command).collect(),
    }
}

fn command(config: &config::CommandFault) -> CommandFault {
    CommandFault {
        queue: config.queue.map(|queue| match queue {
            config::QueueKind::Admin => QueueKind::Admin,
            config::QueueKind::Io => QueueKind::Io,
        }),
        opcode: config.opcode,
        nth: config.nth,
        every: config.repeat,
        effect: match &config.effect {
            config::Effect::Status {
                status_type,
                code,
                do_not_retry,
            } => Effect::Status(match (Status::of(*status_type, *code), do_not_retry) {
                (status, true) => status.permanent(),
                (status, false) => status,
            }),
            config::Effect::Slow { latency: slow } => Effect::Slow(latency(slow)),
            config::Effect::Stuck {} => Effect::Stuck,
        },
    }
}

#[cfg(test)]
mod tests;
