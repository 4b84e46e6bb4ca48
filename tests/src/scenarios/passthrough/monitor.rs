//! QEMU's monitor, which tells of resets when all devices are reset.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use api::clock::monotonic_ns;
use serde_json::Value;

/// How long QEMU may take to listen, and to tell of a reset.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to the monitor of one machine.
pub(super) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects, and has QEMU tell of events from now on.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let by = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < by => sleep(Duration::from_millis(20)),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("no monitor at {}", socket.display()));
                }
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.command("qmp_capabilities")?;
        Ok(monitor)
    }

    /// Resets the machine.
    pub(super) fn reset(&mut self) -> Result<()> {
        self.command("system_reset")
    }

    fn command(&mut self, name: &str) -> Result<()> {
        let line = format!("{{\"execute\": \"{name}\"}}\n");
        let sent = self.0.get_mut().write_all(line.as_bytes());
        sent.context("could not write to QEMU's monitor")
    }

    /// When the guest's first reset after `since` had ended, both in nanoseconds of CLOCK_MONOTONIC. Earlier resets, of
    /// which nobody has read, are passed over.
    pub(super) fn reset_after(&mut self, since: u64) -> Result<u64> {
        loop {
            let mut line = String::new();
            let count = self.0.read_line(&mut line);
            if count.context("could not read from QEMU's monitor")? == 0 {
                bail!("QEMU's monitor ended before the reset");
            }
            let Some(wall) = reset_stamp(&line) else {
                continue;
            };
            // Its clock is the wall's.
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.context("the clock is before 1970")?;
            let ago = now.saturating_sub(wall).as_nanos() as u64;
            let at = monotonic_ns().saturating_sub(ago);
            if at >= since {
                return Ok(at);
            }
        }
    }
}

/// When a line tells of a reset that the guest asked for: since 1970.
fn reset_stamp(line: &str) -> Option<Duration> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event.get("event")? != "RESET" || event.pointer("/data/guest")? != true {
        return None;
    }
    let stamp = |unit: &str| event.get("timestamp")?.get(unit)?.as_u64();
    Some(Duration::from_secs(stamp("seconds")?) + Duration::from_micros(stamp("microseconds")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, guest: bool, wall: Duration) -> String {
        let text = serde_json::json!({
            "event": name, "data": { "guest": guest, "reason": "guest-reset" },
            "timestamp": { "seconds": wall.as_secs(), "microseconds": wall.subsec_micros() },
        });
        format!("{text}\n")
    }

    #[test]
    fn only_resets_by_the_guest_have_a_stamp() {
        let wall = Duration::from_micros(1_700_000_000_250_000);
        assert_eq!(reset_stamp(&event("RESET", true, wall)), Some(wall));
        assert_eq!(reset_stamp(&event("RESET", false, wall)), None);
        assert_eq!(reset_stamp(&event("SHUTDOWN", true, wall)), None);
        assert_eq!(reset_stamp("{\"return\": {}}\n"), None);
        assert_eq!(reset_stamp("{\"QMP\": "), None);
    }

    #[test]
    fn a_reset_from_before_is_passed_over() {
        let (ours, mut qemu) = UnixStream::pair().unwrap();
        let since = monotonic_ns();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let before = event("RESET", true, now - Duration::from_secs(5));
        let after = event("RESET", true, now + Duration::from_millis(1));
        qemu.write_all((before + &after).as_bytes()).unwrap();
        drop(qemu);
        let mut monitor = Monitor(BufReader::new(ours));
        let at = monitor.reset_after(since).unwrap();
        assert!(at >= since && at < since + 4_000_000_000, "{since}, {at}");
        assert!(monitor.reset_after(since).is_err(), "there is no other one");
    }
}
