//! Feature identifiers (base 2.0, figure 317).

#![expect(missing_docs, reason = "the names are the specification's")]

pub const ARBITRATION: u8 = 0x01;
pub const POWER_MANAGEMENT: u8 = 0x02;
pub const TEMPERATURE_THRESHOLD: u8 = 0x04;
pub const ERROR_RECOVERY: u8 = 0x05;
pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
pub const NUMBER_OF_QUEUES: u8 = 0x07;
pub const INTERRUPT_COALESCING: u8 = 0x08;
pub const INTERRUPT_VECTOR: u8 = 0x09;
pub const WRITE_ATOMICITY: u8 = 0x0A;
pub const ASYNC_EVENTS: u8 = 0x0B;
pub const TIMESTAMP: u8 = 0x0E;
pub const KEEP_ALIVE: u8 = 0x0F;
pub const THERMAL_MANAGEMENT: u8 = 0x10;
pub const HOST_BEHAVIOR: u8 = 0x16;
