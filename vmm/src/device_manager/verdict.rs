//! What becomes of devices that did not end as they should, and of those that are gone and come back.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::thread;

use api::config::OnTimeout;
use api::report::Outcome;

use super::passthrough::{AT_ONCE, DeviceNews, Devices};
use super::{DeviceManager, Listed};

/// What was done with devices after a teardown.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Gone from the guest since this teardown.
    pub quarantined: Vec<String>,
    /// Gone from the guest, since this teardown or an earlier one, with the error that they failed with.
    pub failed: Vec<(String, String)>,
    /// The guest sees them again.
    pub readmitted: Vec<String>,
    /// Users took them for gone, and nobody but this teardown knows that they are there.
    pub back: Vec<String>,
    /// Those for whose sake the machine must not boot again.
    pub stuck: Vec<Stuck>,
}

/// A device for whose sake the machine must not boot again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The device.
    pub id: String,
    /// How its teardown ended.
    pub ended: &'static str,
    /// Why the machine must not boot.
    pub why: &'static str,
    /// Until when it does not, where it may boot without the device at all.
    pub until: Option<Until>,
}

/// What `vm.boot` boots a machine without a device after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The device has become quiet, by what was done outside of the machine.
    Quiet,
    /// The device is quiet: it is `vm.boot` that is waited for.
    Asked,
}

/// What came of booting without a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// It is quiet, and nothing keeps the machine from booting without it.
    pub is_quiet: bool,
    /// It is quarantined since this, and was not before.
    pub is_quarantined: bool,
}

/// What there is to tell of news of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// They are news, and of a device of this machine.
    pub is_news: bool,
    /// The device is quarantined by them, and was not before.
    pub is_quarantined: bool,
}

const NOT_QUIET: &str = "it still uses guest memory";
const AS_CONFIGURED: &str = "on_timeout: stop";

impl DeviceManager {
    /// Does with the devices, each with how it ended, what is to be done: with those that did not end by their
    /// deadlines, and those that are passed through and failed, what their `on_timeout` says; and one that is passed
    /// through, was gone and is back is the guest's again.
    pub fn judge<'a>(&mut self, ended: impl Iterator<Item = (&'a str, &'a Outcome)>) -> Verdict {
        let mut verdict = Verdict::default();
        let ended: Vec<_> = ended.collect();
        let quiet = self.ask_quiet(&ended);
        for (id, outcome) in ended {
            let passed = self.passthrough.has(id);
            let is_quiet = quiet.contains(id);
            match outcome {
                Outcome::TimedOut => self.give_up(id, None, is_quiet, &mut verdict),
                Outcome::Failed { error } if passed && !self.is_given_up(id) => {
                    self.give_up(id, Some(error), is_quiet, &mut verdict)
                }
                // Where it is gone once more it stays away.
                Outcome::Done if self.passthrough.is_there(id) => {
                    if self.is_quarantined(id) {
                        self.root_complex.set_quarantined(id, false);
                        verdict.readmitted.push(id.to_owned());
                    }
                    // Its client had nothing to say where it was there all the time, and a reset of it had failed.
                    if self.passthrough.is_seen_again(id) {
                        verdict.back.push(id.to_owned());
                    }
                }
                _ => {}
            }
        }
        verdict
    }

    /// The devices that the machine might boot without, now or by `vm.boot`, and that are quiet. They are asked side by
    /// side: a server that is fenced takes a moment to end.
    fn ask_quiet<'a>(&self, ended: &[(&'a str, &'a Outcome)]) -> HashSet<&'a str> {
        let asked = ended.iter().filter_map(|(id, outcome)| {
            let is_given_up = match outcome {
                Outcome::TimedOut => true,
                Outcome::Failed { .. } => self.passthrough.has(id) && !self.is_given_up(id),
                Outcome::Done | Outcome::Removed => false,
            };
            let number = self.list.find(id).filter(|_| is_given_up)?;
            let listed = self.targets.0.get(number)?;
            let on_timeout = self.list.node(number).on_timeout;
            // One of the machine's own that it is to stop for stops it for good.
            let asks = on_timeout == OnTimeout::Quarantine || self.passthrough.has(id);
            asks.then_some((*id, &listed.device))
        });
        let asked: Vec<_> = asked.collect();
        let mut quiet = HashSet::new();
        for some in asked.chunks(AT_ONCE) {
            let answers = thread::scope(|scope| {
                let ask = some.iter().map(|(id, device)| {
                    let thread = thread::Builder::new().name("quiet".to_owned());
                    (
                        *id,
                        *device,
                        thread.spawn_scoped(scope, || device.is_quiet()),
                    )
                });
                let asking: Vec<_> = ask.collect();
                let answers = asking.into_iter().map(|(id, device, thread)| {
                    let is_quiet = match thread {
                        // One that panics has said nothing.
                        Ok(thread) => thread.join().unwrap_or(false),
                        // The host has no thread to spare.
                        Err(_) => device.is_quiet(),
                    };
                    (id, is_quiet)
                });
                answers.collect::<Vec<_>>()
            });
            quiet.extend(
                answers
                    .into_iter()
                    .filter_map(|(id, is_quiet)| is_quiet.then_some(id)),
            );
        }
        quiet
    }

    /// Gives a device up that failed with `error`, or whose deadline passed.
    fn give_up(&self, id: &str, error: Option<&String>, is_quiet: bool, verdict: &mut Verdict) {
        let Some(number) = self.list.find(id) else {
            return;
        };
        let Some(listed) = self.targets.0.get(number) else {
            return;
        };
        if error.is_none() {
            listed.given_up.store(true, Ordering::Release);
        }
        let passed = self.passthrough.has(id);
        let stuck = |why, until: Until| Stuck {
            id: id.to_owned(),
            ended: match error {
                Some(_) => "could not be shut down",
                None => "was not shut down by its deadline",
            },
            why,
            until: passed.then_some(until),
        };
        // Whoever asked for a boot without it knows.
        let stops = self.list.node(number).on_timeout == OnTimeout::Stop
            && !self.passthrough.is_left_out(id);
        match (is_quiet, stops) {
            (true, false) => {
                if self.quarantine(id) {
                    verdict.quarantined.push(id.to_owned());
                }
                let failed = error.map(|error| (id.to_owned(), error.clone()));
                verdict.failed.extend(failed);
            }
            // Whatever was asked for: the next boot would share its memory with the device.
            (false, _) if passed || !stops => verdict.stuck.push(stuck(NOT_QUIET, Until::Quiet)),
            _ => verdict.stuck.push(stuck(AS_CONFIGURED, Until::Asked)),
        }
    }

    /// Quarantines a device. Returns whether it was not so before.
    pub fn quarantine(&self, id: &str) -> bool {
        !self.is_quarantined(id) && self.root_complex.set_quarantined(id, true)
    }

    fn is_quarantined(&self, id: &str) -> bool {
        let bus = self.root_complex.bus();
        bus.find(id).is_some_and(|node| node.is_quarantined())
    }

    fn is_given_up(&self, id: &str) -> bool {
        let number = self.list.find(id);
        let listed = number.and_then(|number| self.targets.0.get(number));
        listed.is_some_and(Listed::is_given_up)
    }

    /// Whether the guest does not see a device that may have come back by now.
    pub fn has_devices_away(&self) -> bool {
        let mut ids = self.passthrough.ids();
        ids.any(|id| self.is_quarantined(id))
    }

    /// Why the guest does not see a device that is passed through; none if it does, or the device is another.
    pub fn why_away(&self, id: &str) -> Option<String> {
        if !self.passthrough.has(id) {
            return None;
        }
        let why = self.passthrough.why_away(id);
        why.or_else(|| (self.is_quarantined(id)).then(|| "it is quarantined".to_owned()))
    }

    /// Has the machine boot without a device for whose sake it did not, if that is quiet by now: says whether it is, and
    /// whether it is quarantined by this, and was not before.
    pub fn leave_out(&mut self, stuck: &Stuck) -> LeftOut {
        let number = self.list.find(&stuck.id);
        let listed = number.and_then(|number| self.targets.0.get(number));
        let is_quiet =
            stuck.until.is_some() && listed.is_some_and(|listed| listed.device.is_quiet());
        if is_quiet {
            self.passthrough.leave_out(&stuck.id);
        }
        LeftOut {
            is_quiet,
            is_quarantined: is_quiet && self.quarantine(&stuck.id),
        }
    }

    /// Takes note of what has become of a device that is passed through: one that is gone is quarantined, unless it
    /// has been through a teardown since then that found it back.
    pub fn note(&mut self, of: &Devices, id: &str, news: &DeviceNews) -> Noted {
        let mut noted = Noted::default();
        if !self.passthrough.is_ours(of) {
            return noted;
        }
        noted.is_news = self.passthrough.note(id, news);
        if let DeviceNews::Gone(_) = news
            && !self.passthrough.is_there(id)
        {
            noted.is_quarantined = self.quarantine(id);
        }
        noted
    }
}
