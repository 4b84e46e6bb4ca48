//! Masks, pending bits, routes and batches, by playing the guest; and no interrupt lost in races.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::pci::tests::fake::Router;

const TABLE: u64 = 0x2000;
const ENABLE: u32 = CONTROL_ENABLE;
const MASK: u32 = CONTROL_MASK;

fn msix(vectors: u16) -> (Msix, Arc<Router>) {
    let router = Arc::new(Router::default());
    let layout = MsixLayout::in_bar(0, TABLE as u32, vectors);
    (
        Msix::attach(vectors, layout, router.clone()).unwrap(),
        router,
    )
}

impl Msix {
    fn write32(&self, offset: u64, value: u32) {
        assert!(self.write(offset, &value.to_le_bytes()));
    }

    fn read32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        assert!(self.read(offset, &mut data));
        u32::from_le_bytes(data)
    }

    /// Writes an entry as a driver does: address and data while masked.
    fn program(&self, vector: u64, data: u32) {
        let entry = TABLE + vector * 16;
        self.write32(entry, 0xFEE0_1000);
        self.write32(entry + 4, 0);
        self.write32(entry + 8, data);
    }

    fn unmask(&self, vector: u64) {
        self.write32(TABLE + vector * 16 + 12, 0);
    }

    fn mask(&self, vector: u64) {
        self.write32(TABLE + vector * 16 + 12, 1);
    }

    fn set_control(&self, control: u32) {
        self.write_control(control, u32::MAX);
    }

    /// How many interrupts arrived since the last call.
    fn arrived(&self, vector: u16) -> u64 {
        self.event(vector).unwrap().read().unwrap_or(0)
    }

    fn is_pending(&self, vector: u16) -> bool {
        let register = u64::from(self.layout().pba) + u64::from(vector / 32) * 4;
        self.read32(register) >> (vector % 32) & 1 != 0
    }
}

#[test]
fn layout_keeps_table_and_pending_bits_in_pages_of_their_own() {
    let layout = MsixLayout::in_bar(0, 0x2000, 65);
    assert_eq!(
        layout,
        MsixLayout {
            bar: 0,
            table: 0x2000,
            pba: 0x3000
        }
    );
    let (msix, _) = msix(65);
    assert_eq!(msix.end(), 0x3010);
    let layout = MsixLayout::in_bar(4, 0x1001, u16::MAX);
    assert_eq!(
        layout,
        MsixLayout {
            bar: 4,
            table: 0x2000,
            pba: 0xA000
        }
    );
}

#[test]
fn a_driver_enables_programs_and_unmasks() {
    let (msix, router) = msix(4);
    msix.signal(1);
    assert!(!msix.enabled());
    msix.set_control(ENABLE | MASK);
    assert!(msix.enabled());
    msix.program(1, 0x31);
    msix.unmask(1);
    assert_eq!(router.changes(), 0, "the function is masked");
    msix.set_control(ENABLE);
    let message = MsiMessage {
        address: 0xFEE0_1000,
        data: 0x31,
    };
    assert_eq!(router.message(1), Some(message));
    assert_eq!(msix.arrived(1), 0, "a signal while off is none");
    msix.signal(1);
    msix.signal(1);
    assert_eq!(msix.arrived(1), 2);
}

#[test]
fn masked_vectors_become_pending_and_fire_once() {
    let (msix, router) = msix(40);
    msix.set_control(ENABLE);
    msix.program(33, 0x40);
    msix.signal(33);
    msix.signal(33);
    assert!(msix.is_pending(33));
    assert!(!msix.is_pending(32));
    assert_eq!(msix.arrived(33), 0);
    msix.unmask(33);
    assert!(!msix.is_pending(33));
    assert_eq!(msix.arrived(33), 1);

    msix.set_control(ENABLE | MASK);
    msix.signal(33);
    assert!(msix.is_pending(33));
    msix.mask(33);
    msix.set_control(ENABLE);
    assert_eq!(msix.arrived(33), 0);
    assert_eq!(router.changes(), 1, "masking changes no route");
    msix.unmask(33);
    assert_eq!(msix.arrived(33), 1);
    assert_eq!(router.changes(), 1, "the message is the same");
}

#[test]
fn unmasking_the_function_routes_all_vectors_at_once() {
    let (msix, router) = msix(64);
    msix.set_control(ENABLE | MASK);
    for vector in 0..64 {
        msix.program(vector, 0x30 + vector as u32);
        msix.unmask(vector);
    }
    msix.set_control(ENABLE);
    assert_eq!(router.changes(), 1);
    assert_eq!(
        router.message(63).map(|message| message.data),
        Some(0x30 + 63)
    );
    msix.reset();
    assert_eq!(router.changes(), 2);
    assert!((0..64).all(|route| router.message(route).is_none()));
    assert!(!msix.enabled());
    assert_eq!(msix.control(), 0);
    assert_eq!(msix.read32(TABLE), 0);
    assert_eq!(msix.read32(TABLE + 12), 1);
    msix.reset();
    assert_eq!(router.changes(), 2, "nothing to take away twice");
}

#[test]
fn a_message_moves_while_masked() {
    let (msix, router) = msix(1);
    msix.set_control(ENABLE);
    msix.program(0, 0x31);
    msix.unmask(0);
    msix.mask(0);
    msix.program(0, 0x32);
    assert_eq!(router.message(0).map(|message| message.data), Some(0x31));
    msix.signal(0);
    msix.unmask(0);
    assert_eq!(router.message(0).map(|message| message.data), Some(0x32));
    assert_eq!(msix.arrived(0), 1);
    // Unmasked, which the specification leaves open: at once.
    msix.write32(TABLE + 8, 0x33);
    assert_eq!(router.message(0).map(|message| message.data), Some(0x33));
}

#[test]
fn disabling_drops_what_is_pending() {
    let (msix, _) = msix(1);
    msix.set_control(ENABLE);
    msix.signal(0);
    msix.set_control(0);
    assert!(!msix.is_pending(0));
    msix.set_control(ENABLE);
    msix.unmask(0);
    assert_eq!(msix.arrived(0), 0);
}

#[test]
fn registers_take_bytes_words_and_quadwords() {
    let (msix, _) = msix(2);
    assert!(msix.write(TABLE + 16, &0x1122_3344_5566_7788_u64.to_le_bytes()));
    let mut data = [0; 8];
    assert!(msix.read(TABLE + 16, &mut data));
    assert_eq!(u64::from_le_bytes(data), 0x1122_3344_5566_7788);
    assert!(msix.write(TABLE + 25, &[0xAB]));
    assert_eq!(msix.read32(TABLE + 24), 0xAB00);
    assert!(msix.write(TABLE + 16, &[0xFF]));
    assert_eq!(
        msix.read32(TABLE + 16),
        0x5566_77FC,
        "addresses are multiples of 4"
    );
    msix.write32(TABLE + 28, u32::MAX);
    assert_eq!(msix.read32(TABLE + 28), 1);
    let pba = u64::from(msix.layout().pba);
    msix.write32(pba, u32::MAX);
    assert_eq!(msix.read32(pba), 0, "pending bits are read-only");
    assert!(!msix.read(TABLE - 4, &mut data));
    assert!(!msix.write(TABLE + 32, &data));
}

#[test]
fn release_detaches_once() {
    let (msix, router) = msix(3);
    msix.release();
    msix.release();
    msix.set_control(ENABLE);
    msix.unmask(0);
    msix.signal(0);
    assert_eq!(msix.arrived(0), 0);
    drop(msix);
    assert_eq!(router.detached.load(Ordering::Relaxed), 3);
    assert_eq!(router.changes(), 0);
}

#[test]
fn no_interrupt_is_lost_between_masking_and_signalling() {
    let (msix, _) = msix(1);
    msix.set_control(ENABLE);
    // The device sets a level and signals; the guest, whenever interrupted, reads the level.
    let level = AtomicU64::new(0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for value in 1..=20_000 {
                level.store(value, Ordering::Release);
                msix.signal(0);
            }
        });
        threads.spawn(|| {
            for round in 0..20_000 {
                match round % 4 {
                    0 => msix.mask(0),
                    1 => msix.unmask(0),
                    2 => msix.set_control(ENABLE | MASK),
                    _ => msix.set_control(ENABLE),
                }
            }
            msix.unmask(0);
        });
        let mut seen = 0;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while seen < 20_000 {
            if msix.arrived(0) > 0 {
                seen = level.load(Ordering::Acquire);
            }
            assert!(
                std::time::Instant::now() < deadline,
                "stuck at level {seen}"
            );
        }
    });
}

#[test]
fn a_connected_vector_signals_elsewhere_until_it_is_disconnected() {
    use std::os::fd::{FromRawFd, IntoRawFd};
    let (msix, _) = msix(2);
    msix.set_control(ENABLE);
    let elsewhere = EventFd::new(libc::EFD_NONBLOCK).unwrap();
    let theirs = elsewhere.try_clone().unwrap().into_raw_fd();
    // SAFETY: the descriptor was just given up by its owner.
    #[allow(unsafe_code)]
    let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
    msix.connect(1, Some(theirs));
    msix.signal(1);
    assert!(elsewhere.read().is_err(), "masked");
    assert!(msix.is_pending(1));
    msix.set_masked(1, false);
    assert_eq!(elsewhere.read().unwrap(), 1);
    msix.signal(1);
    assert_eq!(elsewhere.read().unwrap(), 1);
    assert_eq!(msix.arrived(1), 0);
    msix.connect(1, None);
    msix.signal(1);
    assert_eq!(msix.arrived(1), 1);
    msix.set_masked(1, true);
    msix.signal(1);
    assert_eq!(msix.arrived(1), 0);
    msix.connect(9, None);
    msix.set_masked(9, false);
}

proptest! {
    #[test]
    fn no_access_panics(
        accesses in prop::collection::vec(
            (any::<bool>(), 0x1FF0u64..0x3100, prop::collection::vec(any::<u8>(), 0..20)), 0..64),
        control in any::<u32>(),
    ) {
        let (msix, _) = msix(17);
        msix.write_control(control, u32::MAX);
        for (write, offset, mut data) in accesses {
            if write {
                msix.write(offset, &data);
            } else {
                msix.read(offset, &mut data);
            }
            msix.signal((offset % 32) as u16);
        }
    }
}

#[test]
fn a_message_that_the_machine_refuses_is_tried_again_and_its_interrupt_waits() {
    let (msix, router) = msix(4);
    for vector in 0..2 {
        msix.program(vector, 0x40 + vector as u32);
        msix.unmask(vector);
    }
    msix.set_control(ENABLE);
    msix.mask(0);
    msix.program(0, 0x77);
    let new = MsiMessage {
        address: 0xFEE0_1000,
        data: 0x77,
    };
    *router.refuses.lock().unwrap() = Some(new);
    msix.unmask(0);
    assert_eq!(router.message(0).unwrap().data, 0x40);
    msix.signal(0);
    assert_eq!(msix.arrived(0), 0, "not by the message before");
    assert!(msix.is_pending(0));
    // It keeps no other out.
    msix.program(2, 0x42);
    msix.unmask(2);
    assert_eq!(router.message(2).unwrap().data, 0x42);
    msix.signal(2);
    assert_eq!(msix.arrived(2), 1);
    assert_eq!(msix.arrived(0), 0);

    *router.refuses.lock().unwrap() = None;
    msix.mask(1);
    assert_eq!(router.message(0), Some(new));
    assert_eq!(msix.arrived(0), 1, "what came meanwhile");
    assert!(!msix.is_pending(0));
    let changes = router.changes();
    msix.unmask(1);
    assert_eq!(router.changes(), changes, "nothing is left to be tried");
}

#[test]
fn a_message_that_a_reset_could_not_take_out_is_taken_out_by_the_next() {
    let (msix, router) = msix(1);
    msix.program(0, 0x40);
    msix.unmask(0);
    msix.set_control(ENABLE);
    router.refuses_all.store(true, Ordering::Relaxed);
    msix.reset();
    assert!(router.message(0).is_some());
    router.refuses_all.store(false, Ordering::Relaxed);
    msix.reset();
    assert_eq!(router.message(0), None);
}

/// What a client does that unmasks a vector: connects the guest's eventfd, and takes what the one before has counted.
#[test]
fn a_signal_on_its_way_when_its_vector_is_connected_elsewhere_is_not_left_behind() {
    let (msix, _) = msix(1);
    msix.set_control(ENABLE);
    msix.unmask(0);
    let new = || File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
    let lend = |event: &File| Some(OwnedFd::from(event.try_clone().unwrap()));
    let take = |mut event: &File| event.read(&mut [0; 8]).is_ok();
    let (held, guest) = (new(), new());
    let mut left_behind = 0;
    let round = AtomicU64::new(0);
    const ROUNDS: u64 = 20_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (1..).step_by(2).take(ROUNDS as usize) {
                while round.load(Ordering::SeqCst) != number {
                    std::hint::spin_loop();
                }
                msix.signal(0);
                round.store(number + 1, Ordering::SeqCst);
            }
        });
        for number in (1..).step_by(2).take(ROUNDS as usize) {
            msix.connect(0, lend(&held));
            round.store(number, Ordering::SeqCst);
            msix.connect(0, lend(&guest));
            let was_taken = take(&held);
            while round.load(Ordering::SeqCst) != number + 1 {
                std::thread::yield_now();
            }
            left_behind += u64::from(!take(&guest) && !was_taken);
            take(&held);
        }
    });
    assert_eq!(left_behind, 0);
}
