//! The keyboard controller, without keyboard or mouse: enough that a driver finds so at once, and the
//! reset line that the PC hung on it.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::{I8042_COMMAND, I8042_DATA, lock};
use crate::event::{EventSink, GuestEvent, ResetCause};
use crate::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};

// Status register.
const OUTPUT_FULL: u8 = 1 << 0;
const SELF_TEST_PASSED: u8 = 1 << 2;
const LAST_WAS_COMMAND: u8 = 1 << 3;
const NOT_LOCKED: u8 = 1 << 4;

// Commands.
const READ_CONTROL: u8 = 0x20;
const WRITE_CONTROL: u8 = 0x60;
const DISABLE_AUX: u8 = 0xA7;
const ENABLE_AUX: u8 = 0xA8;
const TEST_AUX: u8 = 0xA9;
const SELF_TEST: u8 = 0xAA;
const TEST_KEYBOARD: u8 = 0xAB;
const DISABLE_KEYBOARD: u8 = 0xAD;
const ENABLE_KEYBOARD: u8 = 0xAE;
const READ_OUTPUT_PORT: u8 = 0xD0;
const WRITE_OUTPUT_PORT: u8 = 0xD1;
const LOOP_KEYBOARD: u8 = 0xD2;
const LOOP_AUX: u8 = 0xD3;
const WRITE_AUX: u8 = 0xD4;
const PULSE_FIRST: u8 = 0xF0;

// Control byte.
const KEYBOARD_DISABLED: u8 = 1 << 4;
const AUX_DISABLED: u8 = 1 << 5;
const CONTROL_AFTER_RESET: u8 = KEYBOARD_DISABLED | AUX_DISABLED | SELF_TEST_PASSED;

// Output port: bit 0 low holds the processor in reset; bit 1 opens address line 20.
const NOT_RESET: u8 = 1 << 0;
const A20: u8 = 1 << 1;

/// The controller at [`I8042_DATA`] and [`I8042_COMMAND`]. It never interrupts: nothing is plugged in.
pub struct I8042 {
    events: Arc<dyn EventSink>,
    state: Mutex<State>,
}

struct State {
    control: u8,
    /// The byte that waits to be read.
    output: Option<u8>,
    /// The byte that was read last: the data port repeats it.
    last_output: u8,
    /// The command whose parameter the next data byte is.
    parameter_of: Option<u8>,
    last_was_command: bool,
}

impl State {
    fn power_on() -> Self {
        Self {
            control: CONTROL_AFTER_RESET,
            output: None,
            last_output: 0,
            parameter_of: None,
            last_was_command: false,
        }
    }

    fn status(&self) -> u8 {
        let mut status = SELF_TEST_PASSED | NOT_LOCKED;
        if self.output.is_some() {
            status |= OUTPUT_FULL;
        }
        if self.last_was_command {
            status |= LAST_WAS_COMMAND;
        }
        status
    }

    fn read_data(&mut self) -> u8 {
        if let Some(byte) = self.output.take() {
            self.last_output = byte;
        }
        self.last_output
    }

    /// Takes a command; whether it resets the machine.
    fn command(&mut self, command: u8) -> bool {
        self.last_was_command = true;
        self.parameter_of = None;
        match command {
            READ_CONTROL => self.output = Some(self.control),
            SELF_TEST => {
                self.control = CONTROL_AFTER_RESET;
                self.output = Some(0x55);
            }
            TEST_KEYBOARD => self.output = Some(0),
            // "Clock line stuck low": there is no second channel.
            TEST_AUX => self.output = Some(1),
            DISABLE_AUX => self.control |= AUX_DISABLED,
            ENABLE_AUX => self.control &= !AUX_DISABLED,
            DISABLE_KEYBOARD => self.control |= KEYBOARD_DISABLED,
            ENABLE_KEYBOARD => self.control &= !KEYBOARD_DISABLED,
            READ_OUTPUT_PORT => self.output = Some(NOT_RESET | A20),
            WRITE_CONTROL | WRITE_OUTPUT_PORT | LOOP_KEYBOARD | LOOP_AUX | WRITE_AUX => {
                self.parameter_of = Some(command);
            }
            PULSE_FIRST..=0xFF => return command & NOT_RESET == 0,
            _ => {}
        }
        false
    }

    /// Takes a data byte; whether it resets the machine.
    fn data(&mut self, value: u8) -> bool {
        self.last_was_command = false;
        match self.parameter_of.take() {
            Some(WRITE_CONTROL) => self.control = value,
            Some(WRITE_OUTPUT_PORT) => return value & NOT_RESET == 0,
            // The byte comes back unmarked by the second channel, so that a driver sees at once that
            // there is none.
            Some(LOOP_KEYBOARD | LOOP_AUX) => self.output = Some(value),
            // To a keyboard or mouse that is not there.
            _ => {}
        }
        false
    }
}

impl I8042 {
    /// A controller that reports resets to `events`.
    pub fn new(events: Arc<dyn EventSink>) -> Self {
        Self {
            events,
            state: Mutex::new(State::power_on()),
        }
    }
}

impl DevicePio for I8042 {
    fn pio_read(&self, base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(0xFF);
        let Some(byte) = data.first_mut() else {
            return;
        };
        let mut state = lock(&self.state);
        match base.0.wrapping_add(offset) {
            port if port == I8042_DATA.first => *byte = state.read_data(),
            port if port == I8042_COMMAND.first => *byte = state.status(),
            _ => {}
        }
    }

    fn pio_write(&self, base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let at = Instant::now();
        let Some(&value) = data.first() else {
            return;
        };
        let reset = match base.0.wrapping_add(offset) {
            port if port == I8042_DATA.first => lock(&self.state).data(value),
            port if port == I8042_COMMAND.first => lock(&self.state).command(value),
            _ => false,
        };
        if reset {
            self.events.send(GuestEvent::Reset(ResetCause::I8042), at);
        }
    }
}

impl Device for I8042 {
    fn shut_down(&self, _by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        phases.run("reset", || *lock(&self.state) = State::power_on());
        Ok(Finish::Now)
    }

    fn release(&self) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::recorder::Recorder;
    use super::*;

    const DATA: PioAddress = PioAddress(I8042_DATA.first);
    const COMMAND: PioAddress = PioAddress(I8042_COMMAND.first);

    fn read(device: &I8042, port: PioAddress) -> u8 {
        let mut byte = [0];
        device.pio_read(port, 0, &mut byte);
        byte[0]
    }

    /// Sends `command` and its parameter, and reads the answer.
    fn ask(device: &I8042, command: u8, parameter: Option<u8>) -> Option<u8> {
        device.pio_write(COMMAND, 0, &[command]);
        if let Some(parameter) = parameter {
            device.pio_write(DATA, 0, &[parameter]);
        }
        (read(device, COMMAND) & OUTPUT_FULL != 0).then(|| read(device, DATA))
    }

    #[test]
    fn a_driver_finds_a_controller_and_nothing_on_it() {
        let device = I8042::new(Recorder::new());
        assert_eq!(read(&device, COMMAND) & (OUTPUT_FULL | 0x02), 0);
        assert_eq!(ask(&device, SELF_TEST, None), Some(0x55));
        assert_eq!(ask(&device, WRITE_CONTROL, Some(0x74)), None);
        assert_eq!(ask(&device, READ_CONTROL, None), Some(0x74));
        assert_eq!(ask(&device, TEST_KEYBOARD, None), Some(0));
        assert_eq!(ask(&device, TEST_AUX, None), Some(1));
        device.pio_write(COMMAND, 0, &[LOOP_AUX]);
        device.pio_write(DATA, 0, &[0x5A]);
        assert_eq!(read(&device, COMMAND) & 0x20, 0, "not from a mouse");
        assert_eq!(read(&device, DATA), 0x5A);
        assert_eq!(read(&device, COMMAND) & OUTPUT_FULL, 0);
    }

    #[test]
    fn the_reset_line_resets() {
        let recorder = Recorder::new();
        let device = I8042::new(recorder.clone());
        device.pio_write(COMMAND, 0, &[0xFF]);
        ask(&device, WRITE_OUTPUT_PORT, Some(0x03));
        assert!(recorder.take().is_empty());
        device.pio_write(COMMAND, 0, &[0xFE]);
        ask(&device, WRITE_OUTPUT_PORT, Some(0x02));
        let reset = GuestEvent::Reset(ResetCause::I8042);
        assert_eq!(recorder.take(), [reset, reset]);
    }

    #[test]
    fn shut_down_returns_to_power_on() {
        let device = I8042::new(Recorder::new());
        device.pio_write(COMMAND, 0, &[WRITE_CONTROL]);
        device.pio_write(DATA, 0, &[0]);
        device.pio_write(COMMAND, 0, &[SELF_TEST]);
        let by = Deadline::after(Duration::from_secs(1));
        device.shut_down(by, &mut Phases::default()).unwrap();
        assert_eq!(read(&device, COMMAND) & OUTPUT_FULL, 0);
        assert_eq!(ask(&device, READ_CONTROL, None), Some(CONTROL_AFTER_RESET));
        device.pio_read(DATA, 3, &mut [0; 8]);
        device.pio_write(DATA, u16::MAX, &[1; 8]);
        device.pio_write(COMMAND, 0, &[]);
    }
}
