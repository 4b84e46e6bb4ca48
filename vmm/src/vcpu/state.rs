//! A vCPU's architectural state: taken when it is created, put back at every reset.
#![allow(unsafe_code)] // KVM_SET_XSAVE takes the size of its argument on trust.

use kvm_bindings::{
    KVM_MAX_MSR_ENTRIES, Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, KvmNestedStateBuffer, VcpuFd};

/// The time stamp counter runs on over a reset, in step on all vCPUs; writing it on one after the other
/// would put them out of step.
const MSR_IA32_TSC: u32 = 0x10;
/// Hyper-V's: no guest is offered them, and a mere write makes KVM set up their machinery.
const MSRS_HYPERV: std::ops::Range<u32> = 0x4000_0000..0x4000_0200;
/// Memory types: variable ranges, fixed ranges, the default. Not every KVM lists them among its MSRs.
const MSRS_MTRR: [std::ops::RangeInclusive<u32>; 5] = [
    0x200..=0x20F,
    0x250..=0x250,
    0x258..=0x259,
    0x268..=0x26F,
    0x2FF..=0x2FF,
];

/// What a KVM call on a vCPU was for, and what KVM said.
#[derive(Debug, thiserror::Error)]
#[error("vCPU {vcpu}: {doing}: {source}")]
pub struct VcpuError {
    /// The vCPU's index.
    pub vcpu: u8,
    /// What was being done.
    pub doing: &'static str,
    /// KVM's error.
    pub source: kvm_ioctls::Error,
}

/// The state of a vCPU after power-on.
pub struct PowerOnState {
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    /// Out of VMX operation and of any nested guest. Absent where KVM does not nest.
    nested: Option<Box<KvmNestedStateBuffer>>,
    fpu: kvm_fpu,
    /// What the FPU state leaves out: AVX, protection keys. Absent where the host's CPU has no XSAVE.
    xsave: Option<Box<kvm_xsave>>,
    xcrs: Option<kvm_xcrs>,
    debug_regs: kvm_debugregs,
    lapic: kvm_lapic_state,
    events: kvm_vcpu_events,
    msrs: Vec<kvm_msr_entry>,
}

/// Where a vCPU starts to execute: what the boot protocol asks for on top of the power-on state.
#[derive(Clone)]
pub struct EntryState {
    /// General registers.
    pub regs: kvm_regs,
    /// Segment and control registers; the interrupt controller's base is kept from power-on.
    pub sregs: kvm_sregs,
}

impl PowerOnState {
    /// Reads the state of a vCPU that has not run yet.
    pub fn read(vcpu: u8, fd: &VcpuFd, kvm: &Kvm) -> Result<Self, VcpuError> {
        let failed = |doing| {
            move |source| VcpuError {
                vcpu,
                doing,
                source,
            }
        };
        Ok(Self {
            mp_state: fd.get_mp_state().map_err(failed("reading the run state"))?,
            regs: fd.get_regs().map_err(failed("reading the registers"))?,
            sregs: fd
                .get_sregs()
                .map_err(failed("reading the segment registers"))?,
            nested: nested_state(fd, kvm),
            fpu: fd.get_fpu().map_err(failed("reading the FPU state"))?,
            xsave: xsave_state(fd, kvm),
            // Absent where the host's CPU has no XSAVE.
            xcrs: fd.get_xcrs().ok(),
            debug_regs: fd
                .get_debug_regs()
                .map_err(failed("reading the debug registers"))?,
            lapic: fd.get_lapic().map_err(failed("reading the local APIC"))?,
            events: fd
                .get_vcpu_events()
                .map_err(failed("reading pending events"))?,
            msrs: resettable_msrs(vcpu, fd, kvm)?,
        })
    }

    /// Puts the vCPU back to power-on, then to `entry` where it is to start there.
    pub fn restore(
        &self,
        vcpu: u8,
        fd: &VcpuFd,
        entry: Option<&EntryState>,
    ) -> Result<(), VcpuError> {
        let failed = |doing| {
            move |source| VcpuError {
                vcpu,
                doing,
                source,
            }
        };
        let regs = entry.map_or(&self.regs, |entry| &entry.regs);
        let mut sregs = entry.map_or(self.sregs, |entry| entry.sregs);
        sregs.apic_base = self.sregs.apic_base;
        sregs.interrupt_bitmap = [0; 4];
        // First: a vCPU in VMX operation does not take the control registers of power-on, and what a vCPU
        // in a nested guest takes would be that guest's.
        if let Some(nested) = &self.nested {
            fd.set_nested_state(nested)
                .map_err(failed("leaving nested virtualisation"))?;
        }
        fd.set_sregs(&sregs)
            .map_err(failed("resetting the segment registers"))?;
        fd.set_regs(regs)
            .map_err(failed("resetting the registers"))?;
        fd.set_fpu(&self.fpu)
            .map_err(failed("resetting the FPU state"))?;
        if let Some(xsave) = &self.xsave {
            set_xsave(fd, xsave).map_err(failed("resetting the vector registers"))?;
        }
        if let Some(xcrs) = &self.xcrs {
            fd.set_xcrs(xcrs)
                .map_err(failed("resetting the extended control registers"))?;
        }
        fd.set_debug_regs(&self.debug_regs)
            .map_err(failed("resetting the debug registers"))?;
        fd.set_lapic(&self.lapic)
            .map_err(failed("resetting the local APIC"))?;
        set_msrs(vcpu, fd, &self.msrs)?;
        fd.set_vcpu_events(&self.events)
            .map_err(failed("resetting pending events"))?;
        fd.set_mp_state(self.mp_state)
            .map_err(failed("resetting the run state"))
    }
}

/// The XSAVE state of a vCPU that has not run yet, if KVM has one and takes it back.
fn xsave_state(fd: &VcpuFd, kvm: &Kvm) -> Option<Box<kvm_xsave>> {
    let state = Box::new(fd.get_xsave().ok()?);
    let known = kvm.check_extension(Cap::Xsave) && set_xsave(fd, &state).is_ok();
    known.then_some(state)
}

fn set_xsave(fd: &VcpuFd, state: &kvm_xsave) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: KVM reads more than the 4 KiB of a `kvm_xsave` only for features that a process has to ask
    // for before it creates vCPUs (ARCH_REQ_XCOMP_GUEST_PERM), which this one does not.
    unsafe { fd.set_xsave(state) }
}

/// The nested state of a vCPU that has not run yet, if KVM has one and takes it back.
fn nested_state(fd: &VcpuFd, kvm: &Kvm) -> Option<Box<KvmNestedStateBuffer>> {
    let mut state = Box::new(KvmNestedStateBuffer::empty());
    let known = kvm.check_extension(Cap::NestedState)
        && fd.nested_state(&mut state).is_ok()
        && fd.set_nested_state(&state).is_ok();
    known.then_some(state)
}

/// Reads every MSR that KVM lists, and the MTRRs, where it takes them back: those are reset with the vCPU.
fn resettable_msrs(vcpu: u8, fd: &VcpuFd, kvm: &Kvm) -> Result<Vec<kvm_msr_entry>, VcpuError> {
    let list = kvm.get_msr_index_list().map_err(|source| VcpuError {
        vcpu,
        doing: "listing MSRs",
        source,
    })?;
    let listed = list
        .as_slice()
        .iter()
        .filter(|index| !MSRS_HYPERV.contains(index));
    let listed: Vec<u32> = listed.copied().collect();
    let unlisted = MSRS_MTRR.into_iter().flatten();
    let unlisted = unlisted.filter(|index| !listed.contains(index));
    let mut kept = Vec::new();
    for index in listed.iter().copied().chain(unlisted) {
        let one = [kvm_msr_entry {
            index,
            ..Default::default()
        }];
        let Ok(mut msr) = Msrs::from_entries(&one) else {
            continue;
        };
        let readable = index != MSR_IA32_TSC && fd.get_msrs(&mut msr).is_ok_and(|count| count == 1);
        if readable && fd.set_msrs(&msr).is_ok_and(|count| count == 1) {
            kept.extend_from_slice(msr.as_slice());
        }
    }
    Ok(kept)
}

fn set_msrs(vcpu: u8, fd: &VcpuFd, msrs: &[kvm_msr_entry]) -> Result<(), VcpuError> {
    let failed = |source| VcpuError {
        vcpu,
        doing: "resetting MSRs",
        source,
    };
    for batch in msrs.chunks(KVM_MAX_MSR_ENTRIES) {
        let mut rest = batch;
        while !rest.is_empty() {
            let Ok(entries) = Msrs::from_entries(rest) else {
                break;
            };
            let taken = fd.set_msrs(&entries).map_err(failed)?;
            // KVM stops at an MSR that it does not take in the vCPU's present state.
            if let Some(refused) = rest.get(taken) {
                tracing::debug!(
                    vcpu,
                    msr = format_args!("{:#x}", refused.index),
                    "MSR not reset"
                );
            }
            rest = rest.get(taken + 1..).unwrap_or_default();
        }
    }
    Ok(())
}
