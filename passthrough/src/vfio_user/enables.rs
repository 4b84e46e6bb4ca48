//! The enable bits of MSI and MSI-X in the server's own configuration space. VFIO turns a type on when it is
//! connected; a server may look at its registers as well, as a device does, and those that are there do.

use super::OpenError;
use super::candidate::Candidate;
use super::description::read_config;
use crate::client::IrqType;

const STATUS_CAPABILITIES: u32 = 1 << 20;
const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
/// As many as fit into 192 bytes: a list that comes back to itself ends.
const MOST_CAPABILITIES: usize = 48;

/// The bytes that have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enables {
    msi: Option<u64>,
    msix: Option<u64>,
}

impl Enables {
    /// Looks through the server's capabilities.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(server: &mut Candidate) -> Result<Self, OpenError> {
        let mut found = Self::default();
        if read_config(server, 0x04)? & STATUS_CAPABILITIES == 0 {
            return Ok(found);
        }
        let mut at = read_config(server, 0x34)? & 0xFC;
        for _ in 0..MOST_CAPABILITIES {
            if at < 0x40 {
                break;
            }
            let header = read_config(server, at.into())?;
            // Message control is the upper half of the first register.
            match header as u8 {
                MSI => found.msi = Some(u64::from(at) + 2),
                MSIX => found.msix = Some(u64::from(at) + 3),
                _ => {}
            }
            at = header >> 8 & 0xFC;
        }
        Ok(found)
    }

    /// Where to write what to have `irq` on with `vectors`, none of them masked; or off.
    pub fn byte(&self, irq: IrqType, vectors: Option<usize>) -> Option<(u64, u8)> {
        match irq {
            IrqType::Intx => None,
            IrqType::Msi => {
                let on = |count: usize| 1 | (count.next_power_of_two().ilog2() as u8) << 4;
                self.msi.map(|at| (at, vectors.map_or(0, on)))
            }
            IrqType::Msix => self.msix.map(|at| (at, vectors.map_or(0, |_| 0x80))),
        }
    }
}
