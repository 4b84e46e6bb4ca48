//! What goes wrong with a device, and calls that take their time.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A call that fails once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Refusal {
    Connect,
    /// Vectors are taken from whom they signalled, and connected to nobody.
    ConnectHalfway,
    Disconnect,
    /// Having the pin unmasked by an eventfd.
    UnmaskPin,
    /// Nobody answers in time.
    Read,
    /// It is not waited for.
    CancelledRead,
    CancelledConnect,
}

/// Says that a call has begun, and hears when it may go on.
pub(super) type Gate = (Sender<()>, Receiver<()>);

pub(super) fn hold(gate: &Mutex<Option<Gate>>) -> (Receiver<()>, Sender<()>) {
    let (begun, has_begun) = channel();
    let (go_on, may_go_on) = channel();
    *gate.lock().unwrap() = Some((begun, may_go_on));
    (has_begun, go_on)
}

pub(super) fn pass(gate: &Mutex<Option<Gate>>) {
    let gate = gate.lock().unwrap().take();
    if let Some((begun, may_go_on)) = gate {
        begun.send(()).unwrap();
        may_go_on.recv().unwrap();
    }
}
