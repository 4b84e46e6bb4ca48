//! Which commands a drive has and what they change: log page 05h (base 2.0, figure 211).

use super::namespaces;
use crate::drive::Drive;
use crate::spec::command::{admin, io};

/// The command is supported.
const SUPPORTED: u32 = 1 << 0;
/// It changes the content of blocks.
const BLOCKS: u32 = 1 << 1;
/// It changes what namespaces can do.
const CAPABILITIES: u32 = 1 << 2;
/// It changes which namespaces there are.
const INVENTORY: u32 = 1 << 3;

/// No other command to the same namespace may be under way.
const ALONE_AT_NAMESPACE: u32 = 1 << 16;
/// No other command to any namespace may be under way.
const ALONE: u32 = 1 << 17;

const ADMIN: [(u8, u32); 15] = [
    (admin::DELETE_SQ, 0),
    (admin::CREATE_SQ, 0),
    (admin::DOORBELL_BUFFER_CONFIG, 0),
    (admin::GET_LOG_PAGE, 0),
    (admin::DELETE_CQ, 0),
    (admin::CREATE_CQ, 0),
    (admin::IDENTIFY, 0),
    (admin::ABORT, 0),
    (admin::SET_FEATURES, 0),
    (admin::GET_FEATURES, 0),
    (admin::ASYNC_EVENT_REQUEST, 0),
    (admin::SELF_TEST, 0),
    (admin::KEEP_ALIVE, 0),
    (admin::FORMAT, BLOCKS | CAPABILITIES | ALONE_AT_NAMESPACE),
    (admin::SANITIZE, BLOCKS | ALONE),
];

const MANAGEMENT: [(u8, u32); 2] = [
    (admin::NAMESPACE_MANAGEMENT, CAPABILITIES | INVENTORY),
    (admin::NAMESPACE_ATTACHMENT, CAPABILITIES | INVENTORY),
];

const IO: [(u8, u32); 9] = [
    (io::FLUSH, 0),
    (io::WRITE, BLOCKS),
    (io::READ, 0),
    (io::WRITE_UNCORRECTABLE, BLOCKS),
    (io::COMPARE, 0),
    (io::WRITE_ZEROES, BLOCKS),
    (io::DATASET_MANAGEMENT, BLOCKS),
    (io::VERIFY, 0),
    (io::COPY, BLOCKS),
];

/// The dwords of the log page that are not zero, by their index.
pub(super) fn table(drive: &Drive) -> Vec<(usize, u32)> {
    const FIRST_IO: usize = 256;
    let management: &[_] = if namespaces::are_managed(drive) {
        &MANAGEMENT
    } else {
        &[]
    };
    let admin = ADMIN.iter().chain(management);
    let admin = admin.map(|(opcode, effects)| (usize::from(*opcode), SUPPORTED | effects));
    let io = IO
        .iter()
        .map(|(opcode, effects)| (FIRST_IO + usize::from(*opcode), SUPPORTED | effects));
    admin.chain(io).collect()
}
