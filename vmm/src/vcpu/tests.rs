//! vCPUs on the host's own KVM; where there is none, these tests have nothing to say.

use std::sync::Mutex;

use devices::pci::{Bus, RootComplex};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::Kvm;
use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset, PioRange};
use vm_device::device_manager::{IoManager, PioManager};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::*;

const PORT: u16 = 0x3F8;

/// Answers reads with 1, 2, 3, …, and keeps what is written and how wide it was.
#[derive(Default)]
struct Counter {
    reads: Mutex<u8>,
    written: Mutex<Vec<Vec<u8>>>,
}

impl DevicePio for Counter {
    fn pio_read(&self, _: PioAddress, _: PioAddressOffset, data: &mut [u8]) {
        for byte in data {
            let mut reads = self.reads.lock().unwrap();
            *reads += 1;
            *byte = *reads;
        }
    }

    fn pio_write(&self, _: PioAddress, _: PioAddressOffset, data: &[u8]) {
        self.written.lock().unwrap().push(data.to_vec());
    }
}

struct Quiet;

impl EventSink for Quiet {
    fn send(&self, _: GuestEvent, _: Instant) {}
}

impl VcpuMonitor for Quiet {
    fn failed(&self, _: u8, _: String) {}
}

#[test]
fn a_vcpu_is_put_back_to_power_on() {
    let Ok(kvm) = Kvm::new() else { return };
    let vm = kvm.create_vm().unwrap();
    vm.create_irq_chip().unwrap();
    let fd = vm.create_vcpu(0).unwrap();
    let cpuid = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .unwrap();
    fd.set_cpuid2(&cpuid).unwrap();
    let before = (fd.get_regs().unwrap(), fd.get_fpu().unwrap());
    let power_on = PowerOnState::read(0, &fd, &kvm).unwrap();

    let mut regs = before.0;
    regs.rax = 0x1234;
    fd.set_regs(&regs).unwrap();
    let mut fpu = before.1;
    fpu.xmm[3] = [0xA5; 16];
    fd.set_fpu(&fpu).unwrap();
    assert_eq!(fd.get_fpu().unwrap().xmm[3], [0xA5; 16]);

    power_on.restore(0, &fd, None).unwrap();
    assert_eq!(fd.get_regs().unwrap(), before.0);
    assert_eq!(fd.get_fpu().unwrap().xmm, before.1.xmm);
}

#[test]
fn a_string_instruction_reaches_one_port_again_and_again() {
    let Ok(kvm) = Kvm::new() else { return };
    let vm = kvm.create_vm().unwrap();
    vm.create_irq_chip().unwrap();
    let memory =
        vm_memory::GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
    // mov dx, PORT; mov cx, 4; mov di, 0x2000; rep insb; mov cx, 4; mov si, 0x2000; rep outsb; hlt (not reached)
    let code = [
        0xBA, 0xF8, 0x03, 0xB9, 4, 0, 0xBF, 0, 0x20, 0xF3, 0x6C, 0xB9, 4, 0, 0xBE, 0, 0x20, 0xF3,
        0x6E, 0xF4,
    ];
    memory.write_slice(&code, GuestAddress(0x1000)).unwrap();
    let slot = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: 0x1_0000,
        userspace_addr: memory.get_host_address(GuestAddress(0)).unwrap() as u64,
    };
    // SAFETY: the memory outlives the virtual machine.
    unsafe { vm.set_user_memory_region(slot) }.unwrap();
    let fd = vm.create_vcpu(0).unwrap();
    let mut sregs = fd.get_sregs().unwrap();
    for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es] {
        segment.base = 0;
        segment.selector = 0;
    }
    fd.set_sregs(&sregs).unwrap();
    let mut regs = fd.get_regs().unwrap();
    regs.rip = 0x1000;
    regs.rflags = 2;
    fd.set_regs(&regs).unwrap();

    let counter = Arc::new(Counter::default());
    let mut ports = IoManager::new();
    let range = PioRange::new(PioAddress(PORT), 1).unwrap();
    ports.register_pio(range, counter.clone()).unwrap();
    let root = RootComplex::new(Arc::new(Bus::root(Vec::new()).unwrap()), Vec::new());
    let (_commands, commands) = channel();
    let (answers, _answers) = channel();
    let mut vcpu = Vcpu {
        index: 0,
        power_on: PowerOnState::read(0, &fd, &kvm).unwrap(),
        fd,
        space: Arc::new(AddressSpace::new(ports, Arc::new(root))),
        monitor: Arc::new(Quiet),
        pause: Arc::new(AtomicBool::new(false)),
        commands,
        answers,
    };
    for _ in 0..100 {
        if counter.written.lock().unwrap().len() == 4 {
            break;
        }
        assert!(matches!(vcpu.enter(), Left::Access | Left::Interrupted));
    }
    let written = counter.written.lock().unwrap();
    assert_eq!(*written, [[1], [2], [3], [4]]);
}
