//! What is typed into the serial port: standard input or a socket's client, read by the event loop.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use devices::legacy::serial::SocketInput;
use devices::legacy::{RawTerminal, Serial, SerialSocket};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

/// Read at once; no more is read while the port has no room for what was.
const CHUNK: usize = 256;

const ROOM: u32 = 0;
const LISTENER: u32 = 1;
const INPUT: u32 = 2;

/// Where input comes from.
pub enum Source {
    /// Standard input.
    Stdin {
        /// A descriptor of its own, as std's handle keeps what it has read ahead; none after its end.
        input: Option<File>,
        /// Raw while this lives where it is a terminal.
        terminal: Option<RawTerminal>,
    },
    /// A Unix socket.
    Socket(SerialSocket),
}

/// Carries input to the port, as much as the port has room for.
pub struct SerialInput {
    serial: Arc<Serial>,
    source: Source,
    /// Read, but refused by the port for now.
    waiting: VecDeque<u8>,
    /// The input that is being polled.
    polled: Option<RawFd>,
}

impl SerialInput {
    /// Input from `source` to `serial`.
    pub fn new(serial: Arc<Serial>, source: Source) -> Self {
        Self {
            serial,
            source,
            waiting: VecDeque::new(),
            polled: None,
        }
    }

    fn deliver(&mut self) {
        let taken = self.serial.enqueue(self.waiting.make_contiguous());
        self.waiting.drain(..taken);
    }

    fn input_fd(&self) -> Option<RawFd> {
        match &self.source {
            Source::Stdin { input, .. } => input.as_ref().map(AsRawFd::as_raw_fd),
            Source::Socket(socket) => socket.client_fd(),
        }
    }

    fn read(&mut self, ops: &mut EventOps) {
        let mut bytes = [0; CHUNK];
        let input = match &mut self.source {
            Source::Stdin { input: None, .. } => SocketInput::Nothing,
            Source::Stdin {
                input: Some(input), ..
            } => match input.read(&mut bytes) {
                Ok(0) => SocketInput::Closed,
                Ok(count) => SocketInput::Bytes(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => SocketInput::Nothing,
                Err(_) => SocketInput::Closed,
            },
            Source::Socket(socket) => socket.read(&mut bytes),
        };
        match input {
            SocketInput::Bytes(count) => {
                self.waiting.extend(&bytes[..count]);
                self.deliver();
            }
            SocketInput::Nothing => {}
            SocketInput::Closed => {
                self.poll_input(ops, false);
                match &mut self.source {
                    // Or its end would be reported again and again.
                    Source::Stdin { input, .. } => *input = None,
                    Source::Socket(socket) => socket.hang_up(),
                }
            }
        }
    }

    /// Starts or stops to poll the input. Stopped while the port is full: what is typed waits in the
    /// terminal or the socket.
    fn poll_input(&mut self, ops: &mut EventOps, wanted: bool) {
        let polled = self.polled.take();
        if let Some(fd) = polled
            && !wanted
        {
            let _ = ops.remove(Events::with_data_raw(fd, INPUT, EventSet::IN));
        } else if let Some(fd) = self.input_fd().filter(|_| wanted) {
            // Regular files cannot be polled; such input is not supported, and a null input is not missed.
            let known = polled == Some(fd)
                || ops
                    .add(Events::with_data_raw(fd, INPUT, EventSet::IN))
                    .is_ok();
            self.polled = Some(fd).filter(|_| known);
        }
    }
}

impl MutEventSubscriber for SerialInput {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            ROOM => {
                let _ = self.serial.input_room().read();
                self.deliver();
            }
            LISTENER => {
                if let Source::Socket(socket) = &self.source
                    && let Err(error) = socket.accept()
                {
                    tracing::warn!(%error, "accepting a client of the serial socket");
                }
            }
            _ => self.read(ops),
        }
        let gone = events
            .event_set()
            .intersects(EventSet::HANG_UP | EventSet::ERROR);
        if events.data() == INPUT && gone && self.waiting.is_empty() && self.polled.is_some() {
            self.read(ops);
        }
        self.poll_input(ops, self.waiting.is_empty());
    }

    fn init(&mut self, ops: &mut EventOps) {
        let mut watch = |fd, data| {
            if let Err(error) = ops.add(Events::with_data_raw(fd, data, EventSet::IN)) {
                tracing::warn!(%error, "watching the serial port's input");
            }
        };
        watch(self.serial.input_room().as_raw_fd(), ROOM);
        if let Source::Socket(socket) = &self.source {
            watch(socket.listener_fd(), LISTENER);
        }
        self.poll_input(ops, true);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use devices::legacy::ConsoleOutput;
    use event_manager::{EventManager, SubscriberOps};
    use vmm_sys_util::eventfd::EventFd;

    use super::*;

    #[test]
    fn the_end_of_standard_input_is_seen_once() {
        let serial = Serial::new(EventFd::new(0).unwrap(), ConsoleOutput::null()).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let source = Source::Stdin {
            input: Some(File::from(std::os::fd::OwnedFd::from(reader))),
            terminal: None,
        };
        let mut manager = EventManager::new().unwrap();
        manager.add_subscriber(SerialInput::new(Arc::new(serial), source));
        writer.write_all(b"root\n").unwrap();
        drop(writer);
        let mut events = 0;
        for _ in 0..10 {
            events += manager.run_with_timeout(20).unwrap();
        }
        assert!((1..=2).contains(&events), "{events} events");
    }
}
