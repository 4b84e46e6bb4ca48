//! A guest that writes anything anywhere. The device that is played asserts what may reach it.

use devices::io_event::IoEvents;
use devices::lifecycle::{Deadline, Device, Phases};
use devices::pci::{Attachment, PciFunction};
use proptest::prelude::*;

use super::Bench;
use super::device::*;

#[derive(Clone, Debug)]
enum Access {
    Config(u16, u32, u32),
    Bar(u8, u64, Vec<u8>),
    Read(u8, u64, usize),
    Placed(u8, Option<u64>),
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(TABLE),
        Just(PENDING),
        0_u64..0x4000,
        TABLE - 16..TABLE + 0x100,
        PENDING - 16..PENDING + 32,
    ]
}

fn access() -> impl Strategy<Value = Access> {
    let register = prop_oneof![
        0_u16..64,
        Just(1),
        (0_u16..6).prop_map(|entry| MSI / 4 + entry),
        Just(MSIX / 4),
        Just(EXPRESS / 4 + 2),
        0_u16..1024,
    ];
    let bytes = |bits: u32| {
        let byte = |n: u32| {
            if bits >> n & 1 != 0 {
                0xFF << (8 * n)
            } else {
                0
            }
        };
        byte(0) | byte(1) | byte(2) | byte(3)
    };
    let mask = (0_u32..16).prop_map(bytes);
    // Resets have tests of their own: here they would hide most of what follows.
    let config = (register, any::<u32>(), mask).prop_map(|(register, value, mask)| {
        let flr = register == EXPRESS / 4 + 2;
        let value = if flr { value & !(1 << 15) } else { value };
        Access::Config(register * 4, value, mask)
    });
    let bar = prop_oneof![Just(0_u8), Just(3), Just(4)];
    let data = prop::collection::vec(any::<u8>(), 1..=8);
    let inside = |bar: u8, offset: u64, length: usize| match bar {
        4 => offset % (0x100 - length as u64),
        _ => offset.min(0x4000 - length as u64),
    };
    prop_oneof![
        3 => config,
        3 => (bar.clone(), offset(), data)
            .prop_map(move |(bar, at, data)| Access::Bar(bar, inside(bar, at, data.len()), data)),
        1 => (bar, offset(), 1_usize..=8)
            .prop_map(move |(bar, at, length)| Access::Read(bar, inside(bar, at, length), length)),
        1 => (0_u8..6, prop::option::of(0_u64..16)).prop_map(|(bar, at)| {
            let apart = u64::from(bar) << 32;
            Access::Placed(bar, at.map(|at| apart + at * 0x1_0000))
        }),
    ]
}

fn play(bench: &Bench, accesses: Vec<Access>) {
    for access in accesses {
        match access {
            Access::Config(offset, value, mask) => {
                let _ = bench.function.write_config(offset, value, mask);
                bench.function.read_config(offset);
                bench.function.decoded_bars();
            }
            Access::Bar(bar, offset, data) => bench.function.write_bar(bar, offset, &data),
            Access::Read(bar, offset, length) => {
                bench.function.read_bar(bar, offset, &mut vec![0; length]);
            }
            Access::Placed(bar, at) => {
                bench.function.placed(bar, at.map(vm_memory::GuestAddress));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_reaches_the_device_that_must_not(
        accesses in prop::collection::vec(access(), 1..80),
        attachment in prop_oneof![
            Just(Attachment::Express), Just(Attachment::RootComplex), Just(Attachment::Conventional)
        ],
    ) {
        let bench = Bench::of(Played::drive(), attachment);
        play(&bench, accesses);
        let table = TABLE..TABLE + u64::from(VECTORS) * 16;
        for call in bench.device.take_calls() {
            if let Call::Write(0, offset, data) = call {
                let end = offset + data.len() as u64;
                prop_assert!(end <= PENDING || offset >= PENDING + 8);
                prop_assert!(end <= table.start || offset >= table.end);
            }
        }
        // Whatever it did, a teardown brings it to its state after power-on.
        let by = Deadline::after(std::time::Duration::from_secs(20));
        bench.function.shut_down(by, &mut Phases::default()).unwrap();
        prop_assert_eq!(bench.mapper.now(), []);
        prop_assert_eq!(bench.device.connected(), 0);
        prop_assert!(!bench.line.is_connected());
        prop_assert_eq!(bench.device.command(), 2);
        let fresh = Bench::of(Played::drive(), attachment);
        for offset in (0..4096).step_by(4).filter(|at| {
            // The device's own, which the test's reset does not put back.
            !(0x40..0x100).contains(at)
        }) {
            prop_assert_eq!(bench.read(offset), fresh.read(offset), "{:#x}", offset);
        }
    }

    #[test]
    fn devices_that_say_anything_of_themselves_are_refused_or_passed_through(
        bytes in prop::collection::vec(any::<u8>(), 0x40..0x200),
        sets in prop::collection::vec((0_u16..0x200, any::<u8>()), 0..40),
    ) {
        let mut device = Played::drive();
        for (at, byte) in sets {
            device = device.with(at, &[byte]);
        }
        let random = Played::drive().with(0x40, &bytes[..0x40]).with(0x100, &bytes[..0x40]);
        for device in [device, random] {
            let config = super::FunctionConfig {
                id: "drive0".into(),
                attachment: Attachment::Express,
            };
            let machine = super::Machine {
                router: std::sync::Arc::<super::Router>::default(),
                pin: None,
                mapper: std::sync::Arc::<super::Mapper>::default(),
                io_events: None,
            };
            let device = std::sync::Arc::new(device);
            if let Ok(function) = super::Function::new(config, device, machine) {
                for offset in (0..4096).step_by(4) {
                    function.read_config(offset);
                }
            }
        }
    }
}

/// Several vCPUs that change interrupts and reset the function at once, while BARs are placed.
#[test]
fn threads_that_write_at_once_end_in_order() {
    let device = Played::drive();
    device.offer(&[(4, 0x10)]);
    let bench = Bench::signalling(device);
    let vcpu = |seed: u32| {
        let mut state = seed;
        let mut draw = |limit: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % limit
        };
        for _ in 0..2000 {
            let (vector, bit) = (u64::from(draw(VECTORS.into())), draw(2));
            match draw(16) {
                0 => bench.write(MSIX, bit << 31 | draw(2) << 30),
                1 => bench.write(MSI, bit << 16 | 3 << 20),
                2 => bench.write16(super::COMMAND, (draw(2) << 10 | bit << 2 | 2) as u16),
                3 if draw(8) == 0 => bench.write(EXPRESS + 8, 1 << 15),
                4 => drop(bench.read_bar32(0, PENDING)),
                5 => drop(
                    bench
                        .device
                        .signal(crate::client::IrqType::Msix, vector as u32),
                ),
                _ => bench.write_bar32(0, TABLE + vector * 16 + 12, bit),
            }
        }
    };
    std::thread::scope(|scope| {
        for seed in 1..4 {
            scope.spawn(move || vcpu(seed));
        }
        for turn in 0..200_u64 {
            let at = (turn % 3 != 0).then_some(vm_memory::GuestAddress(turn << 32));
            bench.function.placed(0, at);
            bench.function.placed(4, at);
            if at.is_none() {
                // As whoever places BARs does when another one comes.
                bench.events.clear(&(0..=u64::MAX));
            }
        }
    });
    let by = Deadline::after(std::time::Duration::from_secs(20));
    let ended = bench.function.shut_down(by, &mut Phases::default());
    ended.unwrap();
    assert_eq!(bench.device.connected(), 0);
    assert!(!bench.line.is_connected());
    assert_eq!(bench.device.command(), 2);
    assert_eq!(bench.mapper.now(), []);
    let last = 199 << 32 | 0x10;
    assert_eq!(bench.events.now(), [last]);
    let event = bench.device.offered(4, 0x10);
    assert!(bench.events.signals(last, &event));
    assert!(bench.function.is_quiet());
}
