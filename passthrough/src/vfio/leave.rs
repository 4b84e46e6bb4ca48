//! The end of a device: taken back by the host, or given back to it; and its return.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use devices::lifecycle::Deadline;
use tracing::warn;

use super::VfioDevice;
use super::device::{COMMAND, COMMAND_BUS_MASTER};
use super::facts::Facts;
use super::opened::Opened;
use super::opening::{PATIENCE, Patience};
use super::reset::ResetMethod;
use super::sysfs::HostDevice;
use crate::client::{Client, ClientError, region};
use crate::naps::Naps;

/// How long a device's users are waited for before somebody is told.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// What a device that was released answers from then on.
const RELEASED: &str = "it was given back to the host";

/// The end of a device's file that no thread waits for: comes with it.
pub(super) struct Ending(Arc<VfioDevice>);

impl Drop for Ending {
    fn drop(&mut self) {
        let Self(device) = self;
        // The call that had it last may have mapped more of it.
        device.mappings.blank();
        device.quiet.store(true, Ordering::Release);
        device.closing.fetch_sub(1, Ordering::AcqRel);
    }
}

impl VfioDevice {
    /// The device is gone from now on. What it has of the host is closed by a thread of its own, as soon as nobody
    /// uses it: that takes the kernel a tenth of a second and more.
    pub(super) fn leave(&self, reason: &str) {
        let Some(opened) = self.part(reason) else {
            return;
        };
        self.observer.gone(reason);
        let Some(device) = self.this.upgrade() else {
            return;
        };
        let (its, file) = (device.clone(), opened.clone());
        let close = Box::new(move || its.close_when_unused(file));
        if let Err(error) = self.vfio.ioctls.spawn("vfio-close", close) {
            warn!(
                device = self.name,
                "no thread to close it: whoever uses it last does: {error}"
            );
            self.cut_off(&opened);
            opened.ends_with(Ending(device));
        }
    }

    /// Closes what the device has of the host, here and now.
    pub(super) fn close(&self) {
        if let Some(opened) = self.part(RELEASED) {
            self.mappings.blank();
            drop(opened);
            self.quiet.store(true, Ordering::Release);
            self.closing.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Takes the device's file away from whoever calls from now on, and leaves it to the caller, who counts it as
    /// closed. None if that was done before.
    fn part(&self, reason: &str) -> Option<Arc<Opened>> {
        // Before the file goes, so that nobody finds neither.
        if self.reason.load().is_none() {
            self.reason.store(Some(Arc::new(reason.to_owned())));
        }
        // And before that, so that nobody opens it anew in between.
        self.closing.fetch_add(1, Ordering::AcqRel);
        let Some(opened) = self.opened.swap(None) else {
            self.closing.fetch_sub(1, Ordering::AcqRel);
            return None;
        };
        self.unwatch();
        self.abandon_reset();
        Some(opened)
    }

    /// Nobody reaches it by what is mapped of it, and it reaches no memory.
    fn cut_off(&self, opened: &Opened) {
        // The guest is the first to see it.
        self.mappings.blank();
        match self.end_dma(opened) {
            Ok(ended) => self.quiet.store(ended, Ordering::Release),
            Err(error) => warn!(device = self.name, "turning its bus mastering off: {error}"),
        }
    }

    fn close_when_unused(&self, opened: Arc<Opened>) {
        self.cut_off(&opened);
        let (start, mut naps, mut told) = (Instant::now(), Naps::default(), false);
        // Calls that are under way may map more of it.
        while Arc::strong_count(&opened) > 1 || !self.mappings.blank() {
            naps.sleep();
            if !told && start.elapsed() > TELL_AFTER {
                told = true;
                self.observer
                    .warn("it is still mapped or in use: the host waits for it");
            }
        }
        drop(opened);
        self.quiet.store(true, Ordering::Release);
        self.closing.fetch_sub(1, Ordering::AcqRel);
    }

    /// Waits until what it had of the host is closed, and says whether it is. Opened before that, it would be blanked
    /// and called quiet by the one that closes it.
    fn is_closed(&self, by: Deadline) -> bool {
        let mut naps = Naps::default();
        loop {
            let is_closed = self.closing.load(Ordering::Acquire) == 0;
            if is_closed || !naps.sleep_before(by) {
                return is_closed;
            }
        }
    }

    /// Turns bus mastering off, and says whether it is.
    fn end_dma(&self, opened: &Opened) -> io::Result<bool> {
        let at = self.regions[region::CONFIG as usize].at + COMMAND;
        let (ioctls, file) = (&self.vfio.ioctls, &opened.file);
        let mut command = [0; 2];
        ioctls.read(file, at, &mut command)?;
        let off = u16::from_le_bytes(command) & !COMMAND_BUS_MASTER;
        ioctls.write(file, at, &off.to_le_bytes())?;
        ioctls.read(file, at, &mut command)?;
        Ok(u16::from_le_bytes(command) & COMMAND_BUS_MASTER == 0)
    }

    /// Opens a device anew that was taken back, once it is bound to VFIO again.
    pub(super) fn open_anew(&self, by: Deadline) -> Result<(), ClientError> {
        let Some(reason) = self.gone() else {
            return Ok(());
        };
        let still = |why: String| ClientError::Gone {
            device: self.name.clone(),
            reason: format!("{reason}; {why}"),
        };
        if reason == RELEASED || by.remaining().is_zero() {
            return Err(still("it is not opened anew".to_owned()));
        }
        if !self.is_closed(by.min(Deadline::after(PATIENCE))) {
            return Err(still("it is still in use, and not closed yet".to_owned()));
        }
        let found = self
            .vfio
            .roots
            .look_up(self.found.path)
            .map_err(|error| still(error.to_string()))?;
        let kind = |device: &HostDevice| (device.vendor, device.device, device.class);
        if kind(&found) != kind(&self.found) {
            let named =
                |(vendor, device, class)| format!("{vendor:04x}:{device:04x} of class {class:06x}");
            return Err(still(format!(
                "another device is in its place: {}, which was {}",
                named(kind(&found)),
                named(kind(&self.found))
            )));
        }
        let opened = self
            .vfio
            .open_device(&found, &mut Patience::new(PATIENCE, Some(by)))
            .map_err(|error| still(error.to_string()))?;
        let facts = Facts::ask(&self.vfio, &self.name, &opened)
            .map_err(|error| still(error.to_string()))?;
        if let Some(difference) = facts.difference(&self.regions, self.irqs) {
            return Err(still(format!(
                "it came back as another device: {difference}; make the machine anew to have it"
            )));
        }
        if let ResetMethod::Own = self.method
            && let Ok(ResetMethod::Shared(_)) = self.vfio.reset_method(&found, facts.flags, &opened)
        {
            return Err(still("it can no longer be reset by itself".to_owned()));
        }
        self.quiet.store(false, Ordering::Release);
        self.sessions.fetch_add(1, Ordering::AcqRel);
        self.opened.store(Some(Arc::new(opened)));
        self.reason.store(None);
        self.watch(&facts.alarms);
        self.observer.back();
        Ok(())
    }
}
