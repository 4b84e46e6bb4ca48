//! The VMM's process: options, log, API thread, main thread.

use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use api::config::VmConfig;
use api::events::EventLog;
use api::server::{self, Listen, ServerConfig};
use clap::Parser;
use tracing_subscriber::EnvFilter;
use vmm::mailbox::Mailbox;
use vmm::vmm::Vmm;

/// A KVM virtual machine monitor whose reboots are parallel, in place, and measured.
#[derive(Parser)]
#[command(name = "sundown", version, after_help = EXIT_CODES)]
struct Options {
    /// Unix socket to serve the REST API on; made with mode 0600.
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    api_socket: Option<PathBuf>,
    /// Configuration of a machine to create and boot at once (the body of vm.create).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged to standard error, such as `info` or `vmm=debug,nvme=trace`.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   the guest switched itself off, or a client or a signal ended the process
  1   the machine could not be made or run; standard error says why
  2   wrong usage
  32  the guest was reset under \"on_reset\": \"exit\"
  33  a vCPU could not go on";

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("sundown: {error:#}");
            ExitCode::from(vmm::exit::ERROR)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<u8> {
    let filter = EnvFilter::try_new(&options.log)
        .with_context(|| format!("reading the log filter {:?}", options.log))?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();

    vmm::descriptors::raise_limit();
    let mailbox = Arc::new(Mailbox::new().context("making the mailbox")?);
    let events = Arc::new(EventLog::new());
    let mut vmm = Vmm::new(
        mailbox.clone(),
        events.clone(),
        options.api_socket.is_some(),
    );
    // Before the API, so that no client's vm.create comes first.
    if let Some(path) = &options.config {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let config = VmConfig::from_json(text.as_bytes())
            .with_context(|| format!("reading {}", path.display()))?;
        vmm.create(config)
            .with_context(|| format!("starting the machine of {}", path.display()))?;
    }
    // Not before: until there is a machine nobody waits for what signals ask for, and they end the process.
    let (signals, on_signal) = UnixStream::pair().context("making the signal pipe")?;
    signals
        .set_nonblocking(true)
        .context("making the signal pipe")?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let writer = on_signal.try_clone().context("making the signal pipe")?;
        signal_hook::low_level::pipe::register(signal, writer).context("catching signals")?;
    }
    if let Some(path) = &options.config {
        vmm.boot()
            .with_context(|| format!("starting the machine of {}", path.display()))?;
    }
    let _server = match &options.api_socket {
        Some(path) => {
            let config = ServerConfig {
                listen: Listen::Path(path.clone()),
            };
            Some(server::start(config, mailbox, events).context("serving the API")?)
        }
        None => None,
    };
    vmm.run(signals).context("running the main loop")
}
