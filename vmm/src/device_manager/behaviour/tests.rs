//! Drives made from configurations, and teardowns of dying ones.

use std::io;
use std::time::Instant;

use api::config::{OnTimeout, TeardownPolicy, VmConfig};
use api::report::{Cause, Outcome};
use devices::interrupt::{MsiMessage, MsiRouter, Route};
use devices::lifecycle::Device;
use devices::memory::GuestMemory;
use devices::pci::Attachment;
use nvme::{Connections, Engine};
use serde_json::{Value, json};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::device_manager::teardown::{Graph, Node, Request, Teardown, TeardownRun, Unobserved};
use crate::device_manager::{Listed, Targets, drive};

struct Silence;

impl MsiRouter for Silence {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        Ok((0..).map(Route).take(vectors.len()).collect())
    }

    fn set_messages(&self, _: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        Ok(())
    }

    fn detach(&self, _: &[(Route, &EventFd)]) {}
}

/// The configurations of drives that have what is given beside a file of their own.
fn configs(folder: &std::path::Path, drives: &[(&str, Value)]) -> Vec<DeviceConfig> {
    let drives = drives.iter().map(|(id, more)| {
        let path = folder.join(id);
        std::fs::File::create(&path)
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        let mut drive = json!({ "type": "nvme", "id": id, "namespaces": [{ "path": path }] });
        for (field, value) in more.as_object().into_iter().flatten() {
            drive[field] = value.clone();
        }
        drive
    });
    let pci: Vec<_> = drives.collect();
    let config = json!({ "payload": { "kernel": "k" }, "pci": pci });
    VmConfig::from_json(config.to_string().as_bytes())
        .unwrap()
        .pci
}

fn controllers(configs: &[DeviceConfig]) -> Vec<Arc<Controller>> {
    let engine = Engine::new(None).unwrap();
    let made = configs.iter().map(|config| {
        let DeviceConfig::Nvme(nvme) = config else {
            panic!("no drive");
        };
        let memory = [(GuestAddress(0), 1 << 20)];
        let connections = Connections {
            engine: Arc::clone(&engine),
            memory: GuestMemory::from_ranges(&memory).unwrap(),
            router: Arc::new(Silence),
            intx: None,
            io_events: None,
        };
        drive::controller(nvme, "", (1, Attachment::Express), connections).unwrap()
    });
    made.collect()
}

fn tear_down(configs: &[DeviceConfig], controllers: &[Arc<Controller>]) -> TeardownRun {
    let mut list = Graph::new();
    for config in configs {
        let options = config.options();
        let node = Node {
            asynchronous: options.is_async(),
            deadline: options.deadline(),
            on_timeout: options.on_timeout,
            ..Node::new(config.id(), config.class())
        };
        list.add(node).unwrap();
    }
    let listed = controllers
        .iter()
        .map(|controller| Listed::new(controller.clone() as Arc<dyn Device>, false));
    let targets = Arc::new(Targets(listed.collect()));
    let policy = TeardownPolicy::Completion;
    Teardown::new(Arc::new(list), policy, 4, targets, Arc::new(Unobserved)).run()
}

#[test]
fn a_dying_drive_ends_by_its_deadline_and_others_are_not_held_up() {
    let folder = tempfile::tempdir().unwrap();
    let even = json!({ "latency": { "kind": "uniform", "min_ms": 5, "max_ms": 9 } });
    let configs = configs(
        folder.path(),
        &[
            (
                "dying",
                json!({ "deadline_ms": 60, "on_timeout": "quarantine", "faults": { "flush": "stuck" } }),
            ),
            ("well", json!({ "teardown": even, "seed": 7 })),
        ],
    );
    let drives = controllers(&configs);
    let run = tear_down(&configs, &drives);
    let [dying, well] = &run.stamps[..] else {
        panic!("two devices");
    };
    assert_eq!(dying.outcome, Outcome::TimedOut);
    assert!(dying.end - dying.start >= Duration::from_millis(60));
    let troubled: Vec<_> = run.troubled().map(|(id, _, then)| (id, then)).collect();
    assert_eq!(troubled, [("dying", OnTimeout::Quarantine)]);
    assert!(drives[0].is_quiet(), "the machine may boot without it");
    assert_eq!(well.outcome, Outcome::Done);
    assert!(well.end < dying.end);

    // What was drawn is in the report, to be held against the plan.
    let now = Instant::now();
    let report = run.report(&Request {
        number: 1,
        boot: 1,
        cause: Cause::Api,
        at: now,
        at_ns: 0,
        vcpus_paused: now,
    });
    let reported = |id: &str| report.devices.iter().find(|one| one.id == id).unwrap();
    let drawn = latency(&configs[1].teardown().unwrap().latency).draw(
        7,
        devices::latency::Purpose::Teardown,
        0,
        0,
    );
    assert_eq!(reported("well").modelled_ns, Some(drawn.as_nanos() as u64));
    assert!(well.end - well.start >= drawn);
    assert_eq!(reported("dying").modelled_ns, None);

    // Behaviour is changed, and the drive is well again.
    let mut cured = configs.clone();
    let update: config::BehaviourUpdate = serde_json::from_value(json!({ "faults": {} })).unwrap();
    update.apply(&mut cured[0]).unwrap();
    Tunable::Drive(drives[0].clone()).behave(&cured[0]);
    let run = tear_down(&cured, &drives);
    assert!(
        run.stamps
            .iter()
            .all(|stamp| stamp.outcome == Outcome::Done)
    );
}

#[test]
fn every_fault_of_a_configuration_reaches_the_drive() {
    let folder = tempfile::tempdir().unwrap();
    let given = json!({
        "shutdown": {
            "latency": { "kind": "written", "base_ms": 1, "ms_per_mib": 2.5, "cap_ms": 9 },
            "rtd3e_ms": 4,
        },
        "teardown": { "latency": { "kind": "log-normal", "median_ms": 5, "sigma": 0.5 } },
        "faults": {
            "removed": true,
            "shutdown": "fatal",
            "flush": "fail",
            "media": [{ "first_block": 3, "blocks": 4 }],
            "commands": [
                { "queue": "admin", "opcode": 6, "nth": 2, "repeat": false,
                  "effect": { "kind": "status", "type": 1, "code": 9, "do_not_retry": true } },
                { "effect": { "kind": "slow", "latency": { "kind": "fixed", "ms": 5 } } },
                { "queue": "io", "effect": { "kind": "stuck" } },
            ],
        },
    });
    let configs = configs(folder.path(), &[("d", given)]);
    let DeviceConfig::Nvme(nvme) = &configs[0] else {
        panic!("no drive");
    };
    let ms = Duration::from_millis;
    let written = Latency::Written {
        base: ms(1),
        ms_per_mib: 2.5,
        cap: ms(9),
    };
    let every = |queue, effect| CommandFault {
        queue,
        opcode: None,
        nth: 1,
        every: true,
        effect,
    };
    let expected = Behaviour {
        shutdown: ShutdownModel {
            latency: written,
            // As the normal one, unless given.
            abrupt_latency: written,
            estimate: Some(ms(4)),
        },
        teardown: Latency::LogNormal {
            median: ms(5),
            sigma: 0.5,
        },
        faults: FaultSet {
            removed: true,
            shutdown: Some(ShutdownFault::Fatal),
            flush: Some(FlushFault::Fail),
            media: vec![MediaFault {
                namespace: 1,
                first_block: 3,
                blocks: 4,
            }],
            commands: vec![
                CommandFault {
                    queue: Some(QueueKind::Admin),
                    opcode: Some(6),
                    nth: 2,
                    every: false,
                    effect: Effect::Status(Status::of(1, 9).permanent()),
                },
                every(None, Effect::Slow(Latency::Fixed(ms(5)))),
                every(Some(QueueKind::Io), Effect::Stuck),
            ],
        },
    };
    assert_eq!(behaviour(nvme), expected);
    assert_eq!(seed(&configs[0]), seed_of("d"));
}

#[test]
fn a_drive_of_a_configuration_with_a_fault_has_it_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let configs = configs(
        folder.path(),
        &[("d", json!({ "faults": { "removed": true } }))],
    );
    let drives = controllers(&configs);
    let mut csts = [0; 4];
    devices::pci::PciFunction::read_bar(&*drives[0], 0, 0x1C, &mut csts);
    assert_eq!(csts, [0xFF; 4]);
    assert!(drives[0].guest_acts().is_empty());
}
