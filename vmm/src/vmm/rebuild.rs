//! A machine that is made anew with other devices, while it does not run.

use api::config::{AddDevice, ConfigError, DeviceAdded, VmConfig};
use api::error::ApiError;
use api::events::EventKind;
use api::request::{Reply, Response};

use super::Vmm;
use crate::vm::{CreateError, Machine, Past};

/// A machine that is to be made anew. The one before is gone, with all that it held of the host.
pub(super) struct Rebuild {
    /// What it is to be made of.
    config: VmConfig,
    /// What it was made of.
    before: VmConfig,
    past: Past,
    /// Where the device that comes is written then; empty for one that goes.
    place: String,
    /// What has happened then.
    event: EventKind,
    response: Response,
    reply: Reply,
}

impl Vmm {
    /// Adds the device that `added` makes of the configuration.
    pub(super) fn add_device(
        &mut self,
        call: &str,
        added: impl FnOnce(&VmConfig) -> Result<AddDevice, ConfigError>,
        reply: Reply,
    ) {
        self.begin_rebuild(call, reply, |config| {
            let added = added(config)?;
            let id = added.device.id().to_owned();
            let event = EventKind::DeviceAdded { id: id.clone() };
            let response = Response::Added(DeviceAdded { id });
            Ok((config.with_device(&added)?, event, response))
        });
    }

    /// Removes a device.
    pub(super) fn remove_device(&mut self, call: &str, id: String, reply: Reply) {
        self.begin_rebuild(call, reply, |config| {
            let without = config.without_device(&id)?;
            Ok((without, EventKind::DeviceRemoved { id }, Response::Done))
        });
    }

    /// Ends the machine, which is to be made anew as `change` says. Its files and sockets are free afterwards.
    fn begin_rebuild(
        &mut self,
        call: &str,
        reply: Reply,
        change: impl FnOnce(&VmConfig) -> Result<(VmConfig, EventKind, Response), ConfigError>,
    ) {
        let Some(machine) = self.machine.take() else {
            return;
        };
        let changed = machine
            .check_changeable(call)
            .and_then(|()| Ok(change(machine.config())?));
        match changed {
            Ok((config, event, response)) => {
                let place = match &event {
                    EventKind::DeviceAdded { id } => config.place_of(id),
                    _ => None,
                };
                self.rebuild = Some(Rebuild {
                    place: place.unwrap_or_default(),
                    config,
                    before: machine.config().clone(),
                    past: machine.end(),
                    event,
                    response,
                    reply,
                });
            }
            Err(error) => {
                self.machine = Some(machine);
                reply.send(Err(error));
            }
        }
    }

    /// Makes the machine anew that was ended for it. One that cannot be made is made as it was before.
    pub(super) fn end_rebuild(&mut self) {
        let Some(rebuild) = self.rebuild.take() else {
            return;
        };
        let made = Machine::create(rebuild.config, self.mailbox.clone(), self.events.clone());
        let answer = match made {
            Ok(mut machine) => {
                machine.remember(rebuild.past);
                self.events.push(rebuild.event);
                machine.warn_of_order();
                self.machine = Some(machine);
                Ok(rebuild.response)
            }
            Err(error) => {
                let error = self.restore(rebuild.before, rebuild.past, error);
                Err(ApiError {
                    field: error.field.map(|field| from_body(field, &rebuild.place)),
                    ..error
                })
            }
        };
        rebuild.reply.send(answer);
    }

    /// Makes the machine as it was. Returns what its client is told.
    fn restore(&mut self, before: VmConfig, past: Past, error: CreateError) -> ApiError {
        let error = ApiError::from(error);
        match Machine::create(before, self.mailbox.clone(), self.events.clone()) {
            Ok(mut machine) => {
                machine.remember(past);
                self.machine = Some(machine);
                error
            }
            Err(gone) => {
                let message = format!(
                    "the machine is gone: it could not be made as it was before its devices were to be changed: {gone}"
                );
                tracing::error!("{message}");
                self.events.push(EventKind::Warning {
                    message: message.clone(),
                });
                self.events.push(EventKind::VmDeleted);
                error.with_cause(message)
            }
        }
    }
}

/// A field as the body of the call has it, in which the device at `place` stands alone.
fn from_body(field: String, place: &str) -> String {
    let own = field
        .strip_prefix(place)
        .and_then(|rest| rest.strip_prefix('.'));
    own.map(str::to_owned).unwrap_or(field)
}
