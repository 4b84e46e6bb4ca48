//! Log pages (base 2.0, section 5.16.1).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Log page identifiers (figure 202).
#[expect(missing_docs, reason = "the names are the specification's")]
pub mod id {
    pub const SUPPORTED_PAGES: u8 = 0x00;
    pub const ERRORS: u8 = 0x01;
    pub const SMART: u8 = 0x02;
    pub const FIRMWARE_SLOTS: u8 = 0x03;
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    pub const COMMAND_EFFECTS: u8 = 0x05;
    pub const SELF_TEST: u8 = 0x06;
    pub const FEATURE_EFFECTS: u8 = 0x12;
    pub const SANITIZE: u8 = 0x81;
}

/// An entry of the error log (figure 206).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ErrorEntry {
    /// Counts up over the drive's life; zero in an entry never used.
    pub count: u64,
    /// The submission queue.
    pub sq_id: u16,
    /// The command identifier, FFFFh where the error has no command.
    pub cid: u16,
    /// The status, above a phase bit of zero.
    pub status: u16,
    /// Byte and bit in the command, FFFFh where unknown.
    pub parameter: u16,
    /// The first block in error.
    pub lba: u64,
    /// The namespace.
    pub nsid: u32,
    /// Vendor specific information available.
    pub vendor: u8,
    /// Transport type.
    pub transport: u8,
    reserved: [u8; 2],
    /// Command specific information.
    pub command_specific: u64,
    /// Transport specific information.
    pub transport_specific: u16,
    reserved_end: [u8; 22],
}

/// The SMART / health log (figure 207), as 512 bytes.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Smart {
    /// Critical warnings.
    pub critical_warning: u8,
    /// Composite temperature in kelvins.
    pub temperature: u16,
    /// Available spare, percent.
    pub spare: u8,
    /// Threshold of the available spare, percent.
    pub spare_threshold: u8,
    /// Percentage of the drive's life used.
    pub used: u8,
    /// Endurance group summary.
    pub endurance: u8,
    reserved: [u8; 25],
    /// Thousands of 512-byte units read, rounded up.
    pub data_units_read: u128,
    /// Thousands of 512-byte units written, rounded up.
    pub data_units_written: u128,
    /// Read commands completed.
    pub read_commands: u128,
    /// Write commands completed.
    pub write_commands: u128,
    /// Minutes with commands outstanding.
    pub busy_minutes: u128,
    /// Power cycles.
    pub power_cycles: u128,
    /// Hours powered on.
    pub power_on_hours: u128,
    /// Power losses without a completed shutdown.
    pub unsafe_shutdowns: u128,
    /// Media and data integrity errors.
    pub media_errors: u128,
    /// Entries the error log has had.
    pub error_entries: u128,
    reserved_end: [u8; 320],
}

/// The firmware slot log (figure 208).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FirmwareSlots {
    /// The active slot in bits 2:0.
    pub active: u8,
    reserved: [u8; 7],
    /// Revision of each of the seven slots.
    pub revision: [[u8; 8]; 7],
    reserved_end: [u8; 448],
}

/// A result of a device self-test (figure 214).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SelfTestResult {
    /// How it ended in bits 3:0, which test it was in bits 7:4.
    pub status: u8,
    /// The segment that failed.
    pub segment: u8,
    /// What of the following is valid: namespace, block, status type, status code.
    pub valid: u8,
    reserved: u8,
    /// Hours powered on.
    pub power_on_hours: [u8; 8],
    /// The namespace.
    pub nsid: u32,
    /// The first block in error.
    pub failing_block: [u8; 8],
    /// Status code type.
    pub status_type: u8,
    /// Status code.
    pub status_code: u8,
    /// Vendor specific.
    pub vendor: [u8; 2],
}

impl SelfTestResult {
    /// The status of an entry that was never used.
    pub const UNUSED: u8 = 0xF;
}

/// The device self-test log (figure 213).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SelfTestLog {
    /// The test under way, 0 where there is none.
    pub current: u8,
    /// How much of it is done.
    pub percent: u8,
    reserved: [u8; 2],
    /// The newest first.
    pub results: [SelfTestResult; 20],
}

const _: () = assert!(size_of::<SelfTestResult>() == 28);
const _: () = assert!(size_of::<SelfTestLog>() == 564);

/// The sanitize status log (figure 257).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SanitizeStatus {
    /// SPROG: what is done of 65536 parts, FFFFh where nothing is under way.
    pub progress: u16,
    /// SSTAT: the operation's status in bits 2:0, passes of an overwrite in bits 7:3, Global Data Erased in
    /// bit 8.
    pub status: u16,
    /// SCDW10: dword 10 of the command.
    pub dword: u32,
    /// Estimates in seconds of overwrite, block erase and cryptographic erase, then of each without
    /// deallocation.
    pub estimates: [u32; 6],
    reserved: [u8; 480],
}

impl SanitizeStatus {
    /// A status with the same for every estimate.
    pub fn new(progress: u16, status: u16, dword: u32, estimate: u32) -> Self {
        Self {
            progress,
            status,
            dword,
            estimates: [estimate; 6],
            reserved: [0; 480],
        }
    }
}

const _: () = assert!(size_of::<SanitizeStatus>() == 512);
const _: () = assert!(size_of::<ErrorEntry>() == 64);
const _: () = assert!(size_of::<Smart>() == 512);
const _: () = assert!(size_of::<FirmwareSlots>() == 512);
