//! A driver of NVMe drives that knows the admin queue and one command: Identify Controller. Registers are those of
//! the NVMe Base Specification 2.0, 3.1.4.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use passthrough::client::region;
use passthrough::{Client, IrqType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const CC: u64 = 0x14;
const CSTS: u64 = 0x1C;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;
const ENTRIES: u32 = 16;
const LIMIT: Duration = Duration::from_secs(20);
/// Memory of one drive: submission queue, completion queue, what Identify gives.
const MEMORY: u64 = 0x1_0000;

pub struct Drive {
    client: Arc<dyn Client>,
    memory: GuestMemoryMmap<()>,
    base: u64,
    /// Commands given since the drive was started.
    given: u32,
    taken: u32,
    event: EventFd,
    ended: Arc<EventFd>,
}

impl Drive {
    pub fn new(client: Arc<dyn Client>, memory: &GuestMemoryMmap<()>, number: usize) -> Self {
        Self {
            client,
            memory: memory.clone(),
            base: 0x10_0000 + MEMORY * number as u64,
            given: 0,
            taken: 0,
            event: EventFd::new(EFD_NONBLOCK).unwrap(),
            ended: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
        }
    }

    /// Turns memory and bus mastering on, and starts the controller.
    pub fn start(&mut self) {
        self.write_to(region::CONFIG, 4, &0x0006_u16.to_le_bytes());
        (self.given, self.taken) = (0, 0);
        self.memory
            .write_slice(&[0; MEMORY as usize], GuestAddress(self.base))
            .unwrap();
        let z = ENTRIES - 1;
        self.write(AQA, &(z << 16 | z).to_le_bytes());
        self.write(ASQ, &self.base.to_le_bytes());
        self.write(ACQ, &(self.base + 0x1000).to_le_bytes());
        // Entries of 64 and 16 bytes.
        self.write(CC, &0x0046_0001_u32.to_le_bytes());
        let start = Instant::now();
        while self.read(CSTS) & 1 == 0 {
            assert!(start.elapsed() < LIMIT, "not ready: {:#x}", self.read(CSTS));
            sleep(Duration::from_millis(1));
        }
    }

    pub fn is_enabled(&self) -> bool {
        self.read(CC) & 1 != 0
    }

    pub fn connect_msix(&self) {
        self.client
            .connect(IrqType::Msix, 0, &[Some(fd(&self.event))])
            .unwrap();
    }

    pub fn connect_pin(&self) {
        self.client
            .connect(IrqType::Intx, 0, &[Some(fd(&self.event))])
            .unwrap();
        self.client.unmask_pin_by(Some(&self.ended)).unwrap();
    }

    pub fn disconnect_pin(&self) {
        self.client.disconnect(IrqType::Intx).unwrap();
    }

    pub fn end_interrupt(&self) {
        self.ended.write(1).unwrap();
    }

    /// The controller's serial number, through memory and an interrupt.
    pub fn identify(&mut self) -> String {
        self.submit_identify();
        assert!(self.interrupted(LIMIT), "no interrupt");
        self.take_completion()
    }

    pub fn submit_identify(&mut self) {
        let mut command = [0; 64];
        command[0] = 0x06;
        command[2..4].copy_from_slice(&(self.given as u16).to_le_bytes());
        command[24..32].copy_from_slice(&(self.base + 0x2000).to_le_bytes());
        command[40] = 1;
        let slot = u64::from(self.given % ENTRIES);
        self.memory
            .write_slice(&command, GuestAddress(self.base + 64 * slot))
            .unwrap();
        self.given += 1;
        self.write(DOORBELLS, &(self.given % ENTRIES).to_le_bytes());
    }

    pub fn take_completion(&mut self) -> String {
        let slot = u64::from(self.taken % ENTRIES);
        let phase = (self.taken / ENTRIES).is_multiple_of(2);
        let status: u16 = self
            .memory
            .read_obj(GuestAddress(self.base + 0x1000 + 16 * slot + 14))
            .unwrap();
        assert_eq!(status, u16::from(phase), "status of command {}", self.taken);
        self.taken += 1;
        self.write(DOORBELLS + 4, &(self.taken % ENTRIES).to_le_bytes());
        // A posted write: the pin has followed once a read has come back.
        self.read(CSTS);
        let mut serial = [0; 20];
        self.memory
            .read_slice(&mut serial, GuestAddress(self.base + 0x2004))
            .unwrap();
        String::from_utf8_lossy(&serial).trim().to_owned()
    }

    /// Whether it interrupts before `limit` is over; forgets that it did.
    pub fn interrupted(&self, limit: Duration) -> bool {
        let event = fd(&self.event);
        let limit = Timespec::try_from(limit).unwrap();
        let count = poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&limit)).unwrap();
        count > 0 && self.event.read().is_ok()
    }

    fn read(&self, register: u64) -> u32 {
        let mut value = [0; 4];
        self.client.read(0, register, &mut value).unwrap();
        u32::from_le_bytes(value)
    }

    fn write(&self, register: u64, value: &[u8]) {
        self.write_to(0, register, value);
    }

    fn write_to(&self, region: u32, offset: u64, value: &[u8]) {
        self.client.write(region, offset, value).unwrap();
    }
}

/// The BAR and the offset of the MSI-X table.
pub fn msix_table(client: &dyn Client) -> (u32, u64) {
    let mut space = [0; 0x100];
    client.read(region::CONFIG, 0, &mut space).unwrap();
    let mut at = usize::from(space[0x34]);
    while space[at] != 0x11 {
        at = usize::from(space[at + 1]);
        assert_ne!(at, 0, "no MSI-X capability");
    }
    let table = u32::from_le_bytes(space[at + 4..at + 8].try_into().unwrap());
    (table & 7, u64::from(table & !7))
}

#[allow(unsafe_code)]
fn fd(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the eventfd is borrowed for as long.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}
