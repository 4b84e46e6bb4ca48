//! What transfers of a burst have in common: taken once, and held by each of them to its end.

use std::fs::File;
use std::sync::Arc;

use devices::memory::{MemoryMap, View};

use crate::namespace::Namespace;

/// See the module's header.
pub(crate) struct Lease {
    pub(crate) namespace: Arc<Namespace>,
    pub(super) file: Arc<File>,
    /// Keeps the memory of the vectors mapped.
    memory: Option<Arc<MemoryMap>>,
}

impl Lease {
    /// For a transfer that moves no data. `None` where the storage has no file.
    pub(crate) fn without_memory(namespace: &Arc<Namespace>, alignment: u64) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            file: namespace.backend().ring_file(alignment)?,
            namespace: Arc::clone(namespace),
            memory: None,
        }))
    }
}

/// The lease that was taken last, with the alignment that it was taken for.
#[derive(Default)]
pub(super) struct Leases(Option<(u64, Arc<Lease>)>);

impl Leases {
    /// A lease for transfers of this alignment between `memory` and the file of a namespace.
    pub(super) fn take(
        &mut self,
        namespace: &Arc<Namespace>,
        memory: &View,
        alignment: u64,
    ) -> Option<Arc<Lease>> {
        if let Some((of, lease)) = &self.0
            && *of == alignment
            && Arc::ptr_eq(&lease.namespace, namespace)
            && (lease.memory.as_deref()).is_some_and(|map| std::ptr::eq(map, &**memory))
        {
            return Some(Arc::clone(lease));
        }
        let lease = Arc::new(Lease {
            file: namespace.backend().ring_file(alignment)?,
            namespace: Arc::clone(namespace),
            memory: Some(memory.keep()),
        });
        self.0 = Some((alignment, Arc::clone(&lease)));
        Some(lease)
    }

    /// Takes the next one anew: the storage may have been closed since, the memory have gone.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }
}
