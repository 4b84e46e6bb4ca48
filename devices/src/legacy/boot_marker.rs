//! The boot marker: a port to which the guest writes how far it has come. Firecracker's number for it;
//! on a PC a floppy controller's status register stands there, which drivers only read.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::lock;
use crate::event::{EventSink, GuestEvent};
use crate::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};

/// The port [`BOOT_MARKER`](super::BOOT_MARKER). A byte written is sent on with its time; reading gives
/// the byte written last in this boot, or 0xFF as where no device is.
pub struct BootMarker {
    events: Arc<dyn EventSink>,
    last: Mutex<Option<u8>>,
}

impl BootMarker {
    /// A marker that reports to `events`.
    pub fn new(events: Arc<dyn EventSink>) -> Self {
        Self {
            events,
            last: Mutex::new(None),
        }
    }

    /// What the guest wrote last in this boot.
    pub fn last(&self) -> Option<u8> {
        *lock(&self.last)
    }
}

impl DevicePio for BootMarker {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(0xFF);
        if let (0, Some(byte), Some(last)) = (offset, data.first_mut(), self.last()) {
            *byte = last;
        }
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let at = Instant::now();
        // A wider access reaches this port by accident.
        if let (0, &[value]) = (offset, data) {
            *lock(&self.last) = Some(value);
            self.events.send(GuestEvent::BootMarker(value), at);
        }
    }
}

impl Device for BootMarker {
    fn shut_down(&self, _by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        phases.run("reset", || *lock(&self.last) = None);
        Ok(Finish::Now)
    }

    fn release(&self) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::recorder::Recorder;
    use super::*;

    const PORT: PioAddress = PioAddress(super::super::BOOT_MARKER.first);

    #[test]
    fn a_byte_written_is_reported_and_forgotten_at_reset() {
        let recorder = Recorder::new();
        let marker = BootMarker::new(recorder.clone());
        let mut byte = [0];
        marker.pio_read(PORT, 0, &mut byte);
        assert_eq!(byte, [0xFF]);

        marker.pio_write(PORT, 0, &[123]);
        marker.pio_write(PORT, 0, &[1, 2]);
        marker.pio_write(PORT, 1, &[7]);
        marker.pio_write(PORT, 0, &[]);
        marker.pio_read(PORT, 0, &mut []);
        assert_eq!(recorder.take(), [GuestEvent::BootMarker(123)]);
        marker.pio_read(PORT, 0, &mut byte);
        assert_eq!(byte, [123]);

        let by = Deadline::after(Duration::from_secs(1));
        marker.shut_down(by, &mut Phases::default()).unwrap();
        assert_eq!(marker.last(), None);
    }
}
