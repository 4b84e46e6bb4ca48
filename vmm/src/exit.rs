//! What the process's exit code says.

/// The guest switched itself off, or a client ended the process.
pub const OFF: u8 = 0;
/// The machine could not be made or run; standard error says why.
pub const ERROR: u8 = 1;
/// The guest was reset under `on_reset: exit`.
pub const RESET: u8 = 32;
/// A vCPU could not go on.
pub const CRASH: u8 = 33;
