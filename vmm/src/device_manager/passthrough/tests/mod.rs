//! What becomes of devices that are passed through, with devices that are played. The machine around them needs KVM.

mod client;

use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex};

use api::error::{ApiError, ErrorCode};
use api::report::Outcome;
use api::state::TopologyNode;
use devices::lifecycle::{Deadline, Phases};
use devices::memory::GuestMemory;
use kvm_ioctls::Kvm;
use passthrough::vfio::OpenError;
use passthrough::vfio_user;
use serde_json::json;
use vm_memory::GuestMemoryBackend;

use super::*;
use crate::device_manager::DeviceManager;
use crate::device_manager::teardown::Target;
use crate::direct_map::DirectMap;
use crate::interrupts::InterruptRouting;
use crate::mailbox::Mailbox;
use client::Played;

/// A machine's devices, those that are played, and whose they are.
struct Built {
    manager: DeviceManager,
    played: Vec<Arc<Played>>,
    mark: Arc<Devices>,
}

/// `count` devices, `d0` and so on, that are given back together; none where the host has no KVM.
fn built(count: usize, on_timeout: &str) -> Option<Built> {
    let Ok(kvm) = Kvm::new() else {
        eprintln!("this host has no KVM: not tested");
        return None;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    vm.create_irq_chip().unwrap();
    let devices = (0..count).map(|n| {
        json!({ "type": "vfio-user", "id": format!("d{n}"), "socket": format!("/{n}"), "on_timeout": on_timeout })
    });
    let config = json!({ "payload": { "kernel": "k" }, "pci": devices.collect::<Vec<_>>() });
    let config = VmConfig::from_json(config.to_string().as_bytes()).unwrap();
    let ram = crate::memory::create(&config.memory).unwrap();
    let host = Host {
        vm: vm.clone(),
        memory: GuestMemory::of_ram(&ram),
        mapper: Arc::new(DirectMap::new(vm.clone(), ram.num_regions(), 32)),
        ram,
        routing: Arc::new(InterruptRouting::new(vm).unwrap()),
        events: Arc::new(Mailbox::new().unwrap()),
        mmio64: (1 << 32, 1 << 30),
    };
    let releases = Arc::new((Mutex::new(0), Condvar::new(), count));
    let played: Vec<_> = (0..count)
        .map(|n| Played::new(&format!("/{n}"), releases.clone()))
        .collect();
    let opened = played.iter().enumerate().map(|(n, client)| {
        let opened = Opened {
            client: client.clone(),
            field: format!("pci[{n}].socket"),
            // The first two share a slot.
            set: (n < 2).then(|| ResetSet {
                name: "slot 0000:03:00".to_owned(),
                members: vec!["0000:03:00.0".to_owned(), "0000:03:00.1".to_owned()],
            }),
        };
        (format!("d{n}"), opened)
    });
    let mark = Arc::new(Devices::default());
    let passthrough = Passthrough {
        vfio: OnceLock::new(),
        mark: mark.clone(),
        passed: HashMap::new(),
    };
    let opened = opened.collect();
    let built = DeviceManager::build_with(&config, &host, passthrough, opened);
    let (manager, _) = built.map_err(ApiError::from).unwrap();
    assert_eq!(manager.reset_sets(&config).len(), usize::from(count > 1));
    Some(Built {
        manager,
        played,
        mark,
    })
}

impl Built {
    fn node(&self, at: usize) -> TopologyNode {
        self.manager.topology().pci.swap_remove(at)
    }

    /// The device goes, and whoever observes it says so.
    fn lose(&mut self, at: usize) -> bool {
        *self.played[at].gone.lock().unwrap() = Some("unplugged".to_owned());
        let news = DeviceNews::Gone("unplugged".to_owned());
        self.manager.note(&self.mark, &format!("d{at}"), &news)
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
fn one_that_is_gone_is_the_guests_again_after_a_teardown_that_found_it_back() {
    let Some(mut built) = built(1, "quarantine") else {
        return;
    };
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
    assert!(built.manager.note(&built.mark, "d0", &DeviceNews::Back));
    assert!(built.node(0).quarantined, "until the guest boots");
    let outcome = built.shut_down(0);
    assert_eq!(outcome, Outcome::Done);
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert_eq!(verdict.readmitted, ["d0"]);
    let node = built.node(0);
    assert!(!node.quarantined && node.passthrough.unwrap().gone.is_none());
}

#[test]
fn one_that_is_gone_once_more_stays_away() {
    let Some(mut built) = built(1, "quarantine") else {
        return;
    };
    built.lose(0);
    *built.played[0].gone.lock().unwrap() = None;
    let outcome = built.shut_down(0);
    assert_eq!(outcome, Outcome::Done);
    built.lose(0);
    let verdict = built.manager.judge([("d0", &outcome)].into_iter());
    assert!(verdict.readmitted.is_empty() && built.node(0).quarantined);
}

#[test]
fn one_that_is_not_quiet_keeps_the_machine_stopped_until_it_is() {
    let Some(mut built) = built(2, "quarantine") else {
        return;
    };
    built.lose(1);
    *built.played[1].quiet.lock().unwrap() = false;
    let outcome = built.shut_down(1);
    let verdict = built.manager.judge([("d1", &outcome)].into_iter());
    let [stuck] = &verdict.stuck[..] else {
        panic!("{verdict:?}");
    };
    assert!(stuck.may_end && stuck.ended == "could not be shut down");
    assert!(!built.manager.has_become_quiet(stuck));
    *built.played[1].quiet.lock().unwrap() = true;
    assert!(built.manager.has_become_quiet(stuck));
    assert!(built.node(1).quarantined && !built.node(0).quarantined);
}

#[test]
fn one_that_the_machine_is_to_stop_for_is_not_asked_whether_it_is_quiet() {
    let Some(mut built) = built(1, "stop") else {
        return;
    };
    let verdict = built
        .manager
        .judge([("d0", &Outcome::TimedOut)].into_iter());
    let [stuck] = &verdict.stuck[..] else {
        panic!("{verdict:?}");
    };
    assert!(!stuck.may_end && stuck.ended == "was not shut down by its deadline");
    assert!(!built.manager.has_become_quiet(stuck));
}

#[test]
fn one_whose_call_was_given_up_is_called_again_once_that_has_returned() {
    let Some(mut built) = built(1, "quarantine") else {
        return;
    };
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
fn news_of_another_machines_devices_are_dropped() {
    let Some(mut built) = built(1, "quarantine") else {
        return;
    };
    let news = DeviceNews::Gone("unplugged".to_owned());
    assert!(!built.manager.note(&Devices::default(), "d0", &news));
    assert!(!built.manager.note(&built.mark, "d1", &news));
    assert!(!built.node(0).quarantined);
}

#[test]
fn devices_are_given_back_side_by_side() {
    let Some(Built {
        manager, played, ..
    }) = built(3, "quarantine")
    else {
        return;
    };
    // Each waits for the others.
    drop(manager);
    assert_eq!(*played[0].releases.0.lock().unwrap(), 3);
}

#[test]
fn those_that_are_reset_together_are_named_once() {
    let Some(built) = built(3, "quarantine") else {
        return;
    };
    let set = "slot 0000:03:00";
    assert_eq!(built.manager.reset_set("d1").as_deref(), Some(set));
    assert_eq!(built.manager.reset_set("d2"), None);
    let node = built.node(0).passthrough.unwrap();
    assert_eq!(node.reset_set.as_deref(), Some(set));
}

#[test]
fn an_error_names_the_device_its_field_and_what_kind_it_is() {
    let told = |error: PassthroughError| {
        let error = ApiError::from(error);
        assert_eq!(error.device.as_deref(), Some("v"), "{error}");
        assert!(error.message.contains("device `v`: "), "{error}");
        (error.code, error.field.unwrap())
    };
    let vfio = |source| {
        told(PassthroughError::Vfio {
            id: "v".to_owned(),
            field: "pci[0].path".to_owned(),
            source: Box::new(source),
        })
    };
    let device = || "0000:01:00.0".to_owned();
    let field = || "pci[0].path".to_owned();
    assert_eq!(
        vfio(OpenError::NoIommu { device: device() }),
        (ErrorCode::BadHostDevice, field())
    );
    let node = "/dev/vfio/1".to_owned();
    let busy = OpenError::Busy {
        device: device(),
        node,
    };
    assert_eq!(vfio(busy), (ErrorCode::HostDeviceBusy, field()));
    let user = PassthroughError::VfioUser {
        id: "v".to_owned(),
        field: "pci[0].socket".to_owned(),
        source: Box::new(vfio_user::OpenError::Absent("/s".into())),
    };
    assert_eq!(
        told(user),
        (ErrorCode::FileMissing, "pci[0].socket".to_owned())
    );
}
