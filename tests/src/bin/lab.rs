//! `cargo lab`: runs a command, or a shell, in the lab host with our binaries in it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use lab::parts::Parts;
use lab::{Drive, GuestImage, Job, LabHost};

/// Runs a command in the lab host: a machine with a true KVM and true VFIO, emulated.
///
/// In it are `sundown` and `sundownctl` on PATH, a stock kernel as /lab/vmlinuz and a
/// guest's initramfs as /lab/guest.cpio. What the command leaves in /output is brought back.
#[derive(Parser)]
#[command(
    name = "cargo lab",
    bin_name = "cargo lab",
    arg_required_else_help = true
)]
struct Arguments {
    /// Memory in MiB
    #[arg(long, default_value_t = 4096)]
    memory: u64,
    /// CPUs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// NVMe drives, each behind a root port of its own
    #[arg(long, default_value_t = 0)]
    drives: usize,
    /// Size of each drive in MiB
    #[arg(long, default_value_t = 64)]
    drive_size: u64,
    /// Bind the drives to VFIO
    #[arg(long)]
    vfio: bool,
    /// Two SATA controllers, functions of one slot, bound to VFIO
    #[arg(long)]
    sata: bool,
    /// Seconds after which the lab host is killed (default: 600, for a shell 86400)
    #[arg(long)]
    time_limit: Option<u64>,
    /// Where the command's output folder goes
    #[arg(long, default_value = "target/lab/output")]
    output: PathBuf,
    /// A file or folder to take along; in the lab host it is GUEST, or has the same name in /root
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<String>,
    /// Take lspci along for guests (7 MiB more in their initramfs)
    #[arg(long)]
    pciutils: bool,
    /// Take curl along (19 MiB more in the lab host); a shell always has it
    #[arg(long)]
    curl: bool,
    /// Leave our binaries and the guest's files out
    #[arg(long)]
    bare: bool,
    /// Open a shell in the lab host on this terminal
    #[arg(long, conflicts_with = "command")]
    shell: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "shell")]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<i32> {
    let limit = arguments
        .time_limit
        .unwrap_or(if arguments.shell { 86400 } else { 600 });
    let host = LabHost {
        memory_mib: arguments.memory,
        cpus: arguments.cpus,
        drives: vec![
            Drive {
                size_mib: arguments.drive_size,
                vfio: arguments.vfio
            };
            arguments.drives
        ],
        sata: arguments.sata,
        time_limit: Duration::from_secs(limit),
    };
    let mut job = Job::new(arguments.command, arguments.output);
    if arguments.shell {
        job.command = vec!["sh".to_owned(), "-l".to_owned()];
        job.interactive = true;
    }
    for file in &arguments.files {
        let (host, lab) = placed(file)?;
        job = job.file(host, lab);
    }
    if arguments.curl || arguments.shell {
        job = job.file(Parts::ready()?.curl(), "/");
    }
    if !arguments.bare {
        job = job.with_sundown()?.with_guest(GuestImage {
            with_pciutils: arguments.pciutils,
            ..GuestImage::default()
        });
    }
    host.run(&job)
}

/// Reads `HOST[:GUEST]`.
fn placed(file: &str) -> Result<(PathBuf, PathBuf)> {
    if let Some((host, lab)) = file.split_once(':') {
        if !lab.starts_with('/') {
            bail!("--file {file}: the place in the lab host must begin with a /");
        }
        return Ok((host.into(), lab.into()));
    }
    let host = PathBuf::from(file);
    let name = host.file_name().with_context(|| {
        format!("--file {file}: say what it is called in the lab host, as {file}:/NAME")
    })?;
    let lab = PathBuf::from("/root").join(name);
    Ok((host, lab))
}
