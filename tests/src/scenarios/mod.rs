//! The system tests: what a machine must do on a true KVM, with a stock kernel as its guest.
//! Layers, top down: `run` and `result`; a file a subject; `machine`, a running machine with its console
//! and events; `process`, `design`, `tiny`, `order`, what a machine is made of and checked by.

mod actions;
mod api_calls;
mod behaviour;
mod changes;
pub mod compare;
mod console;
mod cpus;
mod data;
mod design;
mod errors;
pub mod figures;
mod guest;
mod intx;
mod life;
mod links;
mod machine;
mod many;
mod measure;
mod order;
pub mod passthrough;
mod pci;
mod predictions;
mod process;
mod qemu;
mod resets;
pub mod result;
pub mod run;
mod served;
mod servers;
mod soak;
mod stage;
mod suites;
mod teardown;
mod tiny;
mod usage;
mod vcpu;

use std::time::Duration;

use anyhow::Result;

pub use stage::{Files, Stage};

/// One system test.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, unique.
    pub name: &'static str,
    /// After this it has failed.
    pub limit: Duration,
    /// Whether it passes drives of its host through: those are there in the lab host alone.
    pub vfio: bool,
    /// What it does.
    pub run: fn(&mut Stage) -> Result<()>,
}

impl Scenario {
    const fn new(name: &'static str, seconds: u64, run: fn(&mut Stage) -> Result<()>) -> Self {
        Self {
            name,
            limit: Duration::from_secs(seconds),
            vfio: false,
            run,
        }
    }

    /// The same for a host with drives that are bound to VFIO.
    const fn with_vfio(self) -> Self {
        Self { vfio: true, ..self }
    }
}

/// All scenarios, the quick ones first.
pub fn all() -> Vec<Scenario> {
    let passthrough = passthrough::scenarios();
    [
        errors::SCENARIOS,
        api_calls::SCENARIOS,
        teardown::SCENARIOS,
        measure::SCENARIOS,
        actions::SCENARIOS,
        links::SCENARIOS,
        behaviour::SCENARIOS,
        changes::SCENARIOS,
        servers::SCENARIOS,
        vcpu::SCENARIOS,
        intx::SCENARIOS,
        cpus::SCENARIOS,
        resets::SCENARIOS,
        life::SCENARIOS,
        pci::SCENARIOS,
        guest::SCENARIOS,
        predictions::SCENARIOS,
        suites::nvme_cli::SCENARIOS,
        suites::commands::SCENARIOS,
        suites::namespaces::SCENARIOS,
        suites::erase::SCENARIOS,
        suites::fio::SCENARIOS,
        suites::resets::SCENARIOS,
        suites::file_systems::SCENARIOS,
        &passthrough,
        many::SCENARIOS,
        soak::SCENARIOS,
        data::SCENARIOS,
    ]
    .concat()
}
