//! `cargo figures`: measures what Sundown is held to, here and in the lab host, and prints a table.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use lab::scenarios::figures;
use lab::{suite, workspace};

/// Measures reset times, teardown costs, resident memory and answer times.
///
/// On this machine where it has a /dev/kvm; in the lab host, whose times are those of an emulated
/// machine, what this machine's KVM cannot run.
#[derive(Parser)]
#[command(name = "cargo figures", bin_name = "cargo figures")]
struct Arguments {
    /// Where the figures go, as JSON [default: target/figures]
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = arguments
        .output
        .unwrap_or_else(|| workspace::target().join("figures"));
    match begin(&output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin(output: &std::path::Path) -> Result<()> {
    for (place, set) in suite::measure(output)? {
        figures::print(&format!("\nMeasured on {place}:"), &set);
    }
    println!("\nAs JSON: {}", output.display());
    Ok(())
}
