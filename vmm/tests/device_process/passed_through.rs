//! A drive of the process as a machine has it that passes it through: the client's own thread answers the drive, and
//! brings it back after it was killed.

mod function;

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use devices::lifecycle::Deadline;
use passthrough::client::{Area, Client, ClientError, IrqType, Observer};
use passthrough::vfio_user::{OpenError, UserDevice, UserOptions, connect};
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, VolatileMemory};
use vmm_sys_util::eventfd::EventFd;

use super::process::{Process, SOON};

const BAR0: u32 = 0;
const CONFIG: u32 = 7;
const CAP: u64 = 0;
const CSTS: u64 = 0x1C;
const ASQ: u64 = 0x1000;
const ACQ: u64 = 0x2000;
const DATA: u64 = 0x4000;
const SHADOW: u64 = 0x6000;
const EVENT_INDEX: u64 = 0x7000;
const SIZE: usize = 0x10_0000;
const ENTRIES: u32 = 16;
const POLL: Duration = Duration::from_millis(1);

/// What was said of the drive.
#[derive(Default)]
struct Watcher {
    said: Mutex<Vec<String>>,
    more: Condvar,
}

impl Watcher {
    fn say(&self, what: String) {
        self.said.lock().unwrap().push(what);
        self.more.notify_all();
    }

    fn hears(&self, word: &str) {
        let said = self.said.lock().unwrap();
        let quiet = |said: &mut Vec<String>| !said.iter().any(|said| said.contains(word));
        let waited = self.more.wait_timeout_while(said, SOON, quiet).unwrap();
        assert!(!waited.1.timed_out(), "{:?}", waited.0);
    }
}

impl Observer for Watcher {
    fn gone(&self, reason: &str) {
        self.say(format!("gone: {reason}"));
    }

    fn back(&self) {
        self.say("back".into());
    }

    fn warn(&self, message: &str) {
        self.say(message.into());
    }
}

/// A guest's driver in miniature.
struct Guest {
    device: Arc<UserDevice>,
    memory: GuestMemoryMmap<()>,
    watcher: Arc<Watcher>,
    tail: u32,
    head: u32,
    phase: bool,
}

fn memory() -> GuestMemoryMmap<()> {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(SIZE as u64).unwrap();
    let range = (GuestAddress(0), SIZE, Some(FileOffset::new(file, 0)));
    GuestMemoryMmap::from_ranges_with_files([range]).unwrap()
}

impl Guest {
    fn of(process: &Process) -> Self {
        let memory = memory();
        let watcher = Arc::new(Watcher::default());
        let started = Instant::now();
        let device = loop {
            let options = UserOptions {
                request_timeout: SOON,
                fence: false,
            };
            match connect(&process.socket(), options, &memory, watcher.clone()) {
                Ok(device) => break device,
                // It does not listen yet.
                Err(OpenError::Absent(_) | OpenError::NobodyListens(_)) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(started.elapsed() < SOON, "{}", process.log());
            sleep(POLL);
        };
        Self {
            device,
            memory,
            watcher,
            tail: 0,
            head: 0,
            phase: true,
        }
    }

    fn register(&self, offset: u64) -> Result<u32, ClientError> {
        let mut raw = [0; 4];
        self.device.read(BAR0, offset, &mut raw)?;
        Ok(u32::from_le_bytes(raw))
    }

    fn set(&self, offset: u64, value: u32) {
        let device = &self.device;
        device.write(BAR0, offset, &value.to_le_bytes()).unwrap();
    }

    /// Memory decoding and bus mastering; then the controller with its admin queues. MSI-X is the client's to turn on.
    fn enable(&mut self) {
        (self.tail, self.head, self.phase) = (0, 0, true);
        let clean = vec![0; 0x8000];
        self.memory.write_slice(&clean, GuestAddress(0)).unwrap();
        self.device.write(CONFIG, 4, &[6, 0]).unwrap();
        self.set(0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        for (offset, value) in [(0x28, ASQ as u32), (0x2C, 0), (0x30, ACQ as u32), (0x34, 0)] {
            self.set(offset, value);
        }
        self.set(0x14, 4 << 20 | 6 << 16 | 1);
        let started = Instant::now();
        while self.register(CSTS).unwrap() & 1 == 0 {
            assert!(started.elapsed() < SOON, "it does not become ready");
        }
    }

    /// An admin command, to its end.
    fn admin(&mut self, words: &[(usize, u32)]) {
        let at = ASQ + u64::from(self.tail) * 64;
        self.memory.write_slice(&[0; 64], GuestAddress(at)).unwrap();
        for (word, value) in words {
            let at = GuestAddress(at + *word as u64 * 4);
            self.memory.write_obj(*value, at).unwrap();
        }
        self.tail = (self.tail + 1) % ENTRIES;
        self.set(0x1000, self.tail);
        let entry = GuestAddress(ACQ + u64::from(self.head) * 16 + 12);
        let started = Instant::now();
        let status = loop {
            let found: u32 = self.memory.read_obj(entry).unwrap();
            if (found >> 16 & 1 == 1) == self.phase {
                break found >> 17;
            }
            assert!(started.elapsed() < SOON, "no completion");
            sleep(POLL);
        };
        assert_eq!(status, 0);
        self.head = (self.head + 1) % ENTRIES;
        self.phase ^= self.head == 0;
        self.set(0x1004, self.head);
    }

    /// The serial number that Identify Controller gives.
    fn serial(&mut self) -> String {
        self.admin(&[(0, 6), (6, DATA as u32), (10, 1)]);
        let mut raw = [0; 20];
        let at = GuestAddress(DATA + 4);
        self.memory.read_slice(&mut raw, at).unwrap();
        String::from_utf8_lossy(&raw).trim().to_owned()
    }

    /// An I/O queue pair, after its doorbells were put into memory.
    fn make_queues(&mut self) {
        self.admin(&[(0, 0x7C), (6, SHADOW as u32), (8, EVENT_INDEX as u32)]);
        let size = (ENTRIES - 1) << 16 | 1;
        self.admin(&[(0, 5), (6, 0x8000), (10, size), (11, 1)]);
        self.admin(&[(0, 1), (6, 0x9000), (10, size), (11, 1 << 16 | 1)]);
    }
}

fn soon() -> Deadline {
    Deadline::after(SOON)
}

#[test]
fn a_drive_is_opened_reset_killed_and_comes_back() {
    let mut process = Process::start("passed");
    let mut guest = Guest::of(&process);
    let device = Arc::clone(&guest.device);
    assert!(device.can_reset());
    assert!(device.irqs(IrqType::Msix) > 0);
    let mut cap = [0; 8];
    device.read(BAR0, CAP, &mut cap).unwrap();
    assert_ne!(cap, [0; 8]);
    guest.enable();
    assert_eq!(guest.serial(), "passed");
    device.reset(soon()).unwrap();
    assert_eq!(guest.register(CSTS).unwrap() & 1, 0, "as after power-on");
    guest.enable();

    process.kill();
    guest.watcher.hears("gone: the server has");
    assert!(matches!(
        guest.register(CSTS),
        Err(ClientError::Gone { .. })
    ));
    assert!(device.is_quiet(false), "its process has ended");
    assert!(device.revive(soon()).is_err());
    process.restart();
    let started = Instant::now();
    while let Err(error) = device.revive(soon()) {
        assert!(started.elapsed() < SOON, "{error}\n{}", process.log());
        sleep(POLL);
    }
    guest.watcher.hears("back");
    let mut again = [0; 8];
    device.read(BAR0, CAP, &mut again).unwrap();
    assert_eq!(again, cap);
    // It has guest memory again: queues and data are there.
    guest.enable();
    assert_eq!(guest.serial(), "passed");
    assert_eq!(process.terminate(), 0);
}

#[test]
fn a_drives_interrupts_reach_eventfds_and_its_own_stand_for_doorbells() {
    let process = Process::start("events");
    let mut guest = Guest::of(&process);
    let device = Arc::clone(&guest.device);
    let event = EventFd::new(libc::EFD_NONBLOCK).unwrap();
    // SAFETY: the eventfd outlives the borrow.
    #[allow(unsafe_code)]
    let lent = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
    device
        .connect(IrqType::Msix, 0, &[Some(lent), None])
        .unwrap();
    guest.enable();
    guest.serial();
    let started = Instant::now();
    while event.read().is_err() {
        assert!(started.elapsed() < SOON, "no interrupt");
        sleep(POLL);
    }
    device.disconnect(IrqType::Msix).unwrap();
    guest.serial();
    assert!(event.read().is_err(), "it is off");
    assert_eq!(device.io_events(BAR0).len(), 0, "no doorbells in memory");
    guest.make_queues();
    let found: Vec<_> = device
        .io_events(BAR0)
        .iter()
        .map(|event| event.offset)
        .collect();
    assert_eq!(found, [0x1008]);
    device.reset(soon()).unwrap();
    assert_eq!(device.io_events(BAR0).len(), 0);
}

#[test]
fn a_drives_page_of_doorbells_is_mapped() {
    let process = Process::start_with("page", &["--doorbells", "mapped"]);
    let mut guest = Guest::of(&process);
    let page = Area {
        offset: 0x1000,
        size: 0x1000,
    };
    assert_eq!(guest.device.region(BAR0).areas, [page]);
    let mapping = guest.device.map(BAR0, page).unwrap();
    guest.enable();
    guest.serial();
    let doorbell = mapping.get_ref::<u32>(0).unwrap();
    assert_eq!(
        doorbell.load(),
        1,
        "what was rung by a message is there too"
    );
}
