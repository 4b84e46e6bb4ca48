//! The terminal that the serial port is typed on: raw while the VM runs.

use std::io::{self, IsTerminal};

use vmm_sys_util::terminal::Terminal;

/// Standard input in raw mode: keys go to the guest one by one, unechoed, Ctrl-C included. Dropping it
/// brings the line mode back; an abort does not.
pub struct RawTerminal(());

impl RawTerminal {
    /// Makes standard input raw. None if it is no terminal.
    pub fn on_stdin() -> io::Result<Option<Self>> {
        let stdin = io::stdin().lock();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        stdin.set_raw_mode()?;
        Ok(Some(Self(())))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Err(error) = io::stdin().lock().set_canon_mode() {
            tracing::warn!(%error, "the terminal stays in raw mode");
        }
    }
}
