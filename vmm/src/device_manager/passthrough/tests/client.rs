//! A device that is played: a configuration space that keeps what is written, and what a test makes of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use devices::lifecycle::Deadline;
use passthrough::client::{IoEvent, region};
use passthrough::{Area, Client, ClientError, IrqType, Region};
use vm_memory::MmapRegion;
use vmm_sys_util::eventfd::EventFd;

/// Long enough for whoever is to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's header.
pub struct Played {
    name: String,
    config: Mutex<[u8; 256]>,
    space: Region,
    none: Region,
    pub gone: Mutex<Option<String>>,
    pub quiet: Mutex<bool>,
    /// Those that are asked now whether they are quiet.
    pub asked: Mutex<Option<Meeting>>,
    pub has_reset: Mutex<bool>,
    pub resets_fail: Mutex<bool>,
    /// A reset says that it has begun, and waits to be let go on.
    pub hold: Mutex<Option<(Sender<()>, Receiver<()>)>>,
    /// Those that are given back now.
    pub releases: Meeting,
}

/// How many are there, and how many have to be before the first of them goes on.
pub type Meeting = Arc<(Mutex<usize>, Condvar, usize)>;

fn meet(meeting: &Meeting) {
    let (here, changed, together) = &**meeting;
    let mut here = here.lock().unwrap();
    *here += 1;
    changed.notify_all();
    let (_here, waited) = changed
        .wait_timeout_while(here, PATIENCE, |here| *here < *together)
        .unwrap();
    assert!(!waited.timed_out(), "nobody else comes meanwhile");
}

impl Played {
    /// A device that is given back when `together` of those that share `releases` are.
    pub fn new(name: &str, releases: Meeting) -> Arc<Self> {
        let mut config = [0; 256];
        config[..4].copy_from_slice(&[0xF4, 0x1A, 0x01, 0x00]);
        Arc::new(Self {
            name: name.to_owned(),
            config: Mutex::new(config),
            space: Region {
                size: 256,
                readable: true,
                writable: true,
                areas: Vec::new(),
            },
            none: Region::default(),
            gone: Mutex::default(),
            quiet: Mutex::new(true),
            asked: Mutex::default(),
            has_reset: Mutex::new(true),
            resets_fail: Mutex::default(),
            hold: Mutex::default(),
            releases,
        })
    }

    fn refused(&self, doing: &str) -> ClientError {
        ClientError::Refused {
            device: self.name.clone(),
            doing: doing.to_owned(),
            source: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        match self.gone() {
            None => Ok(()),
            Some(reason) => Err(ClientError::Gone {
                device: self.name.clone(),
                reason,
            }),
        }
    }
}

impl Client for Played {
    fn name(&self) -> &str {
        &self.name
    }

    fn region(&self, index: u32) -> &Region {
        if index == region::CONFIG {
            &self.space
        } else {
            &self.none
        }
    }

    fn irqs(&self, _: IrqType) -> u32 {
        0
    }

    fn read(&self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), ClientError> {
        self.check()?;
        let at = offset as usize;
        data.copy_from_slice(&self.config.lock().unwrap()[at..at + data.len()]);
        Ok(())
    }

    fn write(&self, _: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        self.check()?;
        let at = offset as usize;
        self.config.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn map(&self, _: u32, _: Area) -> io::Result<Arc<MmapRegion>> {
        Err(io::Error::from_raw_os_error(libc::ENXIO))
    }

    fn connect(&self, _: IrqType, _: u32, _: &[Option<BorrowedFd<'_>>]) -> Result<(), ClientError> {
        Err(self.refused("connecting an interrupt"))
    }

    fn disconnect(&self, _: IrqType) -> Result<(), ClientError> {
        self.check()
    }

    fn set_pin_masked(&self, _: bool) -> Result<(), ClientError> {
        Err(self.refused("masking its pin"))
    }

    fn unmask_pin_by(&self, _: Option<&Arc<EventFd>>) -> Result<(), ClientError> {
        Err(self.refused("unmasking its pin"))
    }

    fn io_events(&self, _: u32) -> Vec<IoEvent> {
        Vec::new()
    }

    fn can_reset(&self) -> bool {
        *self.has_reset.lock().unwrap()
    }

    fn reset(&self, _: Deadline) -> Result<(), ClientError> {
        if let Some((begun, go_on)) = self.hold.lock().unwrap().take() {
            begun.send(()).unwrap();
            go_on.recv().unwrap();
        }
        if *self.resets_fail.lock().unwrap() {
            return Err(self.refused("its reset"));
        }
        self.check()
    }

    fn revive(&self, _: Deadline) -> Result<(), ClientError> {
        self.check()
    }

    fn gone(&self) -> Option<String> {
        self.gone.lock().unwrap().clone()
    }

    fn is_quiet(&self, _: bool) -> bool {
        let asked = self.asked.lock().unwrap().clone();
        if let Some(meeting) = asked {
            meet(&meeting);
        }
        *self.quiet.lock().unwrap()
    }

    fn release(&self) {
        meet(&self.releases);
    }
}
