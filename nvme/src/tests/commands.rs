//! Admin commands as a driver writes them.

use zerocopy::FromBytes;

use super::driver::{DATA, Guest};
use crate::spec::Submission;
use crate::spec::command::admin;

pub(super) fn identify(selector: u8, nsid: u32) -> Submission {
    Submission {
        opcode: admin::IDENTIFY,
        nsid,
        prp1: DATA,
        cdw10: selector.into(),
        ..Submission::zeroed()
    }
}

pub(super) fn page<T: FromBytes>(guest: &mut Guest, command: Submission) -> T {
    guest.fill(DATA, &[0xEE; 4096]);
    guest.admin_ok(command);
    T::read_from_bytes(&guest.bytes(DATA, size_of::<T>())).unwrap()
}

pub(super) fn features(opcode: u8, id: u8, value: u32) -> Submission {
    Submission {
        opcode,
        prp1: DATA,
        cdw10: id.into(),
        cdw11: value,
        ..Submission::zeroed()
    }
}

pub(super) fn log_page(id: u8, bytes: u32) -> Submission {
    Submission {
        opcode: admin::GET_LOG_PAGE,
        nsid: u32::MAX,
        prp1: DATA,
        cdw10: (bytes / 4 - 1) << 16 | u32::from(id),
        ..Submission::zeroed()
    }
}
