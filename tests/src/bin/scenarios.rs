//! Runs system-test scenarios, or measures, on the machine it is started on: the lab host, or a host
//! whose own KVM works. `cargo test -p lab --test system` and `cargo figures` start it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use lab::scenarios::compare;
use lab::scenarios::figures::{self, Guests};
use lab::scenarios::passthrough::{reboots, table};
use lab::scenarios::run::{self, Place};
use lab::scenarios::{Files, all};

/// Runs system-test scenarios on this machine's KVM.
#[derive(Parser)]
struct Arguments {
    /// The scenarios to run; without any, all
    names: Vec<String>,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Measure instead: with these guests
    #[arg(long)]
    figures: Option<Guests>,
    /// Compare our drive with QEMU's instead
    #[arg(long, conflicts_with = "figures")]
    against_qemu: bool,
    /// Measure reboots with passed-through devices instead: drives with Linux, device processes with tiny guests
    #[arg(long, conflicts_with_all = ["figures", "against_qemu"])]
    passthrough: Option<Guests>,
    /// The VMM
    #[arg(long, default_value = "/usr/bin/sundown")]
    sundown: PathBuf,
    /// Addresses of drives that are bound to VFIO, with spaces between
    #[arg(long, env = "LAB_VFIO", default_value = "")]
    vfio: String,
    /// Addresses of SATA controllers that are bound to VFIO, with spaces between
    #[arg(long, env = "LAB_SATA", default_value = "")]
    sata: String,
    /// A stock kernel, as a bzImage
    #[arg(long, default_value = "/lab/vmlinuz")]
    kernel: PathBuf,
    /// The same kernel as an ELF file
    #[arg(long, default_value = "/lab/vmlinux")]
    vmlinux: PathBuf,
    /// The guest's initramfs
    #[arg(long, default_value = "/lab/guest.cpio")]
    initramfs: PathBuf,
    /// Debian's newest kernel, as a bzImage
    #[arg(long, default_value = "/lab/newest-vmlinuz")]
    newest_kernel: PathBuf,
    /// The initramfs of a guest with nvme-cli, fio and file systems' programs
    #[arg(long, default_value = "/lab/suites.cpio")]
    suites: PathBuf,
    /// QEMU, for the comparison with it
    #[arg(long, default_value = "/lab/qemu/qemu-system-x86_64")]
    qemu: PathBuf,
    /// A folder for drives and sockets; emptied
    #[arg(long, default_value = "/tmp/scenarios")]
    work: PathBuf,
    /// Where results and logs go
    #[arg(long, default_value = "/output")]
    output: PathBuf,
    /// How often a scenario that fails is tried: for a host that is not to be relied on
    #[arg(long, default_value_t = 1)]
    attempts: u32,
    /// Seconds after which no further scenario is begun
    #[arg(long, default_value_t = 1500)]
    time_limit: u64,
}

fn main() -> ExitCode {
    match begin(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn begin(arguments: &Arguments) -> Result<bool> {
    let mut scenarios = all();
    if arguments.list {
        for scenario in scenarios {
            println!("{} ({} s at most)", scenario.name, scenario.limit.as_secs());
        }
        return Ok(true);
    }
    let place = Place {
        files: Files {
            sundown: arguments.sundown.clone(),
            passed_through: words(&arguments.vfio),
            sata: words(&arguments.sata),
            kernel: arguments.kernel.clone(),
            vmlinux: arguments.vmlinux.clone(),
            initramfs: arguments.initramfs.clone(),
            newest_kernel: arguments.newest_kernel.clone(),
            suites: arguments.suites.clone(),
            qemu: arguments.qemu.clone(),
        },
        work: arguments.work.clone(),
        output: arguments.output.clone(),
        limit: Duration::from_secs(arguments.time_limit),
        attempts: arguments.attempts,
    };
    if let Some(guests) = arguments.figures {
        let figures = figures::measure(&place, guests)?;
        figures::write(&figures, &place.output)?;
        return Ok(true);
    }
    if arguments.against_qemu {
        compare::write(&compare::compare(&place)?, &place.output)?;
        return Ok(true);
    }
    if let Some(guests) = arguments.passthrough {
        table::write(&reboots::measure(&place, guests)?, &place.output)?;
        return Ok(true);
    }
    let names = &arguments.names;
    if let Some(unknown) = names
        .iter()
        .find(|name| !scenarios.iter().any(|scenario| scenario.name == **name))
    {
        anyhow::bail!("there is no scenario {unknown}; --list shows all");
    }
    scenarios.retain(|scenario| names.is_empty() || names.iter().any(|name| name == scenario.name));
    let outcomes = run::run(&scenarios, &place)?;
    Ok(outcomes.iter().all(|outcome| outcome.error.is_none()))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
