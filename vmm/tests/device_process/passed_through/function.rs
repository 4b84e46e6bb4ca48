//! The function that a guest sees of the drive, shut down as at each reboot: with the process there, dead, and back.

use std::io;

use devices::direct_map::{GuestMapper, MapSlot};
use devices::interrupt::{MsiMessage, MsiRouter, Route};
use devices::lifecycle::{Device as _, Phases};
use devices::pci::{Attachment, PciFunction as _};
use passthrough::{Function, FunctionConfig, Machine};
use vm_memory::MmapRegion;

use super::*;

/// A machine that routes and maps as it is told, and never interrupts.
struct Idle;

impl MsiRouter for Idle {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        Ok((0..vectors.len() as u32).map(Route).collect())
    }

    fn set_messages(&self, _: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        Ok(())
    }

    fn detach(&self, _: &[(Route, &EventFd)]) {}
}

impl GuestMapper for Idle {
    fn map(&self, _: GuestAddress, _: &Arc<MmapRegion>) -> io::Result<MapSlot> {
        Ok(MapSlot(0))
    }

    fn unmap(&self, _: MapSlot) -> io::Result<()> {
        Ok(())
    }
}

fn function(client: Arc<UserDevice>) -> Arc<Function> {
    let config = FunctionConfig {
        id: "drive".into(),
        attachment: Attachment::Express,
    };
    let machine = Machine {
        router: Arc::new(Idle),
        pin: None,
        mapper: Arc::new(Idle),
        io_events: None,
    };
    Function::new(config, client, machine).unwrap()
}

/// Shuts the function down; the phases, or why not.
fn shut_down(function: &Function) -> Result<Vec<&'static str>, String> {
    let mut phases = Phases::default();
    match function.shut_down(soon(), &mut phases) {
        Ok(_) => Ok(phases.as_slice().iter().map(|phase| phase.name).collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn cap(function: &Function) -> [u8; 8] {
    let mut cap = [0; 8];
    function.read_bar(0, CAP, &mut cap);
    cap
}

/// Memory decoding and bus mastering, by the guest.
fn turn_on(function: &Function) {
    let _ = function.write_config(4, 6, 0xFFFF);
    assert_eq!(function.read_config(4) & 6, 6);
}

#[test]
fn a_function_over_a_drive_is_shut_down_in_place_and_comes_back_with_its_process() {
    let mut process = Process::start("function");
    let guest = Guest::of(&process);
    let function = function(Arc::clone(&guest.device));
    let identity = function.read_config(0);
    assert_ne!(identity, u32::MAX);
    turn_on(&function);
    let found = cap(&function);
    assert_ne!(found, [0xFF; 8]);
    for _ in 0..3 {
        let phases = shut_down(&function).unwrap();
        assert_eq!(phases, ["quiesce", "reset", "re-arm"]);
        assert_eq!(function.read_config(4) & 6, 0, "as after power-on");
        turn_on(&function);
        assert_eq!(cap(&function), found);
    }

    process.kill();
    guest.watcher.hears("gone");
    assert_eq!(cap(&function), [0xFF; 8]);
    let failed = shut_down(&function).unwrap_err();
    assert!(failed.contains("the device is gone"), "{failed}");
    assert!(function.is_quiet(), "its process has ended");
    process.restart();
    drop(process.connect());
    let phases = shut_down(&function).unwrap();
    assert_eq!(phases, ["revive", "quiesce", "reset", "re-arm"]);
    assert_eq!(function.read_config(0), identity);
    turn_on(&function);
    assert_eq!(cap(&function), found);
}
