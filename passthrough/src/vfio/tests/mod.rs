//! A host that is made in a folder, with a kernel before it that fails as it is told to.

pub(super) mod host;
mod interrupts;
mod leaving;
mod opening;
mod resets;
mod returning;
mod script;
mod sets;
mod vanishing;

use std::sync::{Arc, Condvar, Mutex};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use devices::lifecycle::Deadline;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{HostPath, IommuBackend, OpenError, Vfio, VfioDevice, VfioHost};
use crate::client::Observer;
use host::Host;
use script::Script;

const LONG: Duration = Duration::from_secs(20);

fn soon() -> Deadline {
    Deadline::after(LONG)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "not {what}");
        yield_now();
    }
}

/// A machine's VFIO on a host of its own.
struct Scene {
    host: Host,
    script: Arc<Script>,
    vfio: Arc<Vfio>,
}

impl Scene {
    /// A machine with these ranges of memory; drives are there once they are made.
    fn new(backend: IommuBackend, memory: &[(u64, usize)]) -> Self {
        let host = Host::new();
        let script = Arc::new(Script::new(&host));
        let ranges: Vec<_> = memory
            .iter()
            .map(|(start, size)| (GuestAddress(*start), *size))
            .collect();
        let machine = VfioHost {
            memory: GuestMemoryMmap::from_ranges(&ranges).unwrap(),
            backend,
            assignment: Some(script.clone()),
        };
        let vfio = Vfio::with_kernel(machine, script.clone(), host.roots());
        Self { host, script, vfio }
    }

    /// One with a single range of memory, and drives that are bound to vfio-pci: (address, group).
    fn with(drives: &[(&str, u32)]) -> Self {
        let scene = Self::new(IommuBackend::Auto, &[(0, 1 << 20)]);
        for (address, group) in drives {
            scene.host.device(address, *group, Some("vfio-pci"));
        }
        scene
    }

    /// Two functions of one slot that cannot be reset by themselves, in these groups.
    fn sharing(groups: [u32; 2]) -> Self {
        Self::slot(&[
            ("0000:03:00.0", groups[0], false),
            ("0000:03:00.1", groups[1], false),
        ])
    }

    /// Functions that a hot reset resets together: (address, group, whether it can be reset by itself too).
    fn slot(functions: &[(&str, u32, bool)]) -> Self {
        let drives: Vec<_> = functions
            .iter()
            .map(|(address, group, _)| (*address, *group))
            .collect();
        let scene = Self::with(&drives);
        for (address, group, by_itself) in functions {
            let path = HostPath::parse(address).unwrap();
            scene
                .script
                .dependents
                .lock()
                .unwrap()
                .insert((*group, path));
            if !by_itself {
                scene.script.not_by_itself.lock().unwrap().insert(path);
            }
        }
        scene
    }

    fn open(&self, address: &str) -> Result<Arc<VfioDevice>, OpenError> {
        self.open_for(address, &Arc::default())
    }

    fn open_for(&self, address: &str, notes: &Arc<Notes>) -> Result<Arc<VfioDevice>, OpenError> {
        self.vfio
            .open(&HostPath::parse(address).unwrap(), notes.clone())
    }

    /// Why it is not opened.
    fn refusal(&self, address: &str) -> String {
        let text = self.open(address).err().unwrap().to_string();
        assert!(text.starts_with(&format!("{address}: ")), "{text}");
        text
    }
}

/// What an observer was told.
#[derive(Default)]
struct Notes {
    notes: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Notes {
    fn note(&self, note: String) {
        self.notes.lock().unwrap().push(note);
        self.changed.notify_all();
    }

    fn all(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }

    /// Waits for a note that begins so.
    fn wait_for(&self, start: &str) {
        let notes = self.notes.lock().unwrap();
        let missing = |notes: &mut Vec<String>| !notes.iter().any(|note| note.starts_with(start));
        let waited = self.changed.wait_timeout_while(notes, LONG, missing);
        let (notes, result) = waited.unwrap();
        assert!(!result.timed_out(), "no {start:?} in {notes:?}");
    }
}

impl Observer for Notes {
    fn gone(&self, reason: &str) {
        self.note(format!("gone: {reason}"));
    }

    fn back(&self) {
        self.note("back".to_owned());
    }

    fn warn(&self, message: &str) {
        self.note(format!("warning: {message}"));
    }
}
