//! The namespaces of a drive by their identifiers. Readers take no lock: a change swaps the table.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::backend::FileBackend;
use crate::controller::NamespaceConfig;
use crate::gate::lock;
use crate::identity::{Identity, NamespaceNames};
use crate::namespace::Namespace;
use crate::spec::{ALL_NAMESPACES, Status};
use crate::state::Memory;
use crate::store::{Entry, NamespaceStore, Store, StoreError};

/// See the module's header.
pub(crate) struct Namespaces {
    /// Identifier 1 stands first.
    table: ArcSwap<Vec<Option<Arc<Namespace>>>>,
    /// Keeps two changes in order.
    changing: Mutex<()>,
    /// Namespaces of the configuration: the first ones.
    configured: u32,
    /// The largest identifier that a namespace can have: Identify's NN.
    limit: u32,
}

/// Identifiers beyond those of configured namespaces, for the guest to create some.
const CREATABLE: u32 = 64;

impl Namespaces {
    /// The configured namespaces, and those of the store.
    pub(crate) fn open(
        identity: &Identity,
        configured: Vec<NamespaceConfig>,
        store: Option<&NamespaceStore>,
    ) -> Result<(Self, Option<Store>), StoreError> {
        let count = configured.len() as u32;
        let limit = count + if store.is_some() { CREATABLE } else { 0 };
        let all = Self {
            table: ArcSwap::from_pointee(vec![None; limit as usize]),
            changing: Mutex::new(()),
            configured: count,
            limit,
        };
        for (id, namespace) in (1..).zip(configured) {
            all.insert(configure(identity, id, namespace));
        }
        let Some(store) = store else {
            return Ok((all, None));
        };
        let (store, created) = Store::open(store)?;
        for namespace in all.all() {
            namespace.set_attached(!store.is_detached(namespace.id));
        }
        for (entry, backend) in created {
            // The configuration may have grown over the identifier: it goes to a free one.
            let taken = all.allocated(entry.id).is_ok_and(|there| there.is_some());
            let id = if taken || entry.id > limit {
                all.free_id()
            } else {
                Some(entry.id)
            };
            let id = id.ok_or(StoreError::Full { limit })?;
            store.renumber(entry.number, id)?;
            all.insert(created_namespace(identity, &Entry { id, ..entry }, backend));
        }
        Ok((all, Some(store)))
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// The namespace `id`, attached or not; `None` where the identifier is free.
    ///
    /// # Errors
    /// The identifier is none that a namespace can have.
    pub(crate) fn allocated(&self, id: u32) -> Result<Option<Arc<Namespace>>, Status> {
        if id == 0 || id > self.limit || id == ALL_NAMESPACES {
            return Err(Status::INVALID_NAMESPACE);
        }
        Ok(self.table.load().get(id as usize - 1).cloned().flatten())
    }

    /// The namespace `id`, where it is attached (base 2.0, section 3.2.1.3).
    ///
    /// # Errors
    /// Invalid Namespace for an identifier that no namespace can have, Invalid Field for one that is inactive.
    pub(crate) fn active(&self, id: u32) -> Result<Arc<Namespace>, Status> {
        self.allocated(id)?
            .filter(|namespace| namespace.is_attached())
            .ok_or(Status::INVALID_FIELD)
    }

    /// Hands the namespace `id`, where it is attached, to `then`. No reference is counted.
    ///
    /// # Errors
    /// As for [`active`](Self::active), or what `then` says.
    pub(crate) fn with_active<T>(
        &self,
        id: u32,
        then: impl FnOnce(&Arc<Namespace>) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let table = self.table.load();
        let place = table.get((id as usize).wrapping_sub(1));
        match place.and_then(Option::as_ref) {
            Some(namespace) if namespace.is_attached() => then(namespace),
            _ => self.active(id).and_then(|namespace| then(&namespace)),
        }
    }

    /// All of them, ascending.
    pub(crate) fn all(&self) -> Vec<Arc<Namespace>> {
        self.table.load().iter().flatten().cloned().collect()
    }

    /// Those that are attached, ascending.
    pub(crate) fn all_active(&self) -> Vec<Arc<Namespace>> {
        let mut all = self.all();
        all.retain(|namespace| namespace.is_attached());
        all
    }

    /// Gives configured namespaces the formats that they had when the process ended.
    pub(crate) fn recall(&self, memory: &Memory) {
        for namespace in self.all() {
            if self.is_configured(namespace.id) {
                let configured = namespace.configured_block_size;
                namespace.set_block_size(memory.block_size(namespace.id, configured));
            }
        }
    }

    /// The lowest identifier that is free.
    pub(crate) fn free_id(&self) -> Option<u32> {
        let table = self.table.load();
        let at = table.iter().position(Option::is_none)?;
        Some(at as u32 + 1)
    }

    /// Whether the namespace stands in the configuration.
    pub(crate) fn is_configured(&self, id: u32) -> bool {
        id <= self.configured
    }

    /// Makes an identifier free. What is under way at the namespace goes on to its end.
    pub(crate) fn remove(&self, id: u32) {
        self.change(id, None);
    }

    /// Puts a namespace at its identifier.
    pub(crate) fn insert(&self, namespace: Arc<Namespace>) {
        let id = namespace.id;
        self.change(id, Some(namespace));
    }

    fn change(&self, id: u32, to: Option<Arc<Namespace>>) {
        let _order = lock(&self.changing);
        let mut table = self.table.load().to_vec();
        if let Some(place) = (id as usize)
            .checked_sub(1)
            .and_then(|at| table.get_mut(at))
        {
            *place = to;
        }
        self.table.store(Arc::new(table));
    }
}

fn configure(identity: &Identity, id: u32, config: NamespaceConfig) -> Arc<Namespace> {
    let NamespaceConfig {
        backend,
        block_size,
        eui64,
        nguid,
        uuid,
    } = config;
    let derived = identity.names(id.into());
    let names = NamespaceNames {
        eui64: eui64.unwrap_or(derived.eui64),
        nguid: nguid.unwrap_or(derived.nguid),
        uuid: uuid.unwrap_or(derived.uuid),
    };
    Arc::new(Namespace::new(id, backend, block_size, names))
}

/// A namespace of the store. Its names are those of its creation.
pub(crate) fn created_namespace(
    identity: &Identity,
    entry: &Entry,
    backend: FileBackend,
) -> Arc<Namespace> {
    const CREATIONS: u64 = 1 << 32;
    let names = identity.names(CREATIONS + entry.number);
    let namespace = Namespace::new(entry.id, Arc::new(backend), entry.block_size, names);
    namespace.set_attached(entry.attached);
    Arc::new(namespace)
}
