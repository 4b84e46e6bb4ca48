//! The two reset registers: PCI reset control at port 0xCF9, and the one that the ACPI FADT names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::ACPI_RESET_VALUE;
use crate::event::{EventSink, GuestEvent, ResetCause};
use crate::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};

const SYSTEM_RESET: u8 = 1 << 1;
const RESET_CPU: u8 = 1 << 2;
const FULL_RESET: u8 = 1 << 3;

/// The PCI reset control register. It lies amid the PCI configuration ports, so the owner of those
/// hands it the byte accesses that are meant for it.
pub struct ResetControl {
    events: Arc<dyn EventSink>,
    value: AtomicU8,
}

impl ResetControl {
    /// A register that reports resets to `events`.
    pub fn new(events: Arc<dyn EventSink>) -> Self {
        Self {
            events,
            value: AtomicU8::new(0),
        }
    }

    /// The register.
    pub fn read(&self) -> u8 {
        self.value.load(Ordering::Relaxed)
    }

    /// Writes the register. RST_CPU (bit 2) going up resets the machine; it never reads as set, so
    /// every write that holds it does.
    pub fn write(&self, value: u8) {
        let at = Instant::now();
        self.value
            .store(value & (SYSTEM_RESET | FULL_RESET), Ordering::Relaxed);
        if value & RESET_CPU != 0 {
            self.events
                .send(GuestEvent::Reset(ResetCause::PciReset), at);
        }
    }
}

impl DevicePio for ResetControl {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(0xFF);
        if let (0, Some(byte)) = (offset, data.first_mut()) {
            *byte = self.read();
        }
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        if let (0, &[value]) = (offset, data) {
            self.write(value);
        }
    }
}

impl Device for ResetControl {
    fn shut_down(&self, _by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        phases.run("reset", || self.value.store(0, Ordering::Relaxed));
        Ok(Finish::Now)
    }

    fn release(&self) {}
}

/// The register that ACPI resets the machine with: [`ACPI_RESET_VALUE`] written to it does. It reads as 0.
pub struct AcpiReset {
    events: Arc<dyn EventSink>,
}

impl AcpiReset {
    /// A register that reports resets to `events`.
    pub fn new(events: Arc<dyn EventSink>) -> Self {
        Self { events }
    }
}

impl DevicePio for AcpiReset {
    fn pio_read(&self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(0);
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let at = Instant::now();
        if (offset, data.first()) == (0, Some(&ACPI_RESET_VALUE)) {
            self.events
                .send(GuestEvent::Reset(ResetCause::AcpiReset), at);
        }
    }
}

impl Device for AcpiReset {
    fn shut_down(&self, _by: Deadline, _phases: &mut Phases) -> Result<Finish, ShutdownError> {
        Ok(Finish::Now)
    }

    fn release(&self) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::recorder::Recorder;
    use super::super::{ACPI_RESET, RESET_CONTROL};
    use super::*;

    #[test]
    fn linux_resets_through_cf9() {
        for code in [0x06, 0x0E] {
            let recorder = Recorder::new();
            let control = ResetControl::new(recorder.clone());
            let kept = control.read() & !code;
            control.write(kept | 0x02);
            assert!(recorder.take().is_empty());
            assert_eq!(control.read(), 0x02);
            control.write(kept | code);
            assert_eq!(
                recorder.take(),
                [GuestEvent::Reset(ResetCause::PciReset)],
                "{code:#x}"
            );
            let by = Deadline::after(Duration::from_secs(1));
            control.shut_down(by, &mut Phases::default()).unwrap();
            assert_eq!(control.read(), 0);
        }
    }

    #[test]
    fn cf9_takes_byte_accesses_only() {
        let recorder = Recorder::new();
        let control = ResetControl::new(recorder.clone());
        let port = PioAddress(RESET_CONTROL.first);
        control.pio_write(port, 0, &[0x06, 0, 0, 0]);
        control.pio_write(port, 1, &[0x06]);
        control.pio_write(port, 0, &[]);
        control.pio_read(port, 9, &mut [0; 4]);
        assert!(recorder.take().is_empty());
        control.pio_write(port, 0, &[0x06]);
        assert_eq!(recorder.take().len(), 1);
    }

    #[test]
    fn the_acpi_register_takes_its_value_only() {
        let recorder = Recorder::new();
        let reset = AcpiReset::new(recorder.clone());
        let port = PioAddress(ACPI_RESET.first);
        reset.pio_write(port, 0, &[!ACPI_RESET_VALUE]);
        reset.pio_write(port, 0, &[]);
        assert!(recorder.take().is_empty());
        reset.pio_write(port, 0, &[ACPI_RESET_VALUE]);
        assert_eq!(recorder.take(), [GuestEvent::Reset(ResetCause::AcpiReset)]);
    }
}
