//! How a user names a device of the host.

use std::fmt;

/// A PCI function of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPath {
    /// Its domain, also called segment.
    pub domain: u32,
    /// Its bus.
    pub bus: u8,
    /// Its slot on the bus, 0 to 31.
    pub slot: u8,
    /// Its number in the slot, 0 to 7.
    pub function: u8,
}

/// What is given is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{given}\" is no PCI device: give an address (0000:01:00.0, or 01:00.0 for domain 0), or a path that ends \
     with one (/sys/bus/pci/devices/0000:01:00.0)"
)]
pub struct HostPathError {
    /// What it was.
    pub given: String,
}

impl HostPath {
    /// Reads an address with or without its domain, or a path in sysfs that ends with one.
    ///
    /// # Errors
    /// It is neither. Whether there is such a device is found out when it is opened.
    pub fn parse(given: &str) -> Result<Self, HostPathError> {
        let name = match given.strip_prefix('/') {
            Some(path) => path.trim_end_matches('/').rsplit('/').next().unwrap_or(""),
            None => given,
        };
        address(name).ok_or_else(|| HostPathError {
            given: given.to_owned(),
        })
    }

    /// Slot and function as PCI has them in one byte.
    pub(super) fn with_devfn(domain: u32, bus: u8, devfn: u8) -> Self {
        Self {
            domain,
            bus,
            slot: devfn >> 3,
            function: devfn & 7,
        }
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            slot,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{slot:02x}.{function}")
    }
}

fn address(name: &str) -> Option<HostPath> {
    let (place, function) = name.rsplit_once('.')?;
    let (place, slot) = place.rsplit_once(':')?;
    let (domain, bus) = place.split_once(':').unwrap_or(("0000", place));
    if domain.len() < 4 {
        return None;
    }
    Some(HostPath {
        domain: hexadecimal(domain, 8)?,
        bus: hexadecimal(bus, 2)? as u8,
        slot: hexadecimal(slot, 2).filter(|slot| *slot < 32)? as u8,
        function: hexadecimal(function, 1).filter(|number| *number < 8)? as u8,
    })
}

/// Digits alone: the standard library's parser would take a sign too.
fn hexadecimal(digits: &str, most: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > most || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_address_or_path() {
        for (given, is) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("c1:1f.7", "0000:c1:1f.7"),
            ("10000:e1:00.0", "10000:e1:00.0"),
            ("/sys/bus/pci/devices/0000:01:00.0", "0000:01:00.0"),
            (
                "/sys/devices/pci0000:00/0000:00:04.0/0000:02:00.1/",
                "0000:02:00.1",
            ),
        ] {
            assert_eq!(HostPath::parse(given).unwrap().to_string(), is, "{given}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_shown() {
        for given in [
            "",
            "/",
            "nvme0",
            "01:00",
            "01:20.0",
            "01:00.8",
            "0:01:00.0",
            "+001:01:00.0",
            "01:00.0.0",
            "devices/0000:01:00.0",
            "123456789:01:00.0",
            "0000:00:01:00.0",
            "01:é0.0",
        ] {
            let error = HostPath::parse(given).unwrap_err().to_string();
            assert!(error.contains(&format!("{given:?}")), "{error}");
        }
    }
}
