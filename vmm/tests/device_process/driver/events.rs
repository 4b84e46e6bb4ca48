//! Doorbells in memory, and eventfds for those that are rung all the same.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use devices::shared_event::SharedEvent;
use rustix::event::eventfd;
use rustix::fs::OFlags;
use vfio_user::protocol::{IoEventFd, RegionIoFds, command, region};
use zerocopy::{FromBytes, IntoBytes};

use super::*;

const SHADOW: u64 = 0xC000;
const EVENT_INDEX: u64 = 0xD000;
/// The most that an eventfd's counter holds.
const FULL: u64 = u64::MAX - 1;
/// An answer that takes longer had to wait for something.
const HELD_UP: Duration = Duration::from_millis(50);
/// The longest that is waited for the process to look at a counter.
const MOST_SPINS: u32 = 4000;

/// Has writes to a file wait.
fn block(file: &File) {
    let flags = rustix::fs::fcntl_getfl(file).unwrap();
    rustix::fs::fcntl_setfl(file, flags & !OFlags::NONBLOCK).unwrap();
}

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
        let reply = self.ask(command::DEVICE_GET_REGION_IO_FDS, asked.as_bytes());
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
        self.events.values().for_each(block);
    }

    /// Connects a vector to an eventfd that is full and blocks.
    pub fn connect_full_vector(&mut self, vector: u32) -> File {
        let mut event = self.connect_blocking_vector(vector);
        event.write_all(&FULL.to_ne_bytes()).unwrap();
        event
    }

    fn connect_blocking_vector(&mut self, vector: u32) -> File {
        let event = File::from(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        self.set_vector(vector, event.as_fd()).unwrap();
        // The process has made it one that does not.
        block(&event);
        event
    }

    /// Has the process signal a vector, connected to an eventfd that blocks, and fills that at the very moment,
    /// so that the process looks before and writes after. Tries until it was held up in the write, or for some
    /// seconds. Returns whether it was. Panics where it stays so.
    pub fn hold_up_a_signal(&mut self, vector: u32) -> bool {
        let writer = self.connect_blocking_vector(vector);
        let counter = SharedEvent::from(OwnedFd::from(writer.try_clone().unwrap()));
        let by = Instant::now() + SOON;
        for delay in (0..MOST_SPINS).step_by(37).cycle() {
            // Room for one signal: the process's or ours.
            counter.empty();
            (&writer).write_all(&(FULL - 1).to_ne_bytes()).unwrap();
            let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
            let answered_in = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !begun.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    (0..delay).for_each(|_| std::hint::spin_loop());
                    (&writer).write_all(&1_u64.to_ne_bytes()).unwrap();
                    ended.store(true, Ordering::Release);
                });
                begun.store(true, Ordering::Release);
                let begin = Instant::now();
                let answer = self.trigger_vector(vector);
                let answered_in = begin.elapsed();
                // Ours waits where the process's came first.
                while !ended.load(Ordering::Acquire) {
                    counter.empty();
                }
                answer.map(|()| answered_in)
            });
            if answered_in.expect("an answer") > HELD_UP {
                return true;
            }
            if Instant::now() > by {
                break;
            }
        }
        false
    }

    fn trigger_vector(&mut self, vector: u32) -> Result<(), Errno> {
        self.set_irq(vector, irq_set_flag::DATA_NONE, &[])
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
