//! A `sundown-nvme` process that serves a drive, which never outlives its scenario.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::config::{DeviceConfig, VfioUserConfig};
use rustix::process::{Pid, Signal, kill_process};

use super::Stage;
use super::design::Device;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// What a server says when it listens. A connection would tell too, but the server would take it for its client.
const READY: &str = "serving";

/// A drive of a process of its own.
pub(super) struct Served {
    program: PathBuf,
    folder: PathBuf,
    id: String,
    child: Child,
}

impl Served {
    /// Serves a drive of 4 MiB whose reset takes `ms` milliseconds.
    pub(super) fn start(stage: &Stage, id: &str, ms: u64) -> Result<Self> {
        let Device(drive) = stage.drive(id)?.teardown_ms(ms);
        let folder = stage.folder().clone();
        let text = serde_json::to_vec(&drive).context("the drive cannot be written down")?;
        let config = folder.join(format!("{id}.json"));
        fs::write(&config, text)
            .with_context(|| format!("could not write {}", config.display()))?;
        let program = stage.files.sundown.with_file_name("sundown-nvme");
        let child = spawn(&program, &folder, id)?;
        let id = id.to_owned();
        Ok(Self {
            program,
            folder,
            id,
            child,
        })
    }

    /// The device of a machine that it is, with this deadline.
    pub(super) fn device(&self, deadline_ms: u64, fence: bool) -> Device {
        let mut device = VfioUserConfig {
            socket: socket(&self.folder, &self.id),
            fence,
            ..VfioUserConfig::default()
        };
        device.options.id.clone_from(&self.id);
        Device(DeviceConfig::VfioUser(device)).deadline_ms(deadline_ms)
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("the server cannot be killed")?;
        self.child.wait().context("the server does not end")?;
        Ok(())
    }

    /// Has it do nothing any more, as if it hung.
    pub(super) fn hang(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::STOP)
            .context("the server cannot be stopped")
    }

    /// Whether it has ended by itself, or somebody ended it.
    pub(super) fn has_ended(&mut self) -> Result<bool> {
        let ended = self.child.try_wait();
        Ok(ended.context("the server cannot be looked at")?.is_some())
    }

    /// Starts it anew, after it has ended.
    pub(super) fn start_anew(&mut self) -> Result<()> {
        self.child = spawn(&self.program, &self.folder, &self.id)?;
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Gone already where the scenario has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.sock"))
}

fn spawn(program: &Path, folder: &Path, id: &str) -> Result<Child> {
    let socket = socket(folder, id);
    let log = folder.join(format!("{id}.log"));
    let log = File::create(&log).with_context(|| format!("could not make {}", log.display()))?;
    let child = Command::new(program)
        .arg("--socket")
        .arg(&socket)
        .arg("--config")
        .arg(folder.join(format!("{id}.json")))
        .stderr(log)
        .spawn()
        .with_context(|| format!("could not start {}", program.display()))?;
    let begin = Instant::now();
    let log = folder.join(format!("{id}.log"));
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains(READY)) {
        if begin.elapsed() > START {
            bail!("the server of {id} does not listen");
        }
        sleep(POLL);
    }
    Ok(child)
}
