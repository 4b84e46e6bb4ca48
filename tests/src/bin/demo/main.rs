//! `cargo demo`: a VM with eight slow NVMe drives reboots under the teardown policies in turn, and a table
//! and a page show where the time went. The VM runs on this machine's KVM or, where that runs no stock
//! Linux, in the lab host; `run_script` is the part to read for how sundown is driven.

mod console;
mod place;
mod results;
mod run_script;
mod vm_folder;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use lab::workspace;

use place::Place;
use run_script::POLICY_COUNT;

/// Boots a VM with eight NVMe drives that are slow to shut down, lets it reboot under the policies `serial`,
/// `cookie` and `completion` in turn, and shows where the time went.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Options {
    /// How long each drive's teardown takes on the host's side, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    latency: u64,
    /// Pass drives through instead of emulating them: eight of the lab host's, by VFIO
    #[arg(long, conflicts_with = "latency")]
    vfio: bool,
    /// Pass these of this machine's drives through, by their PCI addresses, bound to vfio-pci: what is on them is
    /// OVERWRITTEN
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',', requires = "vfio", conflicts_with = "lab", num_args = 1..=8)]
    devices: Vec<String>,
    /// Reboots under each policy
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=50))]
    reboots: u16,
    /// Where the results go [default: target/demo]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Keep what the VM was made of, with the script that runs it
    #[arg(long)]
    keep: bool,
    /// Use the lab host even where this machine's KVM would do
    #[arg(long)]
    lab: bool,
    /// Seconds after which the VM has failed [default: 60, and 40 for each reboot]
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u64>,
}

impl Options {
    fn time_limit(&self) -> Duration {
        let usual = 60 + 40 * self.all_reboots();
        Duration::from_secs(self.time_limit.unwrap_or(usual))
    }

    /// Reboots in all.
    fn all_reboots(&self) -> u64 {
        POLICY_COUNT * u64::from(self.reboots)
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
    results::clear(&output)?;
    let place = Place::choose(options)?;
    let folder = output.join("vm");
    let config = place.prepare(&folder, options)?;
    place.run(&folder, &output, options)?;
    if !options.keep {
        vm_folder::remove(&folder);
    }
    let namespaces = vm_folder::namespaces(&config) as u64;
    results::conclude(&output, namespaces, options.all_reboots())
}
