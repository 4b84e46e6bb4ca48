//! Opening: what devices share, which interface is taken, and what a user is told who cannot have a device.

use std::fs;
use std::sync::atomic::Ordering;

use super::*;
use crate::client::{Client, IrqType, region};
use crate::vfio::DmaTally;
use crate::vfio::ioctls::IovaRange;
use crate::vfio::opening::Patience;

#[test]
fn devices_of_several_groups_share_one_container_and_memory_is_mapped_once() {
    let scene = Scene::with(&[
        ("0000:01:00.0", 7),
        ("0000:02:00.0", 8),
        ("0000:02:00.1", 8),
    ]);
    let devices: Vec<_> = ["0000:01:00.0", "0000:02:00.0", "0000:02:00.1"]
        .map(|address| scene.open(address).unwrap())
        .into();
    assert_eq!(scene.script.count("SetContainer"), 2);
    assert_eq!(scene.script.count("SetIommu"), 1);
    assert_eq!(scene.script.count("MapDma"), 1);
    assert_eq!(scene.script.assigned(), ["+7", "+8"]);
    let DmaTally {
        bytes,
        ranges,
        maps,
        ..
    } = scene.vfio.dma();
    assert_eq!((bytes, ranges, maps), (1 << 20, 1, 1));

    // A group goes with its last device, and the container with the last group: memory is mapped anew then.
    devices.iter().for_each(|device| device.release());
    assert_eq!(scene.script.assigned(), ["+7", "+8", "-7", "-8"]);
    scene.open("0000:01:00.0").unwrap();
    assert_eq!(scene.vfio.dma().maps, 2);
}

#[test]
fn memory_is_mapped_by_regions_and_large_ones_in_pieces() {
    let memory = [(0, 0xC000_0000), (1 << 32, 0x2000_0000)];
    let scene = Scene::new(IommuBackend::Group, &memory);
    scene.host.device("0000:01:00.0", 7, Some("vfio-pci"));
    let _device = scene.open("0000:01:00.0").unwrap();
    let tally = scene.vfio.dma();
    assert_eq!((tally.bytes, tally.ranges, tally.maps), (0xE000_0000, 4, 4));
}

#[test]
fn iommufd_is_taken_where_it_is_and_groups_where_they_are_wanted() {
    for (backend, maps, map_dmas) in [
        (IommuBackend::Auto, 1, 0),
        (IommuBackend::Iommufd, 1, 0),
        (IommuBackend::Group, 0, 1),
    ] {
        let scene = Scene::new(backend, &[(0, 1 << 20)]);
        for (number, address) in ["0000:01:00.0", "0000:02:00.0"].into_iter().enumerate() {
            scene.host.device(address, number as u32, Some("vfio-pci"));
            scene.host.node(address, &format!("vfio{number}"));
        }
        // Its own node stands for the device too.
        for node in ["vfio0", "vfio1"] {
            let node = scene.host.roots().dev.join("vfio/devices").join(node);
            fs::write(node, [0; 0x100]).unwrap();
        }
        let first = scene.open("0000:01:00.0").unwrap();
        let _second = scene.open("0000:02:00.0").unwrap();
        assert_eq!(scene.script.count("IoasMap"), maps, "{backend:?}");
        assert_eq!(scene.script.count("BindIommufd"), 2 * maps, "{backend:?}");
        assert_eq!(scene.script.count("MapDma"), map_dmas, "{backend:?}");
        if maps > 0 {
            first.release();
            assert_eq!(scene.script.assigned(), ["+vfio0", "+vfio1", "-vfio0"]);
        }
    }
}

#[test]
fn iommufd_that_is_wanted_and_not_there_is_refused() {
    let scene = Scene::new(IommuBackend::Iommufd, &[(0, 1 << 20)]);
    scene.host.device("0000:01:00.0", 7, Some("vfio-pci"));
    let text = scene.refusal("0000:01:00.0");
    assert!(text.contains("CONFIG_VFIO_DEVICE_CDEV"), "{text}");
}

#[test]
fn a_device_in_use_comes_with_the_command_that_finds_who_uses_it() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    scene.script.fail("Device", &[libc::EBUSY]);
    let text = scene.refusal("0000:01:00.0");
    assert!(text.contains("`fuser -v /dev/vfio/7`"), "{text}");
    scene.script.fail("SetContainer", &[libc::EBUSY]);
    let text = scene.refusal("0000:01:00.0");
    assert!(text.contains("`fuser -v /dev/vfio/7`"), "{text}");
    // Nothing is left of what failed.
    assert_eq!(scene.script.assigned(), ["+7", "-7"]);
    scene.open("0000:01:00.0").unwrap();
}

#[test]
fn an_opening_that_is_put_off_is_tried_again() {
    for (node, call) in [
        (false, "Open"),
        (false, "Device"),
        (true, "Open"),
        (true, "BindIommufd"),
    ] {
        let scene = Scene::with(&[("0000:01:00.0", 7)]);
        if node {
            scene.host.node("0000:01:00.0", "vfio0");
            let node = scene.host.roots().dev.join("vfio/devices/vfio0");
            fs::write(node, [0; 0x100]).unwrap();
            // The first node of all is that of iommufd, which nobody resets.
            if call == "Open" {
                scene.script.fail(call, &[0]);
            }
        }
        scene.script.fail(call, &[libc::EAGAIN, libc::EAGAIN]);
        let device = scene.open("0000:01:00.0").unwrap();
        assert_eq!(device.gone(), None);
        assert!(scene.script.count(call) >= 3, "{call}");
    }
}

#[test]
fn an_opening_that_is_put_off_for_long_is_an_error_that_says_so() {
    for (node, call) in [(false, "Device"), (true, "BindIommufd")] {
        let scene = Scene::with(&[("0000:01:00.0", 7)]);
        if node {
            scene.host.node("0000:01:00.0", "vfio0");
        }
        scene.script.fail(call, &[libc::EAGAIN; 1000]);
        let path = HostPath::parse("0000:01:00.0").unwrap();
        let patience = Patience::new(Duration::from_millis(20), None);
        let error = scene
            .vfio
            .open_with(&path, Arc::<Notes>::default(), patience);
        let text = error.err().unwrap().to_string();
        assert!(text.contains("puts its opening off"), "{text}");
        let shown = if node {
            "vfio/devices/vfio0"
        } else {
            "/dev/vfio/7"
        };
        assert!(text.contains(shown), "{text}");
        // Not for as long as it would have taken.
        assert!(scene.script.count(call) < 1000);
    }
}

#[test]
fn memory_that_cannot_be_locked_is_said_to_be_and_another_try_may_work() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    for (limit, advice) in [
        // What is needed in KiB, with 64 MiB for what else is locked.
        (8 << 20, "is 8192 KiB (RLIMIT_MEMLOCK)"),
        (8 << 20, "`ulimit -l 66560`"),
        (1 << 30, "`free -m`"),
    ] {
        scene.script.locked_memory.store(limit, Ordering::Relaxed);
        scene.script.fail("MapDma", &[libc::ENOMEM]);
        let text = scene.refusal("0000:01:00.0");
        assert!(text.contains("for DMA, 1048576 bytes: "), "{text}");
        assert!(text.contains(advice), "{text}");
    }
    scene.script.fail("MapDma", &[libc::EFAULT]);
    let text = scene.refusal("0000:01:00.0");
    assert!(
        text.contains("mapping guest memory at 0x0 for DMA"),
        "{text}"
    );
    scene.open("0000:01:00.0").unwrap();
    assert_eq!(scene.vfio.dma().maps, 5);
}

#[test]
fn a_group_that_the_kernel_does_not_give_names_those_that_use_it() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    scene.script.fail("SetContainer", &[libc::EPERM]);
    let text = scene.refusal("0000:01:00.0");
    assert!(text.contains("IOMMU group 7"), "{text}");
    scene.host.device("0000:01:00.1", 7, Some("snd_hda_intel"));
    let text = scene.refusal("0000:01:00.0");
    assert!(text.contains("0000:01:00.1 (snd_hda_intel)"), "{text}");
}

#[test]
fn without_vfio_the_command_that_loads_it_is_named() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    fs::remove_file(scene.host.roots().dev.join("vfio/7")).unwrap();
    let text = scene.refusal("0000:01:00.0");
    assert!(text.contains("/dev/vfio/7 is missing"), "{text}");
    assert!(text.contains("`modprobe vfio-pci`"), "{text}");
}

#[test]
fn memory_that_the_iommu_does_not_reach_is_refused_before_it_is_mapped() {
    let scene = Scene::new(IommuBackend::Auto, &[(0, 1 << 20), (1 << 40, 1 << 20)]);
    scene.host.device("0000:01:00.0", 7, Some("vfio-pci"));
    scene.host.node("0000:01:00.0", "vfio0");
    *scene.script.reach.lock().unwrap() = vec![IovaRange {
        first: 0,
        last: (1 << 39) - 1,
    }];
    let text = scene.refusal("0000:01:00.0");
    assert!(text.contains("at 0x10000000000 to 0x100000fffff"), "{text}");
    assert!(text.contains("but 0x0 to 0x7fffffffff"), "{text}");
    assert_eq!(scene.script.count("IoasMap"), 0);
}

#[test]
fn a_device_has_what_the_kernel_says_of_it() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    assert_eq!(device.name(), "0000:01:00.0");
    assert_eq!(device.region(0).size, script::BAR_SIZE);
    assert_eq!(device.region(region::ROM).size, 0);
    assert_eq!(device.region(99).size, 0);
    let irqs = [IrqType::Intx, IrqType::Msi, IrqType::Msix].map(|irq| device.irqs(irq));
    assert_eq!(irqs, [1, 8, 4]);
    device.write(0, 0x10, &[1, 2, 3, 4]).unwrap();
    let mut data = [0; 6];
    device.read(0, 0x0F, &mut data).unwrap();
    assert_eq!(data, [0x5A, 1, 2, 3, 4, 0x5A]);
    let mapping = device.map(0, device.region(0).areas[0]).unwrap();
    assert_eq!(mapping.size() as u64, script::BAR_SIZE);
    for (region, offset) in [(0, script::BAR_SIZE - 3), (0, u64::MAX), (5, 0), (99, 0)] {
        assert!(device.read(region, offset, &mut [0; 4]).is_err());
        assert!(device.write(region, offset, &[0; 4]).is_err());
    }
}

#[test]
fn devices_that_are_opened_side_by_side_wait_for_memory_and_map_it_once() {
    for node in [false, true] {
        let drives = [
            "0000:01:00.0",
            "0000:02:00.0",
            "0000:03:00.0",
            "0000:04:00.0",
        ];
        let scene = Scene::with(&[]);
        for (group, address) in drives.into_iter().enumerate() {
            scene.host.device(address, group as u32, Some("vfio-pci"));
            if node {
                let name = format!("vfio{group}");
                scene.host.node(address, &name);
                let node = scene.host.roots().dev.join("vfio/devices").join(name);
                fs::write(node, [0; 0x100]).unwrap();
            }
        }
        let call = if node { "IoasMap" } else { "MapDma" };
        let release = scene.script.hang(call);
        let devices: Vec<_> = std::thread::scope(|scope| {
            let scene = &scene;
            let open = |address| scope.spawn(move || scene.open(address).unwrap());
            let opening = drives.map(open);
            scene.script.wait_for(call);
            // What is known of memory is told all the while.
            assert_eq!(scene.vfio.dma().bytes, 0);
            assert!(opening.iter().all(|thread| !thread.is_finished()));
            drop(release);
            opening
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!((devices.len(), scene.script.count(call)), (4, 1));
        assert_eq!(scene.vfio.dma().maps, 1);
    }
}

#[test]
fn a_device_is_opened_once() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    let text = scene.refusal("0000:01:00.0");
    assert!(text.contains("this machine has it already"), "{text}");
    device.release();
    scene.open("0000:01:00.0").unwrap();
}

#[test]
fn a_device_whose_alarms_the_kernel_refuses_works_without_them() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let notes = Arc::default();
    scene.script.fail("SetIrqs", &[libc::EINVAL, libc::EINVAL]);
    let device = scene.open_for("0000:01:00.0", &notes).unwrap();
    assert!(
        notes.all()[0].contains("when the host wants it back"),
        "{:?}",
        notes.all()
    );
    device.read(0, 0, &mut [0; 4]).unwrap();
}

#[test]
fn a_device_that_is_dropped_is_closed() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    drop(scene.open("0000:01:00.0").unwrap());
    assert_eq!(scene.script.open_devices(), 0);
    assert_eq!(scene.script.assigned(), ["+7", "-7"]);
}

#[test]
fn a_device_that_waits_for_another_ones_turn_is_asked_for_as_long_as_any() {
    let scene = Scene::with(&[("0000:01:00.0", 7), ("0000:02:00.0", 8)]);
    let patience = Duration::from_millis(300);
    let release = scene.script.hang("MapDma");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| scene.open("0000:01:00.0").map(drop));
        scene.script.wait_for("MapDma");
        // The second one is put off once its turn has come.
        scene.script.fail("Open", &[libc::EAGAIN, libc::EAGAIN]);
        let second = scope.spawn(|| {
            let path = HostPath::parse("0000:02:00.0").unwrap();
            let patience = Patience::new(patience, None);
            let notes = Arc::<Notes>::default();
            scene.vfio.open_with(&path, notes, patience).map(drop)
        });
        // Mapping memory takes longer than that.
        std::thread::sleep(patience + Duration::from_millis(50));
        drop(release);
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    });
}

#[test]
fn nothing_is_tried_beyond_the_deadline_of_a_teardown() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    scene.script.fail("Device", &[libc::EAGAIN; 2]);
    let path = HostPath::parse("0000:01:00.0").unwrap();
    let patience = Patience::new(LONG, Some(Deadline::after(Duration::ZERO)));
    let notes = Arc::<Notes>::default();
    assert!(scene.vfio.open_with(&path, notes, patience).is_err());
    assert_eq!(scene.script.count("Device"), 1);
}
