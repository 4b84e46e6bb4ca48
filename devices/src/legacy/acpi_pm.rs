//! ACPI's fixed hardware: PM1a events with the power button, PM1a control with S5, the PM timer.
//! ACPI 6.5, sections 4.8.3.1 to 4.8.3.3.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::{ACPI_PM, PM_TIMER, PM1A_CONTROL, PM1A_EVENT, SLP_TYP_S5, lock};
use crate::event::{EventSink, GuestEvent};
use crate::interrupt::IntxLine;
use crate::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};

const BLOCK: usize = ACPI_PM.count as usize;
const STATUS: usize = (PM1A_EVENT.first - ACPI_PM.first) as usize;
const ENABLE: usize = STATUS + 2;
const CONTROL: usize = (PM1A_CONTROL.first - ACPI_PM.first) as usize;
const TIMER: usize = (PM_TIMER.first - ACPI_PM.first) as usize;

/// Power button, in status and enable alike.
const POWER_BUTTON: u16 = 1 << 8;
/// Enable bits that hold what is written: timer, global lock, both buttons, clock, PCIe wake.
const ENABLE_WRITABLE: u16 = 0x4721;

const SCI_ENABLED: u16 = 1 << 0;
const CONTROL_WRITABLE: u16 = 0x1C02;
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_ENABLE: u16 = 1 << 13;

const TIMER_HZ: u128 = 3_579_545;

/// The registers at [`ACPI_PM`]. The machine is always in ACPI mode: SCI_EN reads as set.
///
/// The timer is 32 bits wide and starts at 0 with every boot. Its overflow sets no status.
pub struct AcpiPm {
    sci: Arc<dyn IntxLine>,
    events: Arc<dyn EventSink>,
    state: Mutex<State>,
}

struct State {
    status: u16,
    enable: u16,
    control: u16,
    timer_start: Instant,
}

impl State {
    fn power_on() -> Self {
        Self {
            status: 0,
            enable: 0,
            control: 0,
            timer_start: Instant::now(),
        }
    }

    /// All registers, byte by byte.
    fn image(&self) -> [u8; BLOCK] {
        let mut image = [0; BLOCK];
        image[STATUS..STATUS + 2].copy_from_slice(&self.status.to_le_bytes());
        image[ENABLE..ENABLE + 2].copy_from_slice(&self.enable.to_le_bytes());
        let control = self.control | SCI_ENABLED;
        image[CONTROL..CONTROL + 2].copy_from_slice(&control.to_le_bytes());
        let ticks = timer_ticks(self.timer_start.elapsed());
        image[TIMER..TIMER + 4].copy_from_slice(&ticks.to_le_bytes());
        image
    }

    /// Writes one byte; whether the guest thereby enters S5.
    fn write(&mut self, register: usize, value: u8) -> bool {
        let low = register.is_multiple_of(2);
        let (byte, mask) = if low {
            (u16::from(value), 0x00FF)
        } else {
            (u16::from(value) << 8, 0xFF00)
        };
        match register & !1 {
            STATUS => self.status &= !byte,
            ENABLE => self.enable = (self.enable & !mask) | (byte & ENABLE_WRITABLE),
            CONTROL => {
                self.control = (self.control & !mask) | (byte & CONTROL_WRITABLE);
                if byte & SLEEP_ENABLE != 0 {
                    return self.sleep_type() == SLP_TYP_S5;
                }
            }
            _ => {}
        }
        false
    }

    fn sleep_type(&self) -> u8 {
        (self.control >> SLEEP_TYPE_SHIFT) as u8 & 0x07
    }

    fn sci(&self) -> bool {
        self.status & self.enable != 0
    }
}

/// What the timer reads `elapsed` after its start.
fn timer_ticks(elapsed: Duration) -> u32 {
    (elapsed.as_nanos() * TIMER_HZ / 1_000_000_000) as u32
}

impl AcpiPm {
    /// Registers that interrupt by `sci` and report S5 to `events`.
    pub fn new(sci: Arc<dyn IntxLine>, events: Arc<dyn EventSink>) -> Self {
        Self {
            sci,
            events,
            state: Mutex::new(State::power_on()),
        }
    }

    /// Presses and lets go the power button. Returns whether the guest listens: if not, it learns of
    /// the press when it enables the button in this boot.
    pub fn press_power_button(&self) -> bool {
        let listens = {
            let mut state = lock(&self.state);
            state.status |= POWER_BUTTON;
            state.enable & POWER_BUTTON != 0
        };
        self.drive_sci();
        listens
    }

    /// Brings the line to its level. The lock is not held while the line is set, so a thread may set
    /// a level that is out of date: whoever sets looks again.
    fn drive_sci(&self) {
        loop {
            let level = lock(&self.state).sci();
            self.sci.set(level);
            if lock(&self.state).sci() == level {
                break;
            }
        }
    }
}

impl DevicePio for AcpiPm {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        let image = lock(&self.state).image();
        let from = image.get(usize::from(offset)..).unwrap_or_default();
        let mut bytes = from.iter().copied();
        data.fill_with(|| bytes.next().unwrap_or(0xFF));
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let at = Instant::now();
        let power_off = {
            let mut state = lock(&self.state);
            (usize::from(offset)..)
                .zip(data)
                .fold(false, |off, (register, &value)| {
                    state.write(register, value) | off
                })
        };
        self.drive_sci();
        if power_off {
            self.events.send(GuestEvent::PowerOff, at);
        }
    }
}

impl Device for AcpiPm {
    fn shut_down(&self, _by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        phases.run("reset", || {
            *lock(&self.state) = State::power_on();
            self.drive_sci();
        });
        Ok(Finish::Now)
    }

    fn release(&self) {}
}

#[cfg(test)]
mod tests;
