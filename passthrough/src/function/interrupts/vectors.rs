//! Vectors of MSI or MSI-X that are signalled from outside this process.
//!
//! Each has an eventfd that interrupts the guest. A vector that is on and masked signals a second one, whose count is
//! its pending bit (PCI local bus 3.0, 6.8.3.4); unmasked, the vector signals the first, and what the second has
//! counted moves there. Devices that keep such an interrupt themselves ([`Client::holds_unconnected`]) have a vector
//! that was not in use yet without a signal: the host gives it none of its own vectors then.
//!
//! ```text
//!            unmask                     mask
//!   Nobody ───────────▶ Guest ◀────────────────────▶ Held
//!      ▲ │                │      unmask: count moves    ▲
//!      │ └────────────────┼────── turned on, masked ────┘
//!      └──────────────────┴───────── turned off
//! ```
//!
//! After a call that failed nobody knows whom its vectors signal: the next change connects them anew.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use devices::interrupt::{MsiMessage, MsiRouter};

use super::Target;
use super::vector::{Link, Vector};
use crate::client::{Client, ClientError, IrqType};
use crate::function::event::{descriptor, new_event};

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
        let vectors = events.into_iter().zip(routes);
        let vectors = vectors.map(|(guest, route)| Vector::new(guest, route));
        Ok(Self {
            irq,
            vectors: vectors.collect(),
        })
    }

    /// Brings the first vectors to their targets; the type is turned on if it is off.
    ///
    /// # Errors
    /// The first of what failed; the rest was done. What failed is tried again the next time.
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
        let routed = self.route(client, router, applied, targets);
        let before = match applied.links.is_empty() {
            true => vec![Link::Nobody; count],
            false => applied.links.clone(),
        };
        let (after, held) = self.links(client, applied, &before, targets);
        let connected = match applied.links.is_empty() {
            true => self.turn_on(client, applied, after),
            false => self.change(client, applied, &before, &after),
        };
        routed.and(held).and(connected)
    }

    /// Whom the first vectors shall signal. One for which the host has no eventfd signals nobody.
    fn links(
        &self,
        client: &dyn Client,
        applied: &Applied,
        before: &[Link],
        targets: &[Target],
    ) -> (Vec<Link>, Result<(), ClientError>) {
        let device_holds = client.holds_unconnected();
        let mut failed = None;
        let mut after = Vec::with_capacity(targets.len());
        let vectors = self.vectors.iter().zip(&applied.routed);
        for ((target, before), (vector, routed)) in targets.iter().zip(before).zip(vectors) {
            let is_routed = match target {
                Target::Open(message) => *routed == Some(*message),
                Target::Masked => false,
            };
            let link = vector.link(*target, is_routed, *before, device_holds);
            after.push(link.unwrap_or_else(|source| {
                failed = Some(source);
                Link::Nobody
            }));
        }
        let doing = "keeping what comes while a vector is masked";
        let held = failed.map_or(Ok(()), |source| Err(refused(client, doing, source)));
        (after, held)
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
            Err(failure) => {
                applied.links.fill(Link::Unknown);
                return Err(failure);
            }
        }
        applied.links.clear();
        self.forget_pending();
        Ok(())
    }

    fn turn_on(
        &self,
        client: &dyn Client,
        applied: &mut Applied,
        after: Vec<Link>,
    ) -> Result<(), ClientError> {
        // What came when it was turned off, or after that, is nobody's.
        self.forget_pending();
        let connected = self.connect(client, 0, &after);
        applied.links = after;
        if connected.is_err() {
            // Some may be connected all the same. Where it cannot be turned off either, the next change does.
            applied.links.fill(Link::Unknown);
            let _ = self.turn_off(client, applied);
        }
        connected
    }

    fn change(
        &self,
        client: &dyn Client,
        applied: &mut Applied,
        before: &[Link],
        after: &[Link],
    ) -> Result<(), ClientError> {
        let mut result = Ok(());
        // Each call waits for a server, and nothing is lost where a vector is connected to what it signals already.
        // The kernel takes it from the host's interrupt controller and gives it back.
        let runs = match client.holds_unconnected() {
            true => runs(before, after),
            false => span(before, after).into_iter().collect(),
        };
        for run in runs {
            let connected = self.connect(client, run.start, &after[run.clone()]);
            for index in run {
                let (before, after) = (before[index], after[index]);
                let silent = before == Link::Nobody && after == Link::Nobody;
                applied.links[index] = match connected {
                    Err(_) if !silent => Link::Unknown,
                    _ => after,
                };
                if connected.is_ok() && before != Link::Guest && after == Link::Guest {
                    let vector = &self.vectors[index];
                    // Where it is not known whom it signalled, better one interrupt too many.
                    if vector.take_pending() || before == Link::Unknown {
                        vector.fire();
                    }
                }
            }
            result = result.and(connected);
        }
        result
    }

    /// Forgets what is pending.
    fn forget_pending(&self) {
        for vector in &self.vectors {
            vector.take_pending();
        }
    }

    /// The pending bits of the 32 vectors from `first` on.
    pub(super) fn pending(&self, first: usize) -> u32 {
        let vectors = self.vectors.iter().skip(first).take(32).enumerate();
        vectors.fold(0, |bits, (bit, vector)| {
            bits | u32::from(vector.is_pending()) << bit
        })
    }

    /// Takes all messages out of the machine's routing, and forgets what is pending.
    ///
    /// # Errors
    /// The machine has them still.
    pub(super) fn clear_messages(
        &self,
        router: &dyn MsiRouter,
        applied: &mut Applied,
    ) -> io::Result<()> {
        self.forget_pending();
        let vectors = self.vectors.iter().zip(&applied.routed);
        let changes: Vec<_> = vectors
            .filter(|(_, routed)| routed.is_some())
            .map(|(vector, _)| (vector.route, None))
            .collect();
        if !changes.is_empty() {
            router.set_messages(&changes)?;
        }
        applied.routed.clear();
        Ok(())
    }

    /// Gives the vectors back to the machine.
    pub(super) fn detach(&self, router: &dyn MsiRouter) {
        let vectors = self.vectors.iter();
        let routes: Vec<_> = vectors
            .map(|vector| (vector.route, &vector.guest))
            .collect();
        router.detach(&routes);
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

    /// Has the machine route the messages of open vectors.
    fn route(
        &self,
        client: &dyn Client,
        router: &dyn MsiRouter,
        applied: &mut Applied,
        targets: &[Target],
    ) -> Result<(), ClientError> {
        applied.routed.resize(self.vectors.len(), None);
        let mut changed = Vec::new();
        for (index, (target, routed)) in targets.iter().zip(&applied.routed).enumerate() {
            if let Target::Open(message) = target
                && *routed != Some(*message)
            {
                changed.push((index, Some(*message)));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let route = |(index, message): &(usize, _)| (self.vectors[*index].route, *message);
        let changes: Vec<_> = changed.iter().map(route).collect();
        if let Err(source) = router.set_messages(&changes) {
            let doing = format!("routing {} interrupt messages", changes.len());
            return Err(refused(client, doing, source));
        }
        for (index, message) in changed {
            applied.routed[index] = message;
        }
        Ok(())
    }
}

/// What the machine refused, as an error of the device.
fn refused(client: &dyn Client, doing: impl Into<String>, source: io::Error) -> ClientError {
    ClientError::Refused {
        device: client.name().to_owned(),
        doing: doing.into(),
        source,
    }
}

/// From the first vector to connect anew to the last.
fn span(before: &[Link], after: &[Link]) -> Option<Range<usize>> {
    let changes = |index: &usize| before[*index] != after[*index];
    let first = (0..after.len()).find(changes)?;
    let last = (first..after.len()).rev().find(changes)?;
    Some(first..last + 1)
}

/// The runs of vectors to connect anew. Vectors that stay without a signal may lie in between; those that have one
/// and keep it do not.
fn runs(before: &[Link], after: &[Link]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
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
