//! Guest reports from notes that were made up, and from drives that a test shuts down.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use devices::interrupt::{MsiMessage, MsiRouter, Route};
use devices::lifecycle::Device;
use devices::memory::GuestMemory;
use devices::pci::{Attachment, PciFunction};
use nvme::{
    Behaviour, Connections, Controller, ControllerConfig, Engine, NamespaceConfig, NullBackend,
    ShutdownModel,
};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use super::super::graph::Node;
use super::*;

const MS: u64 = 1_000_000;

/// Drives d0, d1, … behind nothing.
fn drives(count: usize) -> Graph {
    let mut graph = Graph::new();
    for number in 0..count {
        graph.add(Node::new(format!("d{number}"), "nvme")).unwrap();
    }
    graph
}

/// A moment, and a clock of milliseconds that shows 1000 there.
fn clock() -> (Instant, impl Fn(u64) -> Instant) {
    let start = Instant::now();
    let at = move |ms| start + Duration::from_millis(ms);
    (at(1000), at)
}

fn handshake(requested: Instant, completed: Option<Instant>) -> GuestActs {
    let mut acts = GuestActs::default();
    acts.handshake = Some(Handshake {
        completed,
        ..Handshake::begin(requested)
    });
    acts.note(Act::ShutdownNormal, requested);
    acts
}

#[test]
fn one_after_the_other_is_serial_with_an_overlap_of_one() {
    let (request, at) = clock();
    let acts = [
        handshake(at(100), Some(at(300))),
        handshake(at(300), Some(at(500))),
        handshake(at(500), Some(at(900))),
    ];
    let report = guest_report(&drives(3), &acts, request);
    assert_eq!(report.order, GuestOrder::Serial);
    assert_eq!(report.handshake_sum_ns, 800 * MS);
    assert_eq!(report.span_ns, 800 * MS);
    assert_eq!(report.overlap, Some(1.0));
    let first = report.devices[0].handshake.unwrap();
    assert_eq!(first.requested_ns, -900 * MS as i64);
    assert_eq!(first.completed_ns, Some(-700 * MS as i64));
}

#[test]
fn all_at_once_is_parallel_with_an_overlap_of_their_number() {
    let (request, at) = clock();
    let acts = [handshake(at(100), Some(at(200))); 4];
    let report = guest_report(&drives(4), &acts, request);
    assert_eq!(report.order, GuestOrder::Parallel);
    assert_eq!((report.overlap, report.span_ns), (Some(4.0), 100 * MS));
}

#[test]
fn gaps_lower_the_overlap_and_an_overlap_of_two_of_three_is_parallel() {
    let (request, at) = clock();
    let acts = [
        handshake(at(700), Some(at(800))),
        handshake(at(100), Some(at(200))),
    ];
    let report = guest_report(&drives(2), &acts, request);
    assert_eq!(report.order, GuestOrder::Serial);
    assert_eq!(report.overlap, Some(200.0 / 700.0));
    let ids: Vec<_> = report.devices.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["d1", "d0"], "in the order in which the guest began");
    let last = handshake(at(799), Some(at(850)));
    let report = guest_report(&drives(3), &[acts[0], acts[1], last], request);
    assert_eq!(report.order, GuestOrder::Parallel);
}

#[test]
fn a_guest_that_only_resets_shut_nothing_down() {
    let (request, at) = clock();
    let mut used = GuestActs::default();
    used.note(Act::Enable, at(10));
    let report = guest_report(&drives(3), &[used, GuestActs::default(), used], request);
    assert_eq!(report.order, GuestOrder::None);
    assert_eq!((report.handshake_sum_ns, report.span_ns), (0, 0));
    assert_eq!(report.overlap, None);
    let ids: Vec<_> = report.devices.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["d0", "d2"], "nothing was done to d1");
    assert!(report.devices.iter().all(|one| one.handshake.is_none()));
    assert_eq!(
        guest_report(&drives(3), &[], request),
        GuestReport::default()
    );
}

#[test]
fn a_handshake_that_never_ended_counts_for_the_order_alone() {
    let (request, at) = clock();
    let mut given_up = handshake(at(100), None);
    given_up.poll(false, at(150));
    given_up.poll(false, at(400));
    let after = handshake(at(400), Some(at(600)));
    let report = guest_report(&drives(2), &[given_up, after], request);
    assert_eq!(report.order, GuestOrder::Serial, "it was left at 400 ms");
    assert_eq!(report.handshake_sum_ns, 200 * MS);
    assert_eq!((report.span_ns, report.overlap), (200 * MS, Some(1.0)));
    let shown = report.devices[0].handshake.unwrap();
    assert_eq!(
        (shown.completed_ns, shown.seen_ns, shown.polls),
        (None, None, 2)
    );

    let during = handshake(at(200), Some(at(600)));
    let report = guest_report(&drives(2), &[given_up, during], request);
    assert_eq!(report.order, GuestOrder::Parallel);

    let alone = guest_report(&drives(1), &[given_up], request);
    assert_eq!((alone.order, alone.overlap), (GuestOrder::Single, None));
}

#[test]
fn a_handshake_without_length_has_no_overlap_to_speak_of() {
    let (request, at) = clock();
    let report = guest_report(&drives(1), &[handshake(at(1), Some(at(1)))], request);
    assert_eq!((report.order, report.overlap), (GuestOrder::Single, None));
}

#[test]
fn what_comes_after_the_request_is_positive_and_events_are_in_order() {
    let (request, at) = clock();
    let mut acts = GuestActs::default();
    acts.note(Act::BusMasterOff, at(1002));
    acts.note(Act::DeleteCompletionQueue, at(950));
    acts.note(Act::DeleteSubmissionQueue, at(900));
    acts.note(Act::DeleteSubmissionQueue, at(940));
    acts.note(Act::Enable, at(1));
    let report = guest_report(&drives(1), &[acts], request);
    let events: Vec<_> = report.devices[0]
        .events
        .iter()
        .map(|event| (event.act, event.first_ns / MS as i64, event.count))
        .collect();
    assert_eq!(
        events,
        [
            (GuestAct::Enable, -999, 1),
            (GuestAct::DeleteSubmissionQueue, -100, 2),
            (GuestAct::DeleteCompletionQueue, -50, 1),
            (GuestAct::BusMasterOff, 2, 1),
        ]
    );
    assert_eq!(report.devices[0].events[1].last_ns, -60 * MS as i64);
}

/// An interrupt routing that nobody listens to.
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

/// A drive that takes so long to shut down, as its driver meets it.
struct Drive(Arc<Controller>);

impl Drive {
    fn new(engine: &Arc<Engine>, id: &str, latency: Duration) -> Self {
        let config = ControllerConfig {
            id: id.into(),
            serial: id.into(),
            model: "Sundown NVMe".into(),
            firmware: "1.0".into(),
            namespaces: vec![NamespaceConfig::new(Arc::new(NullBackend::new(1 << 20)))],
            write_cache: true,
            namespace_store: None,
            state: None,
            behaviour: Behaviour {
                shutdown: ShutdownModel {
                    latency: latency.into(),
                    ..ShutdownModel::default()
                },
                ..Behaviour::default()
            },
            seed: 1,
            queue_limit: 1,
            vectors: None,
            attachment: Attachment::Express,
        };
        let connections = Connections {
            engine: Arc::clone(engine),
            memory: GuestMemory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap(),
            router: Arc::new(Silence),
            intx: None,
            io_events: None,
        };
        Self(Controller::new(config, connections).unwrap())
    }

    /// CC.SHN = 01b.
    fn ask(&self) {
        self.0.write_bar(0, 0x14, &(1_u32 << 14).to_le_bytes());
    }

    /// Whether CSTS.SHST says complete.
    fn is_shut(&self) -> bool {
        let mut status = [0; 4];
        self.0.read_bar(0, 0x1C, &mut status);
        status[0] >> 2 & 3 == 2
    }
}

#[test]
fn a_driver_that_waits_for_each_drive_is_serial_and_one_that_does_not_is_parallel() {
    let engine = Engine::new(None).unwrap();
    let drives = |latency| ["d0", "d1"].map(|id| Drive::new(&engine, id, latency));
    let report = |drives: &[Drive; 2]| {
        let acts: Vec<_> = drives.iter().map(|drive| drive.0.guest_acts()).collect();
        guest_report(&self::drives(2), &acts, Instant::now())
    };

    let patient = drives(Duration::from_millis(5));
    for drive in &patient {
        drive.ask();
        while !drive.is_shut() {
            std::thread::yield_now();
        }
    }
    let serial = report(&patient);
    assert_eq!(serial.order, GuestOrder::Serial);
    assert!(serial.handshake_sum_ns >= 10 * MS && serial.span_ns >= serial.handshake_sum_ns);
    for device in &serial.devices {
        let handshake = device.handshake.unwrap();
        assert!(handshake.seen_ns >= handshake.completed_ns && handshake.polls >= 1);
    }

    // Nobody sees the end of these, but both were looked at while both were under way.
    let hurried = drives(Duration::from_secs(3600));
    for drive in &hurried {
        drive.ask();
    }
    assert!(!hurried[0].is_shut() && !hurried[1].is_shut());
    let parallel = report(&hurried);
    assert_eq!(
        (parallel.order, parallel.overlap),
        (GuestOrder::Parallel, None)
    );
}
