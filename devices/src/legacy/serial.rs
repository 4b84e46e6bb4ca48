//! The serial port COM1: vm-superio's 16550A with an output that never holds up a vCPU, and input that
//! says when there is room again.

mod output;
mod socket;
mod terminal;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};
use vm_superio::serial::SerialEvents;
use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub use self::output::ConsoleOutput;
pub use self::socket::{SerialSocket, SocketInput};
pub use self::terminal::RawTerminal;
use super::lock;
use crate::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};

const MODEM_CONTROL: u8 = 4;
/// How long `release` waits for output that the sink has not taken.
const RELEASE_PATIENCE: Duration = Duration::from_millis(500);

type Com1 = Uart<Interrupt, InputRoom, ConsoleOutput>;

/// The port at [`COM1`](super::COM1).
pub struct Serial {
    interrupt: Arc<EventFd>,
    room: InputRoom,
    output: ConsoleOutput,
    uart: Mutex<Com1>,
}

impl Serial {
    /// A port whose interrupt is a write to `interrupt` (an irqfd of edge-triggered
    /// [`COM1_IRQ`](super::COM1_IRQ)) and whose output goes to `output`.
    pub fn new(interrupt: EventFd, output: ConsoleOutput) -> io::Result<Self> {
        let interrupt = Arc::new(interrupt);
        let room = InputRoom(Arc::new(Room {
            wanted: AtomicBool::new(false),
            event: EventFd::new(EFD_NONBLOCK)?,
        }));
        let uart = Mutex::new(power_on(&interrupt, &room, &output));
        Ok(Self {
            interrupt,
            room,
            output,
            uart,
        })
    }

    /// Hands the port what came in. Returns how many bytes it took: when fewer than given,
    /// [`input_room`](Self::input_room) is written once it takes more.
    pub fn enqueue(&self, input: &[u8]) -> usize {
        let mut uart = lock(&self.uart);
        // A full FIFO is the one error besides a failed interrupt, which comes after the bytes went in.
        let before = uart.fifo_capacity();
        let _ = uart.enqueue_raw_bytes(input);
        let taken = before - uart.fifo_capacity();
        if taken < input.len() {
            self.room.0.wanted.store(true, Ordering::Relaxed);
        }
        taken
    }

    /// Becomes readable when the port takes input again after it refused some.
    pub fn input_room(&self) -> &EventFd {
        &self.room.0.event
    }

    /// Where the port's output goes.
    pub fn output(&self) -> &ConsoleOutput {
        &self.output
    }
}

fn power_on(interrupt: &Arc<EventFd>, room: &InputRoom, output: &ConsoleOutput) -> Com1 {
    Uart::with_events(Interrupt(interrupt.clone()), room.clone(), output.clone())
}

impl DevicePio for Serial {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        let mut uart = lock(&self.uart);
        for (register, byte) in (u32::from(offset)..).zip(data) {
            *byte = u8::try_from(register).map_or(0xFF, |register| uart.read(register));
        }
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let mut uart = lock(&self.uart);
        for (register, &value) in (u32::from(offset)..).zip(data) {
            let Ok(register) = u8::try_from(register) else {
                break;
            };
            // Fails only if the interrupt's eventfd is full, and then the guest has its interrupt.
            let _ = uart.write(register, value);
            if register == MODEM_CONTROL {
                // Loopback refuses input; this may be its end.
                self.room.announce();
            }
        }
    }
}

impl Device for Serial {
    fn shut_down(&self, _by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        phases.run("reset", || {
            *lock(&self.uart) = power_on(&self.interrupt, &self.room, &self.output);
            self.room.announce();
        });
        Ok(Finish::Now)
    }

    fn release(&self) {
        self.output.close(RELEASE_PATIENCE);
    }
}

/// Interrupts the guest.
struct Interrupt(Arc<EventFd>);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Says when refused input has room.
#[derive(Clone)]
struct InputRoom(Arc<Room>);

struct Room {
    wanted: AtomicBool,
    event: EventFd,
}

impl InputRoom {
    fn announce(&self) {
        if self.0.wanted.swap(false, Ordering::Relaxed) {
            // Fails only if the counter is full, and then the reader has its event.
            let _ = self.0.event.write(1);
        }
    }
}

impl SerialEvents for InputRoom {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        self.announce();
    }
}

#[cfg(test)]
mod tests;
