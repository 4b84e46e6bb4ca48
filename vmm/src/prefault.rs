//! Guest memory mapped by KVM before the guest runs, so that no first touch of a page leaves the guest.
#![allow(unsafe_code)] // An ioctl that kvm-ioctls does not have.

use std::io;
use std::time::Instant;

use kvm_bindings::{KVM_CAP_PRE_FAULT_MEMORY, KVMIO, kvm_pre_fault_memory};
use kvm_ioctls::{Kvm, VcpuFd};
use tracing::{debug, info, warn};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

use crate::memory::GuestRam;

ioctl_iowr_nr!(KVM_PRE_FAULT_MEMORY, KVMIO, 0xD5, kvm_pre_fault_memory);

/// Has KVM map all of `memory`, by a vCPU that no thread runs yet; its CPUID must be set. The tables are the
/// machine's, of all vCPUs, and outlive its resets. Where KVM cannot (Linux before 6.11, or a CPU without
/// nested paging), pages are mapped when the guest touches them, as without it.
pub(crate) fn map_all(kvm: &Kvm, vcpu: &VcpuFd, memory: &GuestRam) {
    if kvm.check_extension_raw(u64::from(KVM_CAP_PRE_FAULT_MEMORY)) <= 0 {
        debug!(
            "this host's KVM maps guest memory only when it is touched (Linux 6.11 maps it before)"
        );
        return;
    }
    let begin = Instant::now();
    for region in memory.iter() {
        let (address, size) = (region.start_addr().0, region.len());
        if let Err(error) = map(vcpu, address, size) {
            warn!("KVM maps guest memory at {address:#x} only when it is touched: {error}");
            return;
        }
    }
    let milliseconds = begin.elapsed().as_millis() as u64;
    info!(milliseconds, "KVM has mapped all guest memory");
}

fn map(vcpu: &VcpuFd, address: u64, size: u64) -> io::Result<()> {
    let mut range = kvm_pre_fault_memory {
        gpa: address,
        size,
        ..kvm_pre_fault_memory::default()
    };
    while range.size > 0 {
        // SAFETY: the descriptor is a vCPU's, and the argument is the structure that the call reads and
        // writes; it moves the range's beginning to where it came.
        let result = unsafe { ioctl_with_mut_ref(vcpu, KVM_PRE_FAULT_MEMORY(), &mut range) };
        if result >= 0 {
            continue;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN) => {}
            _ => return Err(error),
        }
    }
    Ok(())
}
