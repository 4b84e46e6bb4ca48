//! Servers that are held up until a test lets them go on.

use vfio_user::protocol::command;

use super::*;

/// What a server waits for.
#[derive(Default)]
pub struct Gate {
    /// Whether somebody has come to it, and whether it is open.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    pub fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.1).unwrap());
    }

    /// Waits until somebody is at it.
    pub fn is_reached(&self) {
        let state = self.state.lock().unwrap();
        let waited = (self.changed).wait_timeout_while(state, SOON, |state| !state.0);
        assert!(waited.unwrap().0.0, "nobody came");
    }
}

/// A server whose first client's commands of this kind wait for the gate, but for reads of its configuration space.
pub fn held_up_by(held: u16) -> (Played, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let server = Played::new(move |asked| {
        let opens = asked.command == command::REGION_READ && asked.payload[8] != 0;
        if asked.command == held && asked.earlier == 0 && !opens {
            theirs.pass();
        }
        Verdict::Ordinary
    });
    (server, gate)
}
