//! A running machine as a scenario drives it: API, events in order, console, and its reports, each of
//! which is checked when it is fetched.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::client::{Client, Events};
use api::config::VmConfig;
use api::events::{Event, EventKind};
use api::report::{Cause, TeardownReport};
use api::state::VmState;

use super::console::answer;
use super::order;
use super::process::Sundown;

/// The marker that a guest writes when it is ready for orders.
const READY: u8 = 2;
/// How long the guest may take to boot, or for one answer: long before a scenario's end, as an emulated host
/// now and then leaves a guest hanging.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a machine is asked.
const POLL: Duration = Duration::from_millis(10);
/// How long a process may take to end once its machine is shut down.
const END: Duration = Duration::from_secs(20);
/// How long events are waited for when nothing waits for them any more.
const LAST_EVENTS: Duration = Duration::from_millis(100);

/// A machine in a process of its own.
pub(super) struct Machine {
    pub(super) process: Sundown,
    events: Events,
    event_log: File,
    reports: PathBuf,
    /// What it is made of, each with the first boot that it is so in.
    configs: Vec<(u64, VmConfig)>,
    /// The boot that the scenario knows of.
    pub(super) boot: u64,
    /// How many orders the guest has been given, over all boots.
    orders: u64,
    deadline: Instant,
}

impl Machine {
    /// Creates the machine in a process that answers, and follows its events.
    pub(super) fn create(
        process: Sundown,
        config: VmConfig,
        folder: PathBuf,
        deadline: Instant,
    ) -> Result<Self> {
        let events = process
            .client
            .events(Some(0))
            .context("could not follow the events")?;
        let log = folder.join("events.log");
        let event_log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("could not make {}", log.display()))?;
        let mut machine = Self {
            process,
            events,
            event_log,
            reports: folder,
            configs: vec![(0, config.clone())],
            boot: 0,
            orders: 0,
            deadline,
        };
        machine
            .client()
            .create(&config)
            .context("the machine was not created")?;
        machine.event("vm-created", |event| {
            matches!(event, EventKind::VmCreated).then_some(())
        })?;
        Ok(machine)
    }

    /// The client of its process.
    pub(super) fn client(&self) -> &Client {
        &self.process.client
    }

    /// Boots it, and waits until its vCPUs run.
    pub(super) fn start(&mut self) -> Result<()> {
        self.client().boot().context("vm.boot failed")?;
        self.booted()
    }

    /// Waits for the vCPUs of the next boot.
    pub(super) fn booted(&mut self) -> Result<()> {
        let boot = self.event("vm-booted", |event| match event {
            EventKind::VmBooted { boot } => Some(*boot),
            _ => None,
        })?;
        ensure!(
            boot == self.boot + 1,
            "boot {boot} follows boot {}: a reset was taken twice",
            self.boot
        );
        self.boot = boot;
        Ok(())
    }

    /// Waits for that boot or a later one by asking, not by following the events: a guest may be reset more
    /// often than events are kept.
    pub(super) fn reaches(&self, boot: u64) -> Result<()> {
        while self.client().info().context("vm.info failed")?.boot < boot {
            ensure!(
                Instant::now() < self.deadline,
                "time is over, boot {boot} is not reached"
            );
            sleep(POLL);
        }
        Ok(())
    }

    /// Reads events until `wanted` makes something of one.
    pub(super) fn event<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&EventKind) -> Option<T>,
    ) -> Result<T> {
        loop {
            if let Some(found) = wanted(&self.next_event(what)?.event) {
                return Ok(found);
            }
        }
    }

    /// The next event, of whatever kind.
    pub(super) fn next_event(&mut self, what: &str) -> Result<Event> {
        self.next_event_by(what, self.deadline)
    }

    fn next_event_by(&mut self, what: &str, by: Instant) -> Result<Event> {
        let event = self
            .events
            .next_by(Some(by))
            .with_context(|| format!("waiting for {what}"))?
            .with_context(|| format!("the events ended before {what}"))?;
        if let Ok(line) = serde_json::to_string(&event) {
            // For people; see Stage.
            let _ = writeln!(self.event_log, "{line}");
        }
        if let EventKind::Gap { lost, .. } = event.event {
            bail!("{lost} events were lost before {what}: the scenario did not keep up");
        }
        Ok(event)
    }

    /// Waits until the guest of this boot is ready for orders. A reset before that is an error.
    pub(super) fn ready(&mut self) -> Result<()> {
        self.ready_within(PATIENCE)
    }

    /// The same for a guest that takes longer.
    pub(super) fn ready_within(&mut self, patience: Duration) -> Result<()> {
        let boot = self.boot;
        let by = self.deadline.min(Instant::now() + patience);
        loop {
            match self.next_event_by("the guest's boot marker", by)?.event {
                EventKind::BootMarker {
                    value, boot: of, ..
                } if of == boot && value == READY => {
                    return Ok(());
                }
                EventKind::ResetRequested { cause, .. } => {
                    bail!("boot {boot} was ended by {cause:?} before the guest was ready")
                }
                EventKind::Warning { message } => bail!("sundown warns: {message}"),
                _ => {}
            }
        }
    }

    /// Has the guest run a shell command. Returns what it printed; a status other than 0 is an error.
    pub(super) fn run(&mut self, command: &str) -> Result<Vec<String>> {
        self.order(command)?;
        let by = self.deadline.min(Instant::now() + PATIENCE);
        answer(&mut self.process.console, self.orders, command, by)
    }

    /// Gives the guest a command and does not wait for its end.
    pub(super) fn order(&mut self, command: &str) -> Result<()> {
        self.orders += 1;
        let number = self.orders;
        self.process
            .console
            .type_line(&format!("{number} {command}"))
    }

    /// Waits for the reset that this cause makes, and for the vCPUs of the next boot.
    pub(super) fn reset_by(&mut self, cause: Cause) -> Result<TeardownReport> {
        let number = self.teardown_by(cause)?;
        self.booted()?;
        let report = self.report(number)?;
        ensure!(
            report.cause == cause,
            "{:?} is reported as the cause",
            report.cause
        );
        ensure!(
            report.reset_ns.is_some() && report.reset_rest_ns.is_some(),
            "the machine runs again, but the report does not say since when"
        );
        Ok(report)
    }

    /// Waits until the teardown that this cause makes has begun. Returns its number.
    pub(super) fn teardown_by(&mut self, cause: Cause) -> Result<u64> {
        let boot = self.boot;
        let requested = self.event("reset-requested", |event| match event {
            EventKind::ResetRequested { cause, boot } => Some((*cause, *boot)),
            _ => None,
        })?;
        ensure!(
            requested == (cause, boot),
            "{:?} ended boot {}, not {cause:?} boot {boot}",
            requested.0,
            requested.1
        );
        self.event("teardown-started", |event| match event {
            EventKind::TeardownStarted { number, .. } => Some(*number),
            _ => None,
        })
    }

    /// Waits until the machine stands still after its teardown. Returns the teardown's report.
    pub(super) fn stopped_by(&mut self, cause: Cause) -> Result<TeardownReport> {
        let number = self.teardown_by(cause)?;
        self.event("vm-stopped", |event| {
            matches!(event, EventKind::VmStopped).then_some(())
        })?;
        let state = self.state()?;
        ensure!(
            state == VmState::Shutdown,
            "the stopped machine is {state:?}"
        );
        let report = self.report(number)?;
        ensure!(
            report.cause == cause,
            "{:?} is reported as the cause",
            report.cause
        );
        ensure!(
            report.reset_ns.is_none() && report.reset_to_ready_ns.is_none(),
            "the machine stands still, but the report says since when it runs"
        );
        Ok(report)
    }

    /// Reboots by the API and waits for the vCPUs of the next boot.
    pub(super) fn reboot(&mut self) -> Result<TeardownReport> {
        self.client().reboot().context("vm.reboot failed")?;
        self.reset_by(Cause::Api)
    }

    /// What the machine is doing.
    pub(super) fn state(&self) -> Result<VmState> {
        Ok(self.client().info().context("vm.info failed")?.state)
    }

    /// From its next boot on it is made of other devices.
    pub(super) fn is_changed(&mut self) -> Result<()> {
        let info = self.client().info().context("vm.info failed")?;
        self.configs.push((info.boot + 1, info.config));
        Ok(())
    }

    /// A report, checked.
    pub(super) fn report(&self, number: u64) -> Result<TeardownReport> {
        let report = self
            .client()
            .teardown(number)
            .with_context(|| format!("teardown {number} has no report"))?;
        let path = self.reports.join(format!("teardown-{number}.json"));
        let text = serde_json::to_vec_pretty(&report).context("could not write the report")?;
        std::fs::write(&path, text)
            .with_context(|| format!("could not write {}", path.display()))?;
        let configs = self.configs.iter().rev();
        let (_, config) = configs
            .into_iter()
            .find(|(boot, _)| *boot <= report.boot)
            .context("there was no machine yet")?;
        order::check(&report, config)?;
        Ok(report)
    }

    /// Fetches, and so checks, every report that is kept.
    pub(super) fn check_reports(&self) -> Result<()> {
        let teardowns = self.client().teardowns().context("vm.teardowns failed")?;
        teardowns
            .iter()
            .try_for_each(|teardown| self.report(teardown.number).map(drop))
    }

    /// Shuts the machine and then its process down, and checks that it all went well.
    pub(super) fn end(mut self) -> Result<()> {
        if matches!(self.state()?, VmState::Running | VmState::Paused) {
            self.client().shutdown().context("vm.shutdown failed")?;
            let state = self.state()?;
            ensure!(
                state == VmState::Shutdown,
                "after vm.shutdown the machine is {state:?}"
            );
        }
        self.check_reports()?;
        self.client()
            .vmm_shutdown()
            .context("vmm.shutdown failed")?;
        let code = self.process.exit_code(END)?;
        ensure!(
            code == 0,
            "after vmm.shutdown sundown ended with exit code {code}"
        );
        ensure!(
            !self.client().socket().exists(),
            "sundown has ended, but its socket is still there"
        );
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What has happened by now but was not waited for belongs in the log too: a scenario that
        // failed is understood by it.
        self.deadline = Instant::now() + LAST_EVENTS;
        while self.next_event("the rest").is_ok() {}
    }
}
