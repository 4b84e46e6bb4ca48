//! Reads and writes of regions, in pieces of what the server takes.

use std::fmt;
use std::sync::Arc;

use vfio_user::protocol::{DEFAULT_TRANSFER, RegionAccess, command};
use zerocopy::{FromBytes, IntoBytes};

use super::calls::Allowance;
use super::description;
use super::link::Link;
use super::session::Session;
use crate::client::ClientError;

/// An access as an error names it.
struct Access(&'static str, u32, u64);

impl fmt::Display for Access {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what, region, offset) = self;
        let region = description::name(*region);
        write!(to, "a {what} of {region} at {offset:#x}")
    }
}

/// Most bytes of one access.
fn step(session: &Session) -> usize {
    session.server.transfer().min(DEFAULT_TRANSFER) as usize
}

/// Reads from a region.
///
/// # Errors
/// `data` is undefined then.
pub fn read(
    link: &Link,
    session: &Arc<Session>,
    (region, mut at): (u32, u64),
    data: &mut [u8],
) -> Result<(), ClientError> {
    let allowance = link.allow(session);
    for piece in data.chunks_mut(step(session)) {
        let doing = Access("read", region, at);
        let access = RegionAccess {
            offset: at,
            region,
            count: piece.len() as u32,
        };
        let request = (command::REGION_READ, &[access.as_bytes()][..]);
        let reply = link.ask(session, request, &[], allowance, &doing)?;
        match RegionAccess::read_from_prefix(&reply.payload) {
            Ok((theirs, found)) if theirs == access && found.len() == piece.len() => {
                piece.copy_from_slice(found);
            }
            _ => return Err(link.nonsense(session, doing)),
        }
        at += piece.len() as u64;
    }
    Ok(())
}

/// Writes to a region, without waiting for the server.
///
/// # Errors
/// Some of it may have been lost.
pub fn write(
    link: &Link,
    session: &Arc<Session>,
    (region, mut at): (u32, u64),
    data: &[u8],
    allowance: Allowance,
) -> Result<(), ClientError> {
    for piece in data.chunks(step(session)) {
        let access = RegionAccess {
            offset: at,
            region,
            count: piece.len() as u32,
        };
        let payload = [access.as_bytes(), piece];
        let request = (command::REGION_WRITE, &payload[..]);
        link.post(session, request, allowance, Access("write", region, at))?;
        at += piece.len() as u64;
    }
    Ok(())
}
