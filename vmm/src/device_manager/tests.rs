//! What the device manager does with a device that was given up.

use std::time::Instant;

use devices::guest_acts::{Act, Handshake};

use super::*;

/// A device whose teardown never ended, so that it keeps what it had noted.
struct Stuck(GuestActs);

impl Device for Stuck {
    fn shut_down(&self, _: Deadline, _: &mut Phases) -> Result<Finish, ShutdownError> {
        Ok(Finish::Now)
    }

    fn guest_acts(&self) -> GuestActs {
        self.0
    }

    fn release(&self) {}
}

#[test]
fn notes_of_a_device_that_was_given_up_are_not_those_of_later_boots() {
    let mut noted = GuestActs::default();
    let now = Instant::now();
    noted.handshake = Some(Handshake::begin(now));
    noted.note(Act::ShutdownNormal, now);
    let listed = || Listed::new(Arc::new(Stuck(noted)), false);
    let targets = Targets(vec![listed(), listed()]);
    assert_eq!(targets.guest_acts(), [noted, noted]);
    targets.0[0].given_up.store(true, Ordering::Release);
    assert_eq!(targets.guest_acts(), [GuestActs::default(), noted]);
}
