//! Making a machine from its configuration: KVM's part, memory, devices, vCPUs. Nothing runs yet.

use std::io;
use std::sync::Arc;

use api::config::VmConfig;
use api::error::{ApiError, ErrorCode};
use api::events::EventLog;
use devices::memory::GuestMemory;
use devices::pci::{IntxPin, intx_gsi};
use kvm_ioctls::{Cap, Kvm, VmFd};
use vm_memory::GuestMemoryBackend;

use super::chipset::{Chipset, KvmError};
use super::teardown::TeardownThread;
use super::{History, Machine, State};
use crate::boot::acpi::{AREA_START, AcpiError, AcpiPlatform, AcpiTables, Ecam};
use crate::boot::cpu::CpuTemplate;
use crate::boot::{Payload, PayloadError};
use crate::clock::Clock;
use crate::device_manager::DeviceManager;
use crate::device_manager::build::{BuildError, Host};
use crate::direct_map::DirectMap;
use crate::interrupts::InterruptRouting;
use crate::mailbox::Mailbox;
use crate::memory::{self, ECAM, MMIO32, MemoryError};
use crate::prefault;
use crate::vcpu::{PowerOnState, VcpuError, VcpuMonitor, VcpuSeed, Vcpus};

/// Why a machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// KVM could not be opened.
    #[error("opening /dev/kvm: {0}; is the module loaded, and may this user read and write it?")]
    NoKvm(kvm_ioctls::Error),
    /// KVM lacks something.
    #[error("this host's KVM lacks {0}, which Sundown needs")]
    KvmLacks(&'static str),
    /// More vCPUs than the host's KVM takes.
    #[error("{asked} vCPUs are asked for; this host's KVM takes {most}")]
    TooManyVcpus {
        /// What was asked for.
        asked: u8,
        /// What KVM takes.
        most: usize,
    },
    /// More memory than the guest's physical addresses reach.
    #[error(
        "{mib} MiB of memory are asked for; with the {bits} address bits of this host's CPU a guest reaches less"
    )]
    MemoryOutOfReach {
        /// What was asked for.
        mib: u64,
        /// The width of an address.
        bits: u8,
    },
    /// A KVM call failed.
    #[error("making the virtual machine")]
    Kvm(#[from] KvmError),
    /// A vCPU could not be made.
    #[error("making the vCPUs")]
    Vcpu(#[from] VcpuError),
    /// Guest memory could not be had.
    #[error("making guest memory")]
    Memory(#[from] MemoryError),
    /// The payload cannot be used.
    #[error("opening the payload: {0}")]
    Payload(#[from] PayloadError),
    /// A device could not be made.
    #[error(transparent)]
    Device(#[from] BuildError),
    /// The ACPI tables could not be built.
    #[error("building the ACPI tables: {0}")]
    Acpi(#[from] AcpiError),
    /// The host refused threads or eventfds.
    #[error("{doing}: {source}")]
    Host {
        /// What was being done.
        doing: &'static str,
        /// The host's error.
        source: io::Error,
    },
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Device(error) => error.into(),
            CreateError::Payload(error) => error.into(),
            CreateError::MemoryOutOfReach { .. } => {
                ApiError::from_error(ErrorCode::OutOfRange, &error).with_field("memory.size")
            }
            CreateError::Memory(MemoryError::Prefault { .. }) => {
                ApiError::from_error(ErrorCode::OutOfRange, &error).with_field("memory.prefault")
            }
            CreateError::TooManyVcpus { .. } => {
                ApiError::from_error(ErrorCode::OutOfRange, &error).with_field("cpus.boot_vcpus")
            }
            error => ApiError::from_error(ErrorCode::Internal, &error),
        }
    }
}

impl Machine {
    /// Makes the machine of `config`, which has been validated. Files are opened and locked here.
    pub fn create(
        config: VmConfig,
        mailbox: Arc<Mailbox>,
        events: Arc<EventLog>,
    ) -> Result<Self, CreateError> {
        // What a user gets wrong most often comes first, before memory is taken.
        let payload = Payload::open(&config.payload)?;
        let kvm = Kvm::new().map_err(CreateError::NoKvm)?;
        check_extensions(&kvm)?;
        let vcpu_count = config.cpus.boot_vcpus;
        if usize::from(vcpu_count) > kvm.get_max_vcpus() {
            return Err(CreateError::TooManyVcpus {
                asked: vcpu_count,
                most: kvm.get_max_vcpus(),
            });
        }
        let vm = Arc::new(
            kvm.create_vm()
                .map_err(KvmError::while_doing("creating the virtual machine"))?,
        );
        let memory = memory::create(&config.memory)?;
        memory::give_to_kvm(&memory, &vm)?;
        let chipset = Chipset::create(vm.clone())?;
        let routing = InterruptRouting::new(vm.clone()).map_err(|source| CreateError::Host {
            doing: "setting up interrupt routing",
            source,
        })?;
        let template = CpuTemplate::new(&kvm)
            .map_err(KvmError::while_doing("asking for the supported CPUID"))?;
        let mmio64 = memory::mmio64(config.memory.size, template.address_bits());
        if mmio64.1 == 0 {
            let (mib, bits) = (config.memory.size >> 20, template.address_bits());
            return Err(CreateError::MemoryOutOfReach { mib, bits });
        }
        let host = Host {
            vm: vm.clone(),
            memory: GuestMemory::of_ram(&memory),
            ram: memory.clone(),
            mapper: Arc::new(DirectMap::new(
                vm.clone(),
                memory.num_regions(),
                kvm.get_nr_memslots(),
            )),
            routing: Arc::new(routing),
            events: mailbox.clone(),
            mmio64,
        };
        let (devices, space) = DeviceManager::build(&config, &host)?;
        let seeds = make_vcpus(&kvm, &vm, &template, vcpu_count)?;
        if let (true, Some(seed)) = (config.memory.prefault, seeds.first()) {
            prefault::map_all(&kvm, &seed.fd, &memory);
        }
        let monitor: Arc<dyn VcpuMonitor> = mailbox.clone();
        let no_threads = |source| CreateError::Host {
            doing: "starting threads",
            source,
        };
        let vcpus = Vcpus::start(seeds, &Arc::new(space), &monitor).map_err(no_threads)?;
        let teardown_thread = TeardownThread::start(mailbox.clone()).map_err(no_threads)?;
        Ok(Self {
            vcpus,
            teardown_thread,
            devices,
            chipset,
            acpi: acpi_tables(vcpu_count, mmio64)?,
            payload,
            memory,
            state: State::Created,
            boot: 0,
            stuck: Vec::new(),
            reset_requested: None,
            markers: Vec::new(),
            history: History::new(config.teardown.history),
            config,
            mailbox,
            events,
            clock: Clock::default(),
        })
    }
}

fn acpi_tables(cpus: u8, (base, size): (u64, u64)) -> Result<AcpiTables, AcpiError> {
    let mmio32 = MMIO32.0 as u32..=(MMIO32.0 + MMIO32.1 - 1) as u32;
    let platform = AcpiPlatform {
        cpus,
        ecam: Ecam {
            base: ECAM.0,
            first_bus: 0,
            last_bus: 255,
        },
        io_windows: vec![0..=0xCF7, 0xD00..=0xFFFF],
        mmio32,
        mmio64: (size > 0).then(|| base..=base + size - 1),
        intx_gsi: &|device, pin| intx_gsi(device, IntxPin::from_index(u32::from(pin))),
    };
    AcpiTables::build(&platform, AREA_START)
}

fn check_extensions(kvm: &Kvm) -> Result<(), CreateError> {
    let needed = [
        (Cap::Irqchip, "in-kernel interrupt controllers"),
        (Cap::Irqfd, "irqfds"),
        (Cap::IrqRouting, "interrupt routing"),
        (Cap::Pit2, "the in-kernel timer"),
        (Cap::UserMemory, "user memory regions"),
        (Cap::SetTssAddr, "a place for the task state"),
        (Cap::ImmediateExit, "immediate exits"),
        (Cap::ExtCpuid, "CPUID"),
        (Cap::VcpuEvents, "access to pending events"),
    ];
    match needed
        .into_iter()
        .find(|(cap, _)| !kvm.check_extension(*cap))
    {
        Some((_, what)) => Err(CreateError::KvmLacks(what)),
        None => Ok(()),
    }
}

fn make_vcpus(
    kvm: &Kvm,
    vm: &VmFd,
    template: &CpuTemplate,
    count: u8,
) -> Result<Vec<VcpuSeed>, VcpuError> {
    let mut seeds = Vec::with_capacity(usize::from(count));
    for vcpu in 0..count {
        let failed = |source| VcpuError {
            vcpu,
            doing: "creating it",
            source,
        };
        let fd = vm.create_vcpu(u64::from(vcpu)).map_err(failed)?;
        template.set_up(&fd, vcpu, count)?;
        let power_on = PowerOnState::read(vcpu, &fd, kvm)?;
        seeds.push(VcpuSeed { fd, power_on });
    }
    Ok(seeds)
}
