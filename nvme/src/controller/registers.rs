//! Register accesses and what they set off. CSTS is computed at each read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use devices::guest_acts::{Act, Handshake};

use super::Controller;
use super::behaviour::Models;
use super::subsystem::Subsystem;
use crate::faults::ShutdownFault;
use crate::gate::lock;
use crate::session::Session;
use crate::shutdown::Shutdown;
use crate::spec::VERSION;
use crate::spec::registers::{
    AdminQueueAttributes, Capabilities, Configuration, ControllerStatus, ShutdownKind, offset,
};

/// CAP.TO and CRTO in 500 ms units: twice the bound of a reset, so that the host sees CFS before it gives up.
const READY_TIMEOUT: u8 = 40;

/// The registers that hold something, and the state behind CSTS.
#[derive(Default)]
pub(super) struct Registers {
    pub(super) cc: Configuration,
    pub(super) aqa: AdminQueueAttributes,
    pub(super) asq: u64,
    pub(super) acq: u64,
    pub(super) state: State,
    pub(super) shutdown: Shutdown,
    /// Counts shutdowns, so that the timer and the flush of one do not end another.
    pub(super) epoch: u64,
    /// A shutdown waits for the control thread to arm its timer, for this moment, and to begin its flush.
    pub(super) pending: Option<Instant>,
    /// A flush of an earlier or of this shutdown runs; another one then waits for its end.
    pub(super) flushing: bool,
    pub(super) flush_again: bool,
    /// A shutdown went wrong: CSTS.CFS, whether or not a session shows it too.
    pub(super) fatal: bool,
    /// What shutdowns and teardowns take. No reset changes it.
    pub(super) models: Models,
    /// What becomes of a shutdown. No reset ends it.
    pub(super) shutdown_fault: Option<ShutdownFault>,
    /// Enabled since the last power-on or completed shutdown.
    pub(super) used: bool,
    /// What its resets and shutdowns leave behind. Resets of the controller do not end it.
    pub(super) subsystem: Subsystem,
}

/// See the header of [`controller`](super).
#[derive(Default)]
pub(super) enum State {
    #[default]
    Idle,
    Refused,
    Ready(Arc<Session>),
    Draining {
        session: Arc<Session>,
        /// Whether CSTS.RDY still says 1: after EN 1→0, not after a reset of the function.
        ready: bool,
        /// The bound passed.
        overdue: bool,
    },
}

/// What is to be done once the registers are unlocked.
#[derive(Default)]
#[must_use]
pub(super) struct Aftermath {
    /// A session was closed: when it is empty, say so.
    pub(super) draining: Option<Arc<Session>>,
    /// The control thread has something to begin.
    pub(super) service: bool,
}

impl Controller {
    /// CAP (3.1.3.1).
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .with_mqes_z((crate::admin::MAX_ENTRIES - 1) as u16)
            .with_cqr(true)
            .with_to(READY_TIMEOUT)
            // The NVM command set, and the I/O command set structures of Identify.
            .with_css(1 | 1 << 6)
            // Ready with media.
            .with_crms(1)
            // The subsystem can be reset and shut down, all of it at once.
            .with_cps(0b11)
            .with_nssrs(true)
            .with_nsss(true)
    }

    /// Reads the 32-bit register at `offset`.
    pub(crate) fn read_register(&self, at: u64) -> u32 {
        match at {
            offset::CAP => u64::from(self.capabilities()) as u32,
            offset::CAP_HIGH => (u64::from(self.capabilities()) >> 32) as u32,
            offset::VS => VERSION,
            offset::INTMS | offset::INTMC => self.drive.interrupt_mask.load(Ordering::Acquire),
            offset::CC => lock(&self.registers).cc.into(),
            offset::CSTS => {
                let registers = lock(&self.registers);
                let status = registers.status();
                if status.shst() != 0 {
                    let (complete, now) = (status.shst() == 2, Instant::now());
                    let acts = self.drive.endpoint.acts();
                    acts.change(|acts| acts.poll(complete, now));
                }
                status.into()
            }
            offset::AQA => lock(&self.registers).aqa.into(),
            offset::ASQ => lock(&self.registers).asq as u32,
            offset::ASQ_HIGH => (lock(&self.registers).asq >> 32) as u32,
            offset::ACQ => lock(&self.registers).acq as u32,
            offset::ACQ_HIGH => (lock(&self.registers).acq >> 32) as u32,
            offset::CRTO => READY_TIMEOUT.into(),
            _ => 0,
        }
    }

    /// Writes the 32-bit register at `offset`.
    pub(crate) fn write_register(&self, at: u64, value: u32) {
        match at {
            offset::INTMS => self.mask_interrupts(value, 0),
            offset::INTMC => self.mask_interrupts(0, value),
            offset::CC => self.write_cc(Configuration::from(value)),
            offset::CSTS => self.write_status(ControllerStatus::from(value)),
            offset::NSSR => self.reset_subsystem(value),
            offset::NSSD => self.shut_subsystem(value),
            offset::AQA | offset::ASQ | offset::ASQ_HIGH | offset::ACQ | offset::ACQ_HIGH => {
                lock(&self.registers).write_admin_queue(at, value);
            }
            _ => {}
        }
    }

    fn mask_interrupts(&self, set: u32, clear: u32) {
        let mask = &self.drive.interrupt_mask;
        mask.fetch_or(set, Ordering::AcqRel);
        mask.fetch_and(!clear, Ordering::AcqRel);
        if let Some(session) = self.session.load_full() {
            session.update_pin();
        }
    }

    fn write_cc(&self, new: Configuration) {
        let mut registers = lock(&self.registers);
        let old = std::mem::replace(&mut registers.cc, new);
        let mut after = Aftermath::default();
        let acts = self.drive.endpoint.acts();
        if old.en() && !new.en() {
            acts.note(Act::Disable);
            after = self.close(&mut registers, true);
        }
        if !old.en() && new.en() {
            // What came before was done to a driver's session that is over.
            acts.begin_anew();
            acts.note(Act::Enable);
            // A shutdown was asked for while it was disabled, and there was no reset since. What is written from
            // now on is not safe (3.6.1): CSTS.SHST must not say that it is, now or when that shutdown ends,
            // which would be the end of the new session as well.
            if registers.shutdown != Shutdown::Normal {
                self.forget_shutdown(&mut registers);
            }
            self.enable(&mut registers);
        }
        let asked = match new.shn() {
            1 => Some(ShutdownKind::Normal),
            2 => Some(ShutdownKind::Abrupt),
            // 11b is reserved.
            _ => None,
        };
        if let Some(kind) = asked.filter(|_| old.shn() != new.shn()) {
            after.service = self.ask_shutdown(&mut registers, kind);
        }
        drop(registers);
        self.finish(after);
    }
}

impl Controller {
    /// A shutdown is asked for. Returns whether the control thread has to begin it.
    pub(super) fn ask_shutdown(&self, registers: &mut Registers, kind: ShutdownKind) -> bool {
        let act = match kind {
            ShutdownKind::Abrupt => Act::ShutdownAbrupt,
            ShutdownKind::Normal => Act::ShutdownNormal,
        };
        let now = Instant::now();
        // A shutdown under way or complete is not begun again before a reset.
        let begins = registers.shutdown == Shutdown::Normal;
        let modelled = match begins {
            true => self.draw_shutdown(registers, kind),
            false => Duration::ZERO,
        };
        self.drive.endpoint.acts().change(|acts| {
            acts.note(act, now);
            if begins {
                acts.handshake = Some(Handshake {
                    abrupt: kind == ShutdownKind::Abrupt,
                    modelled,
                    ..Handshake::begin(now)
                });
            }
        });
        if !begins {
            return false;
        }
        registers.epoch += 1;
        registers.shutdown = Shutdown::Occurring {
            timer: false,
            flush: false,
        };
        if registers.shutdown_fault == Some(ShutdownFault::Fatal) {
            registers.fail("a fault of shutdowns is set");
        }
        registers.pending.replace(now + modelled).is_none()
    }
}

impl Registers {
    fn status(&self) -> ControllerStatus {
        let (rdy, cfs) = match &self.state {
            State::Idle => (false, false),
            State::Refused => (false, true),
            State::Ready(session) => (true, session.is_fatal()),
            State::Draining { ready, overdue, .. } => (*ready, *overdue),
        };
        ControllerStatus::new()
            .with_rdy(rdy)
            .with_cfs(cfs || self.fatal)
            .with_shst(self.shutdown.status())
            .with_nssro(self.subsystem.was_reset)
            .with_st(self.subsystem.is_shut)
    }

    /// AQA, ASQ and ACQ outlive controller resets and are locked while EN is 1.
    fn write_admin_queue(&mut self, at: u64, value: u32) {
        if self.cc.en() {
            return;
        }
        let low = |old: u64| old & !0xFFFF_FFFF | u64::from(value & !0xFFF);
        let high = |old: u64| old & 0xFFFF_FFFF | u64::from(value) << 32;
        match at {
            offset::AQA => self.aqa = AdminQueueAttributes::from(value & 0x0FFF_0FFF),
            offset::ASQ => self.asq = low(self.asq),
            offset::ASQ_HIGH => self.asq = high(self.asq),
            offset::ACQ => self.acq = low(self.acq),
            offset::ACQ_HIGH => self.acq = high(self.acq),
            _ => {}
        }
    }

    /// CSTS.CFS until a reset.
    pub(super) fn fail(&mut self, why: &str) {
        self.fatal = true;
        if let State::Ready(session) = &self.state {
            session.fail(why);
        }
    }

    /// Whether the guest has shut the drive down since it last used it.
    pub(super) fn is_safe(&self) -> bool {
        !self.used
    }

    /// The session that drains, if one does.
    pub(super) fn draining(&self) -> Option<Arc<Session>> {
        match &self.state {
            State::Draining { session, .. } => Some(Arc::clone(session)),
            _ => None,
        }
    }

    /// Registers as after power-on. A session that still drains keeps the next from beginning.
    pub(super) fn power_on(&mut self) {
        let Self {
            cc,
            aqa,
            asq,
            acq,
            state: _,
            shutdown,
            epoch,
            pending,
            flushing: _,
            flush_again,
            fatal,
            models: _,
            shutdown_fault: _,
            used,
            subsystem,
        } = self;
        *cc = Configuration::new();
        *aqa = AdminQueueAttributes::new();
        (*asq, *acq) = (0, 0);
        if !subsystem.is_shut {
            *shutdown = Shutdown::Normal;
            *epoch += 1;
            *pending = None;
            *flush_again = false;
            *fatal = false;
        }
        // What a shutdown of the subsystem completes, it completes after the reset too.
        *used &= subsystem.is_shut;
    }
}
