//! A guest's driver on one side of the port, a reader on the other.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Instant;

use vmm_sys_util::tempdir::TempDir;

use super::*;

const PORT: PioAddress = PioAddress(crate::legacy::COM1.first);
const DATA: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const LSR: u16 = 5;
const SCRATCH: u16 = 7;
const SOON: Duration = Duration::from_secs(5);

fn port(output: ConsoleOutput) -> (Serial, EventFd) {
    let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
    let seen = interrupt.try_clone().unwrap();
    (Serial::new(interrupt, output).unwrap(), seen)
}

fn read(serial: &Serial, register: u16) -> u8 {
    let mut byte = [0];
    serial.pio_read(PORT, register, &mut byte);
    byte[0]
}

fn write(serial: &Serial, register: u16, value: u8) {
    serial.pio_write(PORT, register, &[value]);
}

fn by() -> Deadline {
    Deadline::after(SOON)
}

#[test]
fn input_interrupts_and_waits_for_room() {
    let (serial, interrupt) = port(ConsoleOutput::null());
    write(&serial, IER, 0x01);
    assert!(interrupt.read().is_err());
    let input: Vec<u8> = (0..100).collect();
    let taken = serial.enqueue(&input);
    assert_eq!(taken, 64);
    assert_eq!(serial.enqueue(&input[taken..]), 0);
    assert_eq!(interrupt.read().unwrap(), 1);
    assert_eq!(read(&serial, IIR) & 0x0F, 0x04);
    assert!(serial.input_room().read().is_err());
    for &expected in &input[..taken] {
        assert_eq!(read(&serial, LSR) & 1, 1);
        assert_eq!(read(&serial, DATA), expected);
    }
    assert_eq!(read(&serial, LSR) & 1, 0);
    assert_eq!(serial.input_room().read().unwrap(), 1);
    assert_eq!(serial.enqueue(&input[taken..]), 36);
    assert_eq!(interrupt.read().unwrap(), 1);
    while read(&serial, LSR) & 1 != 0 {
        read(&serial, DATA);
    }
    assert!(serial.input_room().read().is_err(), "nothing was refused");
}

#[test]
fn loopback_refuses_input_until_it_ends() {
    let (serial, _) = port(ConsoleOutput::null());
    write(&serial, u16::from(MODEM_CONTROL), 0x10);
    assert_eq!(serial.enqueue(b"x"), 0);
    write(&serial, DATA, b'y');
    assert_eq!(read(&serial, DATA), b'y');
    write(&serial, u16::from(MODEM_CONTROL), 0x08);
    assert!(serial.input_room().read().is_ok());
    assert_eq!(serial.enqueue(b"x"), 1);
}

#[test]
fn output_goes_to_a_file_and_survives_reset() {
    let directory = TempDir::new().unwrap();
    let path = directory.as_path().join("console");
    std::fs::write(&path, "before ").unwrap();
    let (serial, interrupt) = port(ConsoleOutput::file(&path).unwrap());
    write(&serial, IER, 0x02);
    assert!(interrupt.read().is_ok(), "the transmitter is empty");
    for &byte in b"first " {
        write(&serial, DATA, byte);
    }
    write(&serial, SCRATCH, 0x55);
    serial.enqueue(b"typed");
    let mut phases = Phases::default();
    assert_eq!(serial.shut_down(by(), &mut phases).unwrap(), Finish::Now);
    assert_eq!(phases.as_slice()[0].name, "reset");
    assert_eq!((read(&serial, IER), read(&serial, SCRATCH)), (0, 0));
    assert_eq!(read(&serial, LSR) & 1, 0);
    for &byte in b"second" {
        write(&serial, DATA, byte);
    }
    serial.release();
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, "before first second");
    assert_eq!(serial.output().lost(), 0);
}

/// A sink that takes nothing until it is told to.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_sink_costs_output_but_no_time() {
    let (release, stuck) = mpsc::channel();
    let mut output = ConsoleOutput::new(Box::new(Stuck(stuck))).unwrap();
    let start = Instant::now();
    output.write_all(b"first").unwrap();
    while output.drain(Duration::ZERO) {}
    output.write_all(&vec![b'x'; 1 << 20]).unwrap();
    output.close(Duration::from_millis(20));
    assert!(start.elapsed() < SOON);
    assert!(output.lost() >= (1 << 20) - 256 * 1024);
    drop(release);
    assert!(output.drain(SOON));
    let lost = output.lost();
    output.write_all(b"late").unwrap();
    assert_eq!(output.lost(), lost + 4);
}

#[test]
fn a_socket_client_comes_goes_and_comes_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.as_path().join("socket");
    let socket = SerialSocket::bind(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        SerialSocket::bind(&path).err().unwrap().kind(),
        io::ErrorKind::AddrInUse
    );
    // That attempt looked in and left.
    assert!(socket.accept().unwrap().is_some());
    assert_eq!(socket.read(&mut [0; 8]), SocketInput::Closed);
    socket.hang_up();

    let (serial, _) = port(ConsoleOutput::new(socket.output()).unwrap());
    write(&serial, DATA, b'-');
    assert!(serial.output().drain(SOON), "discarded: nobody is there");
    for round in 0..2 {
        assert_eq!(socket.accept().unwrap(), None);
        let mut client = UnixStream::connect(&path).unwrap();
        assert_eq!(socket.accept().unwrap(), socket.client_fd());
        let mut second = UnixStream::connect(&path).unwrap();
        assert_eq!(socket.accept().unwrap(), None);
        assert_eq!(second.read(&mut [0]).unwrap(), 0, "turned away");

        let mut buffer = [0; 8];
        assert_eq!(socket.read(&mut buffer), SocketInput::Nothing);
        client.write_all(b"in").unwrap();
        assert_eq!(socket.read(&mut buffer), SocketInput::Bytes(2));
        assert_eq!(serial.enqueue(&buffer[..2]), 2);
        write(&serial, DATA, b'0' + round);
        client.read_exact(&mut buffer[..1]).unwrap();
        assert_eq!(buffer[0], b'0' + round);
        drop(client);
        assert_eq!(socket.read(&mut buffer), SocketInput::Closed);
        socket.hang_up();
    }
    assert_eq!(serial.output().lost(), 0);
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.as_path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(SerialSocket::bind(&path).is_ok());
    std::fs::write(&path, "mine").unwrap();
    assert!(SerialSocket::bind(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn odd_accesses_do_no_harm() {
    let (serial, _) = port(ConsoleOutput::null());
    for offset in [0, 3, 7, 8, 255, 256, u16::MAX] {
        for len in [0, 1, 2, 4, 8, 300] {
            serial.pio_write(PORT, offset, &vec![0xFF; len]);
            serial.pio_read(PORT, offset, &mut vec![0; len]);
        }
    }
}
