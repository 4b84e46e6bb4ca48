//! Latencies that vary: drawn by seed and number, for what they are meant for.

use std::time::Duration;

use devices::latency::{Latency, Purpose};
use devices::lifecycle::{Deadline, Device, Phases};

use super::backend::TestBackend;
use super::driver::{DATA, DISK, ENABLE, Guest, config, eventually, transfer};
use crate::spec::Submission;
use crate::spec::command::{admin, io};
use crate::spec::registers::offset;
use crate::{Behaviour, ShutdownModel};

const NORMAL: u32 = ENABLE | 1 << 14;
const ABRUPT: u32 = ENABLE | 2 << 14;
/// Long enough that none ends while a test looks.
const SLOW: Latency = Latency::LogNormal {
    median: Duration::from_secs(3600),
    sigma: 0.4,
};

fn guest(seed: u64, behaviour: Behaviour) -> Guest {
    let mut config = config(vec![TestBackend::new(DISK)]);
    (config.seed, config.behaviour) = (seed, behaviour);
    Guest::with(config)
}

fn shutdowns(latency: Latency, abrupt_latency: Latency) -> Behaviour {
    let shutdown = ShutdownModel {
        latency,
        abrupt_latency,
        estimate: None,
    };
    Behaviour {
        shutdown,
        ..Behaviour::default()
    }
}

/// What the shutdown that `cc` asks for is made to take. Ends with a reset.
fn shutdown(guest: &mut Guest, cc: u32) -> Duration {
    guest.enable();
    guest.write(offset::CC, cc);
    let modelled = guest.controller.guest_acts().handshake.unwrap().modelled;
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    modelled
}

fn teardown(guest: &Guest) -> Option<Duration> {
    let mut phases = Phases::default();
    let by = Deadline::after(Duration::from_secs(20));
    guest.controller.shut_down(by, &mut phases).unwrap();
    guest.power_up();
    phases.modelled()
}

#[test]
fn the_nth_shutdown_draws_the_nth_value_of_the_seed() {
    let mut first = guest(7, shutdowns(SLOW, SLOW));
    let mut second = guest(7, shutdowns(SLOW, SLOW));
    let mut other = guest(8, shutdowns(SLOW, SLOW));
    for n in 0..3 {
        let drawn = shutdown(&mut first, NORMAL);
        assert_eq!(drawn, SLOW.draw(7, Purpose::Shutdown, n, 0));
        // A teardown and an abrupt shutdown between are numbered by themselves.
        assert_eq!(shutdown(&mut second, NORMAL), drawn);
        let abrupt = SLOW.draw(7, Purpose::AbruptShutdown, n, 0);
        assert_eq!(shutdown(&mut second, ABRUPT), abrupt);
        teardown(&second);
        assert_ne!(shutdown(&mut other, NORMAL), drawn);
    }
}

#[test]
fn a_request_that_begins_no_shutdown_draws_nothing() {
    let mut guest = guest(7, shutdowns(SLOW, SLOW));
    guest.enable();
    for cc in [NORMAL, ENABLE, NORMAL, ABRUPT] {
        guest.write(offset::CC, cc);
    }
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    let second = SLOW.draw(7, Purpose::Shutdown, 1, 0);
    assert_eq!(shutdown(&mut guest, NORMAL), second);
}

#[test]
fn the_nth_teardown_draws_the_nth_value_and_tells_it() {
    let behaviour = Behaviour {
        teardown: SLOW,
        ..Behaviour::default()
    };
    let guest = guest(7, behaviour);
    for n in 0..3 {
        let drawn = SLOW.draw(7, Purpose::Teardown, n, 0);
        assert_eq!(teardown(&guest), Some(drawn));
    }
    guest.controller.set_behaviour(&Behaviour::default());
    assert_eq!(teardown(&guest), None);
}

#[test]
fn what_is_written_since_the_last_flush_counts() {
    let per_block = Latency::Written {
        base: Duration::from_secs(1000),
        // Two seconds a block.
        ms_per_mib: 2048.0 * 2000.0,
        cap: Duration::from_secs(1030),
    };
    let mut guest = guest(7, shutdowns(per_block, Latency::default()));
    guest.enable();
    let secs = |guest: &mut Guest| shutdown(guest, NORMAL).as_secs();
    assert_eq!(secs(&mut guest), 1000);
    let write = |guest: &mut Guest, blocks, flags| {
        guest.enable();
        guest.create_pair(1);
        let mut command = transfer(io::WRITE, 0, blocks, DATA, 0);
        command.cdw12 |= flags;
        guest.run(1, command).unwrap();
        guest.write(offset::CC, 0);
        eventually("not ready", || !guest.is_ready());
    };
    write(&mut guest, 3, 0);
    assert_eq!(secs(&mut guest), 1006);
    // The reset may have come before the shutdown's flush began. What goes to stable storage at once is not
    // dirty.
    guest.enable();
    guest.create_pair(1);
    guest.run(1, transfer(io::FLUSH, 0, 1, 0, 0)).unwrap();
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    write(&mut guest, 1, 1 << 30);
    assert_eq!(guest.controller.drive.unflushed_bytes(), 0);
    write(&mut guest, 8, 0);
    write(&mut guest, 8, 0);
    assert_eq!(secs(&mut guest), 1030, "the cap");
}

#[test]
fn a_change_holds_from_the_next_shutdown_on_and_identify_tells_of_it() {
    let fixed = |secs| Latency::from(Duration::from_secs(secs));
    let mut guest = guest(7, shutdowns(fixed(3600), fixed(1)));
    guest.enable();
    guest.write(offset::CC, NORMAL);
    guest
        .controller
        .set_behaviour(&shutdowns(fixed(0), fixed(20)));
    let modelled = guest.controller.guest_acts().handshake.unwrap().modelled;
    assert_eq!(modelled, Duration::from_secs(3600), "it began before");
    assert_eq!(guest.shst(), 1);
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    guest.enable();
    let identify = Submission {
        nsid: 0,
        ..transfer(admin::IDENTIFY, 1, 1, DATA, 0)
    };
    guest.admin_ok(identify);
    let rtd3e = guest.bytes(DATA + 88, 4);
    assert_eq!(rtd3e, 21_000_000_u32.to_le_bytes());
    guest.write(offset::CC, NORMAL);
    eventually("a completed shutdown", || guest.shst() == 2);
}
