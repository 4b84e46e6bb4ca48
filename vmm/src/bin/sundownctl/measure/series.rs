//! The reboots themselves: policy set, reset asked for or awaited, events followed until the guest is ready
//! again, report fetched and checked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use api::client::{Client, ClientError, Events, Method};
use api::config::TeardownPolicy;
use api::events::{CAPACITY, EventKind, GapReason};
use api::json;
use api::report::TeardownReport;
use api::state::{BootMarker, PolicyUpdate};
use vmm::check::check;
use vmm::measure::Reboot;

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
    /// Whether its guest is ready already.
    is_ready: bool,
}

impl<'a> Series<'a> {
    /// Follows the events of a VMM from now on. Its machine runs already, or was created and is to be booted.
    pub fn new(
        client: &'a Client,
        arguments: &MeasureArguments,
        interrupted: &'a AtomicBool,
        progress: &'a Progress,
        runs: bool,
    ) -> anyhow::Result<Self> {
        let limit = Duration::from_secs(arguments.time_limit);
        let events = || client.events(None).context("following the events");
        let (events, boot, is_ready) = if runs {
            let look = || client.info().context("looking at the machine");
            let (events, info) = within_a_boot(look, events, |info| info.boot)?;
            let is_marker = |marker: &BootMarker| {
                marker.value == arguments.ready_marker && marker.boot == info.boot
            };
            let is_ready = info.boot_markers.iter().any(is_marker);
            (events, info.boot, is_ready)
        } else {
            (events()?, 0, false)
        };
        Ok(Self {
            client,
            events,
            interrupted,
            progress,
            trigger: arguments.trigger,
            ready_marker: arguments.ready_marker,
            limit,
            doing: String::new(),
            deadline: Instant::now() + limit,
            boot,
            is_ready,
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
        if self.boot == 0 {
            self.client.boot().context("booting the machine")?;
            self.booted()?;
        }
        if !self.is_ready {
            self.ready()?;
        }
        for (at, &(round, policy)) in order.iter().enumerate() {
            self.begin(format!("reboot {} of {} ({policy})", at + 1, order.len()));
            let next = order.get(at + 1).map(|&(_, policy)| policy);
            let reboot = self.reboot(round, policy, next, folder, reboots);
            reboot.with_context(|| self.doing.clone())?;
        }
        Ok(())
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
            "teardown {number} ran under {under}: the guest asked for it before the policy was set"
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
            if let Some(end) = end(&event) {
                bail!("{end}, waiting for {what}");
            }
            match event {
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
        set.with_context(|| format!("setting the policy {policy}"))
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

/// Why an event leaves nothing to wait for, if it does.
fn end(event: &EventKind) -> Option<String> {
    match event {
        EventKind::VmPoweredOff => Some("the guest switched itself off".to_owned()),
        EventKind::VmStopped => Some("the machine was stopped".to_owned()),
        EventKind::VmDeleted => Some("the machine was deleted".to_owned()),
        // What was waited for may be among them.
        EventKind::Gap { reason, lost } => Some(match reason {
            GapReason::Overrun => format!(
                "{lost} events were lost: more happened than sundown keeps ({CAPACITY} events) before they were read"
            ),
            GapReason::Restarted => "sundown was started anew".to_owned(),
        }),
        _ => None,
    }
}

/// Follows the events of a machine that runs, and looks at it, in one and the same boot: else a reset between
/// the two would be missed, or be waited for in vain.
fn within_a_boot<I, E>(
    look: impl Fn() -> anyhow::Result<I>,
    follow: impl Fn() -> anyhow::Result<E>,
    boot: impl Fn(&I) -> u64,
) -> anyhow::Result<(E, I)> {
    let mut before = look()?;
    loop {
        let events = follow()?;
        let after = look()?;
        if boot(&before) == boot(&after) {
            return Ok((events, after));
        }
        before = after;
    }
}

#[cfg(test)]
mod tests;
