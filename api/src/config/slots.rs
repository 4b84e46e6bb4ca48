//! Device and function numbers: those that are given, and those that are not.

use super::{BridgePort, ConfigError, DeviceConfig};
use crate::error::ErrorCode;

/// A device's place on its bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

/// The device numbers of a bus.
fn numbers(bus: Option<BridgePort>) -> std::ops::RangeInclusive<u8> {
    match bus {
        // 0 is the host bridge.
        None => 1..=31,
        // A link has two ends: what a port leads to is device 0.
        Some(BridgePort::Root | BridgePort::Downstream) => 0..=0,
        Some(BridgePort::Upstream | BridgePort::Pci) => 0..=31,
    }
}

/// The place of every device on one bus: the root bus (`None`), or the one behind a bridge of the given
/// kind. Where no device number is given, it is the first that no other device has.
///
/// # Errors
/// A number that the bus does not have, two devices in one place, no place left, or a function other
/// than 0 on a device without function 0.
pub fn assign_slots(
    bus: Option<BridgePort>,
    devices: &[DeviceConfig],
) -> Result<Vec<Slot>, ConfigError> {
    let mut taken = [[None; 8]; 32];
    let mut slots = Vec::with_capacity(devices.len());
    for device in devices {
        let slot = given(bus, device)?;
        if let Some(slot) = slot {
            take(&mut taken, device, slot)?;
        }
        slots.push(slot);
    }
    let mut complete = Vec::with_capacity(devices.len());
    for (device, slot) in devices.iter().zip(slots) {
        complete.push(match slot {
            Some(slot) => slot,
            None => {
                let slot = first_free(bus, device, &taken)?;
                take(&mut taken, device, slot)?;
                slot
            }
        });
    }
    for (device, slot) in devices.iter().zip(&complete) {
        if taken[usize::from(slot.device)][0].is_none() {
            return Err(ConfigError::new(
                ErrorCode::BadAddress,
                format!(
                    "device `{}` is function {} of device {:#04x}, which has no function 0; a guest would not find it. \
                     Give one of the device's functions the number 0",
                    device.id(),
                    slot.function,
                    slot.device
                ),
            )
            .about(device, "function"));
        }
    }
    Ok(complete)
}

/// The place that a configuration gives, once checked; none if it leaves the device number open.
fn given(bus: Option<BridgePort>, device: &DeviceConfig) -> Result<Option<Slot>, ConfigError> {
    let options = device.options();
    let range = numbers(bus);
    let function = options.function.unwrap_or(0);
    if function > 7 {
        let message = format!(
            "device `{}`: function number {function}; 0 to 7 are allowed",
            device.id()
        );
        return Err(ConfigError::new(ErrorCode::BadAddress, message).about(device, "function"));
    }
    // Where a bus has one device number only, nothing is open.
    let only = (range.start() == range.end()).then_some(*range.start());
    let Some(number) = options.device.or(only) else {
        if function > 0 {
            let message = format!(
                "device `{}`: a function number without a device number; give `device` too, so that it is known \
                 which device the function is part of",
                device.id()
            );
            return Err(ConfigError::new(ErrorCode::BadAddress, message).about(device, "device"));
        }
        return Ok(None);
    };
    if !range.contains(&number) {
        let allowed = match (bus, only) {
            (None, _) => "the root bus has 1 to 31 (0 is the host bridge)".to_owned(),
            (_, Some(_)) => "a port leads to device 0 only".to_owned(),
            _ => "a bus has 0 to 31".to_owned(),
        };
        let message = format!(
            "device `{}`: device number {number}; {allowed}",
            device.id()
        );
        return Err(ConfigError::new(ErrorCode::BadAddress, message).about(device, "device"));
    }
    Ok(Some(Slot {
        device: number,
        function,
    }))
}

fn take<'a>(
    taken: &mut [[Option<&'a str>; 8]; 32],
    device: &'a DeviceConfig,
    slot: Slot,
) -> Result<(), ConfigError> {
    let place = &mut taken[usize::from(slot.device)][usize::from(slot.function)];
    if let Some(other) = place.replace(device.id()) {
        let message = format!(
            "devices `{other}` and `{}` are both at {:02x}.{} of one bus; give one of them another `device` or `function`",
            device.id(),
            slot.device,
            slot.function
        );
        let field = if device.options().function.is_some() {
            "function"
        } else {
            "device"
        };
        return Err(ConfigError::new(ErrorCode::AddressInUse, message).about(device, field));
    }
    Ok(())
}

fn first_free(
    bus: Option<BridgePort>,
    device: &DeviceConfig,
    taken: &[[Option<&str>; 8]; 32],
) -> Result<Slot, ConfigError> {
    let free = numbers(bus).find(|number| taken[usize::from(*number)].iter().all(Option::is_none));
    match free {
        Some(number) => Ok(Slot { device: number, function: 0 }),
        None => Err(ConfigError::new(
            ErrorCode::AddressInUse,
            format!(
                "device `{}`: its bus has no device number left; put several devices at one `device` as different \
                 `function`s, or some of them behind a bridge",
                device.id()
            ),
        )
        .about(device, "device")),
    }
}
