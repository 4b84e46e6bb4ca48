//! The command line, and what each command asks of the server.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use api::client::{Client, Method, TIMEOUT};
use api::config::TeardownPolicy;
use api::state::PolicyUpdate;
use clap::{Parser, Subcommand};

use crate::behaviour::BehaviourArguments;
use crate::devices::{self, AddArguments, AddUserArguments};
use crate::measure::{self, MeasureArguments};
use crate::plan::PlanArguments;

/// Controls a running sundown over its API socket.
///
/// Exit code 0: done. 1: the call failed; standard error says why. 2: the command line is wrong. `check` and
/// `measure` have exit codes of their own; their help has them.
#[derive(Debug, Parser)]
#[command(name = "sundownctl", version, about)]
pub struct Arguments {
    /// The socket that sundown was started with. Needed by the commands that ask a running machine.
    #[arg(long, value_name = "PATH")]
    pub api_socket: Option<PathBuf>,
    /// Print what the server answers, as it is.
    #[arg(long)]
    pub json: bool,
    /// How long to wait for an answer. A call that shuts devices down takes as long as they do.
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT.as_secs())]
    pub timeout: u64,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask whether the process is alive
    Ping,
    /// Create the machine
    Create {
        /// Its configuration as JSON; `-` reads standard input
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Boot the machine
    Boot,
    /// Show what the machine is configured with and doing
    Info,
    /// Stop the vCPUs where they are
    Pause,
    /// Let the vCPUs of a paused machine run again
    Resume,
    /// Shut the machine's devices down; it can be booted again
    Shutdown,
    /// Reset the machine in place
    Reboot,
    /// Press the power button
    PowerButton,
    /// Shut the machine down and give everything of it back
    Delete,
    /// Shut the machine down and end the process
    VmmShutdown,
    /// Show the device tree
    Topology,
    /// Show or change how a device behaves: its latencies, and what is wrong with it
    Behaviour(BehaviourArguments),
    /// Add a device to a machine that does not run
    AddDevice(AddArguments),
    /// Add a device of a vfio-user server to a machine that does not run
    AddUserDevice(AddUserArguments),
    /// Remove a device from a machine that does not run
    RemoveDevice {
        /// The device's name
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Show what a teardown would take under each policy, and what would help
    Plan(PlanArguments),
    /// Show or change the order in which devices are shut down
    TeardownPolicy {
        /// `serial`, `cookie` or `completion`
        #[arg(value_parser = parse_policy)]
        policy: Option<TeardownPolicy>,
        /// The most worker threads that blocking work may use at once
        #[arg(long, value_name = "N")]
        workers: Option<u16>,
    },
    /// List the teardowns
    Teardowns {
        /// All that are kept, compared
        #[command(flatten)]
        drawings: Drawings,
    },
    /// Show where the time of one teardown went
    Teardown {
        /// Its number
        number: u64,
        /// This one alone
        #[command(flatten)]
        drawings: Drawings,
    },
    /// Write the page about saved reports; needs no machine
    Page {
        /// Files with what `--json teardown` prints, or with arrays of that; `-` reads standard input
        #[arg(value_name = "REPORT", required = true)]
        reports: Vec<PathBuf>,
        /// The HTML file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Write saved reports as a trace that the Perfetto UI opens; needs no machine
    Trace {
        /// Files with what `--json teardown N` prints, or arrays of that; `-` reads standard input
        #[arg(value_name = "REPORT", required = true)]
        reports: Vec<PathBuf>,
        /// The file to write, in the JSON of Chrome's trace events
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check that reports keep the rules of their policies; needs no machine
    ///
    /// Exit code 0: every rule holds. 1: a rule is violated; it is named with the devices and their times.
    /// 2: a file cannot be read.
    Check {
        /// Files with a report as JSON, or an array of them; `-` reads standard input
        #[arg(value_name = "FILE", required = true)]
        reports: Vec<PathBuf>,
    },
    /// Measure reboots under several policies, interleaved: figures, ratios, bounds
    #[command(after_help = measure::MORE_HELP)]
    Measure(MeasureArguments),
    /// Show what has happened
    Events {
        /// The number of the last event seen: show those behind it
        #[arg(long, value_name = "N")]
        since: Option<u64>,
        /// Go on with what happens
        #[arg(long)]
        follow: bool,
    },
}

/// What is drawn of teardowns instead of being printed.
#[derive(Debug, Default, clap::Args)]
pub struct Drawings {
    /// Draw a picture into this file instead, as SVG; of several teardowns on one scale
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write a page into this file instead: HTML that needs no network
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
    /// Write a trace into this file instead, which the Perfetto UI opens
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

impl Drawings {
    /// Whether nothing is to be drawn.
    pub fn is_empty(&self) -> bool {
        self.svg.is_none() && self.page.is_none() && self.trace.is_none()
    }
}

impl Arguments {
    /// The client of the running machine.
    pub fn client(&self) -> anyhow::Result<Client> {
        let socket = self.api_socket.as_ref().context(
            "which machine? Give the socket that its sundown was started with: --api-socket PATH",
        )?;
        Ok(Client::new(socket).with_timeout(Duration::from_secs(self.timeout)))
    }
}

/// A call of the API.
#[derive(Debug, PartialEq)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, behind the version.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Call {
    /// A reading call.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: Vec::new(),
        }
    }

    /// A changing call.
    pub fn put(path: &str, body: Vec<u8>) -> Self {
        Self {
            method: Method::PUT,
            path: path.to_owned(),
            body,
        }
    }
}

impl Command {
    /// The call that the command makes.
    pub fn into_call(self) -> anyhow::Result<Call> {
        Ok(match self {
            Self::Ping => Call::get("/vmm.ping"),
            Self::Create { config } => Call::put("/vm.create", read(&config)?),
            Self::Boot => Call::put("/vm.boot", Vec::new()),
            Self::Info => Call::get("/vm.info"),
            Self::Pause => Call::put("/vm.pause", Vec::new()),
            Self::Resume => Call::put("/vm.resume", Vec::new()),
            Self::Shutdown => Call::put("/vm.shutdown", Vec::new()),
            Self::Reboot => Call::put("/vm.reboot", Vec::new()),
            Self::PowerButton => Call::put("/vm.power-button", Vec::new()),
            Self::Delete => Call::put("/vm.delete", Vec::new()),
            Self::VmmShutdown => Call::put("/vmm.shutdown", Vec::new()),
            Self::Topology => Call::get("/vm.topology"),
            Self::Behaviour(behaviour) => return behaviour.into_call(),
            Self::AddDevice(added) => return added.into_call(),
            Self::AddUserDevice(added) => return added.into_call(),
            Self::RemoveDevice { id } => return devices::remove(id),
            Self::Plan(_) => Call::get("/vm.plan"),
            Self::TeardownPolicy {
                policy: None,
                workers: None,
            } => Call::get("/vm.teardown-policy"),
            Self::TeardownPolicy { policy, workers } => {
                let update = PolicyUpdate { policy, workers };
                Call::put(
                    "/vm.teardown-policy",
                    serde_json::to_vec(&update).context("writing the policy")?,
                )
            }
            Self::Teardowns { .. } => Call::get("/vm.teardowns"),
            Self::Teardown { number, .. } => Call::get(format!("/vm.teardowns/{number}")),
            // Streams are followed, not called; this is what one would begin with.
            Self::Events { .. } => Call::get("/events"),
            Self::Check { .. } | Self::Page { .. } | Self::Trace { .. } | Self::Measure(_) => {
                bail!("this command is no single call")
            }
        })
    }
}

/// As JSON has them, so that a new policy is known here at once.
pub fn parse_policy(name: &str) -> Result<TeardownPolicy, serde_json::Error> {
    serde_json::from_value(serde_json::Value::from(name))
}

/// Reads a file; `-` is standard input.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin()
            .read_to_end(&mut text)
            .context("reading standard input")?;
        return Ok(text);
    }
    std::fs::read(path).with_context(|| format!("reading `{}`", path.display()))
}

#[cfg(test)]
mod tests;
