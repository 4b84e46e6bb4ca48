//! A machine with one drive, and what a driver needs to know of its own queues.

mod driver;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use devices::interrupt::{IntxLine, MsiMessage, MsiRouter, Route};
use devices::memory::{GuestMemory, Permissions, Region, RemoteMemory};
use devices::pci::{Attachment, IntxPin};
use nvme::{
    Backend, Behaviour, Connections, Controller, ControllerConfig, Engine, FileBackend,
    MemoryBackend, NamespaceConfig, NamespaceStore,
};
use tempfile::TempDir;
use vmm_sys_util::eventfd::EventFd;

use crate::input::Input;
use crate::ram::{Margins, Ram};
use crate::storage::Moody;

/// Bytes of a namespace.
pub const DISK: u64 = 256 << 10;
/// CC of a driver that knows what it does.
pub const ENABLE: u32 = 1 | 6 << 16 | 4 << 20;
/// I/O queue pairs.
pub const QUEUES: u16 = 3;
/// Where data is, for those who do not look for trouble.
pub const DATA: u64 = 0x2_0000;
/// Doorbells in memory, and EventIdx in the page after.
pub const SHADOW: u64 = 0x8000;
/// The first address of each region.
pub const LOW: u64 = 0;
/// Behind the first without a gap in the guest's memory, and with one in the host's.
pub const NEXT: u64 = 0x8_0000;
/// Comes and goes.
pub const GUEST: u64 = 0x20_0000;
/// The drive may not write here.
pub const CONSTANT: u64 = 0x30_0000;
/// Far up.
pub const HIGH: u64 = 1 << 40;
/// Not mapped: whoever has it is asked.
pub const REMOTE: u64 = 0x40_0000;
/// The number of the region that comes and goes.
const COMES_AND_GOES: usize = 2;
/// Regions that nobody takes away.
pub const ALWAYS: usize = 2;
const REMOTE_SIZE: u64 = 0x1_0000;

const READ_ONLY: Permissions = Permissions {
    read: true,
    write: false,
};

/// Memory for games, one after the other.
///
/// # Errors
/// What the host says.
pub fn ram() -> io::Result<Arc<Ram>> {
    let ram = Ram::new(&[
        (LOW, 0x8_0000, Permissions::ALL),
        (NEXT, 0x8_0000, Permissions::ALL),
        (GUEST, 0x2_0000, Permissions::ALL),
        (CONSTANT, 0x1_0000, READ_ONLY),
        (HIGH, 0x1_0000, Permissions::ALL),
    ])?;
    Ok(Arc::new(ram))
}

/// An interrupt routing that leads nowhere.
struct Nowhere;

impl MsiRouter for Nowhere {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        Ok((0..).map(Route).take(vectors.len()).collect())
    }
    fn set_messages(&self, _: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        Ok(())
    }
    fn detach(&self, _: &[(Route, &EventFd)]) {}
}

impl IntxLine for Nowhere {
    fn set(&self, _: bool) {}
}

/// Memory that answers, or does not.
#[derive(Default)]
struct Elsewhere {
    refuses: AtomicBool,
}

impl Elsewhere {
    fn answer(&self) -> io::Result<()> {
        match self.refuses.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }
}

impl RemoteMemory for Elsewhere {
    fn read(&self, at: u64, data: &mut [u8]) -> io::Result<()> {
        data.fill(at as u8);
        self.answer()
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        self.answer()
    }

    fn cancel(&self, _: u64, _: u64) {}
}

/// A queue pair as its driver sees it.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Where the two queues are.
    pub base: [u64; 2],
    /// Entries of each.
    pub entries: u32,
    tail: u32,
    head: u32,
    phase: bool,
}

/// See the module's header.
pub struct Machine {
    /// The drive.
    pub controller: Arc<Controller>,
    /// The memory.
    pub ram: Arc<Ram>,
    /// The same, as the drive sees it.
    pub memory: GuestMemory,
    /// Storage with moods, where there is some.
    pub moody: Option<Arc<Moody>>,
    /// All storage that was configured.
    pub storage: Vec<Arc<dyn Backend>>,
    /// The queue pairs, of which the first is that of the admin queues.
    pub pairs: [Pair; QUEUES as usize + 1],
    /// Doorbells are in memory too.
    pub shadow: bool,
    elsewhere: Arc<Elsewhere>,
    /// The region that comes and goes: there, or gone with nobody at it any more.
    present: bool,
    gone: Arc<AtomicBool>,
    next_cid: u16,
    /// Queue and identifier of every command.
    sent: BTreeSet<(u16, u16)>,
    /// Files, gone with the machine.
    _folder: TempDir,
}

impl Machine {
    /// A machine as `input` wants it, powered on.
    ///
    /// # Errors
    /// What the host says where it gives no files or threads.
    pub fn new(ram: &Arc<Ram>, engine: &Arc<Engine>, input: &mut Input<'_>) -> io::Result<Self> {
        let margins = input.pick(&[Margins::Forbidden, Margins::Marked]);
        ram.begin(margins);
        let memory = ram.memory();
        let elsewhere = Arc::new(Elsewhere::default());
        let remote = Region::remote(
            REMOTE,
            REMOTE_SIZE,
            Arc::clone(&elsewhere) as _,
            Permissions::ALL,
        );
        if let Some(region) = remote {
            memory.add(region).map_err(io::Error::other)?;
        }
        let mut moody = None;
        let mut storage: Vec<Arc<dyn Backend>> = Vec::new();
        let kinds = input.byte();
        // In the host's memory, where files have no use for a ring, or not.
        let folder = match kinds & 16 {
            0 => TempDir::new()?,
            _ => TempDir::new_in("/dev/shm").or_else(|_| TempDir::new())?,
        };
        for kind in 0..3 {
            if kinds >> kind & 1 == 0 && kind > 0 {
                continue;
            }
            storage.push(match (kind + (kinds >> 6)) % 3 {
                0 => Arc::new(MemoryBackend::new(DISK)),
                1 => {
                    let path = folder.path().join("disk");
                    std::fs::File::create(&path)?.set_len(DISK)?;
                    Arc::new(FileBackend::open(&path, kinds & 8 != 0).map_err(io::Error::other)?)
                }
                _ => Arc::clone(moody.insert(Moody::new(DISK))) as _,
            });
        }
        let flags = input.byte();
        let store = (flags & 1 != 0).then(|| NamespaceStore {
            path: folder.path().join("store"),
            capacity: 1 << 20,
        });
        let namespaces = storage.iter().enumerate().map(|(number, backend)| {
            let block_size = [512, 4096][usize::from(flags >> (4 + number) & 1)];
            NamespaceConfig {
                block_size,
                ..NamespaceConfig::new(Arc::clone(backend))
            }
        });
        let config = ControllerConfig {
            id: "hostile".into(),
            serial: "SD0001".into(),
            model: "Sundown NVMe".into(),
            firmware: "1.0".into(),
            namespaces: namespaces.collect(),
            write_cache: flags & 2 == 0,
            namespace_store: store,
            state: (flags & 4 != 0).then(|| folder.path().join("state")),
            behaviour: Behaviour::default(),
            seed: 1,
            queue_limit: QUEUES,
            vectors: (flags & 8 != 0).then_some(2),
            attachment: Attachment::Express,
        };
        let connections = Connections {
            engine: Arc::clone(engine),
            memory: memory.clone(),
            router: Arc::new(Nowhere),
            intx: Some((IntxPin::A, Arc::new(Nowhere))),
            io_events: None,
        };
        let controller = Controller::new(config, connections).map_err(io::Error::other)?;
        let pair = |number: u64| Pair {
            base: [0x1_0000 + number * 0x2000, 0x1_1000 + number * 0x2000],
            entries: 64,
            tail: 0,
            head: 0,
            phase: true,
        };
        Ok(Self {
            controller,
            ram: Arc::clone(ram),
            memory,
            moody,
            storage,
            pairs: [0, 1, 2, 3].map(pair),
            shadow: false,
            elsewhere,
            present: true,
            gone: Arc::default(),
            next_cid: 0,
            sent: BTreeSet::new(),
            _folder: folder,
        })
    }

    /// Puts bytes into memory, as far as there is some.
    pub fn put(&self, address: u64, data: &[u8]) {
        if let Some((number, to)) = self.ram.at(address, data.len())
            && (number != COMES_AND_GOES || self.present)
        {
            to.copy_from(data);
        }
    }

    /// Takes bytes out of memory; zeroes where there is none.
    pub fn get(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        if let Some((number, from)) = self.ram.at(address, bytes)
            && (number != COMES_AND_GOES || self.present)
        {
            from.copy_to(&mut data);
        }
        data
    }

    /// Whether whoever has the memory elsewhere answers.
    pub fn refuse(&self, refuses: bool) {
        self.elsewhere.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Takes the region away that comes and goes, or brings it back if nobody is at it any more.
    pub fn move_region(&mut self) {
        if self.present {
            self.present = false;
            self.gone.store(false, Ordering::Release);
            let (gone, ram) = (Arc::clone(&self.gone), Arc::clone(&self.ram));
            let removed = self.memory.remove(GUEST, 0x2_0000, move || {
                ram.forbid(COMES_AND_GOES, true);
                gone.store(true, Ordering::Release);
            });
            assert!(removed.is_ok(), "a region that was there");
        } else if self.gone.load(Ordering::Acquire) {
            self.ram.forbid(COMES_AND_GOES, false);
            let added = self.memory.add(self.ram.region(COMES_AND_GOES));
            assert!(added.is_ok(), "no other region there");
            self.present = true;
        }
    }

    /// Whether the region that comes and goes is there, or is gone entirely.
    pub fn is_settled(&self) -> bool {
        self.present || self.gone.load(Ordering::Acquire)
    }
}
