//! Vectors of MSI or MSI-X that are signalled from outside this process.
//!
//! Each has an eventfd that interrupts the guest. A vector that the guest masks after it was in use signals a second
//! one, whose count is its pending bit; unmasked, the vector signals the first again, and what the second has counted
//! moves there.
//!
//! ```text
//!            unmask                     mask
//!   Nobody ───────────▶ Guest ◀────────────────────▶ Held
//!      ▲                  │      unmask: count moves    │
//!      └──────────────────┴───────── turned off ────────┘
//! ```

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use devices::interrupt::{MsiMessage, MsiRouter, Route};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;
use vmm_sys_util::eventfd::EventFd;

use super::Target;
use crate::client::{Client, ClientError, IrqType};
use crate::function::event::{descriptor, new_event};

/// Whom a vector signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Nobody,
    Held,
    Guest,
}

struct Vector {
    guest: EventFd,
    /// Made when the guest first masks a vector in use.
    held: OnceLock<EventFd>,
    route: Route,
}

impl Vector {
    fn hold(&self) -> io::Result<&EventFd> {
        if let Some(held) = self.held.get() {
            return Ok(held);
        }
        let made = new_event()?;
        Ok(self.held.get_or_init(|| made))
    }

    fn is_pending(&self) -> bool {
        let Some(held) = self.held.get() else {
            return false;
        };
        let held = descriptor(held);
        let mut polled = [PollFd::new(&held, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::IN)
    }

    /// Takes what is pending; says whether something was.
    fn take_pending(&self) -> bool {
        self.held.get().is_some_and(|held| held.read().is_ok())
    }

    fn eventfd(&self, link: Link) -> Option<&EventFd> {
        match link {
            Link::Nobody => None,
            Link::Held => self.held.get(),
            Link::Guest => Some(&self.guest),
        }
    }
}

/// What device and machine were told of some vectors.
#[derive(Default)]
pub(super) struct Applied {
    /// A vector each while the type is on.
    links: Vec<Link>,
    routed: Vec<Option<MsiMessage>>,
}

/// See the module's header.
pub(super) struct Vectors {
    irq: IrqType,
    vectors: Vec<Vector>,
}

impl Vectors {
    /// Attaches `count` vectors to the machine.
    pub(super) fn attach(
        irq: IrqType,
        count: u16,
        router: &Arc<dyn MsiRouter>,
    ) -> io::Result<Self> {
        let events = (0..count)
            .map(|_| new_event())
            .collect::<io::Result<Vec<_>>>()?;
        let routes = router.attach(&events.iter().collect::<Vec<_>>())?;
        let vectors = events.into_iter().zip(routes).map(|(guest, route)| Vector {
            guest,
            held: OnceLock::new(),
            route,
        });
        Ok(Self {
            irq,
            vectors: vectors.collect(),
        })
    }

    /// Brings the first vectors to their targets; the type is turned on if it is off.
    pub(super) fn settle(
        &self,
        client: &dyn Client,
        router: &dyn MsiRouter,
        applied: &mut Applied,
        targets: &[Target],
    ) -> Result<(), ClientError> {
        let count = targets.len().min(self.vectors.len());
        let targets = &targets[..count];
        if !applied.links.is_empty() && applied.links.len() != count {
            self.turn_off(client, applied)?;
        }
        // Messages before the vectors that send them.
        self.route(router, applied, targets);
        let is_on = !applied.links.is_empty();
        let before = match is_on {
            true => applied.links.clone(),
            false => vec![Link::Nobody; count],
        };
        let after: Vec<Link> = targets
            .iter()
            .zip(&before)
            .zip(&self.vectors)
            .map(|((target, before), vector)| self.link(*target, *before, vector))
            .collect();
        if !is_on {
            self.connect(client, 0, &after)?;
            applied.links = after;
            return Ok(());
        }
        for run in runs(&before, &after) {
            let first = run.start;
            self.connect(client, first, &after[run.clone()])?;
            applied.links[run.clone()].copy_from_slice(&after[run.clone()]);
            for index in run {
                let vector = &self.vectors[index];
                let opened = before[index] == Link::Held && after[index] == Link::Guest;
                if opened && vector.take_pending() {
                    // A full counter means that the interrupt is already on its way.
                    let _ = vector.guest.write(1);
                }
            }
        }
        Ok(())
    }

    /// Turns the type off. What was pending is forgotten. A device that is gone has it off.
    pub(super) fn turn_off(
        &self,
        client: &dyn Client,
        applied: &mut Applied,
    ) -> Result<(), ClientError> {
        if applied.links.is_empty() {
            return Ok(());
        }
        match client.disconnect(self.irq) {
            Ok(()) | Err(ClientError::Gone { .. }) => {}
            Err(failure) => return Err(failure),
        }
        applied.links.clear();
        for vector in &self.vectors {
            vector.take_pending();
        }
        Ok(())
    }

    /// The pending bits of the 32 vectors from `first` on.
    pub(super) fn pending(&self, first: usize) -> u32 {
        let vectors = self.vectors.iter().skip(first).take(32).enumerate();
        vectors.fold(0, |bits, (bit, vector)| {
            bits | u32::from(vector.is_pending()) << bit
        })
    }

    /// Takes all messages out of the machine's routing.
    pub(super) fn clear_messages(&self, router: &dyn MsiRouter, applied: &mut Applied) {
        let vectors = self.vectors.iter().zip(&mut applied.routed);
        let changes: Vec<_> = vectors
            .filter_map(|(vector, routed)| routed.take().map(|_| (vector.route, None)))
            .collect();
        self.set_messages(router, &changes);
    }

    /// Gives the vectors back to the machine.
    pub(super) fn detach(&self, router: &dyn MsiRouter) {
        let vectors = self.vectors.iter();
        let routes: Vec<_> = vectors
            .map(|vector| (vector.route, &vector.guest))
            .collect();
        router.detach(&routes);
    }

    fn link(&self, target: Target, before: Link, vector: &Vector) -> Link {
        match (target, before) {
            (Target::Open(_), _) => Link::Guest,
            (Target::Masked, Link::Nobody) => Link::Nobody,
            (Target::Masked, Link::Held | Link::Guest) => match vector.hold() {
                Ok(_) => Link::Held,
                Err(failure) => {
                    warn!("an interrupt that comes while its vector is masked is lost: {failure}");
                    Link::Nobody
                }
            },
        }
    }

    fn connect(
        &self,
        client: &dyn Client,
        first: usize,
        links: &[Link],
    ) -> Result<(), ClientError> {
        let vectors = self.vectors.iter().skip(first);
        let events: Vec<Option<BorrowedFd<'_>>> = vectors
            .zip(links)
            .map(|(vector, link)| vector.eventfd(*link).map(descriptor))
            .collect();
        client.connect(self.irq, first as u32, &events)
    }

    fn route(&self, router: &dyn MsiRouter, applied: &mut Applied, targets: &[Target]) {
        applied.routed.resize(self.vectors.len(), None);
        let mut changes = Vec::new();
        let vectors = self.vectors.iter().zip(targets);
        for ((vector, target), routed) in vectors.zip(&mut applied.routed) {
            if let Target::Open(message) = target
                && *routed != Some(*message)
            {
                *routed = Some(*message);
                changes.push((vector.route, Some(*message)));
            }
        }
        self.set_messages(router, &changes);
    }

    fn set_messages(&self, router: &dyn MsiRouter, changes: &[(Route, Option<MsiMessage>)]) {
        if changes.is_empty() {
            return;
        }
        if let Err(error) = router.set_messages(changes) {
            warn!(%error, vectors = changes.len(), "cannot route interrupt messages");
        }
    }
}

/// The runs of vectors to connect anew. Vectors that stay without a signal may lie in between; those that have one
/// and keep it do not.
fn runs(before: &[Link], after: &[Link]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    let mut reaches = 0;
    for (index, (before, after)) in before.iter().zip(after).enumerate() {
        let changes = before != after;
        if changes {
            match runs.last_mut().filter(|_| reaches == index) {
                Some(run) => run.end = index + 1,
                None => runs.push(index..index + 1),
            }
        }
        if changes || (*after == Link::Nobody && reaches == index) {
            reaches = index + 1;
        }
    }
    runs
}
