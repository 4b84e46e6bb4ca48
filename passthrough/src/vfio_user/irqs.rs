//! DEVICE_SET_IRQS: interrupts connected to eventfds, masked, and switched off.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vfio_user::protocol::{IrqSet, command, irq, irq_set_flag as flag};
use zerocopy::IntoBytes;

use super::calls::Allowance;
use super::description;
use super::link::Link;
use super::session::{Session, Signals};
use crate::client::{ClientError, IrqType};

/// Most descriptors that the kernel passes in one message.
const MOST_DESCRIPTORS: u32 = 253;

/// What changes of interrupts are asked by: all that are part of one call share what it may take.
pub struct Call<'a> {
    pub link: &'a Link,
    pub session: &'a Arc<Session>,
    pub allowance: Allowance,
}

impl<'a> Call<'a> {
    /// A call that begins now.
    pub fn new(link: &'a Link, session: &'a Arc<Session>) -> Self {
        Self {
            link,
            session,
            allowance: link.allow(session),
        }
    }
}

fn set(flags: u32, index: u32, range: Range<u32>) -> IrqSet {
    IrqSet {
        argsz: size_of::<IrqSet>() as u32,
        flags,
        index,
        start: range.start,
        count: range.end - range.start,
    }
}

fn ask(
    call: &Call<'_>,
    set: &IrqSet,
    events: &[BorrowedFd<'_>],
    doing: &str,
) -> Result<(), ClientError> {
    let request = (command::DEVICE_SET_IRQS, &[set.as_bytes()][..]);
    (call.link).ask(call.session, request, events, call.allowance, doing)?;
    Ok(())
}

/// Connects interrupts from `first` on, as many in a message as the server takes. `unheard` stands in for those
/// without a signal where the server knows none. A type that was off may signal from here on, unless all of this is
/// refused.
pub fn connect(
    call: &Call<'_>,
    irq: IrqType,
    first: u32,
    events: &[Option<BorrowedFd<'_>>],
    unheard: BorrowedFd<'_>,
) -> Result<(), ClientError> {
    let session = call.session;
    let was_off = session.signals(irq) == Signals::Off;
    if was_off {
        session.set_signals(irq, Signals::Perhaps);
    }
    let mut at = first;
    // Runs of those with a signal, and of those without.
    for run in events.chunk_by(|one, other| one.is_some() == other.is_some()) {
        for events in run.chunks(most(session) as usize) {
            let range = at..at + events.len() as u32;
            if let Err(error) = connect_some(call, irq, range.clone(), events, unheard) {
                if matches!(error, ClientError::Refused { .. }) {
                    if was_off && range.start == first {
                        session.set_signals(irq, Signals::Off);
                    }
                    // None is to be connected anew.
                    let before = first..range.start;
                    // A server that refused once may again; there is nothing else to be done.
                    let _ = silence(call, irq, before, unheard);
                }
                return Err(error);
            }
            at = range.end;
        }
    }
    match irq {
        IrqType::Intx => Ok(()),
        _ if events.iter().all(Option::is_none) => Ok(()),
        IrqType::Msi | IrqType::Msix => unmask(call, irq, at),
    }
}

/// Has the first `count` vectors of a type unmasked. Masked ones are connected to an eventfd of their own here; but a
/// server may have masks beside that, as a device has that comes out of a reset. It may have them although it does not
/// say so: libvfio-user never does, and hands this command on. Said without wanting a reply, so that a server without
/// masks may refuse it; from the first vector on, since QEMU's takes the count for the end.
fn unmask(call: &Call<'_>, irq: IrqType, count: u32) -> Result<(), ClientError> {
    let flags = flag::DATA_NONE | flag::ACTION_UNMASK;
    let set = set(flags, description::index(irq), 0..count);
    let request = (command::DEVICE_SET_IRQS, &[set.as_bytes()][..]);
    (call.link).post(
        call.session,
        request,
        call.allowance,
        "unmasking its vectors",
    )
}

/// Leaves a range without a signal.
fn silence(
    call: &Call<'_>,
    irq: IrqType,
    range: Range<u32>,
    unheard: BorrowedFd<'_>,
) -> Result<(), ClientError> {
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + most(call.session));
        let nothing = vec![None; (end - at) as usize];
        connect_some(call, irq, at..end, &nothing, unheard)?;
        at = end;
    }
    Ok(())
}

/// Most descriptors in a message.
fn most(session: &Session) -> u32 {
    session.server.descriptors().clamp(1, MOST_DESCRIPTORS)
}

/// Connects a range of which all or none have a signal.
fn connect_some(
    call: &Call<'_>,
    irq: IrqType,
    range: Range<u32>,
    events: &[Option<BorrowedFd<'_>>],
    unheard: BorrowedFd<'_>,
) -> Result<(), ClientError> {
    let flags = flag::DATA_EVENTFD | flag::ACTION_TRIGGER;
    let set = set(flags, description::index(irq), range);
    let fds: Vec<_> = events.iter().flatten().copied().collect();
    let doing = "connecting its interrupts";
    match ask(call, &set, &fds, doing) {
        // No descriptor at all means that there is no signal, by the protocol; not to every server.
        Err(ClientError::Refused { .. }) if fds.is_empty() => {
            let unheard = vec![unheard; events.len()];
            ask(call, &set, &unheard, doing)
        }
        other => other,
    }
}

/// Switches a type of `count` interrupts off.
pub fn disconnect(
    call: &Call<'_>,
    irq: IrqType,
    count: u32,
    unheard: BorrowedFd<'_>,
) -> Result<(), ClientError> {
    let flags = flag::DATA_NONE | flag::ACTION_TRIGGER;
    let off = set(flags, description::index(irq), 0..0);
    match ask(call, &off, &[], "switching its interrupts off") {
        // Servers that know no such thing are there too: nobody is to hear of any, then.
        Err(ClientError::Refused { .. }) => silence(call, irq, 0..count, unheard),
        other => other,
    }
}

fn mask_of_pin(masked: bool) -> IrqSet {
    let action = match masked {
        true => flag::ACTION_MASK,
        false => flag::ACTION_UNMASK,
    };
    set(flag::DATA_NONE | action, irq::INTX, 0..1)
}

/// Masks or unmasks the pin. Nobody waits for it: a vCPU asks.
pub fn set_pin_masked(call: &Call<'_>, masked: bool) -> Result<(), ClientError> {
    let set = mask_of_pin(masked);
    let request = (command::DEVICE_SET_IRQS, &[set.as_bytes()][..]);
    let doing = "a change of its pin's mask";
    (call.link).post(call.session, request, call.allowance, doing)
}

/// Unmasks the pin, and waits for nothing: the thread that reads asks.
pub fn unmask_pin_unwaited(session: &Session) -> Result<(), vfio_user::client::ClientError> {
    let set = mask_of_pin(false);
    let requests = &session.requests;
    requests.post_unwaited(command::DEVICE_SET_IRQS, &[set.as_bytes()])
}

/// Has the server look at `event`, and unmask the pin when it is signalled; `None` ends that.
pub fn unmask_by(call: &Call<'_>, event: Option<BorrowedFd<'_>>) -> Result<(), ClientError> {
    let set = set(flag::DATA_EVENTFD | flag::ACTION_UNMASK, irq::INTX, 0..1);
    let fds: Vec<_> = event.into_iter().collect();
    ask(call, &set, &fds, "having its pin unmasked")
}
