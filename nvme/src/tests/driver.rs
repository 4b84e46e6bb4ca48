//! A guest's driver in miniature: queues in guest memory, doorbells, and the register dance.

mod queues;

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use devices::interrupt::{IntxLine, MsiMessage, MsiRouter, Route};
use devices::memory::GuestMemory;
use devices::pci::{Attachment, IntxPin, PciFunction};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;
use zerocopy::IntoBytes;

use super::backend::TestBackend;
use super::machine::Machine;
use crate::faults::FaultSet;
use crate::spec::command::admin;
use crate::spec::registers::offset;
use crate::spec::{Completion, Status, Submission};
use crate::{
    Backend, Behaviour, Connections, Controller, ControllerConfig, ControllerError, Engine,
    NamespaceConfig,
};

pub(super) const MEMORY: u64 = 16 << 20;
pub(super) const DATA: u64 = 8 << 20;
/// Doorbells of the guest, and EventIdx in the page after.
pub(super) const SHADOW: u64 = 0xE_0000;
pub(super) const DISK: u64 = 4 << 20;
pub(super) const ENABLE: u32 = 1 | 6 << 16 | 4 << 20;
const ENTRIES: u32 = 64;
const SOON: Duration = Duration::from_secs(20);

/// Counts what is asked of the machine's interrupt routing.
#[derive(Default)]
pub(super) struct Router(pub(super) Mutex<Vec<Option<MsiMessage>>>);

impl MsiRouter for Router {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        let mut routes = self.0.lock().unwrap();
        let first = routes.len() as u32;
        routes.extend(vectors.iter().map(|_| None));
        Ok((first..).map(Route).take(vectors.len()).collect())
    }

    fn set_messages(&self, changes: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        let mut routes = self.0.lock().unwrap();
        for (route, message) in changes {
            routes[route.0 as usize] = *message;
        }
        Ok(())
    }

    fn detach(&self, _: &[(Route, &EventFd)]) {}
}

#[derive(Default)]
pub(super) struct Line(pub(super) Mutex<bool>);

impl IntxLine for Line {
    fn set(&self, asserted: bool) {
        *self.0.lock().unwrap() = asserted;
    }
}

struct Queue {
    tail: u32,
    head: u32,
    phase: bool,
    /// Completions that were read while another one was waited for.
    early: Vec<Completion>,
}

/// A machine with one drive, and the driver's state.
pub(super) struct Guest {
    pub(super) memory: GuestMemory,
    pub(super) controller: Arc<Controller>,
    pub(super) router: Arc<Router>,
    pub(super) line: Arc<Line>,
    pub(super) machine: Arc<Machine>,
    /// Where BAR 0 is.
    bar: Option<u64>,
    queues: HashMap<u16, Queue>,
    /// Doorbells of I/O queues are in memory.
    shadow: bool,
    /// How often a doorbell was written.
    pub(super) rings: AtomicU64,
    next_cid: u16,
}

/// A controller over `backends`, with four I/O queue pairs.
pub(super) fn config(backends: Vec<Arc<dyn Backend>>) -> ControllerConfig {
    ControllerConfig {
        id: "drive0".into(),
        serial: "SD0001".into(),
        model: "Sundown NVMe".into(),
        firmware: "1.0".into(),
        namespaces: backends.into_iter().map(NamespaceConfig::new).collect(),
        write_cache: true,
        namespace_store: None,
        state: None,
        behaviour: Behaviour::default(),
        seed: 1,
        queue_limit: 4,
        vectors: None,
        attachment: Attachment::Express,
    }
}

/// Waits for `done`, for a time that only a hang exceeds.
pub(super) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let by = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < by, "{what} did not happen");
        std::thread::sleep(Duration::from_micros(200));
    }
}

impl Guest {
    /// A machine with a drive in memory, powered on.
    pub(super) fn new() -> Self {
        Self::with(config(vec![TestBackend::new(DISK)]))
    }

    pub(super) fn on(backend: Arc<TestBackend>) -> Self {
        Self::with(config(vec![backend]))
    }

    pub(super) fn with(config: ControllerConfig) -> Self {
        Self::try_with(config).unwrap()
    }

    pub(super) fn try_with(config: ControllerConfig) -> Result<Self, ControllerError> {
        Self::try_on(config, Engine::new(NonZeroUsize::new(2)).unwrap())
    }

    pub(super) fn on_engine(config: ControllerConfig, engine: Arc<Engine>) -> Self {
        Self::try_on(config, engine).unwrap()
    }

    fn try_on(config: ControllerConfig, engine: Arc<Engine>) -> Result<Self, ControllerError> {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap();
        let (router, line) = (Arc::new(Router::default()), Arc::new(Line::default()));
        let machine = Arc::new(Machine::default());
        let connections = Connections {
            engine,
            memory: memory.clone(),
            router: Arc::clone(&router) as _,
            intx: Some((IntxPin::A, Arc::clone(&line) as _)),
            io_events: Some(Arc::clone(&machine) as _),
        };
        let controller = Controller::new(config, connections)?;
        let guest = Self {
            memory,
            controller,
            router,
            line,
            machine,
            bar: None,
            queues: HashMap::new(),
            shadow: false,
            rings: AtomicU64::new(0),
            next_cid: 0,
        };
        guest.power_up();
        Ok(guest)
    }

    /// What firmware does: memory decoding and bus mastering on.
    pub(super) fn power_up(&self) {
        self.controller.write_config(4, 0b110, 0xFFFF);
    }

    /// Turns MSI-X on with a message for every vector.
    pub(super) fn enable_msix(&self) {
        for vector in 0..5_u64 {
            let entry = [0xFEE0_0000_u32, 0, vector as u32 + 32, 0];
            self.controller
                .write_bar(0, 0x2000 + vector * 16, entry.as_bytes());
        }
        let at = self.capability(0x11);
        self.controller.write_config(at, 1 << 31, 0xFFFF_0000);
    }

    /// Where a capability is in the configuration space.
    pub(super) fn capability(&self, id: u8) -> u16 {
        let mut at = self.controller.read_config(0x34) as u16 & 0xFF;
        while at != 0 {
            let header = self.controller.read_config(at);
            if header as u8 == id {
                return at;
            }
            at = (header >> 8 & 0xFF) as u16;
        }
        panic!("capability {id:#x} is missing");
    }

    /// How often `vector` interrupted since the last look.
    pub(super) fn interrupts(&self, vector: u16) -> u64 {
        let msix = self.controller.drive.endpoint.msix().unwrap();
        msix.event(vector).unwrap().read().unwrap_or(0)
    }

    /// Puts `faults` in the place of all before; the rest of the drive behaves as by default.
    pub(super) fn set_faults(&self, faults: &FaultSet) {
        self.controller.set_behaviour(&Behaviour {
            faults: faults.clone(),
            ..Behaviour::default()
        });
    }

    pub(super) fn read(&self, at: u64) -> u32 {
        let mut raw = [0; 4];
        self.controller.read_bar(0, at, &mut raw);
        u32::from_le_bytes(raw)
    }

    /// Puts BAR 0 at an address, or nowhere.
    pub(super) fn place(&mut self, at: Option<u64>) {
        self.bar = at;
        self.controller.placed(0, at.map(GuestAddress));
    }

    pub(super) fn write(&self, at: u64, value: u32) {
        if self.bar.is_some_and(|bar| self.machine.signal(bar + at)) {
            return;
        }
        self.controller.write_bar(0, at, &value.to_le_bytes());
    }

    pub(super) fn csts(&self) -> u32 {
        self.read(offset::CSTS)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.csts() & 1 == 1
    }

    /// CSTS.SHST.
    pub(super) fn shst(&self) -> u32 {
        self.csts() >> 2 & 3
    }

    pub(super) fn has_failed(&self) -> bool {
        self.csts() & 2 != 0
    }

    fn base(queue: u16) -> (u64, u64) {
        let base = 0x10_0000 + u64::from(queue) * 0x2_0000;
        (base, base + 0x1_0000)
    }

    /// Programs the admin queues and sets CC.EN, without waiting.
    pub(super) fn start_enabling(&mut self) {
        let (sq, cq) = Self::base(0);
        self.write(offset::AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        self.controller.write_bar(0, offset::ASQ, &sq.to_le_bytes());
        self.controller.write_bar(0, offset::ACQ, &cq.to_le_bytes());
        self.queues.clear();
        self.shadow = false;
        self.forget(0);
        self.write(offset::CC, ENABLE);
    }

    pub(super) fn enable(&mut self) {
        self.start_enabling();
        eventually("ready", || self.is_ready());
    }

    /// Enabled, with I/O queue pair 1.
    pub(super) fn up() -> Self {
        Self::up_on(TestBackend::new(DISK))
    }

    /// The same, on this storage.
    pub(super) fn up_on(backend: Arc<TestBackend>) -> Self {
        Self::up_with(config(vec![backend]))
    }

    /// The same, with this configuration.
    pub(super) fn up_with(config: ControllerConfig) -> Self {
        let mut guest = Self::with(config);
        guest.enable();
        guest.create_pair(1);
        guest
    }

    /// Memory decoding on, bus mastering off.
    pub(super) fn disable_bus_master(&self) {
        self.controller.write_config(4, 0b010, 0xFFFF);
    }

    pub(super) fn fill(&self, at: u64, data: &[u8]) {
        self.memory.write_slice(data, GuestAddress(at)).unwrap();
    }

    pub(super) fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.memory.read_slice(&mut data, GuestAddress(at)).unwrap();
        data
    }
}

/// Dword 0, or the status.
pub(super) fn result(found: &Completion) -> Result<u32, u16> {
    match found.status_phase >> 1 {
        0 => Ok(found.dw0),
        status => Err(status),
    }
}

/// A status as `Guest::run` returns it.
pub(super) fn refused(status: Status) -> Result<u32, u16> {
    Err(status.bits())
}

/// An I/O command on namespace 1.
pub(super) fn transfer(opcode: u8, block: u64, blocks: u32, prp1: u64, prp2: u64) -> Submission {
    Submission {
        opcode,
        nsid: 1,
        prp1,
        prp2,
        cdw10: block as u32,
        cdw11: (block >> 32) as u32,
        cdw12: blocks - 1,
        ..Submission::zeroed()
    }
}
