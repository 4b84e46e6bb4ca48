//! The guest's interrupt routing in KVM: irqfds for message-signalled vectors, lines for INTx.

mod resampled;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::interrupt::{IntxLine, MsiMessage, MsiRouter, Route};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

/// Pins of the IOAPIC; GSIs from here on are free for vectors.
const IOAPIC_PINS: u32 = 24;
/// The most routes that KVM takes, its `KVM_MAX_IRQ_ROUTES`.
const MAX_ROUTES: usize = 4096;

/// KVM's routing table, and who holds which of its entries.
pub struct InterruptRouting {
    vm: Arc<VmFd>,
    table: Mutex<Table>,
    /// The IOAPIC's lines, by GSI.
    lines: Vec<Arc<SharedLine>>,
}

#[derive(Default)]
struct Table {
    /// A held GSI and its message, if it has one.
    vectors: BTreeMap<u32, Option<MsiMessage>>,
    /// Messages were taken away that KVM still has.
    stale: bool,
}

type Messages = Vec<(u32, Option<MsiMessage>)>;

impl Table {
    /// Sets messages, and returns those that were there before, by GSI. A vector that nobody holds has none.
    fn set(&mut self, changes: impl IntoIterator<Item = (u32, Option<MsiMessage>)>) -> Messages {
        let mut before = Vec::new();
        for (gsi, message) in changes {
            let Some(held) = self.vectors.get_mut(&gsi) else {
                continue;
            };
            if *held != message {
                before.push((gsi, std::mem::replace(held, message)));
                self.stale = true;
            }
        }
        before
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn host_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

impl InterruptRouting {
    /// Takes over the routing of `vm`, whose interrupt controllers exist.
    pub fn new(vm: Arc<VmFd>) -> io::Result<Self> {
        let lines = (0..IOAPIC_PINS)
            .map(|gsi| SharedLine::new(vm.clone(), gsi))
            .collect();
        let routing = Self {
            vm,
            table: Mutex::default(),
            lines,
        };
        routing.apply(&mut lock(&routing.table))?;
        Ok(routing)
    }

    /// Brings KVM's table up to date. Messages that were only taken away wait for this, or for the next
    /// message that is set: a table is changed once for a whole teardown, not once a device. Until then
    /// nobody writes to those vectors: a device's own gate (mask, enable) comes before its eventfd.
    pub fn settle(&self) -> io::Result<()> {
        let mut table = lock(&self.table);
        if table.stale {
            self.apply(&mut table)
        } else {
            Ok(())
        }
    }

    /// A new connection to the line `gsi` of the IOAPIC (0 to 23).
    pub fn line(&self, gsi: u32) -> Arc<dyn IntxLine> {
        let line = &self.lines[gsi as usize % self.lines.len()];
        Arc::new(LineConnection {
            line: line.clone(),
            asserted: Mutex::new(false),
        })
    }

    fn apply(&self, table: &mut Table) -> io::Result<()> {
        let mut entries = Vec::with_capacity(40 + table.vectors.len());
        for pin in 0..16 {
            let (chip, pin_of_chip) = if pin < 8 {
                (KVM_IRQCHIP_PIC_MASTER, pin)
            } else {
                (KVM_IRQCHIP_PIC_SLAVE, pin - 8)
            };
            entries.push(irqchip_entry(pin, chip, pin_of_chip));
        }
        for gsi in 0..IOAPIC_PINS {
            // ISA interrupt 0 arrives at pin 2, as the MADT's source override says.
            let pin = if gsi == 0 { 2 } else { gsi };
            if gsi != 2 {
                entries.push(irqchip_entry(gsi, KVM_IRQCHIP_IOAPIC, pin));
            }
        }
        for (&gsi, message) in &table.vectors {
            if let Some(message) = message {
                entries.push(msi_entry(gsi, *message));
            }
        }
        let routing = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| io::Error::new(io::ErrorKind::OutOfMemory, "too many interrupt routes"))?;
        self.vm.set_gsi_routing(&routing).map_err(host_error)?;
        table.stale = false;
        Ok(())
    }
}

fn irqchip_entry(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        ..Default::default()
    };
    entry.u.irqchip.irqchip = irqchip;
    entry.u.irqchip.pin = pin;
    entry
}

fn msi_entry(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        ..Default::default()
    };
    entry.u.msi.address_lo = message.address as u32;
    entry.u.msi.address_hi = (message.address >> 32) as u32;
    entry.u.msi.data = message.data;
    entry
}

impl MsiRouter for InterruptRouting {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        let mut table = lock(&self.table);
        if table.vectors.len() + vectors.len() + 40 > MAX_ROUTES {
            return Err(io::Error::other(format!(
                "the machine has {} interrupt vectors and {} more are asked for; KVM takes {MAX_ROUTES} routes: \
                 use fewer devices or fewer queues",
                table.vectors.len(),
                vectors.len()
            )));
        }
        let mut routes = Vec::with_capacity(vectors.len());
        let mut candidate = IOAPIC_PINS;
        for vector in vectors {
            while table.vectors.contains_key(&candidate) {
                candidate += 1;
            }
            if let Err(error) = self.vm.register_irqfd(vector, candidate) {
                for (route, vector) in routes.iter().zip(vectors) {
                    let Route(gsi) = *route;
                    let _ = self.vm.unregister_irqfd(vector, gsi);
                    table.vectors.remove(&gsi);
                }
                return Err(host_error(error));
            }
            table.vectors.insert(candidate, None);
            routes.push(Route(candidate));
        }
        Ok(routes)
    }

    fn set_messages(&self, changes: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        let mut table = lock(&self.table);
        let before = table.set(changes.iter().map(|&(Route(gsi), message)| (gsi, message)));
        let has_message = |gsi| matches!(table.vectors.get(gsi), Some(Some(_)));
        if !before.iter().any(|(gsi, _)| has_message(gsi)) {
            return Ok(());
        }
        self.apply(&mut table).inspect_err(|_| {
            // One that KVM refuses must not keep all others out, and may be tried again.
            table.set(before);
        })
    }

    fn detach(&self, routes: &[(Route, &EventFd)]) {
        let mut table = lock(&self.table);
        for &(Route(gsi), vector) in routes {
            if let Err(error) = self.vm.unregister_irqfd(vector, gsi) {
                tracing::warn!(gsi, %error, "detaching an interrupt vector");
            }
            table.stale |= table.vectors.remove(&gsi).flatten().is_some();
        }
        if table.stale
            && let Err(error) = self.apply(&mut table)
        {
            tracing::warn!(%error, "taking detached vectors out of the interrupt routing");
        }
    }
}

/// A level-triggered line of the IOAPIC, shared by functions.
struct SharedLine {
    vm: Arc<VmFd>,
    gsi: u32,
    asserting: Mutex<u32>,
}

impl SharedLine {
    fn new(vm: Arc<VmFd>, gsi: u32) -> Arc<Self> {
        Arc::new(Self {
            vm,
            gsi,
            asserting: Mutex::new(0),
        })
    }

    fn change(&self, assert: bool) {
        let mut asserting = lock(&self.asserting);
        let before = *asserting;
        *asserting = if assert {
            before + 1
        } else {
            before.saturating_sub(1)
        };
        if (before > 0) != (*asserting > 0)
            && let Err(error) = self.vm.set_irq_line(self.gsi, *asserting > 0)
        {
            tracing::warn!(gsi = self.gsi, %error, "setting an interrupt line");
        }
    }
}

struct LineConnection {
    line: Arc<SharedLine>,
    asserted: Mutex<bool>,
}

impl IntxLine for LineConnection {
    fn set(&self, asserted: bool) {
        let mut held = lock(&self.asserted);
        if *held != asserted {
            *held = asserted;
            self.line.change(asserted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: MsiMessage = MsiMessage {
        address: 0xFEE0_0000,
        data: 0x31,
    };

    #[test]
    fn a_change_can_be_taken_back_and_made_again() {
        let mut table = Table::default();
        table.vectors.insert(24, None);
        table.vectors.insert(25, Some(MESSAGE));
        let changes = [(24, Some(MESSAGE)), (25, Some(MESSAGE)), (99, None)];
        let before = table.set(changes);
        assert_eq!(before, [(24, None)]);
        assert!(table.stale);
        table.set(before);
        assert_eq!(table.vectors[&24], None);
        assert_eq!(
            table.set(changes),
            [(24, None)],
            "what failed is a change again"
        );
    }

    #[test]
    fn what_is_there_already_is_no_change() {
        let mut table = Table::default();
        table.vectors.insert(24, Some(MESSAGE));
        assert_eq!(table.set([(24, Some(MESSAGE))]), []);
        assert!(!table.stale);
    }
}
