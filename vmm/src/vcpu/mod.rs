//! The vCPUs: a thread each, made once, paused and resumed and reset together.
//!
//! ```text
//!            resume                 exit to the VMM
//!   Parked ─────────▶ Running ──────────────────────▶ handled, Running again
//!     ▲ reset           │ pause, triple fault, failure
//!     └─────────────────┘
//! ```
#![allow(unsafe_code)] // `kvm_run` is a union, and its data lie behind it.

mod state;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use devices::event::{EventSink, GuestEvent, ResetCause};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

pub use state::{EntryState, PowerOnState, VcpuError};

use crate::address_space::AddressSpace;

/// How often a vCPU that has not yet answered a pause is kicked again. The kick before may have come
/// just as the vCPU was entering the guest.
const KICK_AGAIN: Duration = Duration::from_millis(1);

/// What a vCPU tells the main thread beside guest events.
pub trait VcpuMonitor: EventSink {
    /// A vCPU can't go on; it is parked.
    fn failed(&self, vcpu: u8, reason: String);
}

enum Command {
    Resume,
    Reset(Option<Box<EntryState>>),
    Exit,
}

enum Answer {
    Parked,
    Reset(Result<(), VcpuError>),
}

/// A vCPU that is ready to be given a thread.
pub struct VcpuSeed {
    /// Its KVM file descriptor.
    pub fd: VcpuFd,
    /// Its state after power-on.
    pub power_on: PowerOnState,
}

/// All vCPUs of a machine.
pub struct Vcpus {
    threads: Vec<VcpuHandle>,
    pause: Arc<AtomicBool>,
    running: bool,
}

struct VcpuHandle {
    thread: Option<JoinHandle<()>>,
    commands: Sender<Command>,
    answers: Receiver<Answer>,
}

extern "C" fn kicked(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // The signal has done its work by interrupting KVM_RUN.
}

impl Vcpus {
    /// Starts a parked thread for each of `seeds`.
    pub fn start(
        seeds: Vec<VcpuSeed>,
        space: &Arc<AddressSpace>,
        monitor: &Arc<dyn VcpuMonitor>,
    ) -> io::Result<Self> {
        static HANDLER: Once = Once::new();
        let mut registered = Ok(());
        HANDLER.call_once(|| registered = register_signal_handler(SIGRTMIN(), kicked));
        registered.map_err(|error| io::Error::from_raw_os_error(error.errno()))?;

        let pause = Arc::new(AtomicBool::new(true));
        let mut vcpus = Self {
            threads: Vec::with_capacity(seeds.len()),
            pause,
            running: false,
        };
        for (index, seed) in seeds.into_iter().enumerate() {
            let (commands, command_receiver) = channel();
            let (answer_sender, answers) = channel();
            let vcpu = Vcpu {
                index: index as u8,
                fd: seed.fd,
                power_on: seed.power_on,
                space: space.clone(),
                monitor: monitor.clone(),
                pause: vcpus.pause.clone(),
                commands: command_receiver,
                answers: answer_sender,
            };
            let thread = Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(move || vcpu.serve())?;
            vcpus.threads.push(VcpuHandle {
                thread: Some(thread),
                commands,
                answers,
            });
        }
        Ok(vcpus)
    }

    /// Lets all vCPUs run. Returns when each has been told.
    pub fn resume(&mut self) {
        if self.running {
            return;
        }
        self.pause.store(false, Ordering::SeqCst);
        for vcpu in &self.threads {
            let _ = vcpu.commands.send(Command::Resume);
        }
        self.running = true;
    }

    /// Stops all vCPUs. Returns when none is in the guest. `hurry` is called again and again while one has not come: it
    /// may wait for a device.
    pub fn pause(&mut self, hurry: impl Fn()) {
        if !self.running {
            return;
        }
        self.pause.store(true, Ordering::SeqCst);
        for vcpu in &self.threads {
            vcpu.kick();
        }
        for vcpu in &self.threads {
            loop {
                match vcpu.answers.recv_timeout(KICK_AGAIN) {
                    Ok(Answer::Parked) | Err(RecvTimeoutError::Disconnected) => break,
                    Ok(Answer::Reset(_)) => {}
                    Err(RecvTimeoutError::Timeout) => {
                        vcpu.kick();
                        hurry();
                    }
                }
            }
        }
        self.running = false;
    }

    /// Puts all vCPUs, which must be paused, back to power-on, and the first one to `entry`.
    pub fn reset(&mut self, entry: &EntryState) -> Result<(), VcpuError> {
        for (index, vcpu) in self.threads.iter().enumerate() {
            let _ = vcpu.commands.send(Command::Reset(
                (index == 0).then(|| Box::new(entry.clone())),
            ));
        }
        let mut result = Ok(());
        for vcpu in &self.threads {
            while let Ok(answer) = vcpu.answers.recv() {
                if let Answer::Reset(done) = answer {
                    result = result.and(done);
                    break;
                }
            }
        }
        result
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.pause(|| {});
        for vcpu in &mut self.threads {
            let _ = vcpu.commands.send(Command::Exit);
            if let Some(thread) = vcpu.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl VcpuHandle {
    fn kick(&self) {
        if let Some(thread) = &self.thread {
            let _ = thread.kill(SIGRTMIN());
        }
    }
}

/// Why the guest was left.
enum Left {
    /// For an access to a device, which has been answered.
    Access,
    /// For nothing that asks for an answer.
    Interrupted,
    /// For a triple fault.
    Shutdown,
    /// For what nothing can be done about.
    Failure(String),
}

struct Vcpu {
    index: u8,
    fd: VcpuFd,
    power_on: PowerOnState,
    space: Arc<AddressSpace>,
    monitor: Arc<dyn VcpuMonitor>,
    pause: Arc<AtomicBool>,
    commands: Receiver<Command>,
    answers: Sender<Answer>,
}

impl Vcpu {
    fn serve(mut self) {
        while let Ok(command) = self.commands.recv() {
            match command {
                Command::Resume => {
                    // Time has passed that the guest did not see: its watchdogs are not to bark. Refused
                    // where the guest has no clock of KVM's, as at its start.
                    let _ = self.fd.kvmclock_ctrl();
                    self.run();
                    if self.answers.send(Answer::Parked).is_err() {
                        return;
                    }
                }
                Command::Reset(entry) => {
                    let done = self
                        .power_on
                        .restore(self.index, &self.fd, entry.as_deref());
                    if self.answers.send(Answer::Reset(done)).is_err() {
                        return;
                    }
                }
                Command::Exit => return,
            }
        }
    }

    /// Runs the guest until a pause is asked for or the vCPU can't go on.
    fn run(&mut self) {
        while !self.pause.load(Ordering::SeqCst) {
            match self.enter() {
                Left::Access | Left::Interrupted => {}
                Left::Shutdown => {
                    self.monitor
                        .send(GuestEvent::Reset(ResetCause::TripleFault), Instant::now());
                    return;
                }
                Left::Failure(reason) => {
                    self.monitor.failed(self.index, reason);
                    return;
                }
            }
        }
        self.finish_exit();
    }

    /// KVM carries the result of the last exit into the guest only when it is entered again: do that
    /// without executing more, so that the registers are whole when they are read or reset. What KVM splits
    /// (an access of 16 bytes, a copy from device to device) leaves the guest again and is answered to its
    /// end.
    fn finish_exit(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
        while let Left::Access = self.enter() {}
        self.fd.set_kvm_immediate_exit(0);
    }

    /// Runs the guest until it leaves, and answers what it accesses.
    fn enter(&mut self) -> Left {
        match self.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => {
                let data = std::ptr::from_mut(data);
                let width = self.port_width();
                // SAFETY: the slice lies in the vCPU's shared mapping, behind the `kvm_run` that was looked
                // at since, and stays until the guest is entered again.
                for element in unsafe { &mut *data }.chunks_mut(width) {
                    self.space.read_port(port, element);
                }
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                let data = std::ptr::from_ref(data);
                let width = self.port_width();
                // SAFETY: as above.
                for element in unsafe { &*data }.chunks(width) {
                    self.space.write_port(port, element);
                }
            }
            Ok(VcpuExit::MmioRead(address, data)) => self.space.read_memory(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => self.space.write_memory(address, data),
            Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::Hlt) => {
                return Left::Interrupted;
            }
            Ok(VcpuExit::Shutdown) => return Left::Shutdown,
            Ok(exit) => return Left::Failure(format!("KVM left the guest with {exit:?}")),
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {
                return Left::Interrupted;
            }
            Err(error) => return Left::Failure(format!("running the guest: {error}")),
        }
        Left::Access
    }

    /// Bytes of one port access. A string instruction (`rep ins`) makes several of them in one exit, all to
    /// the same port.
    fn port_width(&mut self) -> usize {
        // SAFETY: KVM has just left the guest for a port, and so has filled in this part of the union.
        let io = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.io };
        usize::from(io.size).max(1)
    }
}
