//! A guest that writes nonsense: nothing panics, nothing hangs, and the drive works after a reset.

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::backend::TestBackend;
use super::driver::{DATA, DISK, Guest, eventually, transfer};
use crate::spec::Submission;
use crate::spec::command::{admin, io};
use crate::spec::registers::offset;
use devices::pci::PciFunction;

#[test]
fn doorbells_of_no_queue_and_with_no_value_do_nothing() {
    let mut guest = Guest::up();
    for at in (0x1000..0x2000).step_by(4) {
        guest.write(at, u32::MAX);
    }
    guest.write(0x1000 + 8, 64);
    guest.write(0x1000 + 12, 3);
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
}

#[test]
fn odd_accesses_do_nothing() {
    let mut guest = Guest::up();
    let before = guest.read(offset::CC);
    guest.controller.write_bar(0, offset::CC, &[0]);
    guest.controller.write_bar(0, offset::CC + 1, &[0; 4]);
    guest.controller.write_bar(0, offset::CC, &[0; 2]);
    guest.controller.write_bar(0, offset::CC - 4, &[]);
    guest.controller.write_bar(3, offset::CC, &[0; 4]);
    assert_eq!(guest.read(offset::CC), before);
    let mut data = [0xEE; 3];
    guest.controller.read_bar(2, 0, &mut data);
    assert_eq!(data, [0; 3]);
    guest.controller.read_bar(0, u64::MAX - 2, &mut data);
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
}

#[derive(Clone, Debug)]
enum Act {
    Register(u64, u32),
    Doorbell(u16, u32),
    Admin(Box<[u8; 64]>),
    Io(Box<[u8; 64]>),
    Config(u16, u32),
    BusReset,
}

fn raw() -> impl Strategy<Value = Box<[u8; 64]>> {
    // Commands near the valid ones reach deeper than noise does.
    let address = prop_oneof![
        Just(DATA),
        Just(DATA + 8),
        any::<u64>(),
        0..super::driver::MEMORY
    ];
    let small = || prop_oneof![0_u32..8, any::<u32>()];
    (
        (
            0_u8..0x10,
            any::<u8>().prop_map(|flags| if flags < 200 { 0 } else { flags }),
        ),
        (small(), address.clone(), address),
        (small(), small(), small()),
    )
        .prop_map(
            |((opcode, flags), (nsid, prp1, prp2), (cdw10, cdw11, cdw12))| {
                let command = Submission {
                    opcode,
                    flags,
                    nsid,
                    prp1,
                    prp2,
                    cdw10,
                    cdw11,
                    cdw12,
                    ..Submission::zeroed()
                };
                Box::new(zerocopy::transmute!(command))
            },
        )
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => ((0_u64..0x40), any::<u32>()).prop_map(|(at, value)| Act::Register(at * 4, value)),
        1 => Just(Act::Register(offset::CC, super::driver::ENABLE)),
        4 => ((0_u16..12), 0_u32..80).prop_map(|(at, value)| Act::Doorbell(at, value)),
        6 => raw().prop_map(Act::Admin),
        6 => raw().prop_map(Act::Io),
        1 => ((0_u16..64), any::<u32>()).prop_map(|(at, value)| Act::Config(at * 4, value)),
        1 => Just(Act::BusReset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nonsense_never_panics_and_a_reset_mends_all(acts in proptest::collection::vec(act(), 1..120)) {
        let backend = TestBackend::new(DISK);
        let mut guest = Guest::up_on(backend);
        for act in acts {
            match act {
                Act::Register(at, value) => guest.write(at, value),
                Act::Doorbell(at, value) => guest.write(0x1000 + u64::from(at) * 4, value),
                Act::Admin(command) => {
                    guest.submit(0, Submission::read_from_bytes(&command[..]).unwrap());
                }
                Act::Io(command) => {
                    guest.submit(1, Submission::read_from_bytes(&command[..]).unwrap());
                }
                Act::Config(at, value) => {
                    guest.controller.write_config(at, value, u32::MAX);
                }
                Act::BusReset => guest.controller.bus_reset(),
            }
        }
        guest.controller.bus_reset();
        guest.power_up();
        guest.start_enabling();
        eventually("ready", || guest.is_ready());
        guest.create_pair(1);
        prop_assert!(guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).is_ok());
        guest.admin_ok(transfer(admin::IDENTIFY, 1, 1, DATA, 0));
    }
}
