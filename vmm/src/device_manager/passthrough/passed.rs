//! What devices that are passed through have come to, and what is done about it. On the main thread.

use std::thread;

use api::state::{DmaInfo, PassthroughNode};
use devices::lifecycle::Device;

use super::{AT_ONCE, DeviceNews, Devices, Passthrough};

impl Passthrough {
    /// Whether news are of a device of this machine.
    pub(in crate::device_manager) fn is_ours(&self, of: &Devices) -> bool {
        std::ptr::eq(&*self.mark, of)
    }

    /// Notes what has become of a device. Returns whether that is news.
    pub(in crate::device_manager) fn note(&mut self, id: &str, news: &DeviceNews) -> bool {
        let Some(passed) = self.passed.get_mut(id) else {
            return false;
        };
        match news {
            DeviceNews::Gone(_) => {
                // The host waits for what is mapped of it, unless it is back by now.
                passed.function.let_go();
                !std::mem::replace(&mut passed.away, true)
            }
            DeviceNews::Back => std::mem::replace(&mut passed.away, false),
            DeviceNews::Warning(_) => true,
        }
    }

    /// The devices that are passed through.
    pub(in crate::device_manager) fn ids(&self) -> impl Iterator<Item = &str> {
        self.passed.keys().map(String::as_str)
    }

    /// Whether a device is passed through.
    pub(in crate::device_manager) fn has(&self, id: &str) -> bool {
        self.passed.contains_key(id)
    }

    /// Whether a device is there, and the guest may see it: no reset of it has failed since its last teardown.
    pub(in crate::device_manager) fn is_there(&self, id: &str) -> bool {
        self.passed.get(id).is_some_and(|passed| {
            !passed.function.is_lost() && passed.function.client().gone().is_none()
        })
    }

    /// Why a device is not there for the guest.
    pub(in crate::device_manager) fn why_away(&self, id: &str) -> Option<String> {
        let function = &self.passed.get(id)?.function;
        let lost = || {
            function
                .is_lost()
                .then(|| "a reset of it has failed, or it was gone".to_owned())
        };
        function.client().gone().or_else(lost)
    }

    /// Notes that the guest sees a device again. Returns whether users took it for gone until now.
    pub(in crate::device_manager) fn is_seen_again(&mut self, id: &str) -> bool {
        let Some(passed) = self.passed.get_mut(id) else {
            return false;
        };
        passed.left_out = false;
        std::mem::replace(&mut passed.away, false)
    }

    /// Notes that the user has the machine booted without a device.
    pub(in crate::device_manager) fn leave_out(&mut self, id: &str) {
        if let Some(passed) = self.passed.get_mut(id) {
            passed.left_out = true;
        }
    }

    /// Whether the user has had the machine booted without a device, which the guest has not seen since.
    pub(in crate::device_manager) fn is_left_out(&self, id: &str) -> bool {
        self.passed.get(id).is_some_and(|passed| passed.left_out)
    }

    /// Has vCPUs that wait for a device in an access return at once. Does not block.
    pub(in crate::device_manager) fn cancel_waits(&self) {
        for passed in self.passed.values() {
            passed.function.cancel_waits();
        }
    }

    /// What is behind a device.
    pub(in crate::device_manager) fn node(&self, id: &str) -> Option<PassthroughNode> {
        let passed = self.passed.get(id)?;
        let client = passed.function.client();
        Some(PassthroughNode {
            host: client.name().to_owned(),
            gone: client.gone(),
            reset_set: passed.shared_reset(),
        })
    }

    /// What the IOMMU has of guest memory.
    pub(in crate::device_manager) fn dma(&self) -> Option<DmaInfo> {
        let tally = self.vfio.get()?.dma();
        Some(DmaInfo {
            bytes: tally.bytes,
            ranges: tally.ranges,
            took_ns: u64::try_from(tally.took.as_nanos()).unwrap_or(u64::MAX),
            maps: tally.maps,
        })
    }

    /// Gives all devices back, side by side: the kernel resets each of its own.
    pub(in crate::device_manager) fn release(&self) {
        let functions: Vec<_> = self
            .passed
            .values()
            .map(|passed| &passed.function)
            .collect();
        for some in functions.chunks(AT_ONCE) {
            thread::scope(|scope| {
                for function in some {
                    let release = || function.release();
                    let thread = thread::Builder::new().name("release".to_owned());
                    if thread.spawn_scoped(scope, release).is_err() {
                        // The host has no thread to spare.
                        function.release();
                    }
                }
            });
        }
    }
}
