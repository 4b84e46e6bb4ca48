//! What becomes of devices that are passed through, with devices that are played. The machine around them needs KVM.

mod client;
mod error;
mod resets;

use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex};

use api::error::ApiError;
use api::report::Outcome;
use api::state::TopologyNode;
use devices::lifecycle::{Deadline, Phases};
use devices::memory::GuestMemory;
use devices::pci::PciFunction;
use kvm_ioctls::Kvm;
use serde_json::json;
use vm_memory::GuestMemoryBackend;

use super::*;
use crate::device_manager::teardown::Target;
use crate::device_manager::{DeviceManager, Noted, Until};
use crate::direct_map::DirectMap;
use crate::interrupts::InterruptRouting;
use crate::mailbox::{Mailbox, Message};
use client::{PATIENCE, Played};

/// A machine's devices, those that are played, and whose they are.
struct Built {
    config: VmConfig,
    manager: DeviceManager,
    played: Vec<Arc<Played>>,
    mark: Arc<Devices>,
    mailbox: Arc<Mailbox>,
}

/// `count` devices, `d0` and so on, that are given back together.
fn built(count: usize, on_timeout: &str) -> Built {
    let kvm = Kvm::new().expect("this test needs KVM: /dev/kvm, readable and writable");
    let vm = Arc::new(kvm.create_vm().unwrap());
    vm.create_irq_chip().unwrap();
    let devices = (0..count).map(|n| {
        json!({ "type": "vfio-user", "id": format!("d{n}"), "socket": format!("/{n}"), "on_timeout": on_timeout })
    });
    let config = json!({ "payload": { "kernel": "k" }, "pci": devices.collect::<Vec<_>>() });
    let config = VmConfig::from_json(config.to_string().as_bytes()).unwrap();
    let (mailbox, mark) = (Arc::new(Mailbox::new().unwrap()), Arc::<Devices>::default());
    let ram = crate::memory::create(&config.memory).unwrap();
    let host = Host {
        vm: vm.clone(),
        memory: GuestMemory::of_ram(&ram),
        mapper: Arc::new(DirectMap::new(vm.clone(), ram.num_regions(), 32)),
        ram,
        routing: Arc::new(InterruptRouting::new(vm).unwrap()),
        events: mailbox.clone(),
        mmio64: (1 << 32, 1 << 30),
    };
    let releases = Arc::new((Mutex::new(0), Condvar::new(), count));
    let played: Vec<_> = (0..count)
        .map(|n| Played::new(&format!("/{n}"), releases.clone()))
        .collect();
    let opened = played.iter().enumerate().map(|(n, client)| {
        let watch = Watch {
            of: mark.clone(),
            id: format!("d{n}"),
            mailbox: mailbox.clone(),
        };
        let opened = Opened {
            client: client.clone(),
            watch: Arc::new(watch),
            field: format!("pci[{n}].socket"),
            // The first two share a slot.
            set: (n < 2).then(|| ResetSet {
                name: "slot 0000:03:00".to_owned(),
                members: vec!["0000:03:00.0".to_owned(), "0000:03:00.1".to_owned()],
            }),
        };
        (format!("d{n}"), opened)
    });
    let passthrough = Passthrough {
        vfio: OnceLock::new(),
        mark: mark.clone(),
        passed: HashMap::new(),
    };
    let opened: HashMap<_, _> = opened.collect();
    let built = DeviceManager::build_with(&config, &host, passthrough, opened);
    let (manager, _) = built.map_err(ApiError::from).unwrap();
    Built {
        config,
        manager,
        played,
        mark,
        mailbox,
    }
}

impl Built {
    fn node(&self, at: usize) -> TopologyNode {
        self.manager.topology().pci.swap_remove(at)
    }

    /// The device goes, and whoever observes it says so.
    fn lose(&mut self, at: usize) -> bool {
        *self.played[at].gone.lock().unwrap() = Some("unplugged".to_owned());
        let news = DeviceNews::Gone("unplugged".to_owned());
        let noted = self.manager.note(&self.mark, &format!("d{at}"), &news);
        noted.is_news
    }

    /// Deals with the next news that somebody tells the main thread.
    fn hear(&mut self) -> (DeviceNews, Noted) {
        let started = std::time::Instant::now();
        loop {
            if let Some(Message::Device { of, id, news }) = self.mailbox.take() {
                let noted = self.manager.note(&of, &id, &news);
                return (news, noted);
            }
            assert!(started.elapsed() < PATIENCE, "nobody says anything");
            thread::yield_now();
        }
    }

    fn function(&self, at: usize) -> Arc<Function> {
        self.manager.passthrough.passed[&format!("d{at}")]
            .function
            .clone()
    }

    fn shut_down(&self, at: usize) -> Outcome {
        let by = Deadline::after(std::time::Duration::from_secs(30));
        let number = self.manager.list().find(&format!("d{at}")).unwrap();
        let targets = &self.manager.targets;
        match targets.shut_down(number, by, &mut Phases::default()) {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed {
                error: error.to_string(),
            },
        }
    }
}

#[test]
#[ignore = "needs KVM"]
fn those_that_failed_are_asked_side_by_side_whether_they_are_quiet() {
    let mut built = built(3, "quarantine");
    // Each waits for the others.
    let meeting = Arc::new((Mutex::new(0), Condvar::new(), 3));
    for played in &built.played {
        *played.asked.lock().unwrap() = Some(Arc::clone(&meeting));
    }
    let ended = ["d0", "d1", "d2"].map(|id| (id, &Outcome::TimedOut));
    let verdict = built.manager.judge(ended.into_iter());
    assert_eq!(verdict.quarantined, ["d0", "d1", "d2"]);
}

#[test]
#[ignore = "needs KVM"]
fn one_that_is_gone_is_the_guests_again_after_a_teardown_that_found_it_back() {
    let mut built = built(1, "quarantine");
    assert!(!built.node(0).quarantined);
    assert!(built.lose(0), "it is news");
    let node = built.node(0);
    assert!(node.quarantined);
    assert_eq!(node.passthrough.unwrap().gone.as_deref(), Some("unplugged"));
    assert!(!built.lose(0), "it is told once");

    let outcome = built.shut_down(0);
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert_eq!(verdict.failed.len(), 1);
    assert!(verdict.failed[0].1.contains("unplugged"), "{outcome:?}");
    assert!(verdict.quarantined.is_empty(), "it was so before");
    assert!(verdict.stuck.is_empty() && built.node(0).quarantined);

    *built.played[0].gone.lock().unwrap() = None;
    let noted = built.manager.note(&built.mark, "d0", &DeviceNews::Back);
    assert!(noted.is_news);
    assert!(built.node(0).quarantined, "until the guest boots");
    let outcome = built.shut_down(0);
    assert_eq!(outcome, Outcome::Done);
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert_eq!(verdict.readmitted, ["d0"]);
    assert!(verdict.back.is_empty(), "its client has said so");
    let node = built.node(0);
    assert!(!node.quarantined && node.passthrough.unwrap().gone.is_none());
}

#[test]
#[ignore = "needs KVM"]
fn one_whose_reset_by_the_guest_failed_is_told_of_and_is_back_after_a_teardown() {
    let mut built = built(1, "quarantine");
    *built.played[0].resets_fail.lock().unwrap() = true;
    let bus = built.manager.root_complex.bus().clone();
    bus.find("d0").unwrap().function().bus_reset();
    let (news, noted) = built.hear();
    let DeviceNews::Gone(reason) = &news else {
        panic!("{news:?}");
    };
    assert!(reason.contains("the guest asked for failed"), "{reason}");
    assert!(noted.is_news && noted.is_quarantined && built.node(0).quarantined);

    *built.played[0].resets_fail.lock().unwrap() = false;
    assert_eq!(built.shut_down(0), Outcome::Done);
    let verdict = built.manager.judge([("d0", &Outcome::Done)].into_iter());
    assert_eq!(
        (verdict.readmitted, verdict.back),
        (vec!["d0".to_owned()], vec!["d0".to_owned()])
    );
    assert!(!built.node(0).quarantined);
    let again = built.manager.judge([("d0", &Outcome::Done)].into_iter());
    assert!(again.back.is_empty(), "it is told once");
}

#[test]
#[ignore = "needs KVM"]
fn news_of_a_loss_that_come_after_the_device_is_back_are_told_and_nothing_else() {
    let mut built = built(1, "quarantine");
    let function = built.function(0);
    *built.played[0].gone.lock().unwrap() = Some("unplugged".to_owned());
    assert_eq!(function.read_config(0), u32::MAX);
    *built.played[0].gone.lock().unwrap() = None;
    assert_eq!(built.shut_down(0), Outcome::Done);
    let news = DeviceNews::Gone("unplugged".to_owned());
    let noted = built.manager.note(&built.mark, "d0", &news);
    assert!(noted.is_news && !noted.is_quarantined);
    assert!(!built.node(0).quarantined && !function.is_lost());
}

#[test]
#[ignore = "needs KVM"]
fn one_that_is_gone_once_more_stays_away() {
    let mut built = built(1, "quarantine");
    built.lose(0);
    *built.played[0].gone.lock().unwrap() = None;
    let outcome = built.shut_down(0);
    assert_eq!(outcome, Outcome::Done);
    built.lose(0);
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert!(verdict.readmitted.is_empty() && built.node(0).quarantined);
}

#[test]
#[ignore = "needs KVM"]
fn one_that_is_not_quiet_keeps_the_machine_stopped_until_it_is() {
    let mut built = built(2, "quarantine");
    built.lose(1);
    *built.played[1].quiet.lock().unwrap() = false;
    let outcome = built.shut_down(1);
    let verdict = built.manager.judge([("d1", &outcome)].into_iter());
    let [stuck] = &verdict.stuck[..] else {
        panic!("{verdict:?}");
    };
    assert_eq!(stuck.until, Some(Until::Quiet));
    assert_eq!(stuck.ended, "could not be shut down");
    let left_out = built.manager.leave_out(stuck);
    assert!(!left_out.is_quiet && !left_out.is_quarantined);
    *built.played[1].quiet.lock().unwrap() = true;
    let left_out = built.manager.leave_out(stuck);
    assert!(left_out.is_quiet);
    assert!(
        !left_out.is_quarantined,
        "it is since it was gone, which was told"
    );
    assert!(built.node(1).quarantined && !built.node(0).quarantined);
}

#[test]
#[ignore = "needs KVM"]
fn one_that_the_machine_is_to_stop_for_is_asked_whether_it_is_quiet_and_left_out_by_a_boot() {
    let mut built = built(1, "stop");
    // Asked, it is ended where it is fenced.
    *built.played[0].quiet.lock().unwrap() = false;
    let timed_out = [("d0", &Outcome::TimedOut)];
    let verdict = built.manager.judge(timed_out.into_iter());
    let [stuck] = &verdict.stuck[..] else {
        panic!("{verdict:?}");
    };
    assert_eq!(stuck.until, Some(Until::Quiet));
    assert_eq!(stuck.ended, "was not shut down by its deadline");
    assert!(!built.manager.leave_out(stuck).is_quiet);

    *built.played[0].quiet.lock().unwrap() = true;
    let verdict = built.manager.judge(timed_out.into_iter());
    let [stuck] = &verdict.stuck[..] else {
        panic!("{verdict:?}");
    };
    assert_eq!(stuck.until, Some(Until::Asked), "it stops all the same");
    assert!(!built.node(0).quarantined);
    let left_out = built.manager.leave_out(stuck);
    assert!(left_out.is_quiet && left_out.is_quarantined);
    assert!(built.node(0).quarantined);

    // The boot begins with a teardown, which does not find it.
    built.lose(0);
    let outcome = built.shut_down(0);
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert!(verdict.stuck.is_empty(), "{verdict:?}");
    assert_eq!(verdict.failed.len(), 1);

    // Once the guest has it again, the machine is to stop for it again.
    *built.played[0].gone.lock().unwrap() = None;
    let outcome = built.shut_down(0);
    assert_eq!(outcome, Outcome::Done);
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert_eq!(verdict.readmitted, ["d0"]);
    let verdict = built.manager.judge(timed_out.into_iter());
    assert_eq!(verdict.stuck.len(), 1);
}

#[test]
#[ignore = "needs KVM"]
fn one_whose_call_was_given_up_is_called_again_once_that_has_returned() {
    let mut built = built(1, "quarantine");
    let (begun, has_begun) = channel();
    let (go_on, goes_on) = channel();
    *built.played[0].hold.lock().unwrap() = Some((begun, goes_on));
    let number = built.manager.list().find("d0").unwrap();
    let targets = built.manager.targets.clone();
    let call = thread::spawn(move || {
        let by = Deadline::after(std::time::Duration::from_secs(30));
        targets
            .shut_down(number, by, &mut Phases::default())
            .map(drop)
    });
    has_begun.recv().unwrap();
    let verdict = built
        .manager
        .judge([("d0", &Outcome::TimedOut)].into_iter());
    assert_eq!(verdict.quarantined, ["d0"]);

    let outcome = built.shut_down(0);
    assert!(matches!(&outcome, Outcome::Failed { error } if error.contains("given up")));
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert!(verdict.readmitted.is_empty() && verdict.stuck.is_empty());
    assert!(built.node(0).quarantined);

    go_on.send(()).unwrap();
    call.join().unwrap().unwrap();
    let outcome = built.shut_down(0);
    assert_eq!(outcome, Outcome::Done);
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert_eq!(verdict.readmitted, ["d0"]);
    assert!(!built.node(0).quarantined);
}

#[test]
#[ignore = "needs KVM"]
fn news_of_another_machines_devices_are_dropped() {
    let mut built = built(1, "quarantine");
    let news = DeviceNews::Gone("unplugged".to_owned());
    let nothing = Noted::default();
    assert_eq!(
        built.manager.note(&Devices::default(), "d0", &news),
        nothing
    );
    assert_eq!(built.manager.note(&built.mark, "d1", &news), nothing);
    assert!(!built.node(0).quarantined);
}

#[test]
#[ignore = "needs KVM"]
fn devices_are_given_back_side_by_side() {
    let Built {
        manager, played, ..
    } = built(3, "quarantine");
    // Each waits for the others.
    drop(manager);
    assert_eq!(*played[0].releases.0.lock().unwrap(), 3);
}
