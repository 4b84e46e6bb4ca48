//! The life of the controller's session: begun by CC.EN, closed by every kind of reset, and gone when
//! nobody is at work for it any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::debug;

use super::Controller;
use super::registers::{Aftermath, Registers, State};
use crate::engine::TimerKind;
use crate::gate::lock;
use crate::session::Session;
use crate::shutdown::Shutdown;
use crate::state;

/// How long a reset waits for commands in flight before CSTS.CFS says that it cannot end.
const DRAIN_BOUND: Duration = Duration::from_secs(10);
impl Controller {
    /// EN is 1: makes a session, unless an old one still drains; then its end comes back here.
    pub(super) fn enable(&self, registers: &mut Registers) {
        if matches!(registers.state, State::Draining { .. }) || registers.subsystem.is_shut {
            return;
        }
        registers.state = match self.begin(registers) {
            Ok(session) => {
                self.session.store(Some(Arc::clone(&session)));
                registers.used = true;
                state::note_use(&self.drive, true);
                State::Ready(session)
            }
            Err(why) => {
                debug!(drive = %self.drive.id, "NVMe controller cannot be enabled: {why}");
                State::Refused
            }
        };
    }

    fn begin(&self, registers: &Registers) -> Result<Arc<Session>, &'static str> {
        let cc = registers.cc;
        // The NVM command set by name, or all that there are, which is the same.
        if !matches!(cc.css(), 0 | 6) {
            return Err("CC.CSS selects no supported command set");
        }
        if cc.mps() != 0 {
            return Err("CC.MPS is not 4 KiB");
        }
        if cc.ams() != 0 {
            return Err("CC.AMS is not round robin");
        }
        // Entry sizes may be set later, but before an I/O queue is made; other values never fit.
        if !matches!(cc.iosqes(), 0 | 6) || !matches!(cc.iocqes(), 0 | 4) {
            return Err("CC.IOSQES or CC.IOCQES is not what Identify requires");
        }
        let aqa = registers.aqa;
        if aqa.asqs_z() == 0 || aqa.acqs_z() == 0 {
            return Err("AQA has a queue of one entry");
        }
        Session::start(&self.drive, aqa, (registers.asq, registers.acq))
            .map_err(|_| "ASQ or ACQ is not in guest memory")
    }

    /// Ends the session by a controller level reset (3.7.2): by the host, which then reads `ready` until
    /// commands in flight have ended; or else with the whole function, and then nothing is completed to
    /// the host any more. The caller passes the result to `finish`.
    pub(super) fn close(&self, registers: &mut Registers, ready: bool) -> Aftermath {
        self.session.store(None);
        self.drive.interrupt_mask.store(0, Ordering::Release);
        self.forget_shutdown(registers);
        let mut after = Aftermath::default();
        registers.state = match std::mem::take(&mut registers.state) {
            State::Idle | State::Refused => State::Idle,
            State::Ready(session) => {
                // Before commands are cancelled: no host is told of that any more.
                if !ready {
                    session.abandon();
                }
                session.close();
                session.update_pin();
                after.draining = Some(Arc::clone(&session));
                State::Draining {
                    session,
                    ready,
                    overdue: false,
                }
            }
            State::Draining {
                session,
                ready: before,
                overdue,
            } => {
                if !ready {
                    session.abandon();
                }
                State::Draining {
                    session,
                    ready: before && ready,
                    overdue,
                }
            }
        };
        after
    }

    /// Ends a shutdown, completed or not; but that of the whole subsystem goes on.
    pub(super) fn forget_shutdown(&self, registers: &mut Registers) {
        if registers.subsystem.is_shut {
            return;
        }
        registers.shutdown = Shutdown::Normal;
        registers.pending = None;
        registers.flush_again = false;
        registers.fatal = false;
        // Its flush may still end, and fail: that is nothing to whoever comes next.
        registers.epoch += 1;
        self.drive.engine.disarm(self.timer(TimerKind::Shutdown));
    }

    /// What must not be done under the registers' lock.
    pub(super) fn finish(&self, after: Aftermath) {
        if let Some(session) = after.draining {
            let me = self.me.clone();
            let job = Box::new(move || {
                if let Some(controller) = me.upgrade() {
                    controller.overdue();
                }
            });
            let at = Instant::now() + DRAIN_BOUND;
            self.drive.engine.arm(self.timer(TimerKind::Drain), at, job);
            let me = self.me.clone();
            let gate = Arc::clone(&session.gate);
            gate.when_empty(move || {
                if let Some(controller) = me.upgrade() {
                    controller.drained(&session);
                }
            });
        }
        if after.service {
            let me = self.me.clone();
            self.drive.engine.post(Box::new(move || {
                if let Some(controller) = me.upgrade() {
                    controller.begin_shutdown();
                }
            }));
        }
    }

    /// On the control thread: doorbells are elsewhere now, and so are their eventfds.
    fn connect_doorbells(&self) {
        if let Some(session) = self.session.load_full() {
            session.connect_doorbells();
            // One that rang before an eventfd knew this session was heard by nobody.
            session.schedule_all();
        }
    }

    /// The BAR's doorbells are at `base` now, or nowhere.
    pub(crate) fn doorbells_placed(&self, base: Option<u64>) {
        self.drive.doorbell_events.placed(base);
        let is_used = self.session.load().is_some();
        if base.is_some() && is_used {
            let me = self.me.clone();
            self.drive.engine.post(Box::new(move || {
                if let Some(controller) = me.upgrade() {
                    controller.connect_doorbells();
                }
            }));
        }
    }

    /// Nobody works on behalf of `session` any more.
    fn drained(&self, session: &Arc<Session>) {
        let mut registers = lock(&self.registers);
        let State::Draining {
            session: draining, ..
        } = &registers.state
        else {
            return;
        };
        if !Arc::ptr_eq(draining, session) {
            return;
        }
        self.drive.engine.disarm(self.timer(TimerKind::Drain));
        let ended = std::mem::take(&mut registers.state);
        if registers.cc.en() {
            self.enable(&mut registers);
        }
        drop(registers);
        drop(ended);
    }

    fn overdue(&self) {
        if let State::Draining { overdue, .. } = &mut lock(&self.registers).state {
            *overdue = true;
        }
    }
}
