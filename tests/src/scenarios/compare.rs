//! Our drive beside QEMU's: the same guest kernel, the same initramfs, the same fio job, one after the other in
//! the same lab host. All machines run all the time; while one works the others are idle. QEMU's drive has
//! `ioeventfd=on`, and its file is read in either of the ways that QEMU has for a file in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::design::{Design, drive, root_port};
use super::machine::Machine;
use super::qemu::{self, Guest, Qemu};
use super::run::Place;
use super::{Files, Stage};

/// Where the comparison lies in the output folder: a [`Comparison`].
pub const COMPARISON: &str = "against-qemu.json";

/// Commands under way, and what of QEMU's speed is aimed at.
const DEPTHS: [(u32, f64); 2] = [(1, 1.0), (32, 1.3)];
/// Of the drive, all of it in memory.
const MIB: u64 = 64;
const MEMORY_MIB: u64 = 512;
/// Machines are started anew so often, and measured so often each time.
const STARTS: u32 = 2;
const ROUNDS: u32 = 2;
/// A start whose machines did not come that far is made again so often: an emulated host now and then corrupts a guest.
const ATTEMPTS: u32 = 3;
/// QEMU's ways to read a file: `aio` of its drives.
const WAYS: [&str; 2] = ["threads", "io_uring"];
const SECONDS: u32 = 4;
const LIMIT: Duration = Duration::from_secs(900);

/// What was measured, and what it comes to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    /// What QEMU says of its version.
    pub qemu: String,
    /// The job, but for its depth.
    pub job: String,
    /// For each depth.
    pub depths: Vec<Depth>,
}

/// One depth.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Depth {
    /// Commands under way.
    pub depth: u32,
    /// Reads a second of our drive, in the order they were measured.
    pub sundown: Vec<u64>,
    /// The same of QEMU's, for each of its ways to read a file.
    pub qemu: BTreeMap<String, Vec<u64>>,
    /// Median of ours to median of QEMU's faster way.
    pub ratio: f64,
    /// What it should be at least.
    pub aim: f64,
}

/// Measures.
///
/// # Errors
/// When a machine cannot be run.
pub fn compare(place: &Place) -> Result<Comparison> {
    let files: Files = place.files.clone();
    let mut stage = Stage::new(files, place.work.join("compare"), LIMIT)?;
    let job = format!(
        "/suites/bin/fio --name=job --filename=/dev/nvme0n1 --direct=1 --rw=randread --bs=4k \
         --ioengine=libaio --time_based --runtime={SECONDS} --thread --minimal --eta=never"
    );
    let mut found = DEPTHS.map(|(depth, aim)| Depth {
        depth,
        sundown: Vec::new(),
        qemu: BTreeMap::new(),
        ratio: f64::NAN,
        aim,
    });
    for start in 1..=STARTS {
        println!("start {start}");
        for attempt in 1.. {
            let mut with_this = found.clone();
            match measure_once(&mut stage, &job, &mut with_this) {
                Ok(()) => {
                    found = with_this;
                    break;
                }
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(error) => println!("{error:#}; start {start} once more"),
            }
        }
    }
    for depth in &mut found {
        let theirs = depth.qemu.values().map(|values| median(values));
        depth.ratio = median(&depth.sundown) / theirs.fold(f64::NAN, f64::max);
    }
    Ok(Comparison {
        qemu: qemu::version(&stage.files.qemu)?,
        job,
        depths: found.into(),
    })
}

/// Starts all machines, measures, and adds to what was `found`.
fn measure_once(stage: &mut Stage, job: &str, found: &mut [Depth]) -> Result<()> {
    let mut ours = sundown(stage)?;
    let mut theirs = Vec::new();
    for way in WAYS {
        theirs.push((way, start_qemu(stage, way)?));
    }
    for round in 1..=ROUNDS {
        for depth in &mut *found {
            let job = format!("{job} --iodepth={}", depth.depth);
            let reads = iops(&ours.run(&job)?)?;
            println!("  round {round}, depth {}: sundown {reads}", depth.depth);
            depth.sundown.push(reads);
            for (way, qemu) in &mut theirs {
                let reads = iops(&qemu.run(&job)?)?;
                println!("    QEMU, {way} {reads}");
                let way = (*way).to_owned();
                depth.qemu.entry(way).or_default().push(reads);
            }
        }
    }
    ours.end()
}

/// Prints the comparison as a table.
pub fn print(title: &str, comparison: &Comparison) {
    println!("{title}\n{}\n{}\n", comparison.qemu, comparison.job);
    println!("depth  {:<16}  reads/s, median (least to most)", "");
    for depth in &comparison.depths {
        let qemu = depth.qemu.iter();
        let qemu = qemu.map(|(way, values)| (format!("QEMU, {way}"), values));
        let all = std::iter::once(("sundown".to_owned(), &depth.sundown)).chain(qemu);
        for (name, values) in all {
            let least = values.iter().min().copied().unwrap_or_default();
            let most = values.iter().max().copied().unwrap_or_default();
            let median = median(values);
            println!(
                "{:>5}  {name:<16}  {median:.0} ({least} to {most})",
                depth.depth
            );
        }
        let Depth { ratio, aim, .. } = depth;
        let met = if ratio >= aim { "met" } else { "MISSED" };
        println!("       ratio to the faster {ratio:.2}, aim ≥ {aim:.1}: {met}");
    }
}

/// Writes it to the output folder.
///
/// # Errors
/// When it cannot be written.
pub fn write(comparison: &Comparison, output: &Path) -> Result<()> {
    let path = output.join(COMPARISON);
    let text = serde_json::to_vec_pretty(comparison).context("could not write the comparison")?;
    fs::create_dir_all(output)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("could not write {}", path.display()))
}

/// A drive's file, all of it there.
fn disk(stage: &Stage, name: &str) -> Result<PathBuf> {
    let path = stage.raw_file(name, MIB)?;
    let bytes: Vec<u8> = (0..MIB << 20).map(|at| (at >> 9) as u8 | 1).collect();
    fs::write(&path, bytes).with_context(|| format!("could not fill {}", path.display()))?;
    Ok(path)
}

fn sundown(stage: &mut Stage) -> Result<Machine> {
    let mut config = stage.linux().memory_mib(MEMORY_MIB);
    config.payload.initramfs = Some(stage.files.suites.clone());
    let drive = drive("a", disk(stage, "sundown")?);
    stage.launch_ready(
        config
            .words("sundown.drives=1")
            .with([root_port("rp0", [drive])]),
    )
}

/// A machine of QEMU with a drive like ours, its file read in this way.
fn start_qemu(stage: &Stage, way: &str) -> Result<Qemu> {
    let disk = disk(stage, &format!("qemu-{way}"))?;
    let drive = format!("if=none,id=d,format=raw,aio={way},file={}", disk.display());
    let options = [
        "-no-reboot",
        "-device",
        "pcie-root-port,id=rp0",
        "-drive",
        &drive,
        "-device",
        "nvme,drive=d,serial=a,bus=rp0,ioeventfd=on",
    ];
    let guest = Guest {
        name: way,
        initramfs: &stage.files.suites,
        memory_mib: MEMORY_MIB,
        drives: 1,
        options: options.map(str::to_owned).into(),
    };
    Qemu::start(stage, &guest)
}

/// Reads a second, from fio's terse output: the fields are in the manual's section of that name.
fn iops(said: &[String]) -> Result<u64> {
    const ERROR: usize = 4;
    const READS: usize = 7;
    let line = said.iter().find(|line| line.starts_with("3;fio"));
    let line = line.with_context(|| format!("fio's result is not in {said:?}"))?;
    let fields: Vec<_> = line.split(';').collect();
    ensure!(
        fields.get(ERROR) == Some(&"0"),
        "fio ended with an error: {line}"
    );
    let reads = fields.get(READS).and_then(|field| field.parse().ok());
    reads
        .filter(|reads| *reads > 0)
        .with_context(|| format!("fio has read nothing: {line}"))
}

fn median(values: &[u64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        all if all.len() % 2 == 1 => all[middle] as f64,
        all => (all[middle - 1] + all[middle]) as f64 / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_second_are_the_eighth_field_of_a_job_without_error() {
        let said = |error: &str| {
            vec![format!(
                "3;fio-3.39;job;0;{error};40960;10240;2560;4000;1;2"
            )]
        };
        assert_eq!(iops(&said("0")).unwrap(), 2560);
        assert!(iops(&said("5")).is_err());
        assert!(iops(&["fio: no such file".to_owned()]).is_err());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3, 1, 2]), 2.0);
        assert_eq!(median(&[4, 1, 2, 3]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
