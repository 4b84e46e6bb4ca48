//! Doorbells in memory, and eventfds for those that are rung all the same.

use std::fs::File;
use std::io::Write;

use rustix::event::eventfd;
use rustix::fs::OFlags;
use vfio_user::protocol::{IoEventFd, RegionIoFds, command, region};
use zerocopy::{FromBytes, IntoBytes};

use super::*;

const SHADOW: u64 = 0xC000;
const EVENT_INDEX: u64 = 0xD000;
/// The most that an eventfd's counter holds.
const FULL: u64 = u64::MAX - 1;

impl Driver {
    /// Doorbell Buffer Config.
    pub fn use_shadow(&mut self) {
        self.put(SHADOW, &[0; 0x2000]);
        let mut words = [0; 16];
        words[0] = 0x7C;
        (words[6], words[8]) = (SHADOW as u32, EVENT_INDEX as u32);
        self.admin(words);
        self.shadow = true;
    }

    /// The driver starts anew, and has what it was given no more.
    pub fn forget_events(&mut self) {
        self.shadow = false;
        self.events.clear();
    }

    /// Asks for eventfds, and signals them from now on. Returns the doorbells that they stand for.
    pub fn ask_for_events(&mut self) -> Vec<u64> {
        let asked = RegionIoFds {
            argsz: 4096,
            flags: 0,
            index: region::BAR0,
            count: 0,
        };
        let question = command::DEVICE_GET_REGION_IO_FDS;
        let payload = [asked.as_bytes()];
        let reply = (self.client)
            .request(question, &payload, &[], &self.remote, SOON)
            .unwrap();
        let found = RegionIoFds::read_from_bytes(&reply.payload[..16]).unwrap();
        assert_eq!(found.count as usize, reply.descriptors.len());
        let places = reply.payload[16..].chunks(40);
        self.events.clear();
        for (raw, event) in places.zip(reply.descriptors) {
            let place = IoEventFd::read_from_bytes(raw).unwrap();
            assert_eq!((place.size, place.kind, place.flags), (4, 0, 0));
            self.events.insert(place.offset, File::from(event));
        }
        let mut places: Vec<_> = self.events.keys().copied().collect();
        places.sort_unstable();
        places
    }

    /// Has the eventfds block whoever writes to them, or the server that waits for them, as a bad client may.
    pub fn spoil_events(&mut self) {
        for event in self.events.values_mut() {
            let flags = rustix::fs::fcntl_getfl(&*event).unwrap();
            rustix::fs::fcntl_setfl(&*event, flags & !OFlags::NONBLOCK).unwrap();
        }
    }

    /// Connects a vector to an eventfd that is full and blocks.
    pub fn connect_full_vector(&mut self, vector: u32) -> File {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        self.set_vector(vector, event.as_fd()).unwrap();
        let flags = rustix::fs::fcntl_getfl(&event).unwrap();
        rustix::fs::fcntl_setfl(&event, flags & !OFlags::NONBLOCK).unwrap();
        let mut event = File::from(event);
        event.write_all(&FULL.to_ne_bytes()).unwrap();
        event
    }

    /// Stores a doorbell in memory, if it has a place there. Says whether an eventfd was signalled for it.
    pub(super) fn ring_in_memory(&mut self, offset: u64, value: u32) -> bool {
        let at = offset - 0x1000;
        if at < 8 {
            return false;
        }
        self.put(SHADOW + at, &value.to_le_bytes());
        match self.events.get_mut(&offset) {
            Some(event) => event.write_all(&1_u64.to_ne_bytes()).is_ok(),
            None => false,
        }
    }
}
