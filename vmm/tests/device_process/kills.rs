//! The process is killed under load, again and again. What a flush or a write to stable storage covered is
//! there afterwards, and every block is one that was written, whole.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::driver::Driver;
use super::process::{Process, SOON};

const BLOCK: usize = 512;
/// Blocks that are written to.
const BLOCKS: u32 = 128;
/// Commands under way at a time.
const DEPTH: u16 = 12;
/// Blocks of the longest write: within a page.
const LONGEST: u32 = 8;
/// A page for the data of each command.
const DATA: u64 = 0x1_0000;
/// Where all blocks are read to.
const FOUND: u64 = 0x4_0000;

const FLUSH: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;
const FORCE_UNIT_ACCESS: u32 = 1 << 30;

/// Numbers by a linear congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % bound
    }
}

/// The content of a block in its `generation`: both numbers, what follows from them, and a checksum.
fn content(block: u32, generation: u32) -> [u8; BLOCK] {
    let mut content = [0; BLOCK];
    if generation == 0 {
        return content;
    }
    let mut random = Random(u64::from(block) << 32 | u64::from(generation));
    for byte in &mut content[8..BLOCK - 8] {
        *byte = random.below(256) as u8;
    }
    content[..4].copy_from_slice(&block.to_le_bytes());
    content[4..8].copy_from_slice(&generation.to_le_bytes());
    let sum = content
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
        });
    content[BLOCK - 8..].copy_from_slice(&sum.to_le_bytes());
    content
}

/// What a command that is under way will have done.
enum Work {
    /// These blocks are of these generations, on stable storage or not.
    Write {
        first: u32,
        generations: Vec<u32>,
        stable: bool,
    },
    /// Every block is on stable storage, of these generations at least.
    Flush(Vec<u32>),
}

/// A driver's knowledge of its drive.
struct Ledger {
    /// Generations by block: the last one that was sent, that completed, and that is on stable storage.
    sent: Vec<u32>,
    completed: Vec<u32>,
    stable: Vec<u32>,
    under_way: HashMap<u16, Work>,
    next: u16,
    /// There is no write cache: what completes is on stable storage.
    through: bool,
    /// Completions that made something stable.
    covered: u32,
}

impl Ledger {
    fn new(through: bool) -> Self {
        let none = vec![0; BLOCKS as usize];
        Self {
            sent: none.clone(),
            completed: none.clone(),
            stable: none,
            under_way: HashMap::new(),
            next: 0,
            through,
            covered: 0,
        }
    }

    fn is_free(&self, first: u32, count: u32) -> bool {
        self.under_way.values().all(|work| match work {
            Work::Flush(_) => true,
            Work::Write {
                first: other,
                generations,
                ..
            } => first + count <= *other || other + generations.len() as u32 <= first,
        })
    }

    /// Sends one more command.
    fn send(&mut self, driver: &mut Driver, random: &mut Random) {
        let slot = (0..DEPTH).find(|slot| !self.under_way.keys().any(|cid| cid % DEPTH == *slot));
        let Some(slot) = slot else { return };
        self.next = (self.next + 1) % 1000;
        let cid = self.next * DEPTH + slot;
        let mut words = [0; 16];
        words[1] = 1;
        let at = DATA + u64::from(slot) * 4096;
        words[6] = at as u32;
        let kind = random.below(10);
        let work = if kind == 0 {
            words[0] = FLUSH;
            Work::Flush(self.completed.clone())
        } else {
            let count = 1 + random.below(LONGEST);
            let first = random.below(BLOCKS - count + 1);
            if !self.is_free(first, count) {
                return;
            }
            let stable = kind == 1;
            words[0] = WRITE;
            words[10] = first;
            words[12] = (count - 1) | if stable { FORCE_UNIT_ACCESS } else { 0 };
            let mut generations = Vec::new();
            for block in first..first + count {
                self.sent[block as usize] += 1;
                let generation = self.sent[block as usize];
                let to = at + u64::from(block - first) * BLOCK as u64;
                driver.put(to, &content(block, generation));
                generations.push(generation);
            }
            Work::Write {
                first,
                generations,
                stable,
            }
        };
        words[0] |= u32::from(cid) << 16;
        self.under_way.insert(cid, work);
        driver.send_io(words);
    }

    /// Takes what has completed. Returns whether something has.
    fn take(&mut self, driver: &mut Driver) -> bool {
        let mut some = false;
        while let Some((cid, status)) = driver.take_io() {
            assert_eq!(status, 0, "a command failed");
            some = true;
            match self
                .under_way
                .remove(&cid)
                .expect("a command that was sent")
            {
                Work::Flush(generations) => {
                    self.covered += 1;
                    for (stable, generation) in self.stable.iter_mut().zip(generations) {
                        *stable = generation.max(*stable);
                    }
                }
                Work::Write {
                    first,
                    generations,
                    stable,
                } => {
                    let is_stable = stable || self.through;
                    self.covered += u32::from(is_stable);
                    for (block, generation) in (first as usize..).zip(generations) {
                        self.completed[block] = generation;
                        if is_stable {
                            self.stable[block] = generation;
                        }
                    }
                }
            }
        }
        some
    }

    /// Reads everything, and holds it against what was promised.
    fn check(&mut self, driver: &mut Driver, kill: u32) {
        // Two pages at a time.
        for first in (0..BLOCKS).step_by(16) {
            let mut words = [0; 16];
            let at = FOUND + u64::from(first) * BLOCK as u64;
            (words[0], words[1], words[10], words[12]) = (READ, 1, first, 15);
            (words[6], words[8]) = (at as u32, at as u32 + 4096);
            driver.send_io(words);
            assert_eq!(driver.finish(), 0, "block {first} cannot be read");
        }
        for block in 0..BLOCKS {
            let found = driver.get(FOUND + u64::from(block) * BLOCK as u64, BLOCK);
            let generation = u32::from_le_bytes(found[4..8].try_into().unwrap());
            assert!(
                found == content(block, generation),
                "block {block} is torn after kill {kill}"
            );
            let (stable, sent) = (self.stable[block as usize], self.sent[block as usize]);
            assert!(
                (stable..=sent).contains(&generation),
                "block {block} is of generation {generation} after kill {kill}: {stable} was on stable storage, \
                 {sent} was the last one sent"
            );
            // Who reads it may rely on it as far as on what completed.
            self.completed[block as usize] = generation;
        }
    }
}

/// Kills the process `kills` times, each time at a moment that `seed` gives.
fn kill_under_load(id: &str, cache: bool, kills: u32, seed: u64) {
    let mut process = Process::start_as(id, &format!(r#""volatile_write_cache": {cache},"#));
    let (mut ledger, mut random) = (Ledger::new(!cache), Random(seed));
    let mut interrupted = 0;
    for kill in 0..kills {
        let mut driver = Driver::connect(&process);
        driver.enable(0);
        driver.make_queues();
        ledger.check(&mut driver, kill);
        let moment = Instant::now() + Duration::from_micros(random.below(60_000).into());
        // Every other one comes right after a promise: storage may be slow to give one.
        let (promised, late) = (ledger.covered, moment + SOON);
        let wanted = || kill % 2 == 1 && Instant::now() < late;
        while Instant::now() < moment || (ledger.covered == promised && wanted()) {
            ledger.send(&mut driver, &mut random);
            if ledger.take(&mut driver) {
                driver.release_io();
            } else if ledger.under_way.len() == usize::from(DEPTH) {
                std::thread::yield_now();
            }
        }
        process.kill();
        // Nobody writes to memory any more: what is there has completed.
        ledger.take(&mut driver);
        interrupted += u32::from(!ledger.under_way.is_empty());
        ledger.under_way.clear();
        process.restart();
    }
    let mut driver = Driver::connect(&process);
    driver.enable(0);
    driver.make_queues();
    ledger.check(&mut driver, kills);
    // The kills came under load, and something had been promised before.
    assert!(interrupted > kills / 10, "{interrupted} of {kills}");
    assert!(
        ledger.covered >= kills / 2,
        "{} for {kills}",
        ledger.covered
    );
    println!(
        "{kills} kills, {interrupted} with commands under way, {} promises",
        ledger.covered
    );
}

#[test]
fn two_hundred_kills_lose_nothing_that_was_flushed_and_tear_no_block() {
    kill_under_load("killed", true, 200, 4);
}

#[test]
fn a_drive_without_a_write_cache_loses_nothing_that_completed_to_a_kill() {
    kill_under_load("uncached", false, 60, 5);
}
