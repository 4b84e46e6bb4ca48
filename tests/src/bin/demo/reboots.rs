//! Runs a VM through its reboots and saves what sundown reports of them: everything is asked for by
//! `sundownctl`, as a user would, and the event stream says when.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use api::client::Events;
use api::config::{TeardownPolicy, VmConfig};
use api::events::EventKind;

use crate::process::{Programs, Sundown};
use crate::progress::Progress;
use crate::results::{CONSOLE, LOG, PICTURE, policy_name, report_file};
use crate::vm_folder::{self, CONFIG};

/// The boot markers of the guest's init (resources/guest): it runs, and its job is done.
const INIT_RUNS: u8 = 1;
const JOB_DONE: u8 = 2;
/// Something always happens sooner than this.
const QUIET: Duration = Duration::from_secs(120);
/// How much of a log an error has.
const TAIL_LINES: usize = 12;

/// What is to be run.
#[derive(Debug)]
pub struct Reboots<'a> {
    /// The folder of the VM, prepared.
    pub folder: &'a Path,
    /// Where the results go.
    pub output: &'a Path,
    /// What runs it.
    pub programs: Programs,
    /// The policy of each reboot.
    pub policies: Vec<TeardownPolicy>,
    /// When it has failed.
    pub deadline: Instant,
}

impl Reboots<'_> {
    /// Runs the VM in a sundown of its own; both have ended when this returns.
    pub fn run(&self, progress: &mut Progress) -> Result<()> {
        let config = vm_folder::read(&self.folder.join(CONFIG))?;
        vm_folder::make_drives(self.folder, &config)?;
        fs::create_dir_all(self.output)
            .with_context(|| format!("could not make the folder {}", self.output.display()))?;
        progress.step("sundown --api-socket …");
        let result = Sundown::start(&self.programs, self.folder, &self.output.join(LOG)).and_then(
            |sundown| {
                self.follow(&sundown, &config, progress)?;
                self.save(&sundown, progress)?;
                progress.step("sundownctl vmm-shutdown");
                sundown.ctl(&["vmm-shutdown"])?;
                sundown.wait()
            },
        );
        progress.finish();
        // However it went: the console says how far the guest came.
        if let Some(console) = &config.serial.file {
            let _ = fs::copy(self.folder.join(console), self.output.join(CONSOLE));
        }
        result.map_err(|error| anyhow!("{error:#}{}", self.last_words()))
    }

    /// Creates and boots the VM, and follows it through its reboots, which the guest begins by itself.
    fn follow(&self, sundown: &Sundown, config: &VmConfig, progress: &mut Progress) -> Result<()> {
        let mut events = sundown.client().events(Some(0))?;
        let ctl = |progress: &mut Progress, arguments: &[&str]| {
            progress.step(&format!("sundownctl {}", arguments.join(" ")));
            sundown.ctl(arguments)
        };
        ctl(progress, &["create", CONFIG])?;
        let mut policy = None;
        let last_boot = self.policies.len() as u64 + 1;
        let drives = vm_folder::drives(config).count();
        let mut ended = 0;
        // What the policy of a reboot is must be said before the guest asks for it, which is seconds after
        // the boot has begun.
        let mut choose_policy = |progress: &mut Progress, boot: u64| {
            let next = self.policies.get(boot as usize - 1).copied();
            if next.is_some() && next != policy {
                policy = next;
                let name = next.map(policy_name).unwrap_or_default();
                ctl(progress, &["teardown-policy", &name])?;
            }
            anyhow::Ok(())
        };
        choose_policy(progress, 1)?;
        ctl(progress, &["boot"])?;
        loop {
            match self.next(&mut events)? {
                EventKind::VmBooted { boot } => {
                    choose_policy(progress, boot)?;
                    progress.step(&format!("boot {boot} of {last_boot}: Linux starts"));
                }
                EventKind::BootMarker {
                    value: INIT_RUNS,
                    boot,
                    since_reset_ns,
                } => {
                    if boot == 1 {
                        let tree = ctl(progress, &["topology"])?;
                        progress.text(&format!("\n{tree}"));
                    }
                    let since = since_reset_ns
                        .map(|ns| format!(" {} ms after the reset request", ns / 1_000_000));
                    let job = if boot == 1 {
                        "writes a pattern to"
                    } else {
                        "checks the pattern on"
                    };
                    progress.step(&format!(
                        "boot {boot} of {last_boot}: init runs{}, and {job} {drives} drives",
                        since.unwrap_or_default()
                    ));
                }
                EventKind::BootMarker {
                    value: JOB_DONE,
                    boot,
                    ..
                } if boot == last_boot => return Ok(()),
                EventKind::BootMarker {
                    value: JOB_DONE,
                    boot,
                    ..
                } => {
                    progress.step(&format!(
                        "boot {boot} of {last_boot}: the guest's job is done, it reboots"
                    ));
                }
                EventKind::TeardownStarted { number, policy } => {
                    ended = 0;
                    let policy = policy_name(policy);
                    progress.step(&format!(
                        "reboot {number}: {drives} drives are shut down under the policy {policy}"
                    ));
                }
                EventKind::DeviceShutDown { id, .. } if is_drive(config, &id) => {
                    ended += 1;
                    progress.detail(&format!("{ended} of {drives}"));
                }
                EventKind::TeardownEnded {
                    number,
                    teardown_ns,
                    ..
                } => {
                    progress.step(&format!(
                        "reboot {number}: teardown ended after {} ms",
                        teardown_ns / 1_000_000
                    ));
                }
                EventKind::Warning { message } => progress.step(&format!("warning: {message}")),
                EventKind::DeviceQuarantined { id } => {
                    bail!("{id} was not shut down by its deadline")
                }
                EventKind::VmPoweredOff => {
                    bail!("the guest has switched itself off; it should have rebooted")
                }
                EventKind::VmStopped | EventKind::VmDeleted => {
                    bail!("the VM does not run any more")
                }
                _ => {}
            }
        }
    }

    /// What happens next.
    fn next(&self, events: &mut Events) -> Result<EventKind> {
        let by = self.deadline.min(Instant::now() + QUIET);
        let event = events.next_by(Some(by)).with_context(|| {
            if Instant::now() < self.deadline {
                format!("nothing has happened for {} s", QUIET.as_secs())
            } else {
                "the time limit is over (--time-limit)".to_owned()
            }
        })?;
        Ok(event.context("sundown has ended")?.event)
    }

    /// Saves a report for each reboot, and the picture of all.
    fn save(&self, sundown: &Sundown, progress: &mut Progress) -> Result<()> {
        progress.step(&format!("sundownctl teardowns --svg {PICTURE}"));
        let picture = self.output.join(PICTURE);
        sundown.ctl(&["teardowns", "--svg", &picture.to_string_lossy()])?;
        let client = sundown.client();
        for number in 1..=self.policies.len() as u64 {
            let report = client.teardown(number)?;
            let path = self.output.join(report_file(number));
            let text = serde_json::to_string_pretty(&report).context("could not write a report")?;
            fs::write(&path, text + "\n")
                .with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(())
    }

    /// The ends of the guest's console and of sundown's log.
    fn last_words(&self) -> String {
        let mut text = String::new();
        for name in [CONSOLE, LOG] {
            let contents = fs::read(self.output.join(name)).unwrap_or_default();
            let contents = String::from_utf8_lossy(&contents);
            let lines: Vec<_> = contents.lines().map(str::trim_end).collect();
            if !lines.is_empty() {
                let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
                text.push_str(&format!("\nThe end of {name}:\n  {tail}"));
            }
        }
        text
    }
}

fn is_drive(config: &VmConfig, id: &str) -> bool {
    vm_folder::drives(config).any(|drive| drive.id() == id)
}
