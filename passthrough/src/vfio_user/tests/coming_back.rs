//! Servers that die and come back, and others in their place.

use vfio_user::protocol::*;
use zerocopy::{FromBytes, IntoBytes};

use super::gate::Gate;
use super::played::is_closed;
use super::*;

fn ranges(server: &Played, connection: usize) -> Vec<(u64, u64, bool)> {
    server.notes(|notes| {
        let maps = notes.maps.iter();
        let of = maps.filter(|(number, ..)| *number == connection);
        of.map(|(_, map, file)| (map.address, map.size, file.is_some()))
            .collect()
    })
}

#[test]
fn a_server_that_dies_and_comes_back_is_given_memory_again() {
    let mut server = Played::good();
    let (device, watcher) = open(&server);
    let given = ranges(&server, 0);
    assert_eq!((given.len(), device.session()), (2, 1));
    let path = server.path.clone();
    let _folder = server.end();
    let reason = watcher.hears_gone();
    assert!(
        reason.contains("closed the connection, or has died"),
        "{reason}"
    );
    let gone = device.revive(soon()).unwrap_err().to_string();
    assert!(
        gone.contains("since then") && gone.contains("nobody listens"),
        "{gone}"
    );
    assert!(device.gone().is_some());

    let again = Played::at(path, Capabilities::default(), |_| Verdict::Ordinary);
    device.revive(soon()).unwrap();
    assert_eq!((device.gone(), device.session()), (None, 2));
    assert_eq!(ranges(&again, 0), given);
    watcher.hears(|said| *said == Said::Back);
    assert_eq!(watcher.said().len(), 2, "gone once, back once");
    device.write(0, 8, &[3]).unwrap();
    let mut found = [0];
    device.read(0, 8, &mut found).unwrap();
    assert_eq!(found, [3]);
    assert_eq!(
        again.notes(|notes| notes.irqs.len()),
        0,
        "interrupts are off"
    );
    device.revive(soon()).unwrap();
    assert_eq!(again.notes(|notes| notes.connections), 1, "it is there");
}

#[test]
fn it_is_found_again_without_being_asked_for() {
    let mut server = Played::good();
    let (device, watcher) = open(&server);
    let path = server.path.clone();
    let _folder = server.end();
    watcher.hears_gone();
    let again = Played::at(path, Capabilities::default(), |_| Verdict::Ordinary);
    watcher.hears(|said| *said == Said::Back);
    again.until(|notes| (notes.maps.len() == 2).then_some(()));
    device.revive(soon()).unwrap();
    device.read(0, 0, &mut [0]).unwrap();
}

#[test]
fn a_server_that_dies_within_a_message_is_gone_with_all_who_wait() {
    for bytes in [1, 16, 20] {
        let server = Played::new(move |asked| match (asked.command, asked.earlier) {
            (command::DEVICE_RESET, _) => {
                let reply = asked.header.reply(64);
                let mut raw = reply.as_bytes().to_vec();
                raw.resize(64, 0);
                Verdict::Die(raw[..bytes].to_vec())
            }
            _ => Verdict::Ordinary,
        });
        let (device, watcher) = open(&server);
        assert!(is_gone(&device.reset(soon())), "{bytes} bytes");
        let reason = watcher.hears_gone();
        assert!(reason.contains("died within a message"), "{reason}");
        watcher.hears(|said| *said == Said::Back);
    }
}

type Change = dyn Fn(&Asked<'_>) -> Option<Verdict> + Send + Sync;

/// A server that has another device after the first connection.
fn other_afterwards(
    changed: impl Fn(&Asked<'_>) -> Option<Verdict> + Send + Sync + 'static,
) -> Played {
    Played::new(move |asked| match (asked.command, asked.earlier) {
        (command::DEVICE_RESET, 0) => Verdict::Leave,
        (_, 0) => Verdict::Ordinary,
        _ => changed(asked).unwrap_or(Verdict::Ordinary),
    })
}

#[test]
fn another_device_in_its_place_gets_no_memory() {
    let other_vendor = |asked: &Asked<'_>| {
        let (access, _) = RegionAccess::read_from_prefix(asked.payload).ok()?;
        let asked = asked.command == command::REGION_READ && access.offset == 0;
        let reply = [access.as_bytes(), &[0x99, 0x99, 1, 0]].concat();
        asked.then(|| Verdict::Reply(reply, Vec::new()))
    };
    let fewer_vectors = |asked: &Asked<'_>| {
        let info = IrqInfo {
            argsz: 16,
            flags: 1,
            index: (*asked.payload.get(8)?).into(),
            count: 1,
        };
        let asked = asked.command == command::DEVICE_GET_IRQ_INFO;
        asked.then(|| Verdict::Reply(info.as_bytes().to_vec(), Vec::new()))
    };
    let other_size = |asked: &Asked<'_>| {
        let index = (*asked.payload.get(8)?).into();
        let mut info = ordinary::region_info(index);
        info.size *= 2;
        let asked = asked.command == command::DEVICE_GET_REGION_INFO && index == 0;
        asked.then(|| Verdict::Reply(info.as_bytes().to_vec(), Vec::new()))
    };
    let all: [(Box<Change>, _); 3] = [
        (Box::new(other_vendor), "it is 9999:0001, and was 1234:5678"),
        (Box::new(fewer_vectors), "its interrupts"),
        (Box::new(other_size), "BAR 0"),
    ];
    for (change, words) in all {
        let server = other_afterwards(change);
        let (device, watcher) = open(&server);
        assert!(is_gone(&device.reset(soon())));
        let error = device.revive(soon()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        let warned = watcher.hears(|said| matches!(said, Said::Warning(_)));
        assert!(matches!(warned, Said::Warning(text) if text.contains(words)));
        assert_eq!(ranges(&server, 1), []);
        assert!(device.gone().is_some());
    }
}

#[test]
fn a_pin_that_was_unmasked_by_an_eventfd_is_not_after_it_came_back() {
    let server = other_afterwards(|_| None);
    let (device, watcher) = open(&server);
    let event = Arc::new(event());
    device.unmask_pin_by(Some(&event)).unwrap();
    assert!(is_gone(&device.reset(soon())));
    watcher.hears(|said| *said == Said::Back);
    device.revive(soon()).unwrap();
    event.write(1).unwrap();
    device.read(0, 0, &mut [0]).unwrap();
    // Answered after all that was sent before: and that was nothing.
    assert_eq!(server.notes(|notes| notes.irqs.len()), 0);
    assert_eq!(event.read().unwrap(), 1, "nobody has taken it");
}

#[test]
fn release_ends_an_attempt_that_is_under_way() {
    let server = Played::new(|asked| match (asked.command, asked.earlier) {
        (command::DEVICE_RESET, 0) => Verdict::Leave,
        (_, 0) => Verdict::Ordinary,
        _ => Verdict::Silence,
    });
    let (device, _) = open(&server);
    assert!(is_gone(&device.reset(soon())));
    server.until(|notes| (notes.connections == 2).then_some(()));
    // The attempt would wait for 20 seconds.
    device.release();
    server.until(|notes| (notes.ended == 2).then_some(()));
}

#[test]
fn a_client_that_leaves_is_seen_to_leave_though_its_side_is_kept() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let process = process::ServerProcess::behind(&ours).unwrap();
    assert!(!process.is_known(), "this process plays its own server");
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(is_closed(&theirs));
    assert!(!process.has_left());
    drop(theirs);
    assert!(process.has_left());
    assert!(!process.has_ended(Duration::ZERO), "nobody knows");
    assert!(!process.kill(Duration::ZERO));
}

#[test]
fn a_process_that_is_not_seen_has_no_successor_though_it_has_left() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    // Nobody that is seen here has sent anything.
    let unseen = Arc::new(process::ServerProcess::behind(&ours).unwrap());
    assert_eq!(unseen.pid(), 0);
    let lease = Arc::new(lease::Lease::new(&guest_memory::ServedMemory::new(
        &memory(),
    )));
    let holder = holder::Holder::new(&unseen, &lease);
    drop(theirs);
    assert!(unseen.has_left());
    for fence in [false, true] {
        let why = holder.in_the_way_of(&unseen, fence).unwrap();
        assert!(why.contains("not known whether"), "{why}");
    }
}

/// Is told of a loss only once the gate is open.
#[derive(Default)]
struct Slow {
    gate: Gate,
    watcher: Watcher,
}

impl Observer for Slow {
    fn gone(&self, reason: &str) {
        self.gate.pass();
        self.watcher.gone(reason);
    }

    fn back(&self) {
        self.watcher.back();
    }

    fn warn(&self, message: &str) {
        self.watcher.warn(message);
    }
}

#[test]
fn a_device_is_not_back_before_everybody_knows_that_it_was_gone() {
    let server = other_afterwards(|_| None);
    let slow = Arc::new(Slow::default());
    let device = connect(&server.path, options(20_000), &memory(), slow.clone()).unwrap();
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| device.reset(soon()));
        slow.gate.is_reached();
        let early = devices::lifecycle::Deadline::after(Duration::from_millis(50));
        assert!(device.revive(early).is_err());
        assert_eq!((device.session(), device.gone().is_some()), (1, true));
        slow.gate.open();
        assert!(is_gone(&reset.join().unwrap()));
    });
    device.revive(soon()).unwrap();
    assert_eq!(device.session(), 2);
    assert!(matches!(
        &slow.watcher.said()[..],
        [Said::Gone(_), Said::Back]
    ));
}
