//! CSTS against a small model of it, which shares nothing with the controller: over every order of register
//! writes, resets, teardowns and faults that is drawn.

use std::sync::mpsc::channel;
use std::time::Duration;

use devices::lifecycle::{Deadline, Device, Phases};
use devices::pci::PciFunction;
use proptest::prelude::*;

use super::backend::TestBackend;
use super::driver::{DISK, ENABLE, Guest, config, eventually};
use crate::faults::{FaultSet, FlushFault, ShutdownFault};
use crate::spec::registers::offset;
use crate::{Behaviour, ShutdownModel};

/// RDY, CFS, SHST, PP and ST. NSSRO has tests of its own.
const SHOWN: u32 = 0b110_1111;
/// A command set that there is not.
const BAD_CSS: u32 = 5 << 4;
const NEVER: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A write of CC: EN, SHN, and whether the rest can be enabled with.
    Write {
        en: bool,
        shn: u32,
        bad: bool,
    },
    FunctionReset,
    BusReset,
    Teardown,
    /// NSSR.
    SubsystemReset,
    /// NSSD, abrupt or normal.
    SubsystemShutdown(bool),
    /// What becomes of shutdowns from now on.
    Shutdowns(Option<ShutdownFault>),
    /// Whether flushes fail from now on.
    Flushes(bool),
    /// The drive is pulled out and put back.
    Replug,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (any::<bool>(), 0..4_u32, prop::bool::weighted(0.1));
    let faults = prop::option::of(prop_oneof![
        Just(ShutdownFault::Hang),
        Just(ShutdownFault::Fatal)
    ]);
    let step = prop_oneof![
        12 => write.prop_map(|(en, shn, bad)| Step::Write { en, shn, bad }),
        1 => Just(Step::FunctionReset),
        1 => Just(Step::BusReset),
        1 => Just(Step::Teardown),
        1 => Just(Step::SubsystemReset),
        1 => any::<bool>().prop_map(Step::SubsystemShutdown),
        2 => faults.prop_map(Step::Shutdowns),
        1 => any::<bool>().prop_map(Step::Flushes),
        1 => Just(Step::Replug),
    ];
    prop::collection::vec(step, 1..25)
}

/// What CSTS says when everything has ended that will end by itself. A normal shutdown takes no time, an
/// abrupt one for ever.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    en: bool,
    shn: u32,
    ready: bool,
    refused: bool,
    fatal: bool,
    shst: u32,
    abrupt: bool,
    /// The subsystem was shut down: only its reset, or power, ends that.
    subsystem: bool,
    shutdowns: Option<ShutdownFault>,
    flushes_fail: bool,
}

impl Model {
    fn reset(&mut self) {
        (self.ready, self.refused) = (false, false);
        if !self.subsystem {
            (self.fatal, self.shst) = (false, 0);
        }
    }

    fn function_reset(&mut self) {
        self.reset();
        (self.en, self.shn) = (false, 0);
    }

    fn power_on(&mut self) {
        self.subsystem = false;
        self.function_reset();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write { en, shn, bad } => self.write(en, shn, bad),
            Step::Shutdowns(fault) => self.shutdowns = fault,
            Step::Flushes(fail) => self.flushes_fail = fail,
            Step::FunctionReset | Step::BusReset => self.function_reset(),
            Step::Teardown | Step::SubsystemReset | Step::Replug => self.power_on(),
            Step::SubsystemShutdown(abrupt) => {
                self.subsystem = true;
                self.shut_down(abrupt);
            }
        }
        if self.shst == 1 && !self.abrupt && !self.fatal && self.shutdowns.is_none() {
            self.shst = 2;
        }
    }

    fn write(&mut self, en: bool, shn: u32, bad: bool) {
        let (was_en, was_shn) = (self.en, self.shn);
        (self.en, self.shn) = (en, shn);
        if was_en && !en {
            self.reset();
        }
        if !was_en && en && !self.subsystem {
            (self.ready, self.refused) = (!bad, bad);
            // Whatever was asked for while it was disabled.
            if self.shst != 0 {
                (self.shst, self.fatal) = (0, false);
            }
        }
        // 11b is reserved.
        if (shn == 1 || shn == 2) && shn != was_shn {
            self.shut_down(shn == 2);
        }
    }

    fn shut_down(&mut self, abrupt: bool) {
        if self.shst == 0 {
            (self.shst, self.abrupt) = (1, abrupt);
            self.fatal |= self.flushes_fail || self.shutdowns == Some(ShutdownFault::Fatal);
        }
    }

    fn csts(&self) -> u32 {
        let fatal = u32::from(self.refused || self.fatal);
        u32::from(self.ready) | fatal << 1 | self.shst << 2 | u32::from(self.subsystem) << 6
    }
}

struct Machine {
    guest: Guest,
    behaviour: Behaviour,
}

impl Machine {
    fn new() -> Self {
        let behaviour = Behaviour {
            shutdown: ShutdownModel {
                abrupt_latency: NEVER.into(),
                ..ShutdownModel::default()
            },
            ..Behaviour::default()
        };
        let mut config = config(vec![TestBackend::new(DISK)]);
        config.behaviour = behaviour.clone();
        let guest = Guest::with(config);
        Self { guest, behaviour }
    }

    fn faults(&mut self, change: impl FnOnce(&mut FaultSet)) {
        change(&mut self.behaviour.faults);
        self.guest.controller.set_behaviour(&self.behaviour);
    }

    fn step(&mut self, step: Step) {
        let controller = self.guest.controller.clone();
        match step {
            Step::Write { en, shn, bad } => {
                // Without effect while it is enabled.
                self.guest.write(offset::AQA, 0x3F_003F);
                controller.write_bar(0, offset::ASQ, &0x10_0000_u64.to_le_bytes());
                controller.write_bar(0, offset::ACQ, &0x11_0000_u64.to_le_bytes());
                let css = if bad { BAD_CSS } else { 0 };
                self.guest
                    .write(offset::CC, ENABLE & !1 | u32::from(en) | shn << 14 | css);
            }
            Step::FunctionReset => {
                let at = self.guest.capability(0x10);
                controller.write_config(at + 8, 0x8000, 0xFF00);
            }
            Step::BusReset => controller.bus_reset(),
            Step::Teardown => {
                let by = Deadline::after(Duration::from_secs(20));
                // Flushes may be made to fail.
                let _ = controller.shut_down(by, &mut Phases::default());
            }
            Step::SubsystemReset => self.guest.write(offset::NSSR, 0x4E56_4D65),
            Step::SubsystemShutdown(abrupt) => {
                let value = if abrupt { 0x4162_7074 } else { 0x4E72_6D6C };
                self.guest.write(offset::NSSD, value);
            }
            Step::Shutdowns(fault) => self.faults(|faults| faults.shutdown = fault),
            Step::Flushes(fail) => {
                self.faults(|faults| faults.flush = fail.then_some(FlushFault::Fail));
            }
            Step::Replug => {
                self.faults(|faults| faults.removed = true);
                assert_eq!(self.guest.csts(), u32::MAX);
                self.faults(|faults| faults.removed = false);
            }
        }
    }

    /// Waits until the threads have done what they were asked to do before.
    fn settle(&self) {
        let (tell, told) = channel();
        self.guest
            .controller
            .drive
            .engine
            .post(Box::new(move || tell.send(()).unwrap()));
        told.recv().unwrap();
        // A flush that a later one waits for would have that meet the faults of another step.
        let controller = &self.guest.controller;
        eventually("the end of a flush", || !controller.is_flushing());
    }

    fn shown(&self) -> u32 {
        self.guest.csts() & SHOWN
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn csts_never_lies(steps in steps()) {
        let mut machine = Machine::new();
        let mut model = Model::default();
        for step in steps {
            machine.step(step);
            model.step(step);
            let expected = model.csts();
            eventually(&format!("{expected:#b} after {step:?}"), || machine.shown() == expected);
            machine.settle();
            prop_assert_eq!(machine.shown(), expected, "it did not stay so after {:?}", step);
        }
    }
}

#[test]
fn a_drive_enabled_after_a_shutdown_without_a_reset_is_in_use_again() {
    let mut guest = Guest::new();
    guest.write(offset::CC, ENABLE & !1 | 1 << 14);
    eventually("a completed shutdown", || guest.shst() == 2);
    guest.enable();
    assert_eq!(guest.shst(), 0, "what is written from now on is not safe");
    guest.create_pair(1);
    let by = Deadline::after(Duration::from_secs(20));
    guest
        .controller
        .shut_down(by, &mut Phases::default())
        .unwrap();
    let smart = guest.controller.drive.logs.smart(0);
    assert_eq!({ smart.unsafe_shutdowns }, 1);
}

#[test]
fn a_shutdown_begun_while_disabled_does_not_end_what_is_enabled_meanwhile() {
    let mut config = config(vec![TestBackend::new(DISK)]);
    config.behaviour.shutdown.latency = Duration::from_millis(300).into();
    let mut guest = Guest::with(config);
    guest.write(offset::CC, ENABLE & !1 | 1 << 14);
    assert_eq!(guest.shst(), 1);
    guest.enable();
    assert_eq!(guest.shst(), 0);
    guest.create_pair(1);
    // Past the moment at which it would have ended.
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(guest.shst(), 0);
    guest.create_pair(2);
}
