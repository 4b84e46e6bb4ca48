//! Devices that are passed through, in the machine's life: gone and back, and what they keep the machine from.

use api::error::{ApiError, ErrorCode};
use api::events::EventKind;
use api::report::TeardownReport;
use api::request::Reply;

use super::Machine;
use crate::device_manager::Until;
use crate::device_manager::passthrough::{DeviceNews, Devices};
use crate::device_manager::resets::Resets;

impl Machine {
    /// Deals with what has become of a device.
    pub fn device_news(&mut self, of: &Devices, id: String, news: DeviceNews) {
        let noted = self.devices.note(of, &id, &news);
        if noted.is_news {
            match news {
                DeviceNews::Gone(reason) => {
                    tracing::warn!(id, reason, "a device is gone");
                    let id = id.clone();
                    self.events.push(EventKind::DeviceGone { id, reason });
                }
                DeviceNews::Back => self.device_is_back(id.clone()),
                DeviceNews::Warning(message) => self.warn(format!("{id}: {message}")),
            }
        }
        if noted.is_quarantined {
            self.events.push(EventKind::DeviceQuarantined { id });
        }
    }

    fn device_is_back(&self, id: String) {
        tracing::info!(id, "a device is back");
        self.events.push(EventKind::DeviceBack { id });
    }

    /// How the devices that are passed through are reset.
    pub fn resets(&self) -> Resets {
        self.devices.resets(&self.config)
    }

    /// Does with the devices what has to be done after the teardown of `report`, and completes it. Returns whether
    /// the machine must not boot again.
    pub(super) fn judge(&mut self, report: &mut TeardownReport) -> bool {
        self.devices.fail_without_reset(&mut report.devices);
        let ended = report.devices.iter();
        let verdict = self
            .devices
            .judge(ended.map(|device| (device.id.as_str(), &device.outcome)));
        for device in &mut report.devices {
            device.reset_set = self.devices.reset_set(&device.id);
        }
        let resets = self.resets();
        report
            .warnings
            .extend(resets.one_after_the_other(&report.devices));
        report.warnings.extend(resets.warnings());
        for id in verdict.quarantined {
            self.events.push(EventKind::DeviceQuarantined { id });
        }
        for (id, error) in verdict.failed {
            report
                .warnings
                .push(format!("{id} is quarantined: {error}"));
        }
        for id in verdict.back {
            self.device_is_back(id);
        }
        for id in verdict.readmitted {
            tracing::info!(id, "the guest sees the device again");
        }
        for stuck in &verdict.stuck {
            let (id, ended, why) = (&stuck.id, stuck.ended, stuck.why);
            let until = match stuck.until {
                Some(Until::Quiet) => " until it is quiet, which vm.boot looks at; or",
                Some(Until::Asked) => " until vm.boot, which boots it without the device; or",
                None => ";",
            };
            let message = format!(
                "{id} {ended} ({why}): the machine stays stopped{until} delete it and create it anew"
            );
            report.warnings.push(message.clone());
            self.warn(message);
        }
        let stuck = !verdict.stuck.is_empty();
        self.stuck.extend(verdict.stuck);
        stuck
    }

    /// Tells those who asked for a boot that there is none: it has `failed`, or somebody else wanted the machine to be
    /// shut down meanwhile.
    pub(super) fn refuse_boot(&mut self, replies: Vec<Reply>, failed: bool) {
        for reply in replies {
            let refused = if failed {
                self.check_stuck().err().unwrap_or_else(|| {
                    let message = "vm.boot: the machine could not be booted and stays stopped; its events say why";
                    ApiError::new(ErrorCode::Internal, message)
                })
            } else {
                let message = "vm.boot: the machine was to be shut down (vm.shutdown, vm.delete or vmm.shutdown) before \
                               it had booted, and does not run";
                ApiError::new(ErrorCode::WrongState, message)
            };
            reply.send(Err(refused));
        }
    }

    /// Refuses to boot a machine with a device that may still write to guest memory.
    pub(super) fn check_stuck(&mut self) -> Result<(), ApiError> {
        let (devices, events) = (&mut self.devices, &self.events);
        self.stuck.retain(|stuck| {
            let left_out = devices.leave_out(stuck);
            // The guest has not seen one that was gone for a while, which was told.
            if left_out.is_quarantined {
                let id = stuck.id.clone();
                events.push(EventKind::DeviceQuarantined { id });
            }
            !left_out.is_quiet
        });
        let Some(stuck) = self.stuck.first() else {
            return Ok(());
        };
        let (id, ended) = (&stuck.id, stuck.ended);
        let end = if stuck.until.is_some() {
            "end its server, or whatever else drives it, or "
        } else {
            ""
        };
        let message = format!(
            "vm.boot: {id} {ended} and may still write to guest memory; {end}delete the machine and create it anew"
        );
        Err(ApiError::new(ErrorCode::WrongState, message).with_device(id))
    }
}
