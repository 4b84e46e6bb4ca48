//! A device process: one NVMe controller, served over vfio-user to one client at a time.

mod doorbells;
mod interrupts;
mod io_events;
mod memory;
mod pin;
mod process;
mod relief;
mod served;

use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use api::config::NvmeConfig;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use doorbells::DoorbellPage;

/// Serves one NVMe controller over vfio-user, to QEMU, Cloud Hypervisor, or any other client.
#[derive(Parser)]
#[command(name = "sundown-nvme", version, after_help = EXIT_CODES)]
struct Options {
    /// Unix socket to serve the controller on; made with mode 0600.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The drive: what stands in a machine's configuration for a device of type `nvme`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// I/O queue pairs, and one less than there are interrupt vectors; `io_queues` of the configuration comes
    /// before it.
    #[arg(long, value_name = "NUMBER", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    queues: u16,
    /// How doorbells are rung: by messages, or in a page that
    /// clients map and a thread of this process polls.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Doorbells::Trapped)]
    doorbells: Doorbells,
    /// What is logged to standard error, such as `warn` or `nvme=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// How doorbells are rung.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Doorbells {
    /// By messages: no cost while nothing happens.
    Trapped,
    /// In a page that clients map: quicker, for a thread that wakes up to a thousand times a second.
    Mapped,
}

const EXIT_CODES: &str = "\
Clients come and go; the drive is reset between two. A second client is turned away.

Exit codes:
  0   a signal ended the process, and everything written is on stable storage
  1   the drive could not be made, served or flushed; standard error says why
  2   wrong usage";

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sundown-nvme: {error:#}");
            ExitCode::from(vmm::exit::ERROR)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log)
        .with_context(|| format!("reading the log filter {:?}", options.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    vmm::descriptors::raise_limit();
    let signals = signals().context("catching signals")?;
    let path = options.config.display();
    let text = std::fs::read(&options.config).with_context(|| format!("reading {path}"))?;
    let drive = NvmeConfig::from_json(&text).with_context(|| format!("reading {path}"))?;
    let queues = drive.io_queues.unwrap_or(options.queues);
    let page = match options.doorbells {
        Doorbells::Trapped => None,
        Doorbells::Mapped => Some(DoorbellPage::new(queues).context("making the doorbells' page")?),
    };
    process::run(&drive, queues, page, options.socket.clone(), &signals)
}

/// A socket that can be read once SIGTERM or SIGINT has come.
fn signals() -> std::io::Result<UnixStream> {
    let (signals, on_signal) = UnixStream::pair()?;
    signals.set_nonblocking(true)?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, on_signal.try_clone()?)?;
    }
    Ok(signals)
}
