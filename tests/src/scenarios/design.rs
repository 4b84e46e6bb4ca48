//! Configurations as scenarios write them: devices by name, and what differs from a plain machine.

use std::path::{Path, PathBuf};

use api::config::{
    Bridge, CpusConfig, DeviceConfig, DeviceOptions, Latency, Link, MemoryConfig, NamespaceConfig,
    NvmeConfig, OnTimeout, PayloadConfig, SerialConfig, SerialMode, TeardownModel, VfioConfig,
    VmConfig,
};

/// A device that is being described.
#[derive(Debug, Clone)]
pub(super) struct Device(pub(super) DeviceConfig);

/// An NVMe drive with one namespace on a raw file.
pub(super) fn drive(id: impl Into<String>, file: impl Into<PathBuf>) -> Device {
    Device(DeviceConfig::Nvme(NvmeConfig {
        options: named(id),
        namespaces: vec![NamespaceConfig {
            path: file.into(),
            ..NamespaceConfig::default()
        }],
        ..NvmeConfig::default()
    }))
}

/// A device of the host that is bound to VFIO, by its address there.
pub(super) fn vfio(id: impl Into<String>, address: impl Into<String>) -> Device {
    Device(DeviceConfig::Vfio(VfioConfig {
        options: named(id),
        path: address.into(),
        ..VfioConfig::default()
    }))
}

/// A root port with devices behind it.
pub(super) fn root_port(
    id: impl Into<String>,
    children: impl IntoIterator<Item = Device>,
) -> Device {
    Device(DeviceConfig::RootPort(bridge(id, children)))
}

/// A PCIe-to-PCI bridge with devices behind it.
pub(super) fn pci_bridge(
    id: impl Into<String>,
    children: impl IntoIterator<Item = Device>,
) -> Device {
    Device(DeviceConfig::PciBridge(bridge(id, children)))
}

/// A switch: an upstream port named `id`, and a downstream port `id-pN` for each device.
pub(super) fn switch(id: &str, behind: impl IntoIterator<Item = Device>) -> Device {
    switch_of(id, behind.into_iter().map(|device| [device]))
}

/// The same with as many functions behind each downstream port as there are in its list.
pub(super) fn switch_of<List>(id: &str, behind: impl IntoIterator<Item = List>) -> Device
where
    List: IntoIterator<Item = Device>,
{
    let ports = behind.into_iter().enumerate().map(|(number, devices)| {
        let id = format!("{id}-p{number}");
        Device(DeviceConfig::DownstreamPort(bridge(id, devices)))
    });
    Device(DeviceConfig::UpstreamPort(bridge(id, ports)))
}

fn bridge(id: impl Into<String>, children: impl IntoIterator<Item = Device>) -> Bridge {
    Bridge {
        options: named(id),
        teardown: TeardownModel::default(),
        children: children.into_iter().map(|device| device.0).collect(),
    }
}

fn named(id: impl Into<String>) -> DeviceOptions {
    DeviceOptions {
        id: id.into(),
        ..DeviceOptions::default()
    }
}

impl Device {
    /// Its options, and its modelled teardown: none where the device is passed through.
    fn parts(&mut self) -> (&mut DeviceOptions, Option<&mut TeardownModel>) {
        match &mut self.0 {
            DeviceConfig::RootPort(bridge)
            | DeviceConfig::UpstreamPort(bridge)
            | DeviceConfig::DownstreamPort(bridge)
            | DeviceConfig::PciBridge(bridge) => (&mut bridge.options, Some(&mut bridge.teardown)),
            DeviceConfig::Nvme(nvme) => (&mut nvme.options, Some(&mut nvme.teardown)),
            DeviceConfig::Vfio(vfio) => (&mut vfio.options, None),
            DeviceConfig::VfioUser(vfio_user) => (&mut vfio_user.options, None),
        }
    }

    /// Its teardown takes so long. Nothing for a device that is passed through, which takes what it takes.
    pub(super) fn teardown_ms(mut self, ms: u64) -> Self {
        if let Some(teardown) = self.parts().1 {
            teardown.latency = Latency::Fixed { ms };
        }
        self
    }

    /// The guest's handshake with this drive takes so long. Nothing for a bridge, which has none.
    pub(super) fn shutdown_ms(mut self, ms: u64) -> Self {
        if let DeviceConfig::Nvme(nvme) = &mut self.0 {
            nvme.shutdown.latency = Latency::Fixed { ms };
        }
        self
    }

    /// It must be shut down by then.
    pub(super) fn deadline_ms(mut self, ms: u64) -> Self {
        self.parts().0.deadline_ms = Some(ms);
        self
    }

    /// It is shut down on the calling thread.
    pub(super) fn synchronous(mut self) -> Self {
        self.parts().0.asynchronous = Some(false);
        self
    }

    /// It is shut down with the device before it locked.
    pub(super) fn parent_locked(mut self) -> Self {
        self.parts().0.parent_lock = true;
        self
    }

    /// The machine stays stopped when it misses its deadline.
    pub(super) fn or_stop(mut self) -> Self {
        self.parts().0.on_timeout = OnTimeout::Stop;
        self
    }

    /// It stands at this place of its bus.
    pub(super) fn at(mut self, device: u8, function: u8) -> Self {
        let options = self.parts().0;
        options.device = Some(device);
        options.function = Some(function);
        self
    }
}

/// A machine of one vCPU and 256 MiB that boots `kernel`, its console on standard input and output.
pub(super) fn machine(kernel: &Path) -> VmConfig {
    VmConfig {
        cpus: CpusConfig { boot_vcpus: 1 },
        memory: MemoryConfig {
            size: 256 << 20,
            ..MemoryConfig::default()
        },
        payload: PayloadConfig {
            kernel: kernel.to_owned(),
            initramfs: None,
            cmdline: None,
        },
        serial: SerialConfig {
            mode: SerialMode::Tty,
            ..SerialConfig::default()
        },
        pci: Vec::new(),
        passthrough: Default::default(),
        links: Vec::new(),
        teardown: Default::default(),
        on_reset: Default::default(),
        on_poweroff: Default::default(),
    }
}

/// What a scenario changes of a plain machine.
pub(super) trait Design: Sized {
    /// Devices on the root bus, after those that are there.
    fn with(self, devices: impl IntoIterator<Item = Device>) -> Self;
    /// The consumer is shut down before the supplier.
    fn link(self, consumer: &str, supplier: &str) -> Self;
    /// Its vCPUs.
    fn cpus(self, count: u8) -> Self;
    /// Its memory.
    fn memory_mib(self, mib: u64) -> Self;
    /// More words on the kernel's command line.
    fn words(self, words: &str) -> Self;
}

impl Design for VmConfig {
    fn with(mut self, devices: impl IntoIterator<Item = Device>) -> Self {
        self.pci.extend(devices.into_iter().map(|device| device.0));
        self
    }

    fn link(mut self, consumer: &str, supplier: &str) -> Self {
        self.links.push(Link {
            consumer: consumer.to_owned(),
            supplier: supplier.to_owned(),
            sync_state_only: false,
        });
        self
    }

    fn cpus(mut self, count: u8) -> Self {
        self.cpus.boot_vcpus = count;
        self
    }

    fn memory_mib(mut self, mib: u64) -> Self {
        self.memory.size = mib << 20;
        self
    }

    fn words(mut self, words: &str) -> Self {
        let line = self.payload.cmdline.get_or_insert_default();
        line.push(' ');
        line.push_str(words);
        self
    }
}
