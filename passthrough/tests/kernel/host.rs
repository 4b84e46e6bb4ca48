//! The host's side: which drives there are, and whose they are.

use std::fs;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use passthrough::Observer;
use passthrough::vfio::{HostPath, IommuBackend, Vfio, VfioHost};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// The drives that are bound to vfio-pci.
pub fn addresses() -> Vec<HostPath> {
    let given = std::env::var("LAB_VFIO").unwrap_or_default();
    let paths: Vec<_> = given
        .split_whitespace()
        .map(|address| HostPath::parse(address).unwrap())
        .collect();
    assert!(paths.len() > 1, "LAB_VFIO has to name two drives or more");
    paths
}

/// A machine of 64 MiB.
pub fn machine(backend: IommuBackend) -> (Arc<Vfio>, GuestMemoryMmap<()>) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
    let vfio = Vfio::new(VfioHost {
        memory: memory.clone(),
        backend,
        assignment: None,
    });
    (vfio, memory)
}

/// Takes the device from its driver: returns when whoever uses it has let go.
pub fn unbind(path: HostPath) {
    fs::write(
        format!("/sys/bus/pci/devices/{path}/driver/unbind"),
        path.to_string(),
    )
    .unwrap();
}

/// Has the driver take it that its `driver_override` names.
pub fn bind(path: HostPath) {
    fs::write("/sys/bus/pci/drivers_probe", path.to_string()).unwrap();
}

/// A register that is mapped.
#[allow(unsafe_code)]
pub fn load(register: *const u64) -> u64 {
    // SAFETY: callers have it mapped.
    unsafe { register.read_volatile() }
}

/// What an observer was told.
#[derive(Default)]
pub struct Notes {
    notes: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Notes {
    fn note(&self, note: &str) {
        println!("observer: {note}");
        self.notes.lock().unwrap().push(note.to_owned());
        self.changed.notify_all();
    }

    /// Whether a note begins with `start` before `limit` is over.
    pub fn wait_for(&self, start: &str, limit: Duration) -> bool {
        let notes = self.notes.lock().unwrap();
        let missing = |notes: &mut Vec<String>| !notes.iter().any(|note| note.starts_with(start));
        let (_notes, result) = self
            .changed
            .wait_timeout_while(notes, limit, missing)
            .unwrap();
        !result.timed_out()
    }
}

impl Observer for Notes {
    fn gone(&self, reason: &str) {
        self.note(&format!("gone: {reason}"));
    }

    fn back(&self) {
        self.note("back");
    }

    fn warn(&self, message: &str) {
        self.note(&format!("warning: {message}"));
    }
}
