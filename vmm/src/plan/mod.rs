//! What a teardown would take, before anything is run. Pure: a configuration or a topology file in, plans
//! out, computed under the virtual clock by the very rules that the engine runs under. Knows no KVM.

mod answer;
mod assumption;
mod bound;
mod model;
mod report;
mod savings;
pub mod topology;

pub use answer::answer;
pub use model::Model;

use api::config::VmConfig;
use api::plan::Plans;

use crate::device_manager::list::ListError;
use crate::device_manager::resets::Resets;

/// What the machine of `config`, which has been validated, takes under each policy.
///
/// # Errors
/// The devices cannot be listed; validation should have seen it.
pub fn of_config(config: &VmConfig) -> Result<Plans, ListError> {
    of_machine(config, &Resets::default())
}

/// The same, of a machine that knows how its devices are reset.
///
/// # Errors
/// The devices cannot be listed; validation should have seen it.
pub fn of_machine(config: &VmConfig, resets: &Resets) -> Result<Plans, ListError> {
    let guest = Model::guest(config)?;
    let mut host = Model::host(config)?.with_resets(resets).report()?;
    host.warnings.extend(resets.warnings());
    Ok(Plans {
        policy: config.teardown.policy,
        host,
        guest: guest.map(|model| model.report()).transpose()?,
    })
}

#[cfg(test)]
mod tests;
