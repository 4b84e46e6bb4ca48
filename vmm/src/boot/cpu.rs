//! What firmware would have set up in a vCPU before its first instruction: CPUID with a topology that
//! adds up, the local APIC's wiring, memory types.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_msr_entry};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use crate::vcpu::VcpuError;

const MSR_MTRR_DEFAULT_TYPE: u32 = 0x2FF;
/// MTRRs enabled, write-back everywhere that no range says otherwise.
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

/// How Intel's vendor string begins, in EBX of the first leaf.
const INTEL: u32 = u32::from_le_bytes(*b"Genu");

const APIC_LVT_LINT0: usize = 0x350;
const APIC_LVT_LINT1: usize = 0x360;
const DELIVERY_NMI: u32 = 0x4 << 8;
const DELIVERY_EXTINT: u32 = 0x7 << 8;

/// What the host's KVM supports, from which each vCPU's CPUID is made.
pub struct CpuTemplate {
    supported: CpuId,
    tsc_deadline: bool,
}

impl CpuTemplate {
    /// Asks KVM what it supports.
    pub fn new(kvm: &Kvm) -> Result<Self, kvm_ioctls::Error> {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        // A deadline counted in the TSC is only as good as the TSC: without an invariant one the guest
        // uses the local APIC's own counter.
        let invariant_tsc = supported
            .as_slice()
            .iter()
            .any(|entry| entry.function == 0x8000_0007 && entry.edx & 1 << 8 != 0);
        Ok(Self {
            supported,
            tsc_deadline: invariant_tsc && kvm.check_extension(Cap::TscDeadlineTimer),
        })
    }

    /// Width of the guest's physical addresses.
    pub fn address_bits(&self) -> u8 {
        let sizes = self
            .supported
            .as_slice()
            .iter()
            .find(|entry| entry.function == 0x8000_0008);
        sizes.map_or(36, |entry| entry.eax as u8)
    }

    /// Sets up vCPU `index` of `count`, not run yet.
    pub fn set_up(&self, fd: &VcpuFd, index: u8, count: u8) -> Result<(), VcpuError> {
        let failed = |doing| {
            move |source| VcpuError {
                vcpu: index,
                doing,
                source,
            }
        };
        let no_memory = |_| VcpuError {
            vcpu: index,
            doing: "making CPUID",
            source: kvm_ioctls::Error::new(libc::ENOMEM),
        };
        let entries = self.entries(u32::from(index), u32::from(count));
        let cpuid = CpuId::from_entries(&entries).map_err(no_memory)?;
        fd.set_cpuid2(&cpuid).map_err(failed("setting CPUID"))?;

        let mut lapic = fd.get_lapic().map_err(failed("reading the local APIC"))?;
        set_lapic_register(&mut lapic.regs, APIC_LVT_LINT0, DELIVERY_EXTINT);
        set_lapic_register(&mut lapic.regs, APIC_LVT_LINT1, DELIVERY_NMI);
        fd.set_lapic(&lapic)
            .map_err(failed("wiring the local APIC"))?;

        let mtrr = kvm_msr_entry {
            index: MSR_MTRR_DEFAULT_TYPE,
            data: MTRR_ENABLED_WRITE_BACK,
            ..Default::default()
        };
        let msrs = Msrs::from_entries(&[mtrr]).map_err(no_memory)?;
        fd.set_msrs(&msrs).map_err(failed("setting memory types"))?;
        Ok(())
    }

    /// CPUID of the vCPU with APIC id `id` among `count` cores of one package, a thread each.
    fn entries(&self, id: u32, count: u32) -> Vec<kvm_cpuid_entry2> {
        let id_bits = 32 - (count - 1).leading_zeros();
        let mut entries = self.supported.as_slice().to_vec();
        // Made anew below, as many sub-leaves as there are levels.
        entries.retain(|entry| !matches!(entry.function, 0xB | 0x1F | 0x8000_0026));
        let intel = entries
            .iter()
            .any(|entry| entry.function == 0 && entry.ebx == INTEL);
        let highest = entries
            .iter()
            .filter(|entry| entry.function < 0x4000_0000)
            .map(|entry| entry.function)
            .max();
        for entry in &mut entries {
            match entry.function {
                0x1 => {
                    entry.ebx = entry.ebx & 0x0000_FFFF | id << 24 | count << 16;
                    // A hypervisor is present.
                    entry.ecx |= 1 << 31;
                    entry.ecx = entry.ecx & !(1 << 24) | u32::from(self.tsc_deadline) << 24;
                    // More than one logical processor in the package.
                    entry.edx = entry.edx & !(1 << 28) | u32::from(count > 1) << 28;
                }
                // Intel's caches: one core each; all cores in the package.
                0x4 if entry.eax & 0x1F != 0 => {
                    let sharing = if entry.eax >> 5 & 7 == 3 {
                        (1 << id_bits) - 1
                    } else {
                        0
                    };
                    entry.eax =
                        entry.eax & 0x3FFF | sharing << 14 | ((1 << id_bits) - 1).min(63) << 26;
                }
                // The highest basic leaf covers the topology leaf.
                0x0 => entry.eax = entry.eax.min(0x1F),
                // More than one core, the old AMD way of saying it; reserved on Intel's.
                0x8000_0001 if !intel => {
                    entry.ecx = entry.ecx & !(1 << 1) | u32::from(count > 1) << 1
                }
                0x8000_0008 if !intel => {
                    entry.ecx = entry.ecx & !0xF0FF | id_bits << 12 | (count - 1)
                }
                // AMD's caches: the third level is shared by all.
                0x8000_001D if entry.eax & 0x1F != 0 => {
                    let sharing = if entry.eax >> 5 & 7 == 3 {
                        count - 1
                    } else {
                        0
                    };
                    entry.eax = entry.eax & !(0xFFF << 14) | sharing << 14;
                }
                // One thread a core, one node.
                0x8000_001E => {
                    entry.eax = id;
                    entry.ebx = id & 0xFF;
                    entry.ecx = 0;
                }
                _ => {}
            }
        }
        if highest >= Some(0xB) {
            entries.extend(topology(0xB, id, id_bits, count));
        }
        if highest >= Some(0x1F) {
            entries.extend(topology(0x1F, id, id_bits, count));
        }
        entries
    }
}

/// The extended topology leaf: threads of a core, cores of the package, the end.
fn topology(function: u32, id: u32, id_bits: u32, count: u32) -> [kvm_cpuid_entry2; 3] {
    const SIGNIFICANT_INDEX: u32 = 1;
    const SMT: u32 = 1 << 8;
    const CORE: u32 = 2 << 8;
    let level = |index, shift, processors, kind| kvm_cpuid_entry2 {
        function,
        index,
        flags: SIGNIFICANT_INDEX,
        eax: shift,
        ebx: processors,
        ecx: kind | index,
        edx: id,
        ..Default::default()
    };
    [
        level(0, 0, 1, SMT),
        level(1, id_bits, count, CORE),
        level(2, 0, 0, 0),
    ]
}

fn set_lapic_register(registers: &mut [libc::c_char; 1024], offset: usize, delivery: u32) {
    for (register, byte) in registers[offset..offset + 4]
        .iter_mut()
        .zip(delivery.to_le_bytes())
    {
        *register = byte as libc::c_char;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> CpuTemplate {
        let leaf = |function, eax| kvm_cpuid_entry2 {
            function,
            eax,
            ..Default::default()
        };
        let entries = [
            leaf(0x0, 0x20),
            leaf(0x1, 0),
            leaf(0xB, 0),
            leaf(0x20, 0),
            leaf(0x8000_0008, 40),
            leaf(0x8000_001E, 0),
        ];
        CpuTemplate {
            supported: CpuId::from_entries(&entries).unwrap(),
            tsc_deadline: true,
        }
    }

    fn leaf(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *entries
            .iter()
            .find(|entry| entry.function == function && entry.index == index)
            .unwrap()
    }

    #[test]
    fn every_topology_leaf_names_the_same_processor() {
        for count in [1, 2, 3, 4, 64] {
            for id in 0..count {
                let entries = template().entries(id, count);
                assert_eq!(leaf(&entries, 0x1, 0).ebx >> 24, id);
                assert_eq!(leaf(&entries, 0xB, 0).edx, id);
                assert_eq!(leaf(&entries, 0xB, 1).edx, id);
                assert_eq!(leaf(&entries, 0x8000_001E, 0).eax, id);
            }
        }
    }

    #[test]
    fn every_topology_leaf_counts_the_same_processors() {
        for count in [1u32, 2, 3, 4, 64] {
            let entries = template().entries(0, count);
            assert_eq!(leaf(&entries, 0xB, 1).ebx, count);
            assert!(1 << leaf(&entries, 0xB, 1).eax >= count);
            assert_eq!(leaf(&entries, 0x8000_0008, 0).ecx & 0xFF, count - 1);
            assert_eq!(leaf(&entries, 0x1, 0).ebx >> 16 & 0xFF, count);
        }
    }

    #[test]
    fn amds_way_of_counting_cores_stays_with_amd() {
        let mut template = template();
        for entry in template.supported.as_mut_slice() {
            if entry.function == 0 {
                entry.ebx = INTEL;
            }
        }
        let entries = template.entries(0, 4);
        assert_eq!(leaf(&entries, 0x8000_0008, 0).ecx, 0);
        assert_eq!(leaf(&entries, 0xB, 1).ebx, 4);
    }

    #[test]
    fn address_bits_are_the_hosts() {
        assert_eq!(template().address_bits(), 40);
    }
}
