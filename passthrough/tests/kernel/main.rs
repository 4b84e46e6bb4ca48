//! NVMe drives that are bound to vfio-pci, through the kernel's true VFIO. Run where there are some, with their
//! addresses in `LAB_VFIO`: `kernel --ignored --test-threads=1`. `tests/tests/vfio.rs` does that in the lab host.

// A test may stop at the first surprise, and so may what it is made of.
#![allow(clippy::unwrap_used)]

mod drive;
mod host;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use devices::lifecycle::Deadline;
use passthrough::client::region;
use passthrough::vfio::{HostPath, IommuBackend, OpenError, Vfio, VfioDevice};
use passthrough::{Client, IrqType};

use drive::Drive;
use host::{Notes, addresses, bind, machine, unbind};

/// Longer than any of this takes.
const SOON: Duration = Duration::from_secs(20);

fn soon() -> Deadline {
    Deadline::after(SOON)
}

fn open_all(vfio: &Vfio) -> Vec<Arc<VfioDevice>> {
    let open = |path: &HostPath| vfio.open(path, Arc::new(Notes::default())).unwrap();
    addresses().iter().map(open).collect()
}

#[test]
#[ignore = "needs drives that are bound to vfio-pci"]
fn memory_is_mapped_once_and_all_drives_reach_it() {
    let (vfio, memory) = machine(IommuBackend::Auto);
    let devices = open_all(&vfio);
    let tally = vfio.dma();
    println!("{} devices, {tally:?}", devices.len());
    assert_eq!((tally.bytes, tally.ranges, tally.maps), (64 << 20, 1, 1));
    vfio.check_reset_sets().unwrap();
    for (number, device) in devices.into_iter().enumerate() {
        let mut drive = Drive::new(device, &memory, number);
        drive.start();
        drive.connect_msix();
        let serial = drive.identify();
        assert!(serial.starts_with("lab"), "{serial}");
    }
    assert_eq!(vfio.dma().maps, 1);
}

#[test]
#[ignore = "needs drives that are bound to vfio-pci"]
fn a_mapped_register_reads_as_a_trapped_one_and_the_msix_table_is_not_mapped() {
    let (vfio, _memory) = machine(IommuBackend::Auto);
    let device = &open_all(&vfio)[0];
    let mut capabilities = [0; 8];
    device.read(0, 0, &mut capabilities).unwrap();
    let mut version = [0; 4];
    device.read(0, 8, &mut version).unwrap();
    println!("{:?}", device.region(0));
    assert!(u32::from_le_bytes(version) >= 0x1_0000, "{version:x?}");

    let area = device.region(0).areas[0];
    assert_eq!(area.offset, 0);
    let mapped = device.map(0, area).unwrap();
    let register = mapped.as_ptr().cast::<u64>();
    assert_eq!(host::load(register), u64::from_le_bytes(capabilities));

    let table = drive::msix_table(device.as_ref());
    let areas = device.region(table.0).areas.iter();
    assert!(
        areas
            .clone()
            .all(|area| !(area.offset..area.offset + area.size).contains(&table.1))
    );
    assert_eq!(device.region(region::CONFIG).areas, []);
    assert!(device.irqs(IrqType::Msix) > 1);
}

#[test]
#[ignore = "needs drives that are bound to vfio-pci"]
fn resets_in_turn_and_at_once_stop_the_drives_and_keep_their_interrupts() {
    let (vfio, memory) = machine(IommuBackend::Auto);
    let devices = open_all(&vfio);
    let mut drives: Vec<_> = devices
        .iter()
        .enumerate()
        .map(|(number, device)| Drive::new(device.clone(), &memory, number))
        .collect();
    for drive in &mut drives {
        drive.connect_msix();
        drive.start();
        drive.identify();
        assert!(drive.is_enabled());
    }
    let start = Instant::now();
    for device in &devices {
        device.reset(soon()).unwrap();
    }
    let in_turn = start.elapsed();
    for drive in &mut drives {
        assert!(!drive.is_enabled());
        drive.start();
        // Through the eventfds that were connected before the reset.
        drive.identify();
    }
    let start = Instant::now();
    thread::scope(|scope| {
        for device in &devices {
            scope.spawn(|| device.reset(soon()).unwrap());
        }
    });
    let at_once = start.elapsed();
    println!(
        "{} resets: {in_turn:?} in turn, {at_once:?} at once",
        devices.len()
    );
    for drive in &drives {
        assert!(!drive.is_enabled());
    }
}

#[test]
#[ignore = "needs drives that are bound to vfio-pci"]
fn the_pin_masks_itself_until_the_guest_has_ended_its_interrupt() {
    let (vfio, memory) = machine(IommuBackend::Auto);
    let device = open_all(&vfio).swap_remove(0);
    let mut drive = Drive::new(device, &memory, 0);
    drive.start();
    drive.connect_pin();
    // Its completion is not taken yet: the pin stays asserted.
    drive.submit_identify();
    assert!(drive.interrupted(SOON));
    assert!(!drive.interrupted(Duration::from_millis(100)));
    drive.end_interrupt();
    assert!(
        drive.interrupted(SOON),
        "asserted still, it interrupts again"
    );
    drive.take_completion();
    drive.end_interrupt();
    assert!(!drive.interrupted(Duration::from_millis(100)));
    // As often as wanted; and nothing once it is turned off.
    drive.identify();
    drive.end_interrupt();
    drive.disconnect_pin();
    drive.submit_identify();
    assert!(!drive.interrupted(Duration::from_millis(100)));
}

#[test]
#[ignore = "needs drives that are bound to vfio-pci"]
fn a_device_in_use_is_busy_for_another_machine() {
    let (first, _memory) = machine(IommuBackend::Auto);
    let path = addresses()[0];
    let device = first.open(&path, Arc::new(Notes::default())).unwrap();
    let (second, _memory) = machine(IommuBackend::Auto);
    let error = second.open(&path, Arc::new(Notes::default()));
    let error = error.err().unwrap();
    println!("{error}");
    assert!(matches!(error, OpenError::Busy { .. }), "{error}");
    device.release();
    second.open(&path, Arc::new(Notes::default())).unwrap();
}

#[test]
#[ignore = "needs drives that are bound to vfio-pci"]
fn a_device_whose_driver_is_unbound_leaves_and_comes_back_when_it_is_bound() {
    let (vfio, memory) = machine(IommuBackend::Auto);
    let notes = Arc::new(Notes::default());
    let path = addresses()[0];
    let device = vfio.open(&path, notes.clone()).unwrap();
    let other = vfio
        .open(&addresses()[1], Arc::new(Notes::default()))
        .unwrap();
    let mapped = device.map(0, device.region(0).areas[0]).unwrap();
    let mut drive = Drive::new(device.clone(), &memory, 0);
    drive.connect_msix();
    drive.start();
    drive.identify();

    let unbinding = thread::spawn(move || unbind(path));
    assert!(notes.wait_for("gone", SOON));
    println!("gone: {:?}", device.gone());
    assert!(device.read(0, 0, &mut [0; 4]).is_err());
    unbinding.join().unwrap();
    // The mapping did not keep the host waiting; the guest, which may have it still, sees that nobody is there.
    assert_eq!(host::load(mapped.as_ptr().cast()), u64::MAX);
    drop(mapped);
    assert!(device.is_quiet(false));
    let error = device.revive(soon()).unwrap_err().to_string();
    assert!(error.contains("drivers_probe"), "{error}");
    // The others go on.
    let mut neighbour = Drive::new(other, &memory, 1);
    neighbour.connect_msix();
    neighbour.start();
    neighbour.identify();

    bind(path);
    device.revive(soon()).unwrap();
    assert_eq!(device.gone(), None);
    assert!(notes.wait_for("back", SOON));
    drive.connect_msix();
    drive.start();
    assert!(drive.identify().starts_with("lab"));
}
