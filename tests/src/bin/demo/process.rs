//! The two programs: a `sundown` process, and `sundownctl` calls to it.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::client::Client;

const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(60);

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The VMM.
    pub sundown: PathBuf,
    /// Its client.
    pub sundownctl: PathBuf,
}

impl Programs {
    /// Both on PATH.
    pub fn on_path() -> Self {
        Self {
            sundown: "sundown".into(),
            sundownctl: "sundownctl".into(),
        }
    }
}

/// A `sundown` that serves its API on a socket. Killed when dropped.
#[derive(Debug)]
pub struct Sundown {
    child: Child,
    socket: PathBuf,
    programs: Programs,
    folder: PathBuf,
}

impl Sundown {
    /// Starts it in `folder`, its log going to `log`, and waits until it answers.
    pub fn start(programs: &Programs, folder: &Path, log: &Path) -> Result<Self> {
        // Not in a folder of the user's: a socket's path has at most 107 bytes.
        let socket = env::temp_dir().join(format!("sundown-demo-{}.sock", std::process::id()));
        let log = File::create(log).with_context(|| format!("could not make {}", log.display()))?;
        let child = Command::new(&programs.sundown)
            .arg("--api-socket")
            .arg(&socket)
            .args(["--log", "info"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("could not run {}", programs.sundown.display()))?;
        let sundown = Self {
            child,
            socket,
            programs: programs.clone(),
            folder: folder.to_owned(),
        };
        sundown
            .client()
            .wait_until_ready(START)
            .context("sundown does not answer; sundown.log says why")?;
        Ok(sundown)
    }

    /// A client of it, for what is done with its answers.
    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Runs `sundownctl` with these arguments and returns what it prints.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.programs.sundownctl)
            .arg("--api-socket")
            .arg(&self.socket)
            .args(arguments)
            .current_dir(&self.folder)
            .output()
            .with_context(|| format!("could not run {}", self.programs.sundownctl.display()))?;
        if !output.status.success() {
            bail!(
                "`sundownctl {}` failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits for the process to end by itself.
    pub fn wait(mut self) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < END {
            match self
                .child
                .try_wait()
                .context("could not wait for sundown")?
            {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("sundown ended with {status}; sundown.log says why"),
                None => sleep(Duration::from_millis(10)),
            }
        }
        bail!(
            "sundown had not ended {} s after it was asked to",
            END.as_secs()
        )
    }
}

impl Drop for Sundown {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // What is left of a demo that failed; an error here would say nothing new.
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = fs::remove_file(&self.socket);
        }
    }
}
