//! Resets: of a device by itself, or of all that share its slot or bus (a hot reset), once for all of them.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Weak};
use std::time::Instant;

use tracing::debug;
use vfio_bindings::bindings::vfio::VFIO_DEVICE_FLAGS_RESET;

use super::error::OpenError;
use super::host_path::HostPath;
use super::ioctls::{Record, Request};
use super::opened::{Group, Opened};
use super::sysfs::{HostDevice, joined};
use super::{Vfio, VfioDevice};
use crate::client::{Client, ClientError};

mod set;

use set::Coming;
pub(super) use set::SharedReset;
pub use set::{ResetSet, UnfinishedReset};

/// How a device is reset.
pub(super) enum ResetMethod {
    /// By itself.
    Own,
    /// With others.
    Shared(Arc<SharedReset>),
}

impl ResetMethod {
    pub(super) fn is_own(&self) -> bool {
        match self {
            Self::Own => true,
            Self::Shared(shared) => shared.members.len() == 1,
        }
    }

    pub(super) fn set(&self) -> Option<ResetSet> {
        match self {
            Self::Own => None,
            Self::Shared(shared) => Some(shared.set.clone()),
        }
    }
}

/// More functions than hang on one bus with what is behind it, in all machines but odd ones.
const MAX_DEPENDENTS: usize = 256;

impl Vfio {
    /// How the device is reset, by what the kernel says of it.
    ///
    /// # Errors
    /// It cannot be, or only with functions that the host uses itself.
    pub(super) fn reset_method(
        &self,
        device: &HostDevice,
        flags: u32,
        opened: &Opened,
    ) -> Result<ResetMethod, OpenError> {
        if flags & VFIO_DEVICE_FLAGS_RESET != 0 {
            return Ok(ResetMethod::Own);
        }
        let name = device.path.to_string();
        let members = self.dependents(opened).map_err(|error| {
            let doing = match error.raw_os_error() {
                Some(libc::ENODEV) => {
                    "it cannot be passed through, since it cannot be reset: it has no function-level reset, and its \
                     bus has none either"
                }
                _ => "asking what it is reset with, since it has no function-level reset",
            };
            OpenError::refused(&name, doing, error)
        })?;
        let others = members
            .iter()
            .filter_map(|path| self.roots.look_up(*path).ok());
        let taken: Vec<_> = others.filter(|other| !other.is_handed_out()).collect();
        self.refuse_shared(&name, &taken)?;
        let mut shared = self.shared();
        shared.sets.retain(|set| set.strong_count() > 0);
        let known = shared.sets.iter().filter_map(Weak::upgrade);
        let set = known.into_iter().find(|set| set.members == members);
        let set = set.unwrap_or_else(|| {
            let set = Arc::new(SharedReset::new(members));
            shared.sets.push(Arc::downgrade(&set));
            set
        });
        Ok(ResetMethod::Shared(set))
    }

    /// `vfio_pci_hot_reset_info`: how many at 8, then 8 bytes each: 4 of the group or the device's number, 2 of the
    /// domain, the bus, slot and function.
    fn dependents(&self, opened: &Opened) -> io::Result<BTreeSet<HostPath>> {
        let mut record = Record::new(12 + 8 * MAX_DEPENDENTS);
        self.ioctls
            .call(opened.file.as_fd(), Request::HotResetInfo(&mut record))?;
        let count = (record.u32_at(8) as usize).min(MAX_DEPENDENTS);
        let path = |number: usize| {
            let at = 12 + 8 * number;
            let [bus, devfn] = record.u16_at(at + 6).to_ne_bytes();
            HostPath::with_devfn(u32::from(record.u16_at(at + 4)), bus, devfn)
        };
        Ok((0..count).map(path).collect())
    }

    /// The sets that reset `path` too, be it that it needs them or not.
    fn sets_with(&self, path: HostPath) -> Vec<Arc<SharedReset>> {
        let shared = self.shared();
        let sets = shared.sets.iter().filter_map(Weak::upgrade);
        sets.filter(|set| set.members.contains(&path)).collect()
    }

    fn refuse_shared(&self, device: &str, others: &[HostDevice]) -> Result<(), OpenError> {
        if others.is_empty() {
            return Ok(());
        }
        Err(OpenError::SharedReset {
            device: device.to_owned(),
            others: joined(others.iter().map(|other| other.path.to_string()), ", "),
            them: if others.len() == 1 { "it" } else { "them" },
            commands: joined(others.iter().map(|other| self.roots.hand_over(other)), "; "),
        })
    }
}

impl VfioDevice {
    /// # Errors
    /// A function of its set is not in a group that the machine has.
    pub(super) fn check_reset_set(&self) -> Result<(), OpenError> {
        let ResetMethod::Shared(shared) = &self.method else {
            return Ok(());
        };
        let groups: BTreeSet<_> = self
            .vfio
            .devices()
            .iter()
            .filter_map(|device| device.found.group)
            .collect();
        let others = shared.members.iter();
        let others: Vec<_> = others
            .filter_map(|path| self.vfio.roots.look_up(*path).ok())
            .filter(|other| !other.group.is_some_and(|group| groups.contains(&group)))
            .collect();
        self.vfio.refuse_shared(&self.name, &others)
    }

    /// Resets the device, or leaves that to the last one of its set. Others may have to be reset with it, though it
    /// can be reset by itself: they come to their reset once it has had its own, since theirs resets it too.
    pub(super) fn reset_now(&self) -> Result<(), ClientError> {
        let opened = self.opened()?;
        let own = match self.method {
            ResetMethod::Own => self.ask(&opened, Request::Reset, "reset"),
            ResetMethod::Shared(_) => Ok(()),
        };
        let put_off = matches!(&own, Err(error) if error.raw_os_error() == Some(libc::EAGAIN));
        let mut ended = own.map_err(|error| self.failed("reset", error));
        if put_off {
            return ended;
        }
        // It is at rest, whatever came of its own reset: the others need not lack theirs.
        for set in self.vfio.sets_with(self.found.path) {
            let coming = match &self.method {
                ResetMethod::Shared(own) if Arc::ptr_eq(own, &set) => Coming::ForReset,
                _ => Coming::AtRest,
            };
            let come = self.come_to(&set, coming, &opened);
            ended = ended.and(come);
        }
        ended
    }

    fn come_to(
        &self,
        set: &SharedReset,
        coming: Coming,
        opened: &Opened,
    ) -> Result<(), ClientError> {
        let present = self.vfio.devices();
        let present = present.iter().filter(|device| device.gone().is_none());
        let present = present
            .map(|device| device.found.path)
            .filter(|path| set.members.contains(path))
            .collect();
        let Some(turn) = set.come(self.found.path, coming, present) else {
            debug!(
                device = self.name,
                set = set.set.name,
                "its reset is left to the last of its set"
            );
            return Ok(());
        };
        let request = hot_reset(&self.groups_of(set, opened));
        let doing = format!("hot reset of {}", set.set.name);
        let ended = self.ask(opened, Request::HotReset(&request), &doing);
        set.ended(turn, ended.as_ref().err());
        ended.map_err(|error| self.refused(doing, error))
    }

    /// Has the kernel reset something, once. It answers EAGAIN where somebody else holds a lock that it needs for a
    /// moment: whoever asked for the reset knows how long to try.
    fn ask(&self, opened: &Opened, request: Request<'_>, doing: &str) -> io::Result<()> {
        let start = Instant::now();
        self.vfio.ioctls.call(opened.file.as_fd(), request)?;
        let milliseconds = start.elapsed().as_millis() as u64;
        debug!(device = self.name, milliseconds, "{doing}");
        Ok(())
    }

    /// Its guest uses it again: it is at rest no more, and its place in the next hot reset is open.
    pub(super) fn started(&self) {
        for set in self.vfio.sets_with(self.found.path) {
            if set.leave(self.found.path) {
                self.observer.warn(&format!(
                    "it goes on without its reset: not all of {} came to theirs",
                    set.set.name
                ));
            }
        }
    }

    /// It is gone: nobody waits for it, nor does it.
    pub(super) fn abandon_reset(&self) {
        for set in self.vfio.sets_with(self.found.path) {
            set.leave(self.found.path);
        }
    }

    /// The machine's groups, which the kernel compares with those of the set. None where devices are opened by their
    /// own nodes: the kernel knows then what belongs together.
    fn groups_of(&self, set: &SharedReset, opened: &Opened) -> Vec<Arc<Group>> {
        if opened.group().is_none() {
            return Vec::new();
        }
        let members = set.members.iter();
        let numbers: BTreeSet<_> = members
            .filter_map(|path| self.vfio.roots.look_up(*path).ok()?.group)
            .collect();
        let groups = self.vfio.groups().into_iter();
        groups
            .filter(|group| numbers.contains(&group.number))
            .collect()
    }
}

/// `vfio_pci_hot_reset`: flags at 4, how many groups at 8, their descriptors from 12 on.
fn hot_reset(groups: &[Arc<Group>]) -> Record {
    let mut record = Record::new(12 + 4 * groups.len());
    record.set_u32(8, groups.len() as u32);
    for (number, group) in groups.iter().enumerate() {
        record.set_u32(12 + 4 * number, group.file.as_raw_fd() as u32);
    }
    record
}
