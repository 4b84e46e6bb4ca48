//! The interrupt controllers and the timer that KVM emulates, and their state after power-on.

use std::sync::Arc;

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY,
    kvm_irqchip, kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::VmFd;

use crate::memory::{KVM_IDENTITY_MAP, KVM_TSS};

/// What a KVM call on the virtual machine was for, and what KVM said.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct KvmError {
    /// What was being done.
    pub doing: &'static str,
    /// KVM's error.
    pub source: kvm_ioctls::Error,
}

impl KvmError {
    /// Names what a failed call was for.
    pub fn while_doing(doing: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self { doing, source }
    }
}

/// Both PICs, the IOAPIC and the PIT of a virtual machine.
pub struct Chipset {
    vm: Arc<VmFd>,
    irqchips: Vec<kvm_irqchip>,
    pit: kvm_pit_state2,
}

impl Chipset {
    /// Creates the chips in `vm`, before it has vCPUs.
    pub fn create(vm: Arc<VmFd>) -> Result<Self, KvmError> {
        let doing = KvmError::while_doing;
        vm.set_identity_map_address(KVM_IDENTITY_MAP)
            .map_err(doing("placing KVM's identity map"))?;
        vm.set_tss_address(KVM_TSS as usize)
            .map_err(doing("placing KVM's task state"))?;
        vm.create_irq_chip()
            .map_err(doing("creating the interrupt controllers"))?;
        // Port 0x61 is answered by KVM: Linux calibrates with it.
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        vm.create_pit2(pit).map_err(doing("creating the timer"))?;
        let mut irqchips = Vec::new();
        for chip_id in [
            KVM_IRQCHIP_PIC_MASTER,
            KVM_IRQCHIP_PIC_SLAVE,
            KVM_IRQCHIP_IOAPIC,
        ] {
            let mut chip = kvm_irqchip {
                chip_id,
                ..Default::default()
            };
            vm.get_irqchip(&mut chip)
                .map_err(doing("reading an interrupt controller"))?;
            irqchips.push(chip);
        }
        let pit = vm.get_pit2().map_err(doing("reading the timer"))?;
        Ok(Self { vm, irqchips, pit })
    }

    /// Puts all chips back to power-on. The vCPUs are paused and every device is quiesced.
    pub fn reset(&self) -> Result<(), KvmError> {
        for chip in &self.irqchips {
            self.vm
                .set_irqchip(chip)
                .map_err(KvmError::while_doing("resetting an interrupt controller"))?;
        }
        self.vm
            .set_pit2(&self.pit)
            .map_err(KvmError::while_doing("resetting the timer"))
    }
}
