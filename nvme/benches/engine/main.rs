//! The engine's speed and size: `cargo bench -p nvme`, with `-- --json FILE` for a file of the figures.
//! `-- --in DIR` measures a file in that folder alone. `--count N --depth D` does N reads and prints nothing, for
//! `resources/bench/instructions`; with `--in DIR` from a file there, for a profiler.
//!
//! The drive is driven in this process, in two ways. "one core": driver and drive take turns in one thread, so
//! that nothing hangs on how the host schedules two; what a core can do. "threads": the driver has a thread and
//! the drive its I/O thread, as in a machine; on a host with other work this says more about the host.
//! Rounds are run in turn, and the best of each is taken.
#![allow(
    unsafe_code,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark ends where something is wrong; driver and loop share memory with others"
)]

mod driver;
mod plain;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvme::{Backend, Engine, FileBackend, NullBackend};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use driver::{Guest, memory};

const ROUND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 5;
const DEPTHS: [u16; 4] = [1, 8, 32, 128];
const FILE: u64 = 256 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let number = |name: &str| value(name).map(|text| text.parse().expect("a number"));
    let folder = value("--in").map(PathBuf::from);
    if let Some(count) = number("--count") {
        counted(count, number("--depth").unwrap_or(32), folder.as_deref());
        return;
    }
    // So says `cargo bench`; run by `cargo test --benches` there is nothing to test.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("the benchmark is run by `cargo bench -p nvme`");
        return;
    }
    let engine = Engine::new(NonZeroUsize::new(1)).expect("an engine");
    println!("4 KiB reads at random, thousands a second, one queue, best of {ROUNDS} rounds");
    println!(
        "io_uring: {}\n",
        if engine.has_ring() { "yes" } else { "no" }
    );
    let figures = match folder {
        Some(folder) => json!({ "files": files(&engine, &[folder]) }),
        None => json!({
            "null": empty(&engine),
            "files": files(&engine, &[PathBuf::from("/dev/shm"), std::env::temp_dir()]),
            "memory": size(&engine),
        }),
    };
    if let Some(path) = value("--json") {
        std::fs::write(path, format!("{figures:#}\n")).expect("a file for the figures");
    }
}

/// Reads for whoever counts instructions: the same ones in every run, by one thread. From nothing, or through
/// a ring from a file in `folder`.
fn counted(reads: u64, depth: u64, folder: Option<&Path>) {
    let file = folder.map(filled);
    let mut guest = match &file {
        Some((_, backend)) => one_core(Arc::clone(backend) as _),
        None => {
            let engine = Engine::stepped(false).expect("an engine");
            Guest::stepped(engine, &memory(), Arc::new(NullBackend::new(FILE)))
        }
    };
    let mut left = reads / 1024;
    guest.reads(depth as u16, || {
        left = left.saturating_sub(1);
        left > 0
    });
}

/// Reads a second of one round.
fn rate(round: impl FnOnce(&mut dyn FnMut() -> bool) -> u64) -> f64 {
    let begin = Instant::now();
    let done = round(&mut || begin.elapsed() < ROUND);
    done as f64 / begin.elapsed().as_secs_f64()
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

fn one_core(backend: Arc<dyn Backend>) -> Guest {
    let engine = Engine::stepped(true).expect("an engine");
    Guest::stepped(engine, &memory(), backend)
}

fn empty(engine: &Arc<Engine>) -> Vec<Value> {
    let backend = || Arc::new(NullBackend::new(FILE));
    let mut one_core = one_core(backend());
    let mut threads = Guest::new(engine, &memory(), backend(), 1);
    println!(
        "null backend\n{:>8} {:>10} {:>10}",
        "depth", "one core", "threads"
    );
    let mut rows = Vec::new();
    for depth in DEPTHS {
        let (mut alone, mut apart) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            alone.push(rate(|more| one_core.reads(depth, more)));
            apart.push(rate(|more| threads.reads(depth, more)));
        }
        let (alone, apart) = (best(&alone), best(&apart));
        println!("{depth:>8} {:>10.0} {:>10.0}", alone / 1e3, apart / 1e3);
        rows.push(json!({ "depth": depth, "one_core": alone, "threads": apart }));
    }
    rows
}

/// In memory (tmpfs), and where temporary files are: the page cache of a file system, on most hosts.
fn files(engine: &Arc<Engine>, folders: &[PathBuf]) -> Value {
    let there = folders.iter().filter(|folder| match room(folder) {
        Some(bytes) if bytes >= 2 * FILE => true,
        _ => {
            println!(
                "\nno room for two files of {} MiB in {}",
                FILE >> 20,
                folder.display()
            );
            false
        }
    });
    let row = |folder: &PathBuf| (folder.display().to_string(), file(engine, folder).into());
    Value::Object(there.map(row).collect())
}

/// What may be written to a folder, in bytes.
fn room(folder: &Path) -> Option<u64> {
    let file_system = rustix::fs::statvfs(folder).ok()?;
    Some(file_system.f_bavail * file_system.f_frsize)
}

/// A file that is written, and kept until what comes first is dropped.
fn filled(folder: &Path) -> (NamedTempFile, Arc<FileBackend>) {
    let file = NamedTempFile::new_in(folder).expect("a file");
    std::fs::write(file.path(), vec![0x5A; FILE as usize]).expect("a filled file");
    let backend = FileBackend::open(file.path(), false).expect("a backend");
    (file, Arc::new(backend))
}

/// A file in `folder`, against the shortest loop that reads it.
fn file(engine: &Arc<Engine>, folder: &Path) -> Vec<Value> {
    let (file_alone, backend_alone) = filled(folder);
    let (file_apart, backend_apart) = filled(folder);
    let plain_file = file_alone.reopen().expect("the file");
    let mut one_core = one_core(backend_alone);
    let mut threads = Guest::new(engine, &memory(), backend_apart, 1);
    println!("\nfile in {}", folder.display());
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>7} {:>7}",
        "depth", "plain", "one core", "threads", "ratio", "ratio"
    );
    let mut rows = Vec::new();
    for depth in DEPTHS {
        let (mut plain, mut alone, mut apart) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            plain.push(rate(|more| plain::reads(&plain_file, FILE, depth, more)));
            alone.push(rate(|more| one_core.reads(depth, more)));
            apart.push(rate(|more| threads.reads(depth, more)));
        }
        let (plain, alone, apart) = (best(&plain), best(&alone), best(&apart));
        println!(
            "{depth:>8} {:>10.0} {:>10.0} {:>10.0} {:>7.2} {:>7.2}",
            plain / 1e3,
            alone / 1e3,
            apart / 1e3,
            alone / plain,
            apart / plain
        );
        rows.push(json!({
            "depth": depth, "plain": plain, "one_core": alone, "threads": apart,
            "ratio_one_core": alone / plain, "ratio_threads": apart / plain,
        }));
    }
    drop(file_apart);
    rows
}

/// Memory of an idle controller with 8 queue pairs, guest memory aside.
fn size(engine: &Arc<Engine>) -> Value {
    const COUNT: u64 = 64;
    let memory = memory();
    let make = || Guest::new(engine, &memory, Arc::new(NullBackend::new(FILE)), 8);
    // What the first one alone costs is not of each.
    let first = make();
    let before = resident();
    let all: Vec<Guest> = (0..COUNT).map(|_| make()).collect();
    let each = resident().saturating_sub(before) / COUNT;
    drop((first, all));
    println!(
        "\nmemory of an idle controller with 8 queue pairs: {} KiB",
        each >> 10
    );
    json!({ "bytes": each, "queues": 8 })
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages: u64 = (pages.split_whitespace().nth(1))
        .and_then(|pages| pages.parse().ok())
        .expect("a number of pages");
    pages * driver::PAGE
}
