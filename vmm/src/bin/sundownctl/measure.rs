//! `measure`: runs a machine through reboots under several policies, and writes what they came to.

mod folder;
mod process;
mod progress;
mod series;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, ensure};
use api::client::Client;
use api::config::{TeardownPolicy, VmConfig};
use api::plan::Plans;
use api::state::{PolicyUpdate, VmState};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use vmm::measure::{Bound, Reboot, Side, Summary, interleaved, quickest};

use crate::command::{Arguments, parse_policy, read};
use folder::Folder;
use process::Sundown;
use progress::Progress;
use series::Series;

/// Some reboots could not be measured.
const NOT_MEASURED: u8 = 1;
/// A device failed, or was given up at its deadline.
const DEVICE_FAILED: u8 = 3;
/// A report does not keep the rules of its policy.
const VIOLATED: u8 = 4;
/// A bound was missed.
const MISSED: u8 = 5;

/// The part of the help that is too long for a line an option.
pub const MORE_HELP: &str = "\
Bounds: --max FIGURE=VALUE and --min FIGURE=VALUE, for one policy POLICY.FIGURE=VALUE. A bound has to hold
in every reboot that it is for. Figures: teardown, critical-path, vcpu-pause, rest, reset, ready and
guest-span with values such as 520ms or 1.5s; efficiency, guest-overlap and speedup (serial's teardown of the
same round ÷ this one, for every policy but serial) with plain numbers.

  --max completion.teardown=520ms --max ready=30s --min completion.speedup=3

Exit code, the first that applies: 3 a device failed or was given up; 4 an order rule was violated; 1 not all
reboots could be measured (what was measured is written); 5 a bound was missed; 0 all is well. 2: the command
line is wrong, or the output folder is not empty.

page.html and trace.json have at most 24 teardowns; of a longer series, each policy's median and slowest, and
those with trouble. The other files have all. An interrupt or a TERM ends the measurement and the sundown that
it started, and what was measured is written; after a KILL that sundown goes on, and has to be ended by hand.";

/// Who asks for the resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trigger {
    /// vm.reboot: the guest is not asked, and shuts nothing down itself
    Api,
    /// The guest, by itself, some time after its ready marker; it is only followed
    Guest,
}

/// What is run, and what is asked of it.
#[derive(Debug, Args)]
pub struct MeasureArguments {
    /// The machine's configuration; it runs in a sundown of its own, which ends with the measurement. Paths
    /// in it are relative to the folder that this command is run in, as they are for sundown. Without it, the
    /// running machine of --api-socket is used, and left running
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Reboots under each policy; a round has one of every policy
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    reboots: u64,
    /// The policies
    #[arg(long, value_name = "POLICY,…", value_delimiter = ',', value_parser = parse_policy, default_value = "serial,cookie,completion")]
    policy: Vec<TeardownPolicy>,
    /// The folder that results go to; made if it is not there
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Use the folder though it is not empty: results of an earlier measurement are removed, nothing else
    #[arg(long)]
    force: bool,
    /// Who asks for the resets
    #[arg(long, value_enum, default_value = "api")]
    trigger: Trigger,
    /// The boot marker by which the guest says that it is ready
    #[arg(long, value_name = "BYTE", default_value_t = 1)]
    ready_marker: u8,
    /// How long the first boot, and each reboot until the guest is ready again, may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    time_limit: u64,
    /// The sundown to run [default: the one beside this program, else the one on PATH]
    #[arg(long, value_name = "PATH", requires = "config")]
    sundown: Option<PathBuf>,
    /// A value that no reboot may exceed
    #[arg(long, value_name = "BOUND")]
    max: Vec<Bound>,
    /// A value that no reboot may stay below
    #[arg(long, value_name = "BOUND")]
    min: Vec<Bound>,
}

impl MeasureArguments {
    /// Measures, writes and prints. Returns the exit code. `client` is that of `--api-socket`, if given.
    pub fn run(
        self,
        client: Option<Client>,
        json: bool,
        out: &mut impl Write,
    ) -> anyhow::Result<u8> {
        self.check_usage(client.is_some());
        let config = self.config.as_deref().map(machine).transpose()?;
        let folder = match Folder::open(&self.out, self.force) {
            Ok(folder) => folder,
            Err(error) => wrong_usage(&format!("{error:#}")),
        };
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ] {
            signal_hook::flag::register(signal, interrupted.clone()).context("catching signals")?;
        }
        let progress = Progress::new(self.policy.len() as u64 * self.reboots);
        let mut measurement = Measurement {
            arguments: &self,
            folder: &folder,
            interrupted: &interrupted,
            progress: &progress,
            plans: None,
            reboots: Vec::new(),
        };
        let result = match (&config, client) {
            (Some(config), _) => measurement.of_own(config),
            (None, Some(client)) => measurement.of_running(&client.with_timeout(self.limit())),
            (None, None) => Ok(()),
        };
        let Measurement { plans, reboots, .. } = measurement;
        progress.finish();
        let error = result.err();
        let said = error.as_ref().map(|error| format!("{error:#}"));
        let summary = Summary::new(
            &reboots,
            &self.policy,
            self.reboots,
            plans.as_ref(),
            &self.bounds(),
            said,
        );
        folder.write(&reboots, &summary)?;
        if json {
            serde_json::to_writer_pretty(&mut *out, &summary).context("writing the summary")?;
            writeln!(out).context("writing the summary")?;
        } else {
            let text = table::draw(&summary);
            out.write_all(text.as_bytes())
                .context("writing the summary")?;
        }
        out.flush().context("writing the summary")?;
        if let Some(error) = &error {
            eprintln!("sundownctl: {error:#}");
        }
        Ok(exit_code(&summary))
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.time_limit)
    }

    /// The policy of each reboot, with its round.
    fn order(&self) -> Vec<(u64, TeardownPolicy)> {
        interleaved(&self.policy, self.reboots).collect()
    }

    fn bounds(&self) -> Vec<(Side, Bound)> {
        let max = self.max.iter().map(|&bound| (Side::Max, bound));
        max.chain(self.min.iter().map(|&bound| (Side::Min, bound)))
            .collect()
    }

    /// What the command line can be wrong in beyond its grammar. Ends the process if it is.
    fn check_usage(&self, has_socket: bool) {
        match (&self.config, has_socket) {
            (None, false) => wrong_usage(
                "which machine? Give its configuration (--config) or the socket of a running one (--api-socket)",
            ),
            (Some(_), true) => wrong_usage(
                "--config starts a machine of its own, --api-socket uses a running one; give one of them",
            ),
            _ => {}
        }
        for (at, policy) in self.policy.iter().enumerate() {
            if self.policy[..at].contains(policy) {
                wrong_usage(&format!("--policy names {policy} twice"));
            }
        }
        for (_, bound) in self.bounds() {
            if let Some(policy) = bound.lacks(&self.policy) {
                wrong_usage(&format!(
                    "the bound on {bound} needs the policy {policy}; add it to --policy"
                ));
            }
        }
    }
}

/// What is under way, and what it has come to.
struct Measurement<'a> {
    arguments: &'a MeasureArguments,
    folder: &'a Folder,
    interrupted: &'a AtomicBool,
    progress: &'a Progress,
    plans: Option<Plans>,
    reboots: Vec<Reboot>,
}

impl Measurement<'_> {
    /// Measures a machine of this configuration in a sundown that is started for it.
    fn of_own(&mut self, config: &VmConfig) -> anyhow::Result<()> {
        let program = self.arguments.sundown.clone();
        let program = program.unwrap_or_else(process::beside);
        self.progress.step(&format!("{} starts", program.display()));
        let sundown = Sundown::start(&program, self.folder, config, self.interrupted)?;
        let client = sundown.client(self.arguments.limit());
        let created = client.create(config).context("creating the machine");
        let measured = created
            .and_then(|()| self.series(&client, false))
            .map_err(|error| sundown.with_last_words(error));
        if measured.is_ok()
            && let Some(policy) = quickest(&self.reboots)
        {
            // Ending shuts the devices down once more, under the last policy of the order. Where it cannot be
            // changed, that costs time and nothing else.
            let _ = client.set_teardown_policy(PolicyUpdate {
                policy: Some(policy),
                workers: None,
            });
        }
        self.progress.step("sundown ends");
        sundown.end(measured, self.arguments.limit(), self.interrupted)
    }

    /// Measures the machine that runs there, and leaves it running under the policy that it had.
    fn of_running(&mut self, client: &Client) -> anyhow::Result<()> {
        let info = client.info().context("looking at the machine")?;
        ensure!(
            info.state == VmState::Running,
            "the machine is {:?}; it has to run",
            info.state
        );
        let policy = client.teardown_policy().context("looking at the policy")?;
        let measured = self.series(client, true);
        let policy = PolicyUpdate {
            policy: Some(policy.policy),
            workers: None,
        };
        let restored = client.set_teardown_policy(policy);
        measured.and(restored.context("setting the policy that the machine had"))
    }

    /// Measures the machine there, which runs already or is booted for it.
    fn series(&mut self, client: &Client, runs: bool) -> anyhow::Result<()> {
        // A plan is for comparison; without one, measuring goes on.
        self.plans = client.plan().ok();
        let mut series = Series::new(
            client,
            self.arguments,
            self.interrupted,
            self.progress,
            runs,
        )?;
        series.run(&self.arguments.order(), self.folder, &mut self.reboots)
    }
}

/// Reads the configuration of a machine.
fn machine(file: &Path) -> anyhow::Result<VmConfig> {
    VmConfig::from_json(&read(file)?)
        .with_context(|| format!("reading the configuration `{}`", file.display()))
}

fn exit_code(summary: &Summary) -> u8 {
    let any = |count: fn(&vmm::measure::PolicySummary) -> usize| {
        summary.policies.iter().any(|policy| count(policy) > 0)
    };
    if any(|policy| policy.failed_devices) {
        DEVICE_FAILED
    } else if any(|policy| policy.violations) {
        VIOLATED
    } else if summary.ended_early.is_some() {
        NOT_MEASURED
    } else if summary.bounds.iter().any(|bound| !bound.holds) {
        MISSED
    } else {
        0
    }
}

/// Says what is wrong with the command line and ends the process with exit code 2.
fn wrong_usage(what: &str) -> ! {
    Arguments::command()
        .error(ErrorKind::ValueValidation, what)
        .exit()
}
