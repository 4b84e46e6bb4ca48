//! A kernel that says yes to everything, unless it was told to fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex};

use vfio_bindings::bindings::vfio::*;

use super::{Host, LONG};
use crate::vfio::ioctls::{Ioctls, IovaRange, Kernel, Record, Request};
use crate::vfio::{Assignment, HostPath};

/// Where the regions are in a device's file.
pub(super) const CONFIG_AT: u64 = 0;
pub(super) const BAR_AT: u64 = 0x1000;
pub(super) const BAR_SIZE: u64 = 0x2000;

/// See the module's header.
pub(super) struct Script {
    /// Where the files are that stand for devices once they are open.
    devices: PathBuf,
    /// Functions that have no reset of their own.
    pub(super) not_by_itself: Mutex<BTreeSet<HostPath>>,
    /// Functions that are reset with any other, with their groups.
    pub(super) dependents: Mutex<BTreeSet<(u32, HostPath)>>,
    /// The same for functions that are reset with fewer of them, or more.
    pub(super) dependents_of: Mutex<BTreeMap<HostPath, BTreeSet<(u32, HostPath)>>>,
    /// How many interrupts a device has: INTx, MSI, MSI-X, and the host's two.
    pub(super) interrupts: Mutex<[u32; 5]>,
    /// Size of BAR 0, in bytes.
    pub(super) bar_size: AtomicU64,
    /// BARs cannot be mapped.
    pub(super) unmappable: AtomicBool,
    /// What the process may lock, in bytes.
    pub(super) locked_memory: AtomicU64,
    /// What iommufd and containers reach.
    pub(super) reach: Mutex<Vec<IovaRange>>,
    /// Nobody is behind devices' files any more, nor to be opened.
    pub(super) vanished: AtomicBool,
    faults: Mutex<BTreeMap<&'static str, VecDeque<Fault>>>,
    calls: Mutex<Vec<&'static str>>,
    called: Condvar,
    irqs: Mutex<Vec<Vec<u32>>>,
    hot_resets: Mutex<Vec<u32>>,
    /// The last eventfd of each interrupt that the host rings by.
    rings: Mutex<BTreeMap<u32, OwnedFd>>,
    assigned: Mutex<Vec<String>>,
}

enum Fault {
    Errno(i32),
    Returns(u32),
    Hangs(Receiver<()>),
}

impl Script {
    pub(super) fn new(host: &Host) -> Self {
        let devices = host.roots().dev.join("opened");
        fs::create_dir(&devices).unwrap();
        Self {
            devices,
            not_by_itself: Mutex::default(),
            dependents: Mutex::default(),
            dependents_of: Mutex::default(),
            interrupts: Mutex::new([1, 8, 4, 1, 1]),
            bar_size: AtomicU64::new(BAR_SIZE),
            unmappable: AtomicBool::new(false),
            locked_memory: AtomicU64::new(u64::MAX),
            reach: Mutex::new(vec![IovaRange {
                first: 0,
                last: u64::MAX,
            }]),
            vanished: AtomicBool::new(false),
            faults: Mutex::default(),
            calls: Mutex::default(),
            called: Condvar::new(),
            irqs: Mutex::default(),
            hot_resets: Mutex::default(),
            rings: Mutex::default(),
            assigned: Mutex::default(),
        }
    }

    /// The next calls of this name fail so, one after the other; 0 is none that fails.
    pub(super) fn fail(&self, name: &'static str, errors: &[i32]) {
        let errors = errors.iter().map(|error| match error {
            0 => Fault::Returns(0),
            errno => Fault::Errno(*errno),
        });
        self.fault(name, errors);
    }

    /// The next call of this name returns this.
    pub(super) fn returns(&self, name: &'static str, number: u32) {
        self.fault(name, [Fault::Returns(number)]);
    }

    /// The next call of this name does not return until the answer is dropped.
    pub(super) fn hang(&self, name: &'static str) -> Sender<()> {
        let (release, wait) = channel();
        self.fault(name, [Fault::Hangs(wait)]);
        release
    }

    fn fault(&self, name: &'static str, faults: impl IntoIterator<Item = Fault>) {
        let mut all = self.faults.lock().unwrap();
        all.entry(name).or_default().extend(faults);
    }

    /// How often it was called.
    pub(super) fn count(&self, name: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| **call == name).count()
    }

    /// Waits until somebody has made this call.
    pub(super) fn wait_for(&self, name: &str) {
        let calls = self.calls.lock().unwrap();
        let missing = |calls: &mut Vec<&str>| !calls.contains(&name);
        let waited = self.called.wait_timeout_while(calls, LONG, missing);
        assert!(!waited.unwrap().1.timed_out(), "no {name}");
    }

    /// What `SET_IRQS` was told since this was asked for: flags, index, start, count, data.
    pub(super) fn irqs(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut self.irqs.lock().unwrap())
    }

    /// How many groups each hot reset was given.
    pub(super) fn hot_resets(&self) -> Vec<u32> {
        self.hot_resets.lock().unwrap().clone()
    }

    pub(super) fn assigned(&self) -> Vec<String> {
        self.assigned.lock().unwrap().clone()
    }

    /// Signals the eventfd of interrupt `index`.
    pub(super) fn ring(&self, index: u32) {
        let rings = self.rings.lock().unwrap();
        rustix::io::write(&rings[&index], &1_u64.to_ne_bytes()).unwrap();
    }

    /// How many descriptors of devices there are in this process.
    pub(super) fn open_devices(&self) -> usize {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter(|target| target.starts_with(&self.devices))
            .count()
    }

    /// What stands for a device: its registers.
    pub(super) fn registers_of(&self, address: &str) -> PathBuf {
        self.devices.join(address)
    }

    /// Whether the device that was opened as `file` has a reset of its own.
    fn resets_itself(&self, file: BorrowedFd<'_>) -> bool {
        // One that was opened by its own node is named otherwise, and has.
        let path = HostPath::parse(&name_of(file));
        !path.is_ok_and(|path| self.not_by_itself.lock().unwrap().contains(&path))
    }

    fn take_fault(&self, name: &'static str) -> io::Result<u32> {
        let fault = self
            .faults
            .lock()
            .unwrap()
            .get_mut(name)
            .and_then(VecDeque::pop_front);
        // Whoever waits for the call may make the same one, and is not to meet this one's fault.
        self.calls.lock().unwrap().push(name);
        self.called.notify_all();
        if self.vanished.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        match fault {
            None => Ok(0),
            Some(Fault::Returns(number)) => Ok(number),
            Some(Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Hangs(wait)) => {
                let _ = wait.recv();
                Ok(0)
            }
        }
    }

    fn region(&self, record: &mut Record) {
        let (size, at) = match record.u32_at(8) {
            0 => (self.bar_size.load(Ordering::Relaxed), BAR_AT),
            VFIO_PCI_CONFIG_REGION_INDEX => (0x100, CONFIG_AT),
            _ => (0, 0),
        };
        let mut flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        if !self.unmappable.load(Ordering::Relaxed) {
            flags |= VFIO_REGION_INFO_FLAG_MMAP;
        }
        record.set_u32(4, flags);
        record.set_u64(16, size);
        record.set_u64(24, at);
    }

    fn set_irqs(&self, record: &Record) {
        let words = record.bytes().chunks_exact(4);
        let words: Vec<_> = words
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        let index = words[2];
        if index >= VFIO_PCI_ERR_IRQ_INDEX {
            #[allow(unsafe_code)]
            // SAFETY: the caller has it open during the call.
            let event = unsafe { BorrowedFd::borrow_raw(words[5] as i32) };
            let event = event.try_clone_to_owned().unwrap();
            self.rings.lock().unwrap().insert(index, event);
        } else {
            self.irqs.lock().unwrap().push(words[1..].to_vec());
        }
    }

    fn hot_reset_set(&self, file: BorrowedFd<'_>, record: &mut Record) {
        let path = HostPath::parse(&name_of(file)).unwrap();
        let its_own = self.dependents_of.lock().unwrap().get(&path).cloned();
        let dependents = its_own.unwrap_or_else(|| self.dependents.lock().unwrap().clone());
        record.set_u32(8, dependents.len() as u32);
        for (number, (group, path)) in dependents.iter().enumerate() {
            let at = 12 + 8 * number;
            let devfn = path.slot << 3 | path.function;
            let [low, high] = (path.domain as u16).to_ne_bytes();
            record.set_u32(at, *group);
            record.set_u32(at + 4, u32::from_ne_bytes([low, high, path.bus, devfn]));
        }
    }
}

impl Ioctls for Script {
    fn call(&self, file: BorrowedFd<'_>, request: Request<'_>) -> io::Result<u32> {
        let name = format!("{request:?}");
        let name = NAMES.iter().find(|known| name.starts_with(**known));
        let number = self.take_fault(name.copied().unwrap_or("another"))?;
        match request {
            Request::HasExtension(_) => return Ok(1),
            Request::GroupStatus(status) => status.flags = VFIO_GROUP_FLAGS_VIABLE,
            Request::DeviceInfo(answer) => {
                answer.flags = VFIO_DEVICE_FLAGS_PCI;
                if self.resets_itself(file) {
                    answer.flags |= VFIO_DEVICE_FLAGS_RESET;
                }
                answer.num_regions = VFIO_PCI_NUM_REGIONS;
                answer.num_irqs = VFIO_PCI_NUM_IRQS;
            }
            Request::RegionInfo(record) => self.region(record),
            Request::IrqInfo(answer) => {
                answer.count = self.interrupts.lock().unwrap()[answer.index as usize]
            }
            Request::SetIrqs(record) => self.set_irqs(record),
            Request::HotResetInfo(record) => self.hot_reset_set(file, record),
            Request::HotReset(record) => self.hot_resets.lock().unwrap().push(record.u32_at(8)),
            Request::IoasRanges { ranges, .. } => ranges.clone_from(&self.reach.lock().unwrap()),
            _ => {}
        }
        Ok(number)
    }

    fn open(&self, node: &Path) -> io::Result<File> {
        self.take_fault("Open")?;
        Kernel.open(node)
    }

    fn read(&self, file: &File, at: u64, data: &mut [u8]) -> io::Result<()> {
        self.take_fault("Read")?;
        Kernel.read(file, at, data)
    }

    fn write(&self, file: &File, at: u64, data: &[u8]) -> io::Result<()> {
        self.take_fault("Write")?;
        Kernel.write(file, at, data)
    }

    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        self.take_fault("Thread")?;
        Kernel.spawn(name, work)
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        Some(self.locked_memory.load(Ordering::Relaxed))
    }

    fn device(&self, _group: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
        self.take_fault("Device")?;
        let registers = self.registers_of(name.to_str().unwrap());
        if !registers.exists() {
            fs::write(&registers, vec![0x5A; (BAR_AT + BAR_SIZE) as usize])?;
        }
        OpenOptions::new().read(true).write(true).open(registers)
    }
}

/// Beginnings of requests that tests ask for, as they are printed.
const NAMES: [&str; 11] = [
    "DeviceInfo",
    "MapDma",
    "IoasMap",
    "SetContainer",
    "SetIommu",
    "SetIrqs",
    "Reset",
    "HotReset(",
    "HotResetInfo",
    "BindIommufd",
    "Attach",
];

impl Assignment for Script {
    fn add(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.assigned
            .lock()
            .unwrap()
            .push(format!("+{}", name_of(file)));
        Ok(())
    }

    fn remove(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.assigned
            .lock()
            .unwrap()
            .push(format!("-{}", name_of(file)));
        Ok(())
    }
}

fn name_of(file: BorrowedFd<'_>) -> String {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    path.file_name().unwrap().to_string_lossy().into_owned()
}
