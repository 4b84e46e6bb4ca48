//! The reboots themselves: policy set, reset asked for or awaited, events followed until the guest is ready
//! again, report fetched and checked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use api::client::{Client, ClientError, Events, Method};
use api::config::TeardownPolicy;
use api::events::EventKind;
use api::json;
use api::report::TeardownReport;
use api::state::PolicyUpdate;
use vmm::check::check;
use vmm::measure::{Reboot, policy_name};

use super::folder::Folder;
use super::progress::Progress;
use super::{MeasureArguments, Trigger};

/// How long an interrupt may go unseen.
const INTERRUPT: Duration = Duration::from_millis(200);

/// A machine that is run through reboots.
pub struct Series<'a> {
    client: &'a Client,
    events: Events,
    interrupted: &'a AtomicBool,
    progress: &'a Progress,
    trigger: Trigger,
    ready_marker: u8,
    limit: Duration,
    /// What is under way, for progress and errors.
    doing: String,
    deadline: Instant,
    /// The boot that the machine is in; 0 before the first.
    boot: u64,
}

impl<'a> Series<'a> {
    /// Follows the events of a VMM from now on. Its machine is in this boot; 0 before the first.
    pub fn new(
        client: &'a Client,
        arguments: &MeasureArguments,
        interrupted: &'a AtomicBool,
        progress: &'a Progress,
        boot: u64,
    ) -> anyhow::Result<Self> {
        let limit = Duration::from_secs(arguments.time_limit);
        Ok(Self {
            client,
            events: client.events(None).context("following the events")?,
            interrupted,
            progress,
            trigger: arguments.trigger,
            ready_marker: arguments.ready_marker,
            limit,
            doing: String::new(),
            deadline: Instant::now() + limit,
            boot,
        })
    }

    /// Runs the reboots. Those that are done are in `reboots`, also after an error.
    pub fn run(
        &mut self,
        order: &[(u64, TeardownPolicy)],
        folder: &Folder,
        reboots: &mut Vec<Reboot>,
    ) -> anyhow::Result<()> {
        let Some(&(_, first)) = order.first() else {
            return Ok(());
        };
        // Before the guest can ask for its first reset.
        self.set_policy(first)?;
        self.begin("the first boot".to_owned());
        let markers = self.first_boot()?;
        if !markers {
            self.ready()?;
        }
        for (at, &(round, policy)) in order.iter().enumerate() {
            let name = policy_name(policy);
            self.begin(format!("reboot {} of {} ({name})", at + 1, order.len()));
            let next = order.get(at + 1).map(|&(_, policy)| policy);
            let reboot = self.reboot(round, policy, next, folder, reboots);
            reboot.with_context(|| self.doing.clone())?;
        }
        Ok(())
    }

    /// Boots a machine that was created. Returns whether one that runs is ready already.
    fn first_boot(&mut self) -> anyhow::Result<bool> {
        if self.boot > 0 {
            let markers = self
                .client
                .info()
                .context("looking at the machine")?
                .boot_markers;
            let ready = |value: u8, boot: u64| value == self.ready_marker && boot == self.boot;
            return Ok(markers
                .iter()
                .any(|marker| ready(marker.value, marker.boot)));
        }
        self.client.boot().context("booting the machine")?;
        self.booted()?;
        Ok(false)
    }

    fn begin(&mut self, doing: String) {
        self.doing = doing;
        self.deadline = Instant::now() + self.limit;
    }

    fn reboot(
        &mut self,
        round: u64,
        policy: TeardownPolicy,
        next: Option<TeardownPolicy>,
        folder: &Folder,
        reboots: &mut Vec<Reboot>,
    ) -> anyhow::Result<()> {
        if self.trigger == Trigger::Api {
            self.client.reboot().context("asking for the reset")?;
        }
        let (number, under) = self.event("the reset request", |event| match event {
            EventKind::TeardownStarted { number, policy } => Some((*number, *policy)),
            _ => None,
        })?;
        ensure!(
            under == policy,
            "teardown {number} ran under {}: the guest asked for it before the policy was set",
            policy_name(under)
        );
        self.teardown(number)?;
        let ready = self.booted().and_then(|()| {
            // As early as can be: a guest that resets itself does not wait for it.
            next.map_or(Ok(()), |next| self.set_policy(next))?;
            self.ready()
        });
        // What led to an error may stand in the report.
        let report = self.report(number, folder);
        let ready_ns = match (ready, report) {
            (ready, Ok(report)) => {
                let ready_ns = *ready.as_ref().unwrap_or(&None);
                reboots.push(Reboot {
                    round,
                    policy,
                    violations: check(&report),
                    report,
                    ready_ns,
                });
                ready?
            }
            (Err(error), Err(_)) | (Ok(_), Err(error)) => return Err(error),
        };
        if let Some(reboot) = reboots.last() {
            let ready = ready_ns.map(|ns| format!(", ready after {} ms", ns / 1_000_000));
            self.progress.reboot(&format!(
                "{}: teardown {:.1} ms{}",
                self.doing,
                reboot.report.teardown_ns as f64 / 1e6,
                ready.unwrap_or_default()
            ));
        }
        Ok(())
    }

    /// Waits until the teardown has ended.
    fn teardown(&mut self, number: u64) -> anyhow::Result<()> {
        let (progress, doing) = (self.progress, self.doing.clone());
        let mut ended = 0;
        self.event("the end of the teardown", |event| match event {
            EventKind::DeviceShutDown { .. } => {
                ended += 1;
                progress.detail(&format!("{doing}: {ended} devices shut down"));
                None
            }
            EventKind::TeardownEnded { number: of, .. } if *of == number => Some(()),
            _ => None,
        })
    }

    /// Waits for the vCPUs of the next boot.
    fn booted(&mut self) -> anyhow::Result<()> {
        let what = format!("boot {}", self.boot + 1);
        self.boot = self.event(&what, |event| match event {
            EventKind::VmBooted { boot } => Some(*boot),
            _ => None,
        })?;
        Ok(())
    }

    /// Waits until the guest is ready. Returns the time since the reset request that led to this boot.
    fn ready(&mut self) -> anyhow::Result<Option<u64>> {
        let (wanted, current) = (self.ready_marker, self.boot);
        let what = format!("boot marker {wanted} of boot {current} (--ready-marker)");
        let seen = self.event(&what, |event| match event {
            EventKind::BootMarker {
                value,
                boot,
                since_reset_ns,
            } if *value == wanted && *boot == current => Some(Ok(*since_reset_ns)),
            EventKind::ResetRequested { cause, .. } => Some(Err(*cause)),
            _ => None,
        })?;
        match seen {
            Ok(since_reset_ns) => Ok(since_reset_ns),
            Err(cause) => {
                bail!("the guest was reset ({cause:?}) before it was ready: waiting for {what}")
            }
        }
    }

    /// Reads events until `wanted` makes something of one; what ends the machine is an error.
    fn event<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&EventKind) -> Option<T>,
    ) -> anyhow::Result<T> {
        self.progress
            .step(&format!("{}: waiting for {what}", self.doing));
        loop {
            let event = self.next(what)?;
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
            match event {
                EventKind::VmPoweredOff => {
                    bail!("the guest switched itself off, waiting for {what}")
                }
                EventKind::VmStopped => bail!("the machine was stopped, waiting for {what}"),
                EventKind::VmDeleted => bail!("the machine was deleted, waiting for {what}"),
                EventKind::Warning { message } => {
                    self.progress.step(&format!("warning: {message}"))
                }
                EventKind::DeviceQuarantined { id } => {
                    self.progress
                        .step(&format!("warning: {id} was given up at its deadline"));
                }
                _ => {}
            }
        }
    }

    fn next(&mut self, what: &str) -> anyhow::Result<EventKind> {
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                bail!("interrupted, waiting for {what}");
            }
            let by = self.deadline.min(Instant::now() + INTERRUPT);
            match self.events.next_by(Some(by)) {
                Ok(Some(event)) => return Ok(event.event),
                Ok(None) => bail!("sundown has ended, waiting for {what}"),
                Err(ClientError::Timeout { .. }) if Instant::now() < self.deadline => {}
                Err(ClientError::Timeout { .. }) => bail!(
                    "waited for {what} until {} s were over (--time-limit)",
                    self.limit.as_secs()
                ),
                Err(error) => {
                    return Err(error).with_context(|| format!("waiting for {what}"));
                }
            }
        }
    }

    fn set_policy(&self, policy: TeardownPolicy) -> anyhow::Result<()> {
        let update = PolicyUpdate {
            policy: Some(policy),
            workers: None,
        };
        let set = self.client.set_teardown_policy(update);
        set.with_context(|| format!("setting the policy {}", policy_name(policy)))
    }

    /// Fetches a report and keeps it as it is.
    fn report(&self, number: u64, folder: &Folder) -> anyhow::Result<TeardownReport> {
        let fetching = || format!("fetching the report of teardown {number}");
        let path = format!("/vm.teardowns/{number}");
        let answer = self.client.call(Method::GET, &path, Vec::new());
        let answer = answer.with_context(fetching)?;
        folder.keep_report(number, &answer)?;
        json::from_slice(&answer).with_context(fetching)
    }
}
