//! A machine that is made anew with other devices, while it does not run.

use api::config::{AddDevice, ConfigError, DeviceAdded, VmConfig};
use api::error::ApiError;
use api::events::EventKind;
use api::request::{Reply, Response};

use super::Vmm;
use super::work::UnderWay;
use crate::vm::{CreateError, Machine, Past};

/// A machine that is made anew.
pub(super) struct Rebuild {
    /// What it is to be made of; none once that is tried.
    config: Option<VmConfig>,
    /// What it was made of.
    before: VmConfig,
    /// What the one before has been through, once that is gone with all that it held of the host.
    past: Option<Past>,
    /// Why it could not be made with other devices: it is to be made as it was.
    failure: Option<ApiError>,
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
        let changed = machine.check_changeable(call).and_then(|()| {
            let changed = change(machine.config())?;
            machine.check_devices_there(call, &changed.0)?;
            Ok(changed)
        });
        match changed {
            Ok((config, event, response)) => {
                let place = match &event {
                    EventKind::DeviceAdded { id } => config.place_of(id),
                    _ => None,
                };
                let rebuild = Rebuild {
                    place: place.unwrap_or_default(),
                    config: Some(config),
                    before: machine.config().clone(),
                    past: None,
                    failure: None,
                    event,
                    response,
                    reply,
                };
                self.start_ending(machine, rebuild);
            }
            Err(error) => {
                self.machine = Some(machine);
                reply.send(Err(error));
            }
        }
    }

    /// The machine before is gone: makes it anew. Its serial port has been closed too.
    pub(super) fn is_ended(&mut self, mut rebuild: Rebuild, past: Past) {
        rebuild.past = Some(past);
        let config = rebuild.config.take();
        let config = config.unwrap_or_else(|| rebuild.before.clone());
        self.start_making(config, UnderWay::Rebuilding(Box::new(rebuild)));
    }

    /// The machine is made anew, or could not be. One that cannot be made is made as it was before.
    pub(super) fn is_made_anew(
        &mut self,
        mut rebuild: Rebuild,
        made: Result<Machine, CreateError>,
    ) {
        match (made, rebuild.failure.take()) {
            (Ok(mut machine), failure) => {
                if let Some(past) = rebuild.past {
                    machine.remember(past);
                }
                let answer = match failure {
                    None => {
                        self.events.push(rebuild.event);
                        machine.warn_of_order();
                        Ok(rebuild.response)
                    }
                    Some(failure) => Err(failure),
                };
                self.machine = Some(machine);
                rebuild.reply.send(answer);
            }
            (Err(error), None) => {
                let error = ApiError::from(error);
                let field = error.field.clone();
                rebuild.failure = Some(ApiError {
                    field: field.map(|field| from_body(field, &rebuild.place)),
                    ..error
                });
                let before = rebuild.before.clone();
                self.start_making(before, UnderWay::Rebuilding(Box::new(rebuild)));
            }
            (Err(gone), Some(failure)) => {
                let message = format!(
                    "the machine is gone: it could not be made as it was before its devices were to be changed: {gone}"
                );
                tracing::error!("{message}");
                self.events.push(EventKind::Warning {
                    message: message.clone(),
                });
                self.events.push(EventKind::VmDeleted);
                rebuild.reply.send(Err(failure.with_cause(message)));
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
