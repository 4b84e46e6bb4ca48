//! DEVICE_SET_IRQS, checked and in a form that cannot say two things at once.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::protocol::{IrqSet, irq_set_flag as flag};

/// What is done to interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqAction {
    /// They are masked.
    Mask,
    /// They are unmasked.
    Unmask,
    /// They are triggered.
    Trigger,
}

/// Which interrupts of the range, or what they are connected to.
#[derive(Debug)]
pub enum IrqData {
    /// All.
    All,
    /// Those whose place is true; as long as the range.
    Some(Vec<bool>),
    /// All are connected to these; as many as the range has interrupts.
    Connect(Vec<OwnedFd>),
    /// All are disconnected.
    Disconnect,
    /// The whole type is switched off.
    Off,
}

/// A DEVICE_SET_IRQS command.
#[derive(Debug)]
pub struct IrqRequest {
    /// The type.
    pub index: u32,
    /// What is done.
    pub action: IrqAction,
    /// The first interrupt.
    pub start: u32,
    /// How many.
    pub count: u32,
    /// To which.
    pub data: IrqData,
}

impl IrqRequest {
    /// Understands `set` and what came with it, for a type of `available` interrupts.
    pub(super) fn parse(
        set: &IrqSet,
        rest: &[u8],
        descriptors: Vec<OwnedFd>,
        available: u32,
    ) -> Result<Self, Errno> {
        let action = match set.flags & !(flag::DATA_NONE | flag::DATA_BOOL | flag::DATA_EVENTFD) {
            flag::ACTION_MASK => IrqAction::Mask,
            flag::ACTION_UNMASK => IrqAction::Unmask,
            flag::ACTION_TRIGGER => IrqAction::Trigger,
            _ => return Err(Errno::INVAL),
        };
        let end = set.start.checked_add(set.count).ok_or(Errno::INVAL)?;
        if end > available {
            return Err(Errno::INVAL);
        }
        let kind = set.flags & (flag::DATA_NONE | flag::DATA_BOOL | flag::DATA_EVENTFD);
        if kind != flag::DATA_EVENTFD && !descriptors.is_empty() {
            return Err(Errno::INVAL);
        }
        let data = match kind {
            flag::DATA_NONE if set.count == 0 => {
                if set.start != 0 || action != IrqAction::Trigger {
                    return Err(Errno::INVAL);
                }
                IrqData::Off
            }
            _ if set.count == 0 => return Err(Errno::INVAL),
            flag::DATA_NONE => IrqData::All,
            flag::DATA_BOOL if rest.len() == set.count as usize => {
                IrqData::Some(rest.iter().map(|byte| *byte != 0).collect())
            }
            flag::DATA_EVENTFD if descriptors.is_empty() => IrqData::Disconnect,
            flag::DATA_EVENTFD if descriptors.len() == set.count as usize => {
                IrqData::Connect(descriptors)
            }
            _ => return Err(Errno::INVAL),
        };
        Ok(Self {
            index: set.index,
            action,
            start: set.start,
            count: set.count,
            data,
        })
    }

    /// The interrupts that it is about, for requests without descriptors.
    pub fn selected(&self) -> impl Iterator<Item = u32> {
        (self.start..self.start + self.count)
            .enumerate()
            .filter(|(place, _)| match &self.data {
                IrqData::Some(chosen) => chosen.get(*place).copied().unwrap_or(false),
                _ => true,
            })
            .map(|(_, irq)| irq)
    }
}
