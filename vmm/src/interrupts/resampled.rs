//! Lines that an eventfd asserts until the guest ends its interrupt: irqfds with resampling.

use std::io;
use std::sync::Arc;

use devices::interrupt::ResampledLine;
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use super::{InterruptRouting, host_error};

/// A connection of one function to one line. To KVM it is another source of the line than emulated devices are: the
/// line is high while either asserts it.
struct Resampled {
    vm: Arc<VmFd>,
    gsi: u32,
}

impl InterruptRouting {
    /// A new connection to the line `gsi` of the IOAPIC (0 to 23), for a function that is not in this process.
    ///
    /// Functions of this kind are one source together: when the guest ends an interrupt of the line, all of them are
    /// asked again, and one that is disconnected leaves the line high until then if others are on it.
    pub fn resampled_line(&self, gsi: u32) -> Arc<dyn ResampledLine> {
        Arc::new(Resampled {
            vm: self.vm.clone(),
            gsi: gsi % self.lines.len() as u32,
        })
    }
}

impl ResampledLine for Resampled {
    fn connect(&self, trigger: &EventFd, resample: &EventFd) -> io::Result<()> {
        self.vm
            .register_irqfd_with_resample(trigger, resample, self.gsi)
            .map_err(host_error)
    }

    fn disconnect(&self, trigger: &EventFd) -> io::Result<()> {
        self.vm
            .unregister_irqfd(trigger, self.gsi)
            .map_err(host_error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use kvm_bindings::{KVM_IRQCHIP_IOAPIC, kvm_irqchip};
    use kvm_ioctls::Kvm;

    use super::*;

    fn event() -> EventFd {
        EventFd::new(libc::EFD_NONBLOCK).unwrap()
    }

    /// Whether the IOAPIC sees the line high.
    fn is_high(vm: &VmFd, gsi: u32) -> bool {
        let mut chip = kvm_irqchip {
            chip_id: KVM_IRQCHIP_IOAPIC,
            ..Default::default()
        };
        vm.get_irqchip(&mut chip).unwrap();
        // SAFETY: KVM has filled in the IOAPIC's field, since that is the chip asked for.
        #[allow(unsafe_code)]
        let lines = unsafe { chip.chip.ioapic.irr };
        lines & (1 << gsi) != 0
    }

    /// Makes the line's entry in the IOAPIC level-triggered, and keeps it masked.
    fn make_level_triggered(vm: &VmFd, gsi: usize) {
        let mut chip = kvm_irqchip {
            chip_id: KVM_IRQCHIP_IOAPIC,
            ..Default::default()
        };
        vm.get_irqchip(&mut chip).unwrap();
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            chip.chip.ioapic.redirtbl[gsi].bits = 1 << 16 | 1 << 15;
        }
        vm.set_irqchip(&chip).unwrap();
    }

    #[test]
    #[ignore = "needs KVM"]
    fn a_trigger_holds_the_line_until_it_is_disconnected() {
        let kvm = Kvm::new().expect("this test needs KVM: /dev/kvm, readable and writable");
        let vm = Arc::new(kvm.create_vm().unwrap());
        vm.create_irq_chip().unwrap();
        let routing = InterruptRouting::new(vm.clone()).unwrap();
        const GSI: u32 = 17;
        make_level_triggered(&vm, GSI as usize);
        let (trigger, resample) = (event(), event());
        let line = routing.resampled_line(GSI);
        line.connect(&trigger, &resample).unwrap();
        assert!(!is_high(&vm, GSI));
        trigger.write(1).unwrap();
        // KVM hands the signal to a thread of its own.
        let begin = Instant::now();
        while !is_high(&vm, GSI) {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
        assert!(
            line.connect(&trigger, &resample).is_err(),
            "an eventfd is connected once"
        );
        line.disconnect(&trigger).unwrap();
        assert!(!is_high(&vm, GSI));
        assert!(
            trigger.read().is_err(),
            "KVM has taken the signal out of the eventfd"
        );

        let emulated = routing.line(GSI);
        emulated.set(true);
        line.connect(&trigger, &resample).unwrap();
        trigger.write(1).unwrap();
        line.disconnect(&trigger).unwrap();
        assert!(is_high(&vm, GSI), "the emulated device still asserts it");
        emulated.set(false);
        assert!(!is_high(&vm, GSI));
    }
}
