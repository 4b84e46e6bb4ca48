//! Command status (base 2.0, section 3.3.3.2.1; NVM command set 1.0, section 3.1.1).

/// A status field without its phase bit: code in bits 7:0, type in bits 10:8, Do Not Retry in bit 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u16);

const DO_NOT_RETRY: u16 = 1 << 14;

const fn generic(code: u8) -> Status {
    Status(code as u16)
}

const fn command(code: u8) -> Status {
    Status(0x100 | code as u16)
}

const fn media(code: u8) -> Status {
    Status(0x200 | code as u16)
}

#[expect(missing_docs, reason = "the names are the specification's")]
impl Status {
    pub const SUCCESS: Self = generic(0x00);
    pub const INVALID_OPCODE: Self = generic(0x01).permanent();
    pub const INVALID_FIELD: Self = generic(0x02).permanent();
    pub const DATA_TRANSFER_ERROR: Self = generic(0x04);
    pub const INTERNAL_ERROR: Self = generic(0x06);
    pub const ABORT_REQUESTED: Self = generic(0x07);
    pub const ABORTED_SQ_DELETION: Self = generic(0x08);
    pub const INVALID_NAMESPACE: Self = generic(0x0B).permanent();
    pub const COMMAND_SEQUENCE_ERROR: Self = generic(0x0C).permanent();
    pub const OPERATION_DENIED: Self = generic(0x15).permanent();
    pub const INVALID_SGL_SEGMENT: Self = generic(0x0D).permanent();
    pub const INVALID_SGL_COUNT: Self = generic(0x0E).permanent();
    pub const DATA_SGL_LENGTH_INVALID: Self = generic(0x0F).permanent();
    pub const SGL_TYPE_INVALID: Self = generic(0x11).permanent();
    pub const PRP_OFFSET_INVALID: Self = generic(0x13).permanent();
    pub const KEEP_ALIVE_EXPIRED: Self = generic(0x19);
    pub const SANITIZE_FAILED: Self = generic(0x1C).permanent();
    pub const SANITIZE_IN_PROGRESS: Self = generic(0x1D);
    pub const NAMESPACE_WRITE_PROTECTED: Self = generic(0x20).permanent();
    pub const FORMAT_IN_PROGRESS: Self = generic(0x84);
    pub const LBA_OUT_OF_RANGE: Self = generic(0x80).permanent();

    pub const COMPLETION_QUEUE_INVALID: Self = command(0x00).permanent();
    pub const INVALID_QUEUE_ID: Self = command(0x01).permanent();
    pub const INVALID_QUEUE_SIZE: Self = command(0x02).permanent();
    pub const ABORT_LIMIT_EXCEEDED: Self = command(0x03);
    pub const ASYNC_EVENT_LIMIT_EXCEEDED: Self = command(0x05).permanent();
    pub const INVALID_INTERRUPT_VECTOR: Self = command(0x08).permanent();
    pub const INVALID_LOG_PAGE: Self = command(0x09).permanent();
    pub const INVALID_QUEUE_DELETION: Self = command(0x0C).permanent();
    pub const FEATURE_NOT_SAVEABLE: Self = command(0x0D).permanent();
    pub const FEATURE_NOT_CHANGEABLE: Self = command(0x0E).permanent();

    pub const INVALID_FORMAT: Self = command(0x0A).permanent();
    pub const INSUFFICIENT_CAPACITY: Self = command(0x15).permanent();
    pub const NAMESPACE_ID_UNAVAILABLE: Self = command(0x16).permanent();
    pub const NAMESPACE_ALREADY_ATTACHED: Self = command(0x18).permanent();
    pub const NAMESPACE_NOT_ATTACHED: Self = command(0x1A).permanent();
    pub const THIN_PROVISIONING_NOT_SUPPORTED: Self = command(0x1B).permanent();
    pub const CONTROLLER_LIST_INVALID: Self = command(0x1C).permanent();
    pub const SELF_TEST_IN_PROGRESS: Self = command(0x1D);
    pub const COMMAND_SET_NOT_SUPPORTED: Self = command(0x29).permanent();
    pub const COMMAND_SIZE_LIMIT_EXCEEDED: Self = command(0x83).permanent();

    pub const WRITE_FAULT: Self = media(0x80);
    pub const UNRECOVERED_READ_ERROR: Self = media(0x81);
    pub const COMPARE_FAILURE: Self = media(0x85).permanent();
}

impl Status {
    /// The status of `kind` (the status code type, 0 to 7) with this code.
    pub const fn of(kind: u8, code: u8) -> Self {
        Self((kind as u16 & 7) << 8 | code as u16)
    }

    /// The same status, telling the host that trying again is of no use.
    pub const fn permanent(self) -> Self {
        Self(self.0 | DO_NOT_RETRY)
    }

    /// Whether the command succeeded.
    pub const fn is_success(self) -> bool {
        self.0 & 0x7FF == 0
    }

    /// Whether this is an error of the media, which SMART counts: a write fault, an unrecovered read, or a
    /// failed check of protection.
    pub const fn is_media(self) -> bool {
        matches!(self.0 & 0x7FF, 0x280..=0x284)
    }

    /// The byte of the command that the error is about, as the error log tells it in bits 7:0 (base 2.0,
    /// figure 206); FFFFh where the status alone does not say.
    pub const fn parameter(self) -> u16 {
        // Of all bits, so that a status with Do Not Retry is the same.
        match self.0 & 0x7FF {
            // Invalid Opcode.
            0x001 => 0,
            // Invalid Namespace or Format, of the kinds that name a namespace.
            0x00B | 0x118 | 0x11A => 4,
            // PRP Offset Invalid.
            0x013 => 24,
            // LBA Out of Range; identifiers of queues, log pages and features.
            0x080 | 0x101 | 0x109 | 0x10D => 40,
            // Invalid Queue Size.
            0x102 => 42,
            // Completion Queue Invalid; Invalid Interrupt Vector.
            0x100 | 0x108 => 46,
            _ => u16::MAX,
        }
    }

    /// The 15 bits as they stand above the phase bit in a completion.
    pub const fn bits(self) -> u16 {
        self.0
    }
}
