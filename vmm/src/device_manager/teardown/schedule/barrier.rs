//! The barrier of `cookie`: who waits until all tasks up to a number have ended.

use crate::device_manager::teardown::lists::Lists;
use crate::device_manager::teardown::policy::{Rules, Tasks};

/// How far the tasks of `cookie` have come.
#[derive(Debug)]
pub(super) struct Barrier {
    /// Devices that have not ended, by task.
    left: Vec<u32>,
    /// So many tasks, the oldest, have all ended.
    passed: usize,
    /// The devices that wait until so many have.
    pub(super) waiting: Lists,
}

impl Barrier {
    pub(super) fn new(rules: &Rules, tasks: &Tasks) -> Self {
        let waiting = Lists::from_pairs(tasks.sizes.len() + 1, || {
            let devices = 0..tasks.cookies.len();
            devices.map(|device| (task_before(rules, tasks, device) as usize, device))
        });
        Self {
            left: tasks.sizes.clone(),
            passed: 0,
            waiting,
        }
    }

    /// Notes that a device of the task numbered `cookie` has ended.
    pub(super) fn ended(&mut self, cookie: u32) {
        // A device that joined late is of none.
        if let Some(task) = cookie.checked_sub(1) {
            self.left[task as usize] -= 1;
        }
    }

    /// Passes the oldest task that has not been passed, if it has ended; returns its number.
    pub(super) fn pass(&mut self) -> Option<usize> {
        if self.left.get(self.passed) != Some(&0) {
            return None;
        }
        self.passed += 1;
        Some(self.passed)
    }
}

/// The task up to which all must have ended before the device starts. Every device of a list has what the
/// rules give its first: that one may be removed.
pub(in crate::device_manager::teardown) fn task_before(
    rules: &Rules,
    tasks: &Tasks,
    device: usize,
) -> u32 {
    if rules.asynchronous[device] {
        tasks.waits_for[device]
    } else {
        tasks.cookies[device].saturating_sub(1)
    }
}
