//! How long devices are made to take: the guest-visible shutdown and the host side of a teardown, fixed or
//! drawn from a distribution.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ConfigError, DeviceConfig, FaultsConfig, drive};
use crate::error::{ApiError, ErrorCode};

/// The longest latency, in milliseconds: a day.
const LONGEST_MS: u64 = 24 * 3_600_000;
/// The widest log-normal latency: one in a thousand is then five million times the median.
const WIDEST_SIGMA: f64 = 5.0;
/// The most milliseconds for each MiB written.
const MOST_MS_PER_MIB: f64 = 3_600_000.0;
/// The longest RTD3E: Identify has 32 bits of microseconds for it.
const LONGEST_RTD3E_MS: u64 = u32::MAX as u64 / 1000;

/// How long the guest waits from CC.SHN to CSTS.SHST.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShutdownModel {
    /// A normal shutdown (SHN = 01b), real flushing included unless that takes longer.
    #[serde(default)]
    pub latency: Latency,
    /// An abrupt shutdown (SHN = 10b). As `latency` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abrupt_latency: Option<Latency>,
    /// What Identify tells the guest of it (RTD3E), in milliseconds, at most 4,294,967. Unless given, a second
    /// more than the latencies hardly ever exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtd3e_ms: Option<u64>,
}

/// How long the device manager waits for a device when the guest has reset, beyond the real work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeardownModel {
    /// The modelled latency, from the teardown's start. Real work overlaps it.
    #[serde(default)]
    pub latency: Latency,
}

/// A modelled latency. None is longer than a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Latency {
    /// Always the same.
    Fixed {
        /// Milliseconds.
        ms: u64,
    },
    /// Anything between two bounds, each as likely.
    Uniform {
        /// The shortest, in milliseconds.
        min_ms: u64,
        /// The longest, in milliseconds.
        max_ms: u64,
    },
    /// Log-normal: half of them are below the median, a few far above.
    LogNormal {
        /// The median, in milliseconds.
        median_ms: u64,
        /// The standard deviation of the natural logarithm, 0 to 5: with 0.4, two in three are between 0.67
        /// and 1.49 times the median, and one in a thousand is above 3.4 times.
        sigma: f64,
    },
    /// In proportion to what was written since the last flush. Drives only.
    Written {
        /// With nothing written, in milliseconds.
        #[serde(default)]
        base_ms: u64,
        /// Milliseconds more for each MiB.
        ms_per_mib: f64,
        /// No longer than this, in milliseconds.
        cap_ms: u64,
    },
}

impl Default for Latency {
    fn default() -> Self {
        Self::Fixed { ms: 0 }
    }
}

impl Latency {
    /// Checks that it is a latency. `of_drive` says whether it is one of a device that is written to.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub fn check(&self, of_drive: bool) -> Result<(), String> {
        let longest = match *self {
            Self::Fixed { ms } => ms,
            Self::Uniform { min_ms, max_ms } => {
                if min_ms > max_ms {
                    return Err(format!(
                        "a uniform latency from {min_ms} to {max_ms} ms; `min_ms` may not be above `max_ms`"
                    ));
                }
                max_ms
            }
            Self::LogNormal { median_ms, sigma } => {
                if !(0.0..=WIDEST_SIGMA).contains(&sigma) {
                    return Err(format!(
                        "a log-normal latency with `sigma` {sigma}; 0 to {WIDEST_SIGMA} is allowed"
                    ));
                }
                median_ms
            }
            Self::Written {
                base_ms,
                ms_per_mib,
                cap_ms,
            } => {
                if !of_drive {
                    return Err(
                        "a latency in proportion to what is written, and nothing is written to it; give it one of \
                         another kind"
                            .to_owned(),
                    );
                }
                if !(0.0..=MOST_MS_PER_MIB).contains(&ms_per_mib) {
                    return Err(format!(
                        "`ms_per_mib` is {ms_per_mib}; 0 to {MOST_MS_PER_MIB} is allowed"
                    ));
                }
                if base_ms > cap_ms {
                    return Err(format!(
                        "a latency of {base_ms} ms with nothing written and a cap of {cap_ms} ms; `base_ms` may not be \
                         above `cap_ms`"
                    ));
                }
                cap_ms
            }
        };
        if longest > LONGEST_MS {
            return Err(format!(
                "a latency of {longest} ms; up to a day, {LONGEST_MS} ms, is allowed"
            ));
        }
        Ok(())
    }
}

impl DeviceConfig {
    /// Checks latencies and faults. The errors' fields are counted from the device.
    ///
    /// # Errors
    /// The first thing that is wrong, and in which field.
    pub fn check_behaviour(&self) -> Result<(), ConfigError> {
        let refused = |field: &str, message: String| {
            let message = format!("device `{}`: {message}", self.id());
            ConfigError::new(ErrorCode::OutOfRange, message).about(self, field)
        };
        let check = |field: &str, latency: &Latency, of_drive: bool| {
            let checked = latency.check(of_drive);
            checked.map_err(|message| refused(field, message))
        };
        let of_drive = matches!(self, Self::Nvme(_));
        if let Some(teardown) = self.teardown() {
            check("teardown.latency", &teardown.latency, of_drive)?;
        }
        let Self::Nvme(nvme) = self else {
            return Ok(());
        };
        check("shutdown.latency", &nvme.shutdown.latency, true)?;
        if let Some(latency) = &nvme.shutdown.abrupt_latency {
            check("shutdown.abrupt_latency", latency, true)?;
        }
        if let Some(ms) = nvme.shutdown.rtd3e_ms
            && ms > LONGEST_RTD3E_MS
        {
            return Err(refused(
                "shutdown.rtd3e_ms",
                format!("an RTD3E of {ms} ms; up to {LONGEST_RTD3E_MS} ms is allowed"),
            ));
        }
        let namespaces = match &nvme.namespace_store {
            // The guest may create them.
            Some(_) => drive::NAMESPACES,
            None => nvme.namespaces.len(),
        };
        let faults = nvme.faults.check(namespaces);
        faults.map_err(|(field, message)| refused(&format!("faults.{field}"), message))
    }
}

/// How a device behaves: the answer of `vm.devices/{id}/behaviour`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceBehaviour {
    /// The device.
    pub id: String,
    /// What its latencies are drawn from.
    pub seed: u64,
    /// The host side of a teardown; none for a device that is passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teardown: Option<TeardownModel>,
    /// The guest-visible shutdown; none for a device that is no drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<ShutdownModel>,
    /// What is wrong with it; none for a device that is no drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultsConfig>,
}

/// A change of how a device behaves: the body of `vm.devices/{id}/behaviour`. What is given takes the place of
/// what there was, all of it at once; the rest stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BehaviourUpdate {
    /// The host side of the next teardowns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teardown: Option<TeardownModel>,
    /// The next shutdowns that the guest asks for. For a drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<ShutdownModel>,
    /// What is wrong with it from now on; `{}` clears all faults. For a drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultsConfig>,
}

impl BehaviourUpdate {
    /// What is given, by the fields' names.
    pub fn given(&self) -> Vec<String> {
        let fields = [
            ("teardown", self.teardown.is_some()),
            ("shutdown", self.shutdown.is_some()),
            ("faults", self.faults.is_some()),
        ];
        let given = fields.into_iter().filter(|(_, given)| *given);
        given.map(|(field, _)| field.to_owned()).collect()
    }

    /// Checks that the update changes something.
    ///
    /// # Errors
    /// It does not.
    pub fn validate(&self) -> Result<(), ApiError> {
        if *self == Self::default() {
            return Err(ApiError::new(
                ErrorCode::MissingField,
                "changing how a device behaves: none of `teardown`, `shutdown` and `faults` is given; give at least \
                 one of them (`\"faults\": {}` clears all faults)",
            ));
        }
        Ok(())
    }

    /// Changes `device`, unless the outcome is refused.
    ///
    /// # Errors
    /// A field that the device does not have, or a value out of range.
    pub fn apply(&self, device: &mut DeviceConfig) -> Result<(), ConfigError> {
        let mut changed = device.clone();
        let given = [
            ("shutdown", self.shutdown.is_some()),
            ("faults", self.faults.is_some()),
        ];
        match &mut changed {
            DeviceConfig::Nvme(nvme) => {
                if let Some(shutdown) = &self.shutdown {
                    nvme.shutdown.clone_from(shutdown);
                }
                if let Some(faults) = &self.faults {
                    nvme.faults.clone_from(faults);
                }
            }
            _ => {
                if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
                    return Err(has_none(device, field, "drives have one"));
                }
            }
        }
        if let Some(given) = &self.teardown {
            match changed.teardown_mut() {
                Some(teardown) => teardown.clone_from(given),
                None => {
                    let reason = "a device that is passed through takes what it takes";
                    return Err(has_none(device, "teardown", reason));
                }
            }
        }
        changed.check_behaviour()?;
        *device = changed;
        Ok(())
    }
}

fn has_none(device: &DeviceConfig, field: &str, reason: &str) -> ConfigError {
    let message = format!(
        "device `{}` is a {} and has no `{field}`; {reason}",
        device.id(),
        device.class()
    );
    ConfigError::new(ErrorCode::UnexpectedField, message).about(device, field)
}

impl DeviceConfig {
    /// How it behaves. `seed` is its seed if the configuration gives none.
    pub fn behaviour(&self, seed: u64) -> DeviceBehaviour {
        let nvme = match self {
            Self::Nvme(nvme) => Some(nvme),
            _ => None,
        };
        DeviceBehaviour {
            id: self.id().to_owned(),
            seed: self.options().seed.unwrap_or(seed),
            teardown: self.teardown().cloned(),
            shutdown: nvme.map(|nvme| nvme.shutdown.clone()),
            faults: nvme.map(|nvme| nvme.faults.clone()),
        }
    }
}
