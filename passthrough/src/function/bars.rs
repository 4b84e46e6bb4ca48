//! The BARs of a function: as wide and as large as those of the device, at addresses of the guest's own.

use devices::pci::Bar;

use crate::client::Client;
use crate::function::FunctionError;
use crate::function::physical::Physical;

const FIRST_BAR: u16 = 0x10;
const BARS: u8 = 6;
const IO: u32 = 1 << 0;
const TYPE: u32 = 0b110;
const TYPE_64_BIT: u32 = 0b100;
const PREFETCHABLE: u32 = 1 << 3;
/// The largest BARs there can be.
const LIMIT_32: u64 = 1 << 31;
const LIMIT_64: u64 = 1 << 63;

/// The memory BARs. I/O BARs are left out: this machine decodes none, and drivers of devices that have both kinds use
/// the memory.
pub(super) fn memory_bars(
    client: &dyn Client,
    physical: &Physical,
) -> Result<Vec<Bar>, FunctionError> {
    let mut bars = Vec::new();
    let mut index = 0;
    while index < BARS {
        let register = physical.dword(FIRST_BAR + 4 * u16::from(index));
        let size = client.region(index.into()).size;
        let wide = register & (IO | TYPE) == TYPE_64_BIT;
        let here = index;
        index += if wide { 2 } else { 1 };
        if size == 0 || register & IO != 0 {
            continue;
        }
        let limit = if wide { LIMIT_64 } else { LIMIT_32 };
        if size > limit || index > BARS {
            return Err(FunctionError::Bar {
                device: client.name().to_owned(),
                bar: here,
                size,
            });
        }
        let bar = match wide {
            true => Bar::memory64(here, size),
            false => Bar::memory32(here, size),
        };
        bars.push(match register & PREFETCHABLE {
            0 => bar,
            _ => bar.prefetchable(),
        });
    }
    Ok(bars)
}

/// The parts of an access that devices take: powers of two up to 8 bytes, each at a multiple of its size. Each with
/// its offset and its bytes of the access.
pub(super) fn natural(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let rest = length - done;
        if rest == 0 {
            return None;
        }
        let at = offset + done as u64;
        let largest = 1 << rest.ilog2().min(3);
        let aligned = 1 << at.trailing_zeros().min(3);
        let part = done..done + usize::min(largest, aligned);
        done = part.end;
        Some((at, part))
    })
}

/// The range of a BAR in which an access has to lie.
pub(super) fn is_inside(client: &dyn Client, bar: u8, offset: u64, length: usize) -> bool {
    let end = offset.checked_add(length as u64);
    end.is_some_and(|end| end <= client.region(bar.into()).size)
}
