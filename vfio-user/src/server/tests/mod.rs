//! A device that notes what is asked of it, served to clients that behave and to ones that do not.

mod commands;
mod hostile;

use std::collections::HashMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::*;
use crate::client::{Client, ClientError, NoMemory, Reply};
use crate::protocol::{Capabilities, region, region_flag};

/// A wait that ends long before in every test that passes.
const SOON: Duration = Duration::from_secs(20);
const SIZE: u64 = 0x4000;

/// A device whose only region is memory.
#[derive(Default)]
struct Fake {
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    bar: Vec<u8>,
    maps: Vec<(u64, u64, bool)>,
    irqs: Vec<(u32, IrqAction, u32, u32, String)>,
    resets: u32,
    clients: u32,
    left: u32,
    file: Option<OwnedFd>,
    /// Writes that it stands for.
    io_events: u64,
    /// Memory that somebody still uses: by its first address.
    held: Vec<u64>,
    unmapped: HashMap<u64, Unmapped>,
}

impl Fake {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    /// How many clients came, and how many left.
    fn clients(&self) -> (u32, u32) {
        let notes = self.notes();
        (notes.clients, notes.left)
    }
}

/// A device as the connection's thread sees it.
struct Seen(Arc<Fake>);

impl Device for Seen {
    fn attach(&self, _: &PeerMemory) {
        let mut notes = self.0.notes();
        notes.clients += 1;
        notes.bar.resize(SIZE as usize, 0);
    }

    fn leave(&self) {}

    fn detach(&self) {
        let mut notes = self.0.notes();
        notes.left += 1;
        notes.maps.clear();
        notes.unmapped.clear();
    }

    fn region(&self, index: u32) -> Region<'_> {
        let there = index == region::BAR0;
        Region {
            size: if there { SIZE } else { 0 },
            flags: region_flag::READ | region_flag::WRITE,
            file: None,
            areas: Vec::new(),
        }
    }

    fn read(&self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let offset = offset as usize;
        data.copy_from_slice(&self.0.notes().bar[offset..offset + data.len()]);
        Ok(())
    }

    fn write(&self, _: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let offset = offset as usize;
        self.0.notes().bar[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn io_events(&self, _: u32) -> Vec<IoEvent> {
        let notes = self.0.notes();
        let Some(file) = &notes.file else {
            return Vec::new();
        };
        let events = (1..=notes.io_events).map(|number| IoEvent {
            offset: 0x1000 + number * 8,
            size: 4,
            event: file.try_clone().unwrap(),
        });
        events.collect()
    }

    fn irqs(&self, index: u32) -> (u32, u32) {
        (1, if index == 2 { 4 } else { 0 })
    }

    fn set_irqs(&self, request: IrqRequest) -> Result<(), Errno> {
        let data = match &request.data {
            IrqData::Connect(events) => format!("connect {}", events.len()),
            other => format!("{other:?}"),
        };
        let IrqRequest {
            index,
            action,
            start,
            count,
            ..
        } = request;
        self.0
            .notes()
            .irqs
            .push((index, action, start, count, data));
        Ok(())
    }

    fn map(&self, request: MapRequest) -> Result<(), Errno> {
        let MapRequest { map, file } = request;
        self.0
            .notes()
            .maps
            .push((map.address, map.size, file.is_some()));
        Ok(())
    }

    fn unmap(&self, request: UnmapRequest, then: Unmapped) -> Result<(), Errno> {
        let mut notes = self.0.notes();
        let UnmapRequest::Range(start, _) = request else {
            notes.maps.clear();
            drop(notes);
            then();
            return Ok(());
        };
        let before = notes.maps.len();
        notes.maps.retain(|(address, ..)| *address != start);
        if notes.maps.len() == before {
            return Err(Errno::NOENT);
        }
        if notes.held.contains(&start) {
            notes.unmapped.insert(start, then);
        } else {
            drop(notes);
            then();
        }
        Ok(())
    }

    fn reset(&self) -> Result<(), Errno> {
        self.0.notes().resets += 1;
        Ok(())
    }

    fn wakers(&self) -> Vec<Arc<OwnedFd>> {
        Vec::new()
    }

    fn woken(&self, _: usize) {}
}

/// A served device, and the means to come to it.
struct Served {
    device: Arc<Fake>,
    /// For second clients.
    listener: UnixStream,
    stop: UnixStream,
    server: Option<thread::JoinHandle<Ended>>,
}

impl Served {
    /// Serves a device to the client at the other end of the socket that comes with it.
    fn new() -> (Self, UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let second = UnixStream::connect(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let device = Arc::new(Fake::default());
        let seen = Arc::clone(&device);
        let server = thread::spawn(move || {
            let seen = Seen(seen);
            let connection = Connection::new(&seen, theirs).unwrap();
            connection.run(&listener, std::os::fd::AsFd::as_fd(&stopped))
        });
        let served = Self {
            device,
            listener: second,
            stop,
            server: Some(server),
        };
        (served, ours)
    }

    /// Serves a device to a client that has agreed on the version.
    fn with_client() -> (Self, Client) {
        let (served, socket) = Self::new();
        let stated = Capabilities {
            max_msg_fds: Some(8),
            write_multiple: Some(true),
            ..Capabilities::default()
        };
        let client = Client::connect(socket, Some(stated), SOON).unwrap();
        (served, client)
    }

    /// How the connection ended.
    fn ended(mut self) -> Ended {
        self.server.take().unwrap().join().unwrap()
    }
}

/// A command without descriptors.
fn ask(client: &mut Client, command: u16, payload: &[&[u8]]) -> Result<Reply, Errno> {
    match client.request(command, payload, &[], &NoMemory, SOON) {
        Ok(reply) => Ok(reply),
        Err(ClientError::Refused { errno, .. }) => Err(errno),
        Err(error) => panic!("{error}"),
    }
}
