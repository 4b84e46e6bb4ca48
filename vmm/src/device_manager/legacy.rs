//! The devices that every machine has beside its PCI hierarchy, and where they answer.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use api::config::{SerialConfig, SerialMode, VmConfig};
use devices::event::EventSink;
use devices::legacy::serial::ConsoleOutput;
use devices::legacy::{
    self, AcpiPm, AcpiReset, BootMarker, Cmos, I8042, Ports, RawTerminal, ResetControl, Serial,
    SerialSocket,
};
use devices::lifecycle::Device;
use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioRange};
use vm_device::device_manager::{IoManager, PioManager};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::build::{BuildError, Host};
use crate::memory::LOW_MEMORY_END;
use crate::serial_input::{SerialInput, Source};

/// The names of those which every machine has, in the order in which they are registered.
const NAMES: [&str; 5] = ["i8042", "rtc", "acpi", "reset", "boot-marker"];
/// The name of the serial port, which comes last where there is one.
const SERIAL: &str = "serial";

/// The names of the legacy devices of a machine, in the order in which they are registered.
pub(super) fn names(serial: SerialMode) -> impl Iterator<Item = &'static str> {
    let serial = (serial != SerialMode::Off).then_some(SERIAL);
    NAMES.into_iter().chain(serial)
}

/// The legacy devices of a machine.
pub(super) struct Legacy {
    /// Each by name.
    pub devices: Vec<(&'static str, Arc<dyn Device>)>,
    pub acpi_pm: Arc<AcpiPm>,
    pub reset_control: Arc<ResetControl>,
    pub serial_input: Option<SerialInput>,
}

impl Legacy {
    /// Makes the devices and registers their ports, but for the reset control register: its port lies
    /// amid those of the PCI configuration.
    pub(super) fn build(
        config: &VmConfig,
        host: &Host,
        ports: &mut IoManager,
    ) -> Result<Self, BuildError> {
        let events: Arc<dyn EventSink> = host.events.clone();
        let sci = host.routing.line(legacy::SCI_IRQ);
        let size = config.memory.size;
        let memory = legacy::cmos::MemorySize {
            low: size.min(LOW_MEMORY_END),
            high: size.saturating_sub(LOW_MEMORY_END),
        };
        let i8042 = Arc::new(I8042::new(events.clone()));
        let rtc = Arc::new(Cmos::new(memory));
        let acpi_pm = Arc::new(AcpiPm::new(sci, events.clone()));
        let acpi_reset = Arc::new(AcpiReset::new(events.clone()));
        let reset_control = Arc::new(ResetControl::new(events.clone()));
        let marker = Arc::new(BootMarker::new(events));

        register(ports, legacy::I8042_DATA, i8042.clone())?;
        register(ports, legacy::I8042_COMMAND, i8042.clone())?;
        register(ports, legacy::CMOS, rtc.clone())?;
        register(ports, legacy::ACPI_PM, acpi_pm.clone())?;
        register(ports, legacy::ACPI_RESET, acpi_reset.clone())?;
        register(ports, legacy::BOOT_MARKER, marker.clone())?;
        // As many as there are names, and in their order.
        let made: [Arc<dyn Device>; NAMES.len()] =
            [i8042, rtc, acpi_pm.clone(), reset_control.clone(), marker];
        let mut devices: Vec<_> = NAMES.into_iter().zip(made).collect();
        let mut serial_input = None;
        if let Some((serial, source)) = serial(&config.serial, host)? {
            register(ports, legacy::COM1, serial.clone())?;
            devices.push((SERIAL, serial.clone()));
            serial_input = source.map(|source| SerialInput::new(serial, source));
        }
        Ok(Self {
            devices,
            acpi_pm,
            reset_control,
            serial_input,
        })
    }
}

/// Registers a device's ports; an overlap is a defect of the table in `devices::legacy`.
pub(super) fn register(
    manager: &mut IoManager,
    ports: Ports,
    device: Arc<dyn DevicePio + Send + Sync>,
) -> Result<(), BuildError> {
    PioRange::new(PioAddress(ports.first), ports.count)
        .and_then(|range| manager.register_pio(range, device))
        .map_err(|error| BuildError::Ports {
            first: ports.first,
            reason: error.to_string(),
        })
}

type SerialPort = (Arc<Serial>, Option<Source>);

/// The serial port and where its input comes from; none in the mode `Off`.
fn serial(config: &SerialConfig, host: &Host) -> Result<Option<SerialPort>, BuildError> {
    let failed = |source: io::Error| BuildError::Serial {
        mode: config.mode,
        path: path(config),
        source,
    };
    let missing = || {
        failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no path is configured",
        ))
    };
    let (output, input) = match config.mode {
        SerialMode::Off => return Ok(None),
        SerialMode::Null => (ConsoleOutput::null(), None),
        SerialMode::File => {
            let path = config.file.as_deref().ok_or_else(missing)?;
            (ConsoleOutput::file(path).map_err(failed)?, None)
        }
        SerialMode::Tty => {
            let input = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
            let source = Source::Stdin {
                input: Some(File::from(input)),
                terminal: RawTerminal::on_stdin().map_err(failed)?,
            };
            (ConsoleOutput::stdout().map_err(failed)?, Some(source))
        }
        SerialMode::Socket => {
            let path = config.socket.as_deref().ok_or_else(missing)?;
            let socket = SerialSocket::bind(path).map_err(failed)?;
            (
                ConsoleOutput::new(socket.output()).map_err(failed)?,
                Some(Source::Socket(socket)),
            )
        }
    };
    let interrupt = EventFd::new(EFD_NONBLOCK).map_err(failed)?;
    host.vm
        .register_irqfd(&interrupt, legacy::COM1_IRQ)
        .map_err(|error| failed(io::Error::from_raw_os_error(error.errno())))?;
    let serial = Serial::new(interrupt, output).map_err(failed)?;
    Ok(Some((Arc::new(serial), input)))
}

fn path(config: &SerialConfig) -> Option<std::path::PathBuf> {
    config.file.clone().or_else(|| config.socket.clone())
}
