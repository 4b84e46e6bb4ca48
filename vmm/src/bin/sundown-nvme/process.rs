//! The process's life: the drive is made, clients are served one after another, the drive is flushed.

use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::config::NvmeConfig;
use devices::lifecycle::{Deadline, Device, Phases};
use devices::memory::GuestMemory;
use devices::pci::{Attachment, IntxPin, PciFunction};
use nvme::{Connections, Engine};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::{info, warn};
use vfio_user::server::{Connection, Ended};
use vm_memory::GuestAddress;
use vmm::device_manager::drive;

use crate::doorbells::DoorbellPage;
use crate::interrupts::Unrouted;
use crate::io_events::ClientEvents;
use crate::pin::Pin;
use crate::served::ServedDrive;

/// How long the drive may take to come to rest and be flushed when the process ends.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Serves `config` on `socket` until `stop` can be read.
pub fn run(
    config: &NvmeConfig,
    queues: u16,
    page: Option<Arc<DoorbellPage>>,
    socket: PathBuf,
    stop: &UnixStream,
) -> anyhow::Result<()> {
    let memory = GuestMemory::default();
    let pin = Arc::new(Pin::default());
    let connections = Connections {
        engine: Engine::new(None).context("starting the I/O threads")?,
        memory: memory.clone(),
        router: Arc::new(Unrouted),
        intx: Some((IntxPin::A, Arc::clone(&pin) as _)),
        io_events: Some(Arc::new(ClientEvents)),
    };
    let controller = drive::controller(config, "", (queues, Attachment::Express), connections)?;
    // To a client, addresses are offsets in the region.
    controller.placed(0, Some(GuestAddress(0)));
    if let Some(page) = &page {
        controller.poll_doorbells(Arc::clone(page) as _);
        page.watch(&controller)
            .context("starting the doorbells' thread")?;
    }
    let served = ServedDrive::new(Arc::clone(&controller), memory, pin, page)
        .context("starting the thread that relieves this one")?;
    let (listener, file) = api::server::bind(socket)?;
    info!(drive = controller.id(), socket = %file.path().display(), "serving");
    let outcome = serve(&served, &listener, stop);
    drop(file);

    // Whatever the outcome: what was written is saved.
    let mut phases = Phases::default();
    let ended = controller.shut_down(Deadline::after(END_WITHIN), &mut phases);
    controller.release();
    outcome?;
    ended.context("bringing the drive to rest")?;
    info!("everything written is on stable storage");
    Ok(())
}

fn serve(served: &ServedDrive, listener: &UnixListener, stop: &UnixStream) -> anyhow::Result<()> {
    while let Some(client) = next_client(listener, stop).context("waiting for a client")? {
        let connection = Connection::new(served, client).context("taking a client")?;
        info!("a client has come");
        match connection.run(listener, stop.as_fd()) {
            Ended::Client(why) => info!("the client is gone: {why}"),
            Ended::Stopped => break,
        }
    }
    Ok(())
}

/// Waits for a client; none once the process is to end.
fn next_client(listener: &UnixListener, stop: &UnixStream) -> anyhow::Result<Option<UnixStream>> {
    loop {
        let mut polled = [
            PollFd::new(stop, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !polled[0].revents().is_empty() {
            return Ok(None);
        }
        if polled[1].revents().is_empty() {
            continue;
        }
        match listener.accept() {
            Ok((client, _)) => return Ok(Some(client)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // It left before it was taken, or there are too few descriptors for it now.
            Err(error) => {
                warn!(%error, "accepting a client");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
