//! The table over a KVM that is played: one call a change, none for what is so already, and the bound.

use std::os::fd::AsRawFd;

use super::*;

/// The addresses that KVM knows, the calls, and whether it refuses.
#[derive(Default)]
struct Played {
    registered: Mutex<BTreeMap<u64, i32>>,
    calls: Mutex<u32>,
    refuses: Mutex<bool>,
}

impl Played {
    fn call(&self) -> io::Result<()> {
        *self.calls.lock().unwrap() += 1;
        match *self.refuses.lock().unwrap() {
            true => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
            false => Ok(()),
        }
    }

    fn addresses(&self) -> Vec<u64> {
        self.registered.lock().unwrap().keys().copied().collect()
    }
}

impl Registrar for Played {
    fn register(&self, address: u64, event: &EventFd) -> io::Result<()> {
        self.call()?;
        let mut registered = self.registered.lock().unwrap();
        assert_eq!(registered.insert(address, event.as_raw_fd()), None);
        Ok(())
    }

    fn unregister(&self, address: u64, event: &EventFd) -> io::Result<()> {
        self.call()?;
        let mut registered = self.registered.lock().unwrap();
        assert_eq!(registered.remove(&address), Some(event.as_raw_fd()));
        Ok(())
    }
}

fn table(most: usize) -> (IoEventTable, Arc<Played>) {
    let vm = Arc::new(Played::default());
    let table = IoEventTable {
        vm: Arc::clone(&vm) as _,
        most,
        connected: Mutex::default(),
    };
    (table, vm)
}

fn event() -> Arc<EventFd> {
    Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap())
}

#[test]
fn what_is_so_already_costs_no_call() {
    let (table, vm) = table(10);
    let (first, second) = (event(), event());
    for _ in 0..3 {
        table.connect(GuestAddress(0x1008), &first).unwrap();
    }
    table.disconnect(GuestAddress(0x1010), &first).unwrap();
    table.disconnect(GuestAddress(0x1008), &second).unwrap();
    assert_eq!(*vm.calls.lock().unwrap(), 1);
    // Another one takes the address over.
    table.connect(GuestAddress(0x1008), &second).unwrap();
    table.disconnect(GuestAddress(0x1008), &first).unwrap();
    assert_eq!(vm.addresses(), [0x1008]);
    table.disconnect(GuestAddress(0x1008), &second).unwrap();
    assert_eq!(vm.addresses(), [0; 0]);
}

#[test]
fn a_full_table_takes_none_and_says_so() {
    let (table, vm) = table(2);
    let event = event();
    for at in [8, 16] {
        table.connect(GuestAddress(at), &event).unwrap();
    }
    let refused = table.connect(GuestAddress(24), &event).unwrap_err();
    assert!(refused.to_string().contains("2 ioeventfds"), "{refused}");
    table.disconnect(GuestAddress(8), &event).unwrap();
    table.connect(GuestAddress(24), &event).unwrap();
    assert_eq!(vm.addresses(), [16, 24]);
}

#[test]
fn a_range_is_cleared_of_all_that_is_in_it() {
    let (table, vm) = table(10);
    let event = event();
    for at in [0x0FF8, 0x1000, 0x1FFF, 0x2000] {
        table.connect(GuestAddress(at), &event).unwrap();
    }
    table.clear(&(0x1000..=0x1FFF));
    assert_eq!(vm.addresses(), [0x0FF8, 0x2000]);
}

#[test]
fn what_kvm_refuses_to_forget_is_tried_again() {
    let (table, vm) = table(10);
    let event = event();
    table.connect(GuestAddress(8), &event).unwrap();
    *vm.refuses.lock().unwrap() = true;
    table.disconnect(GuestAddress(8), &event).unwrap_err();
    table.clear(&(0..=16));
    table.connect(GuestAddress(16), &event).unwrap_err();
    *vm.refuses.lock().unwrap() = false;
    table.disconnect(GuestAddress(8), &event).unwrap();
    assert_eq!(vm.addresses(), [0; 0]);
}
