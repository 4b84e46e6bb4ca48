//! KVM's VFIO device: tells KVM which devices of the host are in the guest, so that it honours what those need, such
//! as writing caches back for a device that does not snoop them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, kvm_create_device,
    kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_VFIO,
};
use kvm_ioctls::{DeviceFd, VmFd};
use passthrough::vfio::Assignment;

/// The VFIO device of one virtual machine. Made when it is first needed: a host's KVM may have none.
pub struct KvmVfio {
    vm: Arc<VmFd>,
    device: Mutex<Option<Arc<DeviceFd>>>,
}

impl KvmVfio {
    /// That of `vm`, which has no other.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self {
            vm,
            device: Mutex::default(),
        }
    }

    /// A KVM without this device is none that has to know: most devices work without.
    fn change(&self, attribute: u32, file: BorrowedFd<'_>) -> io::Result<()> {
        let device = match self.device() {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                if attribute == KVM_DEV_VFIO_FILE_ADD {
                    tracing::warn!(
                        "this host's KVM has no VFIO device: devices that do not snoop caches may fail"
                    );
                }
                return Ok(());
            }
            device => device?,
        };
        let descriptor: i32 = file.as_raw_fd();
        let attribute = kvm_device_attr {
            group: KVM_DEV_VFIO_FILE,
            attr: attribute.into(),
            addr: (&raw const descriptor) as u64,
            flags: 0,
        };
        device.set_device_attr(&attribute).map_err(host_error)
    }

    fn device(&self) -> io::Result<Arc<DeviceFd>> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*device {
            return Ok(Arc::clone(made));
        }
        let mut asked = kvm_create_device {
            type_: kvm_device_type_KVM_DEV_TYPE_VFIO,
            fd: 0,
            flags: 0,
        };
        let made = self.vm.create_device(&mut asked).map_err(host_error)?;
        let made = Arc::new(made);
        *device = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl Assignment for KvmVfio {
    fn add(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.change(KVM_DEV_VFIO_FILE_ADD, file)
    }

    fn remove(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.change(KVM_DEV_VFIO_FILE_DEL, file)
    }
}

fn host_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    #[ignore = "needs KVM"]
    fn a_file_that_is_no_device_is_refused_by_a_device_that_is_made_once() {
        let kvm = kvm_ioctls::Kvm::new();
        let kvm = kvm.expect("this test needs KVM: /dev/kvm, readable and writable");
        let assignment = KvmVfio::new(Arc::new(kvm.create_vm().unwrap()));
        let first = assignment.device();
        let first = first.expect("this test needs KVM's VFIO device (the host's CONFIG_KVM_VFIO)");
        assert!(Arc::ptr_eq(&first, &assignment.device().unwrap()));
        let file = File::open("/dev/null").unwrap();
        assert!(assignment.add(file.as_fd()).is_err());
        assert!(assignment.remove(file.as_fd()).is_err());
    }
}
