//! `cargo figures`: measures what Sundown is held to, here and in the lab host, and prints a table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use lab::scenarios::passthrough::table;
use lab::scenarios::{compare, figures};
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
    /// Measure our drive against QEMU's instead: 4 KiB random reads of a file in memory, same guest, same job
    #[arg(long)]
    against_qemu: bool,
    /// Measure reboots with passed-through devices instead: 8 drives by VFIO, together, one after the other, and
    /// under QEMU, in the lab host; 32 device processes; three of them hung
    #[arg(long, conflicts_with = "against_qemu")]
    passthrough: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = arguments
        .output
        .unwrap_or_else(|| workspace::target().join("figures"));
    let measured = if arguments.against_qemu {
        against_qemu(&output)
    } else if arguments.passthrough {
        passthrough(&output)
    } else {
        begin(&output)
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn against_qemu(output: &Path) -> Result<()> {
    let (place, comparison) = suite::compare(output)?;
    compare::print(&format!("\nMeasured on {place}:"), &comparison);
    println!("\nAs JSON: {}", output.join(compare::COMPARISON).display());
    Ok(())
}

fn passthrough(output: &Path) -> Result<()> {
    for (place, rows) in suite::reboots(output)? {
        table::print(&format!("\nMeasured on {place}:"), &rows);
    }
    println!("\nAs JSON, and as a picture: {}", output.display());
    Ok(())
}

fn begin(output: &Path) -> Result<()> {
    for (place, set) in suite::measure(output)? {
        figures::print(&format!("\nMeasured on {place}:"), &set);
    }
    println!("\nAs JSON: {}", output.display());
    Ok(())
}
