//! The namespaces of a drive by their identifiers. Readers take no lock: a change swaps the table.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::gate::lock;
use crate::namespace::Namespace;
use crate::spec::{ALL_NAMESPACES, Status};

/// See the module's header.
pub(crate) struct Namespaces {
    /// Identifier 1 stands first.
    table: ArcSwap<Vec<Option<Arc<Namespace>>>>,
    /// Keeps two changes in order.
    changing: Mutex<()>,
    /// The largest identifier that a namespace can have: Identify's NN.
    limit: u32,
}

impl Namespaces {
    /// `namespaces` by their identifiers, none above `limit`.
    pub(crate) fn new(namespaces: Vec<Arc<Namespace>>, limit: u32) -> Self {
        let all = Self {
            table: ArcSwap::from_pointee(vec![None; limit as usize]),
            changing: Mutex::new(()),
            limit,
        };
        for namespace in namespaces {
            all.insert(namespace);
        }
        all
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
