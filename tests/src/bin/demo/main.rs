//! `cargo demo`: a VM with eight slow NVMe drives reboots under two teardown policies, and a table and a
//! picture show where the time went. The VM runs on this machine's KVM or, where that runs no stock
//! Linux, in the lab host; `reboots` is the part to read for how sundown is driven.

mod console;
mod place;
mod process;
mod progress;
mod reboots;
mod results;
mod table;
mod vm_folder;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use api::config::TeardownPolicy;
use clap::Parser;
use lab::workspace;

use place::Place;
use process::Programs;
use progress::Progress;
use reboots::Reboots;

/// Boots a VM with eight NVMe drives that are slow to shut down, lets it reboot, first under the policy
/// `serial`, then under `completion`, and shows where the time went.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Options {
    /// How long each drive's teardown takes on the host's side, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    latency: u64,
    /// Reboots under each policy
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=50))]
    reboots: u16,
    /// Where the results go [default: target/demo]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Keep what the VM was made of, ready to be run again by `sundown --config demo.json`
    #[arg(long)]
    keep: bool,
    /// Use the lab host even where this machine's KVM would do
    #[arg(long)]
    lab: bool,
    /// Seconds after which the VM has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    /// Run the VM of this folder here and now: what the demo does with itself in the lab host
    #[arg(long, value_name = "FOLDER", hide = true)]
    inside: Option<PathBuf>,
}

impl Options {
    fn time_limit(&self) -> Duration {
        Duration::from_secs(self.time_limit)
    }

    /// The policy of each reboot.
    fn policies(&self) -> Vec<TeardownPolicy> {
        [TeardownPolicy::Serial, TeardownPolicy::Completion]
            .into_iter()
            .flat_map(|policy| vec![policy; usize::from(self.reboots)])
            .collect()
    }

    fn output(&self) -> PathBuf {
        let output = self.output.clone();
        let output = output.unwrap_or_else(|| workspace::target().join("demo"));
        std::path::absolute(&output).unwrap_or(output)
    }
}

fn main() -> ExitCode {
    match run(&Options::parse_from(arguments())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line. `cargo demo -- --keep` may be written like `cargo demo --keep`, though cargo passes
/// the dashes on.
fn arguments() -> impl Iterator<Item = OsString> {
    let dashes = |(at, argument): &(usize, OsString)| *at == 1 && argument == "--";
    env::args_os()
        .enumerate()
        .filter(move |argument| !dashes(argument))
        .map(|(_, argument)| argument)
}

fn run(options: &Options) -> Result<()> {
    let output = options.output();
    if let Some(folder) = &options.inside {
        return Reboots {
            folder,
            output: &output,
            programs: Programs::on_path(),
            policies: options.policies(),
            deadline: Instant::now() + options.time_limit(),
        }
        .run(&mut Progress::new());
    }
    results::clear(&output)?;
    let place = Place::choose(options.lab);
    let folder = output.join("vm");
    let config = place.prepare(&folder, options)?;
    place.run(&folder, &output, options)?;
    if !options.keep {
        vm_folder::remove(&folder);
    }
    results::conclude(&output, &config, options)
}
