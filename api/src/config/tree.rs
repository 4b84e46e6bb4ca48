//! Walking the device tree of a configuration.

use super::{DeviceConfig, VmConfig};

/// The devices of a configuration, depth first: each before what is behind it, in the order written.
#[derive(Debug)]
pub struct Devices<'a> {
    /// What is left, next last.
    left: Vec<Place<'a>>,
}

/// A device in its place.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// The device it is behind.
    pub parent: Option<&'a DeviceConfig>,
    /// The device.
    pub device: &'a DeviceConfig,
    /// Where it is written, such as `pci[1].children[0]`.
    pub path: String,
}

impl<'a> Place<'a> {
    /// Where one of the device's fields is written.
    pub fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }
}

impl<'a> Devices<'a> {
    fn new(config: &'a VmConfig) -> Self {
        let root = config.pci.iter().enumerate();
        let mut left: Vec<_> = root
            .map(|(at, device)| Place {
                parent: None,
                device,
                path: format!("pci[{at}]"),
            })
            .collect();
        left.reverse();
        Self { left }
    }

    /// The next device in its place.
    pub(super) fn next_place(&mut self) -> Option<Place<'a>> {
        let place = self.left.pop()?;
        let children = place.device.children().iter().enumerate().rev();
        self.left.extend(children.map(|(at, device)| Place {
            parent: Some(place.device),
            device,
            path: format!("{}.children[{at}]", place.path),
        }));
        Some(place)
    }
}

impl<'a> Iterator for Devices<'a> {
    /// The device that it is behind, none on the root bus; the device.
    type Item = (Option<&'a str>, &'a DeviceConfig);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_place()
            .map(|place| (place.parent.map(DeviceConfig::id), place.device))
    }
}

impl VmConfig {
    /// The devices, depth first: each before what is behind it, with the name of the one it is behind.
    pub fn devices(&self) -> Devices<'_> {
        Devices::new(self)
    }

    /// The device of the given name.
    pub fn device(&self, id: &str) -> Option<&DeviceConfig> {
        self.devices()
            .map(|(_, device)| device)
            .find(|device| device.id() == id)
    }

    /// The same, to be changed.
    pub fn device_mut(&mut self, id: &str) -> Option<&mut DeviceConfig> {
        // A tree may be as deep as there are bus numbers.
        let mut left: Vec<&mut DeviceConfig> = self.pci.iter_mut().collect();
        while let Some(device) = left.pop() {
            if device.id() == id {
                return Some(device);
            }
            left.extend(device.children_mut());
        }
        None
    }

    /// Where the device of the given name is written, such as `pci[1].children[0]`.
    pub fn place_of(&self, id: &str) -> Option<String> {
        let mut devices = self.devices();
        std::iter::from_fn(|| devices.next_place())
            .find(|place| place.device.id() == id)
            .map(|place| place.path)
    }
}
