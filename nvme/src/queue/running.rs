//! The commands of a submission queue whose transfers are under way on its thread's ring.

use std::sync::Arc;

use crate::engine::Handle;
use crate::gate::Pass;
use crate::respond::{Responder, Work};
use crate::session::Session;
use crate::spec::Submission;

/// See the module's header. Changed by the queue's thread; Abort looks a command up.
#[derive(Default)]
pub(crate) struct Running {
    commands: Vec<Option<Command>>,
    free: Vec<u32>,
    /// Kept while there is a command, and to the end of the burst that ended the last one: until then the
    /// queue may interrupt.
    hold: Option<Hold>,
    /// Commands that somebody wants to be cancelled.
    cancels: Vec<u32>,
}

/// What keeps the session alive, and shows both gates that there is work under way.
pub(crate) struct Hold {
    pub(crate) session: Arc<Session>,
    pub(crate) _passes: (Pass, Pass),
}

/// A command under way. Its slot is left with the completion queue.
pub(crate) struct Command {
    pub(crate) command: Submission,
    pub(crate) work: Work,
    /// The Abort commands that wait for what becomes of it.
    pub(crate) aborts: Vec<Responder>,
    /// Its transfer, once that has begun.
    handle: Option<Handle>,
}

impl Running {
    /// Adds a command. `hold` is asked for where there was none.
    pub(crate) fn begin(
        &mut self,
        command: &Submission,
        work: Work,
        hold: impl FnOnce() -> Option<Hold>,
    ) -> Option<u32> {
        if self.hold.is_none() {
            self.hold = Some(hold()?);
        }
        let command = Command {
            command: *command,
            work,
            aborts: Vec::new(),
            handle: None,
        };
        if let Some(tag) = self.free.pop() {
            if let Some(place) = self.commands.get_mut(tag as usize) {
                *place = Some(command);
            }
            return Some(tag);
        }
        self.commands.push(Some(command));
        Some((self.commands.len() - 1) as u32)
    }

    /// The transfer of a command has begun.
    pub(crate) fn began(&mut self, tag: u32, handle: Handle) {
        if let Some(Some(command)) = self.commands.get_mut(tag as usize) {
            command.handle = Some(handle);
        }
    }

    /// What the transfer of a command is for.
    pub(crate) fn work(&self, tag: u32) -> Option<Work> {
        Some(self.commands.get(tag as usize)?.as_ref()?.work)
    }

    /// Takes a command whose transfer has ended.
    pub(crate) fn end(&mut self, tag: u32) -> Option<Command> {
        let command = self.commands.get_mut(tag as usize)?.take()?;
        self.free.push(tag);
        Some(command)
    }

    /// The session of the commands, if there are any.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.hold.as_ref().map(|hold| &hold.session)
    }

    /// Takes what the commands held, if all have ended.
    pub(crate) fn take_idle_hold(&mut self) -> Option<Hold> {
        if self.free.len() < self.commands.len() {
            return None;
        }
        self.hold.take()
    }

    /// Has the command `cid` cancelled for an Abort command, or gives that back where there is none.
    pub(crate) fn abort(&mut self, cid: u16, abort: Responder) -> Result<(), Responder> {
        let mut commands = (0..).zip(&mut self.commands);
        let found = commands.find_map(|(tag, place)| {
            let command = place.as_mut()?;
            (command.command.cid == cid).then_some((tag, command))
        });
        let Some((tag, command)) = found else {
            return Err(abort);
        };
        command.aborts.push(abort);
        self.cancels.push(tag);
        Ok(())
    }

    /// Whether a command `cid` is under way.
    pub(crate) fn has(&self, cid: u16) -> bool {
        let mut commands = self.commands.iter().flatten();
        commands.any(|command| command.command.cid == cid)
    }

    /// The Abort commands that wait for a command which cannot be cancelled.
    pub(crate) fn take_aborts(&mut self, tag: u32) -> Vec<Responder> {
        match self.commands.get_mut(tag as usize) {
            Some(Some(command)) => std::mem::take(&mut command.aborts),
            _ => Vec::new(),
        }
    }

    /// The transfers to cancel now: of `all` commands, or of those that were asked for.
    pub(crate) fn take_cancels(&mut self, all: bool) -> Vec<Handle> {
        let mut tags = std::mem::take(&mut self.cancels);
        if all {
            tags = (0..self.commands.len() as u32).collect();
        }
        let handle = |tag: u32| self.commands.get(tag as usize)?.as_ref()?.handle;
        tags.into_iter().filter_map(handle).collect()
    }
}
