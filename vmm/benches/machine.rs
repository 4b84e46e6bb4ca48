//! What a whole machine costs, measured on real processes over the API: start, memory, resets, and how
//! quickly calls are answered meanwhile. The guest is three instructions that sleep for ever, so any KVM
//! will do, and what is measured is the VMM's own part. `cargo bench -p vmm --bench machine`

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use api::client::Client;
use api::config::{TeardownPolicy, VmConfig};
use api::report::TeardownReport;
use api::state::PolicyUpdate;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(30);
const RESETS: usize = 20;
const STARTS: usize = 20;
const SOCKET: &str = "api.sock";
const PAIRS: u64 = 100;

fn main() -> Result<()> {
    let bench = Bench {
        folder: tempfile::tempdir()?.keep(),
    };
    let figures = bench.run();
    fs::remove_dir_all(&bench.folder)?;
    let figures =
        figures.map_err(|error| format!("{error} (is /dev/kvm there, and may you use it?)"))?;

    println!("{:<58} {:>12} {:>12}", "figure", "measured", "wanted");
    for (name, measured, wanted) in &figures {
        println!("{name:<58} {measured:>12} {wanted:>12}");
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("machine.json");
    let json: Vec<Value> = figures
        .iter()
        .map(|(name, measured, wanted)| json!({"figure": name, "measured": measured, "wanted": wanted}))
        .collect();
    fs::write(&target, serde_json::to_vec_pretty(&json)?)?;
    println!("\nas JSON: {}", target.display());
    Ok(())
}

/// What was measured, and what it should be: both with their units.
type Figure = (String, String, String);

struct Bench {
    folder: PathBuf,
}

impl Bench {
    fn run(&self) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let mut add = |name: &str, measured: String, wanted: &str| {
            figures.push((name.to_owned(), measured, wanted.to_owned()));
        };
        self.make_kernel()?;
        progress("process start");
        let starts = (0..STARTS)
            .map(|_| self.start_to_ready())
            .collect::<Result<Vec<_>>>()?;
        add(
            "process start to API ready, median",
            ms(median(starts)),
            "20 ms",
        );

        progress("resident memory");
        let (one, many) = (self.resident_kib(1)?, self.resident_kib(65)?);
        add(
            "resident beside the guest's memory, 1 drive",
            format!("{one} KiB"),
            "20480 KiB",
        );
        add(
            "… for each further drive",
            format!("{} KiB", (many.saturating_sub(one)) / 64),
            "200 KiB",
        );

        progress("resets of small and large machines");
        let (small, large) = self.small_and_large_resets()?;
        add(
            "reset, vCPUs paused to running, 256 MiB, median",
            ms(small),
            "-",
        );
        add("the same, 8 GiB", ms(large), "-");
        add(
            "… ratio of the two",
            format!("{:.2}", large.as_secs_f64() / small.as_secs_f64()),
            "0.9 to 1.1",
        );

        progress("64 drives behind 64 ports, no latency");
        for policy in [TeardownPolicy::Completion, TeardownPolicy::Serial] {
            let reports = self.resets(&ports(&self.drives(64, 0)?, 256), policy)?;
            let overheads = reports
                .iter()
                .map(|report| scheduling(report) / report.devices.len() as u32);
            let each = median(overheads.collect());
            add(
                &format!("64 drives, scheduling a device beyond its own time, {policy:?}"),
                format!("{:.1} µs", each.as_secs_f64() * 1e6),
                "20 µs",
            );
            let teardown = median(
                reports
                    .iter()
                    .map(|report| Duration::from_nanos(report.teardown_ns))
                    .collect(),
            );
            add("… whole teardown", ms(teardown), "-");
        }

        progress("64 drives of 100 ms");
        let reports = self.resets(
            &ports(&self.drives(64, 100)?, 256),
            TeardownPolicy::Completion,
        )?;
        let teardown = median(
            reports
                .iter()
                .map(|report| Duration::from_nanos(report.teardown_ns))
                .collect(),
        );
        add(
            "64 drives × 100 ms, completion, median",
            ms(teardown),
            "110 ms",
        );

        progress("vmm.ping during a teardown of 4 s");
        let (pings, p99) = self.ping_during_teardown()?;
        add(
            &format!("vmm.ping during a teardown of 4 s, 99th of 100 ({pings} calls)"),
            ms(p99),
            "5 ms",
        );
        Ok(figures)
    }

    /// An ELF file with a PVH entry: `cli; hlt; jmp` back to the `hlt`.
    fn make_kernel(&self) -> Result<()> {
        const LOAD: u64 = 0x10_0000;
        let code = [0xFA, 0xF4, 0xEB, 0xFD];
        let mut note = Vec::new();
        for word in [4u32, 4, 18] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"Xen\0");
        note.extend((LOAD as u32).to_le_bytes());
        let (headers, entry) = (64 + 2 * 56, LOAD);
        let mut elf = b"\x7FELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for value in [entry, 64, 0] {
            elf.extend(value.to_le_bytes());
        }
        elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
        let mut segment = |kind: u32, offset: u64, address: u64, size: u64| {
            elf.extend(kind.to_le_bytes());
            elf.extend(5u32.to_le_bytes());
            for value in [offset, address, address, size, size, 4] {
                elf.extend(value.to_le_bytes());
            }
        };
        segment(1, headers, LOAD, code.len() as u64);
        segment(4, headers + 4, 0, note.len() as u64);
        elf.extend(code);
        elf.extend(note);
        elf.resize(4096, 0);
        fs::write(self.kernel(), elf)?;
        Ok(())
    }

    fn kernel(&self) -> PathBuf {
        self.folder.join("kernel")
    }

    /// Drives on files of their own, each with a modelled latency.
    fn drives(&self, count: usize, latency_ms: u64) -> Result<Vec<Value>> {
        (0..count)
            .map(|number| {
                let path = self.folder.join(format!("drive{number}"));
                File::create(&path)?.set_len(16 << 20)?;
                Ok(json!({
                    "type": "nvme",
                    "id": format!("drive{number}"),
                    "namespaces": [{"path": path}],
                    "teardown": {"latency": {"kind": "fixed", "ms": latency_ms}},
                }))
            })
            .collect()
    }

    fn launch(&self, socket: &str) -> Result<Vmm> {
        let socket = self.folder.join(socket);
        let process = Command::new(env!("CARGO_BIN_EXE_sundown"))
            .arg("--api-socket")
            .arg(&socket)
            .spawn()?;
        let vmm = Vmm {
            process,
            client: Client::new(socket),
        };
        vmm.client.wait_until_ready(PATIENCE)?;
        Ok(vmm)
    }

    fn launch_with(&self, socket: &str, mut config: Value) -> Result<Vmm> {
        config["payload"] = json!({"kernel": self.kernel()});
        let vmm = self.launch(socket)?;
        vmm.client
            .create(&VmConfig::from_json(&serde_json::to_vec(&config)?)?)?;
        vmm.client.boot()?;
        Ok(vmm)
    }

    /// From the process's start to the first connection that is taken.
    fn start_to_ready(&self) -> Result<Duration> {
        let socket = self.folder.join("start.sock");
        let start = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_sundown"))
            .arg("--api-socket")
            .arg(&socket)
            .spawn()?;
        let vmm = Vmm {
            process,
            client: Client::new(&socket),
        };
        while UnixStream::connect(&socket).is_err() {
            if start.elapsed() > PATIENCE {
                return Err("the API did not come up".into());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        vmm.client.ping()?;
        Ok(start.elapsed())
    }

    /// Anonymous and file-backed memory of a machine with this many drives; guest memory is neither.
    fn resident_kib(&self, drives: usize) -> Result<u64> {
        let vmm = self.launch_with(SOCKET, ports(&self.drives(drives, 0)?, 256))?;
        let status = fs::read_to_string(format!("/proc/{}/status", vmm.process.id()))?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        field("RssAnon")
            .zip(field("RssFile"))
            .map(|(anon, file)| anon + file)
            .ok_or_else(|| "no RSS".into())
    }

    /// Medians of resets of a small and of a large machine, in turn, so that both meet the same host.
    fn small_and_large_resets(&self) -> Result<(Duration, Duration)> {
        let drives = self.drives(2, 0)?;
        let (small, large) = drives.split_at(1);
        let small = self.launch_with("small.sock", ports(small, 256))?;
        let large = self.launch_with("large.sock", ports(large, 8192))?;
        let running = |report: &TeardownReport| {
            Duration::from_nanos(report.reset_ns.unwrap_or_default() - report.vcpu_pause_ns)
        };
        let (mut of_small, mut of_large) = (Vec::new(), Vec::new());
        for number in 1..=PAIRS {
            of_small.push(running(&small.reset(number)?));
            of_large.push(running(&large.reset(number)?));
        }
        Ok((median(of_small), median(of_large)))
    }

    /// The reports of some resets of one machine.
    fn resets(&self, config: &Value, policy: TeardownPolicy) -> Result<Vec<TeardownReport>> {
        let vmm = self.launch_with(SOCKET, config.clone())?;
        vmm.client.set_teardown_policy(PolicyUpdate {
            policy: Some(policy),
            workers: None,
        })?;
        (1..=RESETS as u64)
            .map(|number| vmm.reset(number))
            .collect()
    }

    fn ping_during_teardown(&self) -> Result<(usize, Duration)> {
        let vmm = self.launch_with(SOCKET, ports(&self.drives(8, 500)?, 256))?;
        vmm.client.set_teardown_policy(PolicyUpdate {
            policy: Some(TeardownPolicy::Serial),
            workers: None,
        })?;
        vmm.client.reboot()?;
        let start = Instant::now();
        let mut pings = Vec::new();
        while start.elapsed() < Duration::from_millis(3500) {
            let asked = Instant::now();
            vmm.client.ping()?;
            pings.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
        pings.sort_unstable();
        let p99 = pings
            .get(pings.len() * 99 / 100)
            .copied()
            .unwrap_or_default();
        Ok((pings.len(), p99))
    }
}

/// A running process; killed when dropped.
struct Vmm {
    process: Child,
    client: Client,
}

impl Vmm {
    /// Resets the machine and waits for report `number` of vCPUs that run again.
    fn reset(&self, number: u64) -> Result<TeardownReport> {
        self.client.reboot()?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(report) = self.client.teardown(number)
                && report.reset_ns.is_some()
            {
                return Ok(report);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!("reset {number} did not end").into())
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Each drive behind a root port of its own, eight ports a device.
fn ports(drives: &[Value], memory_mib: u64) -> Value {
    let ports: Vec<Value> = drives
        .iter()
        .enumerate()
        .map(|(number, drive)| {
            json!({
                "type": "root-port",
                "id": format!("port{number}"),
                "device": 1 + number / 8,
                "function": number % 8,
                "children": [drive],
            })
        })
        .collect();
    json!({"memory": {"size": memory_mib << 20}, "pci": ports, "teardown": {"history": 64}})
}

/// The part of a teardown in which no device was being shut down.
fn scheduling(report: &TeardownReport) -> Duration {
    let mut spans: Vec<_> = report
        .devices
        .iter()
        .map(|device| (device.start_ns, device.end_ns))
        .collect();
    spans.sort_unstable();
    let mut busy = 0;
    let mut until = 0;
    for (start, end) in spans {
        busy += end.saturating_sub(start.max(until));
        until = until.max(end);
    }
    Duration::from_nanos(report.teardown_ns.saturating_sub(busy))
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

fn progress(what: &str) {
    eprintln!("measuring: {what}");
}
