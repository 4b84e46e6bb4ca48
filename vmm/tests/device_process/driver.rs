//! A driver in miniature behind a vfio-user client: memory in a memfd, and some that only messages reach.

mod events;
mod queues;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use vfio_user::Errno;
use vfio_user::client::{Client, ClientError, Memory, Reply};
use vfio_user::protocol::{
    Area, Capabilities, DmaMap, DmaUnmap, IrqSet, RegionAccess, RegionInfo, command, irq,
    irq_set_flag, region,
};
use zerocopy::{FromBytes, IntoBytes};

use super::process::{Process, SOON};

/// Where the memory begins that has no descriptor.
pub const REMOTE: u64 = 0x1000_0000;
/// Memory that is given and taken back.
pub const MORE: u64 = 0x2000_0000;
const SIZE: u64 = 0x10_0000;
const ASQ: u64 = 0x1000;
const ACQ: u64 = 0x2000;
const SQ: u64 = 0x3000;
const CQ: u64 = 0x4000;
const ENTRIES: u32 = 32;
const CSTS: u64 = 0x1C;

/// The guest's memory that messages reach.
struct Remote(RefCell<Vec<u8>>);

impl Remote {
    fn range(at: u64, len: usize) -> Result<std::ops::Range<usize>, Errno> {
        let start = at.checked_sub(REMOTE).ok_or(Errno::FAULT)? as usize;
        Some(start..start + len)
            .filter(|range| range.end <= SIZE as usize)
            .ok_or(Errno::FAULT)
    }
}

impl Memory for Remote {
    fn read(&self, at: u64, data: &mut [u8]) -> Result<(), Errno> {
        let range = Self::range(at, data.len())?;
        data.copy_from_slice(&self.0.borrow()[range]);
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        let range = Self::range(at, data.len())?;
        self.0.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }
}

/// A queue pair as its driver sees it.
#[derive(Default)]
struct Queue {
    tail: u32,
    head: u32,
    phase: bool,
}

/// A vector's eventfd.
pub struct Vector(File);

impl Vector {
    pub fn has_fired(&self) -> bool {
        (&self.0).read_exact(&mut [0; 8]).is_ok()
    }

    /// Whether it fires, soon.
    pub fn fired(&self, driver: &mut Driver) -> bool {
        driver
            .client
            .serve(&driver.remote, SOON, || self.has_fired())
            .unwrap()
    }
}

pub struct Driver {
    client: Client,
    memory: File,
    remote: Remote,
    queues: [Queue; 2],
    /// The page that doorbells are rung in, where they are.
    doorbells: Option<File>,
    /// Doorbells are in memory too.
    shadow: bool,
    /// Eventfds by the offsets of the doorbells that they stand for.
    events: HashMap<u64, File>,
}

impl Driver {
    pub fn connect(process: &Process) -> Self {
        let stated = Capabilities {
            max_msg_fds: Some(8),
            max_data_xfer_size: Some(0x1000),
            ..Capabilities::default()
        };
        let client = Client::connect(process.connect(), Some(stated), SOON).unwrap();
        let memory = File::from(memfd_create("driver", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(SIZE).unwrap();
        let mut driver = Self {
            client,
            memory,
            remote: Remote(RefCell::new(vec![0; SIZE as usize])),
            queues: Default::default(),
            doorbells: None,
            shadow: false,
            events: HashMap::new(),
        };
        driver.map(0, true).unwrap();
        driver.map(REMOTE, false).unwrap();
        driver
    }

    /// Leaves, and comes again as another.
    pub fn reconnect(self, process: &Process) -> Self {
        drop(self);
        Self::connect(process)
    }

    fn request(
        &mut self,
        command: u16,
        payload: &[&[u8]],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, Errno> {
        match self
            .client
            .request(command, payload, fds, &self.remote, SOON)
        {
            Ok(reply) => Ok(reply),
            Err(ClientError::Refused { errno, .. }) => Err(errno),
            Err(error) => panic!("{error}"),
        }
    }

    /// Asks for what a server that has the device answers.
    fn ask(&mut self, command: u16, question: &[u8]) -> Reply {
        self.request(command, &[question], &[]).unwrap()
    }

    fn map(&mut self, address: u64, shared: bool) -> Result<(), Errno> {
        let file = self.memory.try_clone().unwrap();
        let map = DmaMap {
            argsz: 32,
            flags: 3,
            offset: 0,
            address,
            size: SIZE,
        };
        let fds = [file.as_fd()];
        let fds = if shared { &fds[..] } else { &[] };
        self.request(command::DMA_MAP, &[map.as_bytes()], fds)
            .map(drop)
    }

    /// The same memory a second time, elsewhere.
    pub fn map_more(&mut self) {
        self.map(MORE, true).unwrap();
        assert_eq!(self.map(MORE, true), Err(Errno::EXIST));
    }

    pub fn unmap_more(&mut self) {
        let unmap = DmaUnmap {
            argsz: 24,
            flags: 0,
            address: MORE,
            size: SIZE,
        };
        self.request(command::DMA_UNMAP, &[unmap.as_bytes()], &[])
            .unwrap();
    }

    fn access(&mut self, region: u32, offset: u64, data: &[u8]) {
        let access = RegionAccess {
            offset,
            region,
            count: data.len() as u32,
        };
        self.request(command::REGION_WRITE, &[access.as_bytes(), data], &[])
            .unwrap();
    }

    fn read(&mut self, region: u32, offset: u64, count: u32) -> Vec<u8> {
        let access = RegionAccess {
            offset,
            region,
            count,
        };
        let reply = self.ask(command::REGION_READ, access.as_bytes());
        reply.payload[16..].to_vec()
    }

    pub fn config(&mut self, offset: u64, count: u32) -> Vec<u8> {
        self.read(region::CONFIG, offset, count)
    }

    pub fn register(&mut self, offset: u64) -> u32 {
        let raw = self.read(region::BAR0, offset, 4);
        u32::from_le_bytes(raw.try_into().unwrap())
    }

    fn set_register(&mut self, offset: u64, value: u32) {
        self.access(region::BAR0, offset, &value.to_le_bytes());
    }

    pub fn reset(&mut self) {
        self.request(command::DEVICE_RESET, &[], &[]).unwrap();
    }

    pub fn connect_vector(&mut self, vector: u32) -> Vector {
        let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        self.set_vector(vector, event.as_fd()).unwrap();
        Vector(File::from(event))
    }

    fn set_vector(&mut self, vector: u32, event: BorrowedFd<'_>) -> Result<(), Errno> {
        self.set_irq(vector, irq_set_flag::DATA_EVENTFD, &[event])
    }

    fn set_irq(&mut self, vector: u32, data: u32, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let set = IrqSet {
            argsz: 20,
            flags: data | irq_set_flag::ACTION_TRIGGER,
            index: irq::MSIX,
            start: vector,
            count: 1,
        };
        let irqs = command::DEVICE_SET_IRQS;
        self.request(irqs, &[set.as_bytes()], fds).map(drop)
    }

    /// Tries what is neither memory nor an eventfd, and a file that ends before its range does.
    pub fn refuses_descriptors(&mut self) {
        let (pipe, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(self.set_vector(0, pipe.as_fd()), Err(Errno::INVAL));
        let short = File::from(memfd_create("short", MemfdFlags::CLOEXEC).unwrap());
        short.set_len(SIZE - 1).unwrap();
        let whole = std::mem::replace(&mut self.memory, short);
        assert_eq!(self.map(MORE, true), Err(Errno::INVAL));
        self.memory = File::from(OwnedFd::from(pipe));
        assert_eq!(self.map(MORE, true), Err(Errno::INVAL));
        self.memory = whole;
        assert_eq!(self.map(0x800, true), Err(Errno::EXIST));
    }

    /// Sets the controller going with its admin queues from `base` on.
    pub fn start_at(&mut self, base: u64) {
        self.queues = [true, true].map(|phase| Queue {
            phase,
            ..Queue::default()
        });
        self.memory.write_all_at(&[0; 0x8000], 0).unwrap();
        // Memory decoding and bus mastering.
        self.access(region::CONFIG, 4, &[6, 0]);
        // MSI-X, which clients switch on in the capability.
        let msix = self.capability(0x11);
        self.access(region::CONFIG, msix + 2, &0x8000_u16.to_le_bytes());
        let entries = ENTRIES - 1;
        self.set_register(0x24, entries << 16 | entries);
        for (register, value) in [(0x28, base + ASQ), (0x30, base + ACQ)] {
            self.set_register(register, value as u32);
            self.set_register(register + 4, (value >> 32) as u32);
        }
        self.set_register(0x14, 4 << 20 | 6 << 16 | 1);
    }

    pub fn enable(&mut self, base: u64) {
        self.start_at(base);
        let started = std::time::Instant::now();
        while self.register(CSTS) & 1 == 0 {
            assert!(
                started.elapsed() < SOON,
                "the controller does not become ready"
            );
        }
    }

    fn capability(&mut self, id: u8) -> u64 {
        let mut at = u64::from(self.config(0x34, 1)[0]);
        while at != 0 {
            let header = self.config(at, 2);
            if header[0] == id {
                return at;
            }
            at = u64::from(header[1]);
        }
        panic!("no capability {id:#x}");
    }

    pub fn put(&self, at: u64, data: &[u8]) {
        if at < SIZE {
            self.memory.write_all_at(data, at).unwrap();
        } else {
            self.remote.write(at, data).unwrap();
        }
    }

    pub fn get(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        if at < SIZE {
            self.memory.read_exact_at(&mut data, at).unwrap();
        } else {
            self.remote.read(at, &mut data).unwrap();
        }
        data
    }

    /// Asks for the page of doorbells, and rings in it from now on.
    pub fn map_doorbells(&mut self) {
        let mut info = RegionInfo {
            argsz: 32,
            flags: 0,
            index: region::BAR0,
            cap_offset: 0,
            size: 0,
            offset: 0,
        };
        let question = command::DEVICE_GET_REGION_INFO;
        let reply = self.ask(question, info.as_bytes());
        let short = RegionInfo::read_from_bytes(&reply.payload).unwrap();
        assert_eq!((short.argsz, short.cap_offset), (64, 32));
        info.argsz = short.argsz;
        let reply = self.ask(question, info.as_bytes());
        let area = Area::read_from_bytes(&reply.payload[48..64]).unwrap();
        assert_eq!((area.offset, area.size), (0x1000, 0x1000));
        self.doorbells = reply.descriptors.into_iter().next().map(File::from);
    }

    /// Rings by messages again.
    pub fn forget_doorbells(&mut self) {
        self.doorbells = None;
    }
}
