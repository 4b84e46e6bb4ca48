//! Resets that the guest asks for: a function level reset, or a reset of the bus above. A thread makes them, since no
//! vCPU waits for a device; meanwhile all reads are all-ones, by which a guest knows that it has to look again. One
//! runs at a time: what comes meanwhile finds the device in reset, or just out of it and untouched.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use devices::lifecycle::Deadline;

use crate::client::{Client, ClientError, region};
use crate::function::{Function, locked};
use crate::naps::Naps;

/// What a reset that the guest asked for may take: less than Linux waits for.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two tries of a reset that the host says to try again, and between two looks at a device in reset.
const LONGEST_NAP: Duration = Duration::from_millis(20);
const VENDOR: u64 = 0x00;

/// Whether a reset runs.
#[derive(Default)]
pub(super) struct GuestReset {
    running: Mutex<bool>,
    /// The same for readers; changes with the registers locked, so that no write comes in between.
    is_running: AtomicBool,
    ended: Condvar,
}

impl GuestReset {
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    /// Waits for its end; says whether it came in time.
    pub(super) fn wait(&self, by: Deadline) -> bool {
        let running = locked(&self.running);
        let waited = self
            .ended
            .wait_timeout_while(running, by.remaining(), |running| *running);
        let (running, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*running
    }
}

impl Function {
    /// Has a thread reset the device, unless one does.
    pub(super) fn begin_reset(&self) {
        let mut running = locked(&self.guest_reset.running);
        {
            let mut registers = locked(&self.registers);
            self.guest_reset.is_running.store(true, Ordering::Release);
            registers.reset();
        }
        if *running {
            return;
        }
        *running = true;
        let Some(function) = self.own.upgrade() else {
            return;
        };
        let reset = move || {
            match function.reset_for_guest() {
                Ok(()) => {}
                // By a teardown, which resets it again.
                Err(ClientError::Cancelled { .. }) => drop(function.lose()),
                Err(failure) => function.fail_reset(&failure),
            }
            function.end_reset();
        };
        // Nobody begins another one until this one has ended.
        drop(running);
        let thread = thread::Builder::new().name("function-reset".to_owned());
        if let Err(failure) = thread.spawn(reset) {
            self.fail_reset(&failure);
            self.end_reset();
        }
    }

    fn end_reset(&self) {
        let mut running = locked(&self.guest_reset.running);
        let registers = locked(&self.registers);
        self.guest_reset.is_running.store(false, Ordering::Release);
        drop(registers);
        *running = false;
        self.guest_reset.ended.notify_all();
    }

    fn fail_reset(&self, failure: &dyn std::error::Error) {
        self.give_up(&format!(
            "the reset that the guest asked for failed: {failure}"
        ));
    }

    fn reset_for_guest(&self) -> Result<(), ClientError> {
        let by = Deadline::after(LIMIT);
        // Before the device: the guest would wait at what the host takes away from it meanwhile.
        self.windows.take_all_out();
        self.io_events.before_reset(&*self.client);
        self.settle_quiet()?;
        reset(&*self.client, by)?;
        let is_back = self.is_back(by)?;
        if is_back {
            self.io_events.after_reset(&*self.client, &self.layout);
        }
        self.settle_quiet()?;
        match is_back {
            true => Ok(()),
            false => Err(ClientError::TimedOut {
                device: self.client.name().to_owned(),
                doing: "coming back from its reset".to_owned(),
                after: LIMIT,
            }),
        }
    }

    /// Waits until the device answers with its vendor id; says whether it did in time.
    pub(super) fn is_back(&self, by: Deadline) -> Result<bool, ClientError> {
        let mut naps = Naps::up_to(LONGEST_NAP);
        loop {
            let mut vendor = [0; 2];
            self.client.read(region::CONFIG, VENDOR, &mut vendor)?;
            if u16::from_le_bytes(vendor) == self.vendor {
                return Ok(true);
            }
            if !naps.sleep_before(by) {
                return Ok(false);
            }
        }
    }
}

/// Resets the device, if it can be; tries again as long as the host says so and there is time. A server that has
/// offered a reset and answers that it knows none is taken as one that offers none: each that comes in its place is
/// asked once.
pub(super) fn reset(client: &dyn Client, by: Deadline) -> Result<(), ClientError> {
    if !client.has_reset() {
        return Ok(());
    }
    let mut naps = Naps::up_to(LONGEST_NAP);
    loop {
        match client.reset(by) {
            Err(ClientError::Refused { source, .. })
                if source.raw_os_error() == Some(libc::EAGAIN) && naps.sleep_before(by) => {}
            // A failure would keep the machine stopped, and again after each restart of the server.
            Err(ClientError::Refused { .. }) if !client.has_reset() => return Ok(()),
            ended => return ended,
        }
    }
}
