//! Teardown reports of machines as they are built, run by the engine's own rules under its virtual clock:
//! drives behind a switch, a PCI bridge and root ports, legacy devices, a guest that went before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::config::TeardownPolicy;
use api::report::{
    Cause, GuestAct, GuestDevice, GuestEvent, GuestOrder, GuestReport, Outcome, ShutdownHandshake,
    TeardownReport,
};
use devices::lifecycle::Phases;
use vmm::device_manager::teardown::{
    Cost, Graph, Node, Request, Rules, Stamp, TeardownRun, guest_ready, predict, vcpus_resumed,
};

const MS: i64 = 1_000_000;

/// How a sample's guest shuts its drives down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// It does not.
    Silent,
    /// One after the other, each taking so many milliseconds.
    Serial(u64),
    /// All at once, each taking so many milliseconds and some more.
    Parallel(u64),
}

/// A machine in the making.
pub struct Machine {
    graph: Graph,
    costs: Vec<Duration>,
    buses: u32,
    /// The bound on worker threads.
    pub workers: u16,
    /// How a device's time is spent: as a modelled latency, or by a call that holds a worker.
    pub cost: fn(Duration) -> Cost,
}

impl Machine {
    /// The devices that every machine has.
    pub fn new() -> Self {
        let mut machine = Self {
            graph: Graph::new(),
            costs: Vec::new(),
            buses: 0,
            workers: 64,
            cost: Cost::latency,
        };
        for id in ["i8042", "rtc", "acpi", "reset", "boot-marker", "serial"] {
            let node = Node {
                blocking: false,
                ..Node::new(id, id)
            };
            machine.register(node, Duration::from_micros(3));
        }
        machine
    }

    fn register(&mut self, node: Node, cost: Duration) -> usize {
        self.costs.push(cost);
        self.graph.add(node).unwrap()
    }

    fn address(&self) -> String {
        format!("{:04x}:{:02x}:00.0", self.buses / 256, self.buses % 256)
    }

    /// A port or bridge, on a bus of its own.
    pub fn port(&mut self, id: &str, class: &str, parent: Option<usize>) -> usize {
        self.buses += 1;
        let node = Node {
            parent,
            asynchronous: true,
            blocking: false,
            address: Some(self.address()),
            ..Node::new(id, class)
        };
        self.register(node, Duration::from_micros(38))
    }

    /// A drive whose teardown takes so many milliseconds.
    pub fn drive(&mut self, id: &str, parent: usize, ms: u64) -> usize {
        self.buses += 1;
        let node = Node {
            parent: Some(parent),
            asynchronous: true,
            address: Some(self.address()),
            ..Node::new(id, "nvme")
        };
        self.register(node, Duration::from_millis(ms))
    }

    /// The report of one teardown.
    pub fn report(&self, number: u64, policy: TeardownPolicy, guest: Guest) -> TeardownReport {
        let costs: Vec<Cost> = self.costs.iter().copied().map(self.cost).collect();
        let plan = predict(&self.graph, policy, &costs, self.workers.into());
        let at = Instant::now();
        let begin = at + Duration::from_micros(2_140);
        let stamps = plan.devices.iter().enumerate().map(|(device, planned)| {
            let (start, end) = (begin + planned.start, begin + planned.end);
            let mut phases = Phases::default();
            if self.graph.node(device).class == "nvme" {
                let took = end - start;
                let marks = [
                    ("quiesce", Duration::ZERO, took.mul_f64(0.02)),
                    ("flush", took.mul_f64(0.02), took.mul_f64(0.17)),
                    ("reset", took.mul_f64(0.17), took.mul_f64(0.18)),
                    ("modelled-latency", took.mul_f64(0.18), took),
                ];
                for (name, from, to) in marks {
                    phases.record(name, start + from, start + to);
                }
            }
            Stamp {
                start,
                end,
                phases,
                outcome: Outcome::Done,
            }
        });
        let run = TeardownRun {
            graph: Arc::new(self.graph.clone()),
            rules: Arc::new(Rules::new(&self.graph, policy)),
            policy,
            workers: self.workers,
            workers_used: plan.workers_used as u16,
            begin,
            stamps: stamps.collect(),
            warnings: Vec::new(),
        };
        let request = Request {
            number,
            boot: number,
            cause: Cause::I8042,
            at,
            at_ns: 81_234_567_890,
            vcpus_paused: at + Duration::from_micros(2_080),
        };
        let mut report = run.report(&request);
        let end = Duration::from_nanos(report.teardown_start_ns + report.teardown_ns);
        vcpus_resumed(&mut report, end + Duration::from_micros(23_870));
        guest_ready(&mut report, end + Duration::from_millis(1_184));
        report.guest = self.guest(guest);
        report
    }

    fn guest(&self, guest: Guest) -> GuestReport {
        let nodes = self.graph.nodes().iter();
        let drives: Vec<&Node> = nodes.filter(|node| node.class == "nvme").collect();
        let (each, apart) = match guest {
            Guest::Silent => return GuestReport::default(),
            Guest::Serial(ms) => (ms as i64 * MS, ms as i64 * MS + 3 * MS / 2),
            Guest::Parallel(ms) => (ms as i64 * MS, 120_000),
        };
        let end = -2 * MS;
        let start = end - apart * (drives.len() as i64 - 1) - each;
        let mut devices = Vec::new();
        for (number, node) in drives.iter().rev().enumerate() {
            let requested = start + apart * number as i64;
            let completed = requested + each;
            let event = |act, first_ns, last_ns, count| GuestEvent {
                act,
                first_ns,
                last_ns,
                count,
            };
            devices.push(GuestDevice {
                id: node.id.clone(),
                class: node.class.clone(),
                address: node.address.clone(),
                events: vec![
                    event(GuestAct::Enable, -9_000 * MS, -9_000 * MS, 1),
                    event(
                        GuestAct::DeleteSubmissionQueue,
                        requested - 900_000,
                        requested - 500_000,
                        2,
                    ),
                    event(
                        GuestAct::DeleteCompletionQueue,
                        requested - 480_000,
                        requested - 60_000,
                        2,
                    ),
                    event(GuestAct::ShutdownNormal, requested, requested, 1),
                    event(GuestAct::Poll, requested + 4_000, completed + MS / 2, 41),
                    event(GuestAct::BusMasterOff, completed + MS, completed + MS, 1),
                ],
                handshake: Some(ShutdownHandshake {
                    requested_ns: requested,
                    completed_ns: Some(completed),
                    seen_ns: Some(completed + MS / 2),
                    polls: 41,
                    abrupt: false,
                    modelled_ns: 0,
                }),
            });
        }
        let sum = each * drives.len() as i64;
        let span = end - start;
        GuestReport {
            order: match guest {
                Guest::Serial(_) => GuestOrder::Serial,
                _ => GuestOrder::Parallel,
            },
            handshake_sum_ns: sum as u64,
            span_ns: span as u64,
            overlap: Some(sum as f64 / span as f64),
            devices,
        }
    }
}

/// Eight drives: four behind a switch, one behind a PCI bridge, three behind root ports.
pub fn eight() -> Machine {
    let mut machine = Machine::new();
    let root = machine.port("rp0", "root-port", None);
    let up = machine.port("switch0", "upstream-port", Some(root));
    for number in 0..4 {
        let id = format!("switch0-port{number}");
        let down = machine.port(&id, "downstream-port", Some(up));
        machine.drive(&format!("nvme{number}"), down, 190 + 4 * number);
    }
    let root = machine.port("rp1", "root-port", None);
    let bridge = machine.port("bridge0", "pci-bridge", Some(root));
    machine.drive("nvme4", bridge, 240);
    for number in 5..8 {
        let root = machine.port(&format!("rp{}", number - 3), "root-port", None);
        machine.drive(&format!("nvme{number}"), root, 200);
    }
    machine
}

/// So many drives, in shelves of sixteen behind switches.
pub fn shelves(drives: u64) -> Machine {
    let mut machine = Machine::new();
    for shelf in 0..drives.div_ceil(16) {
        let root = machine.port(&format!("rp{shelf}"), "root-port", None);
        let up = machine.port(&format!("shelf{shelf}"), "upstream-port", Some(root));
        for number in 0..16.min(drives - 16 * shelf) {
            let id = format!("shelf{shelf}-slot{number}");
            let down = machine.port(&id, "downstream-port", Some(up));
            let number = 16 * shelf + number;
            let ms = 120 + number * 37 % 90;
            machine.drive(&format!("nvme{number}"), down, ms);
        }
    }
    machine
}

/// A machine with exactly so many devices.
pub fn devices(number: usize) -> Machine {
    let mut machine = Machine::new();
    let mut shelf = 0;
    while machine.graph.len() < number {
        let port = machine.port(&format!("rp{shelf}"), "root-port", None);
        for slot in 0..3 {
            if machine.graph.len() < number {
                let id = format!("nvme{}", 3 * shelf + slot);
                machine.drive(&id, port, 40 + (shelf * 13 + slot * 29) % 70);
            }
        }
        shelf += 1;
    }
    machine
}

/// A teardown in which much went wrong: a drive given up at its deadline, one that failed, one removed.
pub fn troubled() -> TeardownReport {
    let mut machine = eight();
    let late = machine.graph.find("nvme2").unwrap();
    machine.costs[late] = Duration::from_millis(500);
    let mut report = machine.report(4, TeardownPolicy::Completion, Guest::Serial(200));
    let error = "flush: Input/output error (os error 5) <script>alert(1)</script> & \"more\"";
    for device in &mut report.devices {
        match device.id.as_str() {
            "nvme2" => device.outcome = Outcome::TimedOut,
            "nvme5" => {
                device.outcome = Outcome::Failed {
                    error: error.into(),
                }
            }
            "nvme6" => {
                device.outcome = Outcome::Removed;
                device.end_ns = device.start_ns;
                device.phases.clear();
            }
            _ => {}
        }
    }
    report.warnings = vec![
        "nvme2 was given up at its deadline and quarantined: it stays reset and off its bus".into(),
        "</script><script>document.title = 'broken out'</script> & <b>".into(),
    ];
    let last = report.guest.devices.last_mut().unwrap();
    last.handshake = last.handshake.map(|handshake| ShutdownHandshake {
        completed_ns: None,
        seen_ns: None,
        ..handshake
    });
    report
}

/// The same machine under every policy.
pub fn compared() -> Vec<TeardownReport> {
    let machine = eight();
    vec![
        machine.report(1, TeardownPolicy::Serial, Guest::Serial(200)),
        machine.report(2, TeardownPolicy::Cookie, Guest::Serial(200)),
        machine.report(3, TeardownPolicy::Completion, Guest::Serial(200)),
        machine.report(4, TeardownPolicy::Completion, Guest::Parallel(200)),
    ]
}
