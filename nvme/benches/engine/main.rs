//! The engine's speed and size: `cargo bench -p nvme`, with `-- --json FILE` for a file of the figures.
//!
//! The drive is driven in this process, by a thread that does nothing else, so two CPUs are busy: that of the
//! driver and that of the I/O thread. Ratios are of rounds that were run in turn.
#![allow(
    unsafe_code,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark ends where something is wrong; driver and loop share memory with others"
)]

mod driver;
mod plain;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvme::{Engine, FileBackend, NullBackend};
use serde_json::{Value, json};

use driver::{Guest, memory};

const ROUND: Duration = Duration::from_millis(400);
const ROUNDS: usize = 5;
const FILE: u64 = 256 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Run by `cargo test --benches`: nothing to test.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let engine = Engine::new(NonZeroUsize::new(1)).expect("an engine");
    println!("4 KiB reads at random, thousands a second, one queue, medians of {ROUNDS} rounds");
    println!(
        "io_uring: {}\n",
        if engine.has_ring() { "yes" } else { "no" }
    );
    let figures = json!({
        "null": empty(&engine),
        "file": file(&engine),
        "memory": size(&engine),
    });
    let json = arguments.iter().position(|argument| argument == "--json");
    if let Some(path) = json.and_then(|at| arguments.get(at + 1)) {
        std::fs::write(path, format!("{figures:#}\n")).expect("a file for the figures");
    }
}

/// Reads a second of one round.
fn rate(round: impl FnOnce(&mut dyn FnMut() -> bool) -> u64) -> f64 {
    let begin = Instant::now();
    let done = round(&mut || begin.elapsed() < ROUND);
    done as f64 / begin.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn empty(engine: &Arc<Engine>) -> Vec<Value> {
    let mut guest = Guest::new(engine, &memory(), Arc::new(NullBackend::new(FILE)), 1);
    println!("null backend\n{:>8} {:>10}", "depth", "drive");
    let mut rows = Vec::new();
    for depth in [1, 8, 32, 128] {
        let rates = (0..ROUNDS).map(|_| rate(|more| guest.reads(depth, more)));
        let drive = median(rates.collect());
        println!("{depth:>8} {:>10.0}", drive / 1e3);
        rows.push(json!({ "depth": depth, "drive": drive }));
    }
    rows
}

fn file(engine: &Arc<Engine>) -> Vec<Value> {
    let ram = Path::new("/dev/shm");
    let folder = if ram.is_dir() {
        ram.to_path_buf()
    } else {
        std::env::temp_dir()
    };
    let file = tempfile::NamedTempFile::new_in(&folder).expect("a file");
    std::fs::write(file.path(), vec![0x5A; FILE as usize]).expect("a filled file");
    let plain_file = file.reopen().expect("the file");
    let backend = FileBackend::open(file.path(), false).expect("a backend");
    let mut guest = Guest::new(engine, &memory(), Arc::new(backend), 1);
    println!("\nfile in {}", folder.display());
    println!(
        "{:>8} {:>10} {:>10} {:>7}",
        "depth", "drive", "plain", "ratio"
    );
    let mut rows = Vec::new();
    for depth in [1, 8, 32, 128] {
        let (mut drive, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let one = rate(|more| plain::reads(&plain_file, FILE, depth, more));
            let other = rate(|more| guest.reads(depth, more));
            ratios.push(other / one);
            plain.push(one);
            drive.push(other);
        }
        let (drive, plain, ratio) = (median(drive), median(plain), median(ratios));
        println!(
            "{depth:>8} {:>10.0} {:>10.0} {ratio:>7.2}",
            drive / 1e3,
            plain / 1e3
        );
        rows.push(json!({ "depth": depth, "drive": drive, "plain": plain, "ratio": ratio }));
    }
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
