//! A sundown of the measurement's own: in a process group that is ended, by its number, however the
//! measurement ends.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use api::client::{Client, ClientError};
use api::config::{SerialMode, VmConfig};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::folder::{CONSOLE, Folder, LOG};

/// How long it may take to answer, once started.
const START: Duration = Duration::from_secs(30);
/// How long one question may take until it answers; then it is asked again.
const PING: Duration = Duration::from_secs(1);
/// How long it may take to end when asked to, at least: it shuts the machine's devices down.
const END: Duration = Duration::from_secs(60);
/// How long after a signal it is killed.
const TERM: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// Lines of each log that an error shows.
const TAIL: usize = 12;

/// A running sundown.
#[derive(Debug)]
pub struct Sundown {
    child: Child,
    /// Holds the socket: its path has at most 107 bytes, so that it is not in the output folder.
    sockets: TempDir,
    logs: Vec<PathBuf>,
}

/// The sundown beside this program, else that on PATH.
pub fn beside() -> PathBuf {
    let beside = env::current_exe().map(|program| program.with_file_name("sundown"));
    let beside = beside.ok().filter(|program| program.is_file());
    beside.unwrap_or_else(|| "sundown".into())
}

impl Sundown {
    /// Starts `program`, its log going to the folder, and waits until it answers. `config` is the machine
    /// that it will have.
    pub fn start(
        program: &Path,
        folder: &Folder,
        config: &VmConfig,
        interrupted: &AtomicBool,
    ) -> anyhow::Result<Self> {
        let sockets = tempfile::Builder::new()
            .prefix("sundown-measure-")
            .tempdir()
            .context("making a folder for sundown's socket")?;
        let mut logs = vec![folder.path().join(LOG)];
        let stdout = if config.serial.mode == SerialMode::Tty {
            logs.push(folder.path().join(CONSOLE));
            folder.file(CONSOLE)?.into()
        } else {
            logs.extend(config.serial.file.clone());
            Stdio::null()
        };
        let child = Command::new(program)
            .arg("--api-socket")
            .arg(sockets.path().join("api.sock"))
            .args(["--log", "info"])
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(folder.file(LOG)?)
            // Not that of the terminal: an interrupt ends the measurement, which then ends this.
            .process_group(0)
            .spawn()
            .with_context(|| {
                format!(
                    "starting `{}`; --sundown says where it is",
                    program.display()
                )
            })?;
        let mut sundown = Self {
            child,
            sockets,
            logs,
        };
        match sundown.answers(interrupted) {
            Ok(()) => Ok(sundown),
            Err(error) => Err(sundown.with_last_words(error)),
        }
    }

    /// Waits until it answers.
    fn answers(&mut self, interrupted: &AtomicBool) -> anyhow::Result<()> {
        let client = self.client(PING);
        let begin = Instant::now();
        loop {
            let error = match client.ping() {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted, waiting for sundown to answer");
            }
            if let Some(status) = self.child.try_wait().context("waiting for sundown")? {
                bail!("sundown ended with {status} before it answered");
            }
            // Its socket is not there yet, or it is slow; anything else does not get better.
            let may_pass = matches!(
                error,
                ClientError::Connect { .. } | ClientError::Timeout { .. }
            );
            if !may_pass || begin.elapsed() >= START {
                return Err(anyhow!(error).context("waiting for sundown to answer"));
            }
            sleep(POLL);
        }
    }

    /// A client of it.
    pub fn client(&self, timeout: Duration) -> Client {
        Client::new(self.sockets.path().join("api.sock")).with_timeout(timeout)
    }

    /// The error, and the ends of the logs.
    pub fn with_last_words(&self, error: anyhow::Error) -> anyhow::Error {
        let mut text = format!("{error:#}");
        for path in &self.logs {
            let contents = fs::read(path).unwrap_or_default();
            let contents = String::from_utf8_lossy(&contents);
            let lines: Vec<_> = contents.lines().map(str::trim_end).collect();
            if !lines.is_empty() {
                let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n  ");
                text.push_str(&format!("\nthe end of {}:\n  {tail}", path.display()));
            }
        }
        anyhow!(text)
    }

    /// Ends it. After a measurement that went well it is asked to, and must end well. It first shuts the
    /// machine's devices down, under the policy that is set; as slow as they are, it has `limit` for that,
    /// and never less than a minute. An interrupt ends the waiting.
    pub fn end(
        mut self,
        measured: anyhow::Result<()>,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> anyhow::Result<()> {
        measured?;
        let limit = limit.max(END);
        let begin = Instant::now();
        let client = self.client(limit);
        // On a thread of its own: the answer may take as long as the devices do. A call that is left behind
        // ends with the process that it asks.
        let asked = thread::spawn(move || client.vmm_shutdown());
        let ends = "waiting for sundown to shut the machine down and end";
        while !asked.is_finished() {
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted, {ends}");
            }
            sleep(POLL);
        }
        let answer = asked
            .join()
            .map_err(|_| anyhow!("the call to end sundown broke off"))?;
        answer.context("asking sundown to end")?;
        match self.wait(limit.saturating_sub(begin.elapsed()), interrupted)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let error = anyhow!("sundown ended with {status}");
                Err(self.with_last_words(error))
            }
            None if interrupted.load(Ordering::Relaxed) => bail!("interrupted, {ends}"),
            None => bail!(
                "sundown had not ended {} s after it was asked to (--time-limit)",
                limit.as_secs()
            ),
        }
    }

    /// Waits until it has ended, `limit` is over or `interrupted` is set.
    fn wait(
        &mut self,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> anyhow::Result<Option<ExitStatus>> {
        let begin = Instant::now();
        loop {
            let status = self.child.try_wait().context("waiting for sundown")?;
            let is_over = begin.elapsed() >= limit || interrupted.load(Ordering::Relaxed);
            if status.is_some() || is_over {
                return Ok(status);
            }
            sleep(POLL);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may be gone already.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Sundown {
    fn drop(&mut self) {
        // Its number is its own until it has been waited for.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::TERM);
        // Nothing interrupts this one: it is short.
        if !matches!(self.wait(TERM, &AtomicBool::new(false)), Ok(Some(_))) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests;
