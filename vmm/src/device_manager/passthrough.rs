//! Devices that are passed through: opened side by side, made into functions of the guest, and what they have come to.

mod error;
mod passed;
mod resets;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::thread;

use api::config::{DeviceConfig, IommuInterface, VfioConfig, VmConfig};
use devices::interrupt::ResampledLine;
use devices::pci::{Attachment, IntxPin};
use passthrough::vfio::{HostPath, IommuBackend, ResetSet, Vfio, VfioDevice, VfioHost};
use passthrough::vfio_user::{self, UserOptions};
use passthrough::{Client, Function, FunctionConfig, Machine};

pub use error::PassthroughError;
use watch::Watch;
pub use watch::{DeviceNews, Devices};

use super::build::Host;
use crate::assignment::KvmVfio;
use crate::io_events::IoEventTable;

/// So many devices are opened, given back, or asked whether they are quiet, at once.
pub(super) const AT_ONCE: usize = 64;

/// The devices of a machine that are passed through.
pub(super) struct Passthrough {
    /// What those of the host share; made with the first of them.
    vfio: OnceLock<Arc<Vfio>>,
    /// Whose devices they are.
    mark: Arc<Devices>,
    passed: HashMap<String, Passed>,
}

/// A device that is passed through.
struct Passed {
    function: Arc<Function>,
    set: Option<ResetSet>,
    /// Users have been told that it is gone, and not yet that it is back.
    away: bool,
    /// It has kept the machine stopped, and the user has had it booted without the device.
    left_out: bool,
}

/// A device that is open.
pub(super) struct Opened {
    client: Arc<dyn Client>,
    /// Is told what becomes of it.
    watch: Arc<Watch>,
    /// Where it is configured.
    field: String,
    set: Option<ResetSet>,
}

impl Passthrough {
    /// Opens the devices of `config` that are passed through, side by side. With the first of the host's, guest
    /// memory is mapped for DMA.
    pub(super) fn open(
        config: &VmConfig,
        host: &Host,
    ) -> Result<(Self, HashMap<String, Opened>), PassthroughError> {
        let passthrough = Self {
            vfio: OnceLock::new(),
            mark: Arc::default(),
            passed: HashMap::new(),
        };
        let devices = config.devices().map(|(_, device)| device);
        let devices: Vec<_> = devices
            .filter(|device| device.is_passed_through())
            .collect();
        let backend = match config.passthrough.iommu {
            IommuInterface::Auto => IommuBackend::Auto,
            IommuInterface::Group => IommuBackend::Group,
            IommuInterface::Iommufd => IommuBackend::Iommufd,
        };
        let mut opened = HashMap::new();
        for some in devices.chunks(AT_ONCE) {
            let results: Vec<_> = thread::scope(|scope| {
                let mut threads = Vec::with_capacity(some.len());
                for device in some {
                    let place = config.place_of(device.id()).unwrap_or_default();
                    let this = &passthrough;
                    let open = move || this.open_one(device, &place, backend, host);
                    let thread = thread::Builder::new().name("open".to_owned());
                    threads.push(thread.spawn_scoped(scope, open));
                }
                let ends = some.iter().zip(threads).map(|(device, thread)| {
                    let thread = thread.map_err(|source| PassthroughError::Thread {
                        id: device.id().to_owned(),
                        source,
                    })?;
                    match thread.join() {
                        Ok(opened) => opened,
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                });
                ends.collect()
            });
            for (device, result) in some.iter().zip(results) {
                opened.insert(device.id().to_owned(), result?);
            }
        }
        if let Some(vfio) = passthrough.vfio.get() {
            vfio.check_reset_sets()
                .map_err(|error| PassthroughError::ResetSet(Box::new(error)))?;
            let tally = vfio.dma();
            tracing::info!(
                mib = tally.bytes >> 20,
                ranges = tally.ranges,
                ms = tally.took.as_millis(),
                "guest memory is mapped for DMA"
            );
        }
        Ok((passthrough, opened))
    }

    fn open_one(
        &self,
        device: &DeviceConfig,
        place: &str,
        backend: IommuBackend,
        host: &Host,
    ) -> Result<Opened, PassthroughError> {
        let watch = Arc::new(Watch {
            of: self.mark.clone(),
            id: device.id().to_owned(),
            mailbox: host.events.clone(),
        });
        match device {
            DeviceConfig::Vfio(vfio) => {
                let field = format!("{place}.path");
                let opened = self.open_host_device(vfio, &field, backend, host, watch.clone())?;
                Ok(Opened {
                    set: opened.reset_set(),
                    client: opened,
                    watch,
                    field,
                })
            }
            DeviceConfig::VfioUser(server) => {
                let field = format!("{place}.socket");
                let options = UserOptions {
                    request_timeout: server.request_timeout(),
                    fence: server.fence,
                };
                match vfio_user::connect(&server.socket, options, &host.ram, watch.clone()) {
                    Ok(client) => Ok(Opened {
                        client,
                        watch,
                        field,
                        set: None,
                    }),
                    Err(source) => Err(PassthroughError::VfioUser {
                        id: device.id().to_owned(),
                        field,
                        source: Box::new(source),
                    }),
                }
            }
            // The emulated ones.
            _ => Err(PassthroughError::NotPassedThrough(device.id().to_owned())),
        }
    }

    fn open_host_device(
        &self,
        config: &VfioConfig,
        field: &str,
        backend: IommuBackend,
        host: &Host,
        watch: Arc<Watch>,
    ) -> Result<Arc<VfioDevice>, PassthroughError> {
        let vfio = self.vfio.get_or_init(|| {
            Vfio::new(VfioHost {
                memory: host.ram.clone(),
                backend,
                assignment: Some(Arc::new(KvmVfio::new(host.vm.clone()))),
            })
        });
        let (id, field) = (config.options.id.clone(), field.to_owned());
        let path = match HostPath::parse(&config.path) {
            Ok(path) => path,
            Err(source) => return Err(PassthroughError::Path { id, field, source }),
        };
        vfio.open(&path, watch).map_err(|source| {
            let source = Box::new(source);
            PassthroughError::Vfio { id, field, source }
        })
    }

    /// Makes the function of a device that is open. INTA of it arrives at `line`.
    pub(super) fn function(
        &mut self,
        config: &DeviceConfig,
        opened: Opened,
        (attachment, line): (Attachment, Arc<dyn ResampledLine>),
        io_events: Arc<IoEventTable>,
        host: &Host,
    ) -> Result<Arc<Function>, PassthroughError> {
        let id = config.id();
        let place = FunctionConfig {
            id: id.to_owned(),
            attachment,
        };
        let machine = Machine {
            router: host.routing.clone(),
            pin: Some((IntxPin::A, line)),
            mapper: host.mapper.clone(),
            io_events: Some(io_events),
        };
        let function = Function::new(place, opened.client, machine).map_err(|source| {
            let (id, field) = (id.to_owned(), opened.field.clone());
            let source = Box::new(source);
            PassthroughError::Function { id, field, source }
        })?;
        // What the client does not know: a reset that the guest asked for and that failed.
        function.observe(opened.watch);
        let passed = Passed {
            function: function.clone(),
            set: opened.set,
            away: false,
            left_out: false,
        };
        self.passed.insert(id.to_owned(), passed);
        Ok(function)
    }
}

#[cfg(test)]
mod tests;
