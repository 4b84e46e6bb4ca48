//! Why a device of the host cannot be passed through, and what mends it.

use std::io;

/// Why a device could not be opened. Each names the device, the reason, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there.
    #[error("{device}: the host has no such PCI device (`lspci -D` lists those that it has)")]
    NoSuchDevice {
        /// The device.
        device: String,
    },
    /// Nothing stands between it and the host's memory.
    #[error(
        "{device}: there is no IOMMU between the device and memory: turn it on in the host's firmware (VT-d, \
         AMD-Vi), and boot the host with the kernel parameter intel_iommu=on (Intel), or without amd_iommu=off (AMD)"
    )]
    NoIommu {
        /// The device.
        device: String,
    },
    /// Another driver has it.
    #[error("{device}: {bound}; hand it to vfio-pci, as root: `{commands}`")]
    NotBound {
        /// The device.
        device: String,
        /// Who has it.
        bound: String,
        /// What hands it over.
        commands: String,
    },
    /// VFIO, or the part of it that is needed, is not there.
    #[error("{device}: {node} is missing: {hint}")]
    NoNode {
        /// The device.
        device: String,
        /// The file that is missing.
        node: String,
        /// What to do.
        hint: &'static str,
    },
    /// Others in its IOMMU group are in the hands of the host's drivers.
    #[error(
        "{device}: its IOMMU group {group} can only be handed out as a whole, and the host uses {others} of it; hand \
         those to vfio-pci too, as root: `{commands}`"
    )]
    NotViable {
        /// The device.
        device: String,
        /// The group's number.
        group: u32,
        /// The others, with their drivers.
        others: String,
        /// What hands them over.
        commands: String,
    },
    /// Another process has it.
    #[error("{device}: another process uses it (`fuser -v {node}` says which one)")]
    Busy {
        /// The device.
        device: String,
        /// The file that it has open.
        node: String,
    },
    /// Others do something to it for longer than is waited for.
    #[error(
        "{device}: the host puts its opening off ({node}: EAGAIN), since something else resets it or changes its \
         driver; try again in a moment (`fuser -v {node}` says who has it open)"
    )]
    PutOff {
        /// The device.
        device: String,
        /// The file that was to be opened.
        node: String,
    },
    /// The user may not.
    #[error(
        "{device}: no permission to open {node}: run as root, or give it to this user, as root: `chown USER {node}`"
    )]
    NotPermitted {
        /// The device.
        device: String,
        /// The file.
        node: String,
    },
    /// Guest memory cannot be locked.
    #[error("{device}: locking guest memory for DMA, {needed} bytes: {reason}")]
    LockedMemory {
        /// The device.
        device: String,
        /// What is to be locked, in bytes.
        needed: u64,
        /// Why not, and what to do.
        reason: String,
    },
    /// Guest memory lies where the device cannot reach it.
    #[error(
        "{device}: the host's IOMMU does not reach guest memory at {first:#x} to {last:#x}, but {reach}: give the \
         guest less memory, or leave the device out"
    )]
    OutOfReach {
        /// The device.
        device: String,
        /// The first address out of reach.
        first: u64,
        /// The end of the guest's memory there.
        last: u64,
        /// What it reaches.
        reach: String,
    },
    /// It cannot be reset without others.
    #[error(
        "{device}: it can only be reset together with {others}, which this machine does not have; pass {them} through \
         too, bound to vfio-pci: `{commands}`"
    )]
    SharedReset {
        /// The device.
        device: String,
        /// The others.
        others: String,
        /// How they are referred to: it, or them.
        them: &'static str,
        /// What binds them.
        commands: String,
    },
    /// The host refused something else.
    #[error("{device}: {doing}: {source}")]
    Refused {
        /// The device.
        device: String,
        /// What was being done.
        doing: String,
        /// The host's error.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn refused(device: &str, doing: impl Into<String>, source: io::Error) -> Self {
        Self::Refused {
            device: device.to_owned(),
            doing: doing.into(),
            source,
        }
    }

    /// What opening `node`, or the device behind it, failed with.
    pub(super) fn opening(device: &str, node: &str, source: io::Error) -> Self {
        let (device, node) = (device.to_owned(), node.to_owned());
        match source.raw_os_error() {
            Some(libc::EBUSY) => Self::Busy { device, node },
            Some(libc::EAGAIN) => Self::PutOff { device, node },
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted { device, node },
            Some(libc::ENOENT) => Self::NoNode {
                device,
                node,
                hint: "load VFIO, as root: `modprobe vfio-pci`",
            },
            _ => Self::refused(&device, format!("opening {node}"), source),
        }
    }

    /// What mapping guest memory for DMA failed with, where the process may lock `limit` bytes.
    pub(super) fn mapping(
        device: &str,
        address: u64,
        needed: u64,
        limit: Option<u64>,
        source: io::Error,
    ) -> Self {
        if source.raw_os_error() != Some(libc::ENOMEM) {
            let doing = format!("mapping guest memory at {address:#x} for DMA");
            return Self::refused(device, doing, source);
        }
        Self::LockedMemory {
            device: device.to_owned(),
            needed,
            reason: locked_memory(limit, needed),
        }
    }
}

/// `limit` as the system counts it, in bytes; none is no limit.
fn locked_memory(limit: Option<u64>, needed: u64) -> String {
    // The process locks other memory too: rings, and what its libraries have.
    let ask = needed.div_ceil(1 << 10) + (64 << 10);
    match limit {
        Some(limit) if limit < ask << 10 => format!(
            "the limit on locked memory is {} KiB (RLIMIT_MEMLOCK); raise it for the shell that starts the machine, \
             `ulimit -l {ask}`, or for its unit, LimitMEMLOCK={ask}K",
            limit >> 10
        ),
        _ => "the host has not enough memory, or not enough for the IOMMU's tables: give the guest less \
              (`free -m` says what there is)"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn a_limit_on_locked_memory_is_named_with_what_is_needed() {
        let text = locked_memory(Some(8 << 20), 4 << 30);
        assert!(text.contains("8192 KiB"), "{text}");
        assert!(text.contains("`ulimit -l 4259840`"), "{text}");
        for enough in [None, Some(8 << 30)] {
            let text = locked_memory(enough, 4 << 30);
            assert!(!text.contains("ulimit"), "{text}");
        }
    }

    #[test]
    fn an_errno_becomes_what_it_means_for_a_user() {
        let node = "/dev/vfio/12";
        let text = |number| OpenError::opening("0000:01:00.0", node, os(number)).to_string();
        for (number, part) in [
            (libc::EBUSY, "fuser -v /dev/vfio/12"),
            (libc::EACCES, "chown USER /dev/vfio/12"),
            (libc::ENOENT, "modprobe vfio-pci"),
            (libc::EAGAIN, "try again in a moment"),
            (libc::EIO, "opening /dev/vfio/12: Input/output error"),
        ] {
            let text = text(number);
            assert!(text.starts_with("0000:01:00.0: "), "{text}");
            assert!(text.contains(part), "{text}");
        }
    }
}
