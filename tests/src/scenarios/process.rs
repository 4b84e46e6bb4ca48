//! A `sundown` process with its API socket, its console and its log, which never outlives its scenario.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::client::Client;
use rustix::process::{Pid, Signal, kill_process};

use super::console::Console;

/// How long a process may take to answer for the first time.
const START: Duration = Duration::from_secs(20);
/// How long an answer may take; none of the calls waits for a teardown but those that shut down.
const ANSWER: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A running `sundown`.
pub(super) struct Sundown {
    child: Child,
    pub(super) client: Client,
    pub(super) console: Console,
    log: PathBuf,
}

impl Sundown {
    /// Starts the process with its API socket at `folder/api.sock`; does not wait for it.
    pub(super) fn spawn(binary: &Path, folder: &Path) -> Result<Self> {
        let socket = folder.join("api.sock");
        Self::with_arguments(binary, folder, &["--api-socket".as_ref(), socket.as_ref()])
    }

    /// Starts the process with these arguments.
    pub(super) fn with_arguments(
        binary: &Path,
        folder: &Path,
        arguments: &[&OsStr],
    ) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("could not make the folder {}", folder.display()))?;
        let log = folder.join("sundown.log");
        let errors =
            File::create(&log).with_context(|| format!("could not make {}", log.display()))?;
        let mut child = Command::new(binary)
            .args(["--log", "info"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("could not start {}", binary.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the process has no pipes");
        };
        let console = Console::follow(input, output, &folder.join("console.log"))?;
        Ok(Self {
            child,
            client: Client::new(folder.join("api.sock")).with_timeout(ANSWER),
            console,
            log,
        })
    }

    /// Waits until the API answers.
    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        let ping = self
            .client
            .wait_until_ready(START)
            .with_context(|| format!("sundown did not answer; it said: {}", self.said()))?;
        if ping.pid != i64::from(self.child.id()) {
            bail!("process {} answers, not {}", ping.pid, self.child.id());
        }
        Ok(())
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error.
    pub(super) fn said(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| error.to_string(),
            |bytes| String::from_utf8_lossy(&bytes).trim().to_owned(),
        )
    }

    /// Asks it to end, as a service manager does.
    pub(super) fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends it at once.
    pub(super) fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // Not waited for yet, so the number is still this process's.
        kill_process(Pid::from_child(&self.child), signal).context("could not signal sundown")
    }

    /// Waits for its end. Returns its exit code, -1 if a signal ended it.
    pub(super) fn exit_code(&mut self, timeout: Duration) -> Result<i32> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .context("could not wait for sundown")?
            {
                return Ok(status.code().unwrap_or(-1));
            }
            if Instant::now() >= deadline {
                bail!("sundown did not end within {} s", timeout.as_secs());
            }
            sleep(POLL);
        }
    }
}

impl Drop for Sundown {
    fn drop(&mut self) {
        // Fails where it has ended already, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
