//! What becomes of eventfds at addresses when BARs move over them.

use std::io;
use std::sync::Mutex;

use vmm_sys_util::eventfd::EventFd;

use super::*;

/// Remembers which ranges were cleared.
#[derive(Default)]
struct Cleared(Mutex<Vec<RangeInclusive<u64>>>);

impl IoEvents for Cleared {
    fn connect(&self, _: GuestAddress, _: &Arc<EventFd>) -> io::Result<()> {
        Ok(())
    }

    fn disconnect(&self, _: GuestAddress, _: &Arc<EventFd>) -> io::Result<()> {
        Ok(())
    }

    fn clear(&self, range: &RangeInclusive<u64>) {
        self.0.lock().unwrap().push(range.clone());
    }
}

impl Cleared {
    fn take(&self) -> Vec<RangeInclusive<u64>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Two drives on the root bus.
fn pair() -> (RootComplex, Arc<Cleared>) {
    let drive = |id: &str, device| {
        Node::endpoint(
            id,
            place(device),
            Endpoint::new(&[Bar::memory64(0, 0x4000)]),
        )
    };
    let cleared = Arc::new(Cleared::default());
    let root = machine(vec![drive("a", 1), drive("b", 2)]);
    (root.with_io_events(Arc::clone(&cleared) as _), cleared)
}

fn range(base: u64) -> RangeInclusive<u64> {
    base..=base + 0x3FFF
}

const HERE: u64 = 0xC000_0000;
const THERE: u64 = 0xC001_0000;

#[test]
fn a_bar_that_comes_back_to_its_place_finds_its_eventfds() {
    let (root, cleared) = pair();
    let guest = Guest(&root);
    guest.bar(0, 1, HERE);
    guest.bar(0, 2, THERE);
    // Sized as a guest does it, then reset with the machine, then programmed again.
    guest.command(0, 1, 0);
    guest.bar(0, 1, HERE);
    for visit in root.bus().walk() {
        visit.node.function().bus_reset();
    }
    root.reset();
    assert!(root.placed().is_empty());
    guest.bar(0, 2, THERE);
    guest.bar(0, 1, HERE);
    assert_eq!(cleared.take(), []);
}

#[test]
fn a_bar_that_moves_leaves_nothing_behind() {
    let (root, cleared) = pair();
    let guest = Guest(&root);
    guest.bar(0, 1, HERE);
    guest.command(0, 1, 0);
    assert_eq!(cleared.take(), [], "it may come back");
    guest.bar(0, 1, THERE);
    assert_eq!(cleared.take(), [range(HERE)]);
    guest.bar(0, 1, HERE);
    assert_eq!(cleared.take(), [range(THERE)]);
}

#[test]
fn a_bar_finds_nothing_of_another_ones() {
    let (root, cleared) = pair();
    let guest = Guest(&root);
    guest.bar(0, 1, HERE);
    guest.command(0, 1, 0);
    guest.bar(0, 2, HERE);
    assert_eq!(cleared.take(), [range(HERE)]);
    // The first one has nothing there any more, the second one has.
    guest.command(0, 2, 0);
    guest.bar(0, 1, HERE);
    assert_eq!(cleared.take(), [range(HERE)]);
    guest.command(0, 1, 0);
    guest.bar(0, 1, HERE);
    assert_eq!(cleared.take(), []);
}

#[test]
fn bars_that_change_places_take_nothing_along() {
    let (root, cleared) = pair();
    let guest = Guest(&root);
    guest.bar(0, 1, HERE);
    guest.bar(0, 2, THERE);
    guest.command(0, 1, 0);
    guest.bar(0, 2, HERE);
    guest.bar(0, 1, THERE);
    let mut ranges = cleared.take();
    ranges.sort_by_key(|range| *range.start());
    ranges.dedup();
    assert_eq!(ranges, [range(HERE), range(THERE)]);
}
