//! Hostile guests at the NVMe controller: games that are played from bytes, at random and again.
//!
//! A game is a machine with small namespaces of every kind, a guest that does what its bytes say (registers of
//! every width, queues, lists, doorbells in memory, resets, memory that comes and goes), an owner who changes
//! the drive's behaviour and faults, and a thread that writes into queues and lists at the same time. It ends
//! with what must hold after everything; see [`settle`].

// A game stops at the first surprise, and that is a panic.
#![allow(clippy::panic)]

pub mod acts;
pub mod behaviour;
pub mod commands;
pub mod corpus;
mod guard;
pub mod input;
pub mod machine;
pub mod ram;
pub mod random;
pub mod settle;
pub mod storage;

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nvme::Engine;

pub use guard::Guard;
use input::Input;
use machine::Machine;
use ram::Ram;

/// How commands ended in a game: whether at the admin queue, opcode, and status.
pub type Endings = BTreeSet<(bool, u8, u16)>;

/// How long what is under way has before it is looked at how commands ended.
const LAST_COMPLETIONS: Duration = Duration::from_micros(500);

/// Where games are played, one after the other.
pub struct Place {
    ram: Arc<Ram>,
    with_ring: Arc<Engine>,
    without: Arc<Engine>,
}

impl Place {
    /// Memory, and threads.
    ///
    /// # Errors
    /// What the host says.
    pub fn new() -> io::Result<Self> {
        let threads = NonZeroUsize::new(2);
        Ok(Self {
            ram: machine::ram()?,
            with_ring: Engine::new(threads)?,
            without: Engine::without_ring(threads)?,
        })
    }

    /// Plays the game in `bytes`.
    ///
    /// # Errors
    /// What the host says where it gives no files or threads.
    ///
    /// # Panics
    /// Where the drive does what it must not do.
    pub fn play(&self, bytes: &[u8]) -> io::Result<Endings> {
        let mut input = Input::new(bytes);
        let flags = input.byte();
        let engine = match flags & 3 {
            0 => &self.without,
            _ => &self.with_ring,
        };
        let mut machine = Machine::new(&self.ram, engine, &mut input)?;
        // How it ends is decided first: the end of the bytes says nothing.
        let last = input.long().to_le_bytes();
        let scribbles = flags & 0b1100 == 0;
        if flags & 0x70 != 0 {
            acts::set_up(&mut machine, &mut input);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if scribbles {
                let (seed, ram, stop) = (flags.into(), &self.ram, &stop);
                scope.spawn(move || acts::scribble(ram, seed, stop));
            }
            // Also where this panics: the scope waits for the thread.
            let _stopped = Stop(&stop);
            acts::play(&mut machine, &mut input);
        });
        std::thread::sleep(LAST_COMPLETIONS);
        let endings = machine.endings();
        settle::settle(&mut machine, &mut Input::new(&last));
        Ok(endings)
    }
}

/// Stops the thread that scribbles.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
