//! The machine itself: CPUs, memory, payload, serial port, and what it does at a reset.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DeviceConfig, Link, PassthroughConfig};

/// The most workers that a teardown may have.
pub(crate) const WORKERS_MOST: u16 = 1024;

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// Virtual CPUs.
    #[serde(default)]
    pub cpus: CpusConfig,
    /// Guest memory.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// What the machine boots.
    pub payload: PayloadConfig,
    /// The serial port COM1.
    #[serde(default)]
    pub serial: SerialConfig,
    /// The devices on the root bus, each with what is behind it.
    #[serde(default)]
    pub pci: Vec<DeviceConfig>,
    /// How devices of the host are passed through.
    #[serde(default)]
    pub passthrough: PassthroughConfig,
    /// Supplier links between devices: the consumer is shut down before its supplier.
    #[serde(default)]
    pub links: Vec<Link>,
    /// How the devices are shut down when the guest resets.
    #[serde(default)]
    pub teardown: TeardownConfig,
    /// What a guest reset leads to.
    #[serde(default)]
    pub on_reset: OnReset,
    /// What a guest power-off leads to.
    #[serde(default)]
    pub on_poweroff: OnPowerOff,
}

/// Virtual CPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CpusConfig {
    /// Number of virtual CPUs, 1 to 64.
    pub boot_vcpus: u8,
}

impl Default for CpusConfig {
    fn default() -> Self {
        Self { boot_vcpus: 1 }
    }
}

/// Guest memory, backed by a memfd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Size in bytes: at least 64 MiB, a multiple of 2 MiB.
    pub size: u64,
    /// Fault all memory in, and have KVM map it (on Linux 6.11 or later), when the machine is created: the
    /// guest meets no page fault of the host. Takes the host's memory and the time for it then.
    #[serde(default)]
    pub prefault: bool,
    /// Back the memory with huge pages of 2 MiB.
    #[serde(default)]
    pub hugepages: bool,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            size: 512 << 20,
            prefault: false,
            hugepages: false,
        }
    }
}

/// What the machine boots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayloadConfig {
    /// A Linux kernel: a bzImage, or an ELF file with a PVH entry.
    #[schema(value_type = String)]
    pub kernel: PathBuf,
    /// The initial RAM file system.
    #[schema(value_type = Option<String>)]
    pub initramfs: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
}

/// Where the serial port COM1 leads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SerialConfig {
    /// The kind of the other end.
    #[serde(default)]
    pub mode: SerialMode,
    /// The file written to in the mode `File`.
    #[schema(value_type = Option<String>)]
    pub file: Option<PathBuf>,
    /// The Unix socket listened on in the mode `Socket`.
    #[schema(value_type = Option<String>)]
    pub socket: Option<PathBuf>,
}

/// The kind of the serial port's other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SerialMode {
    /// No serial port.
    Off,
    /// A port whose output is dropped.
    #[default]
    Null,
    /// Standard input and output of the process.
    Tty,
    /// A file that the output is appended to.
    File,
    /// A Unix socket; one client at a time.
    Socket,
}

/// The order in which devices are shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TeardownPolicy {
    /// One device at a time, the reverse of the order in which they were added: a kernel without the series.
    Serial,
    /// Tasks with rising numbers, each waiting for all that are older than the last one it depends on: v10
    /// of the series.
    Cookie,
    /// Every asynchronous device as soon as its children and consumers have ended: v11 to v18 of the series.
    #[default]
    Completion,
}

impl TeardownPolicy {
    /// All policies.
    pub const ALL: [Self; 3] = [Self::Serial, Self::Cookie, Self::Completion];

    /// The policy's name, as the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Cookie => "cookie",
            Self::Completion => "completion",
        }
    }
}

impl std::fmt::Display for TeardownPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How the devices are shut down when the guest resets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeardownConfig {
    /// The order.
    #[serde(default)]
    pub policy: TeardownPolicy,
    /// The most worker threads that blocking work may use at once, 1 to 1024. Unless given, 64, or as many as there
    /// are devices passed through where those are more: each blocks a thread for as long as its reset takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// How many reports are kept.
    #[serde(default = "TeardownConfig::default_history")]
    pub history: u16,
    /// The list of devices, head first, in place of the one that registration, links and deferred probes
    /// make: every device of `pci` exactly once. The devices that every machine has follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<String>>,
}

impl TeardownConfig {
    /// The fewest workers of a machine whose configuration does not say how many.
    const WORKERS: usize = 64;

    fn default_history() -> u16 {
        128
    }
}

impl Default for TeardownConfig {
    fn default() -> Self {
        Self {
            policy: TeardownPolicy::default(),
            workers: None,
            history: Self::default_history(),
            order: None,
        }
    }
}

impl VmConfig {
    /// The most worker threads that blocking work of a teardown may use at once.
    pub fn workers(&self) -> u16 {
        self.teardown.workers.unwrap_or_else(|| {
            let devices = self.devices();
            let blocking = devices.filter(|(_, device)| device.is_passed_through());
            let workers = blocking.count().max(TeardownConfig::WORKERS);
            u16::try_from(workers).map_or(WORKERS_MOST, |workers| workers.min(WORKERS_MOST))
        })
    }
}

/// What a guest reset leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnReset {
    /// Teardown, reset in place, boot.
    #[default]
    Reboot,
    /// Teardown; the machine is then shut down and can be booted again.
    Stop,
    /// Teardown; the process then ends with exit code 32.
    Exit,
}

/// What a guest power-off leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnPowerOff {
    /// Teardown, reset in place, boot.
    Reboot,
    /// Teardown; the machine is then shut down and can be booted again.
    #[default]
    Stop,
    /// Teardown; the process then ends with exit code 0.
    Exit,
}
