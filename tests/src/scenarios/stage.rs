//! What a scenario has to work with: the files of the lab, a folder of its own, its time, its notes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::config::VmConfig;

use super::design::{self, Design};
use super::machine::Machine;
use super::process::Sundown;
use super::tiny::{self, Step};

/// The files that scenarios need.
#[derive(Debug, Clone)]
pub struct Files {
    /// The VMM.
    pub sundown: PathBuf,
    /// A stock kernel, as a bzImage.
    pub kernel: PathBuf,
    /// The same kernel, as the ELF file inside it.
    pub vmlinux: PathBuf,
    /// The guest's initramfs.
    pub initramfs: PathBuf,
    /// Debian's newest kernel, as a bzImage.
    pub newest_kernel: PathBuf,
    /// Addresses of the host's drives that are bound to VFIO.
    pub passed_through: Vec<String>,
    /// Addresses of the host's SATA controllers that are bound to VFIO.
    pub sata: Vec<String>,
    /// QEMU, to be measured against.
    pub qemu: PathBuf,
    /// The initramfs of a guest with suites: nvme-cli, fio, file systems' programs.
    pub suites: PathBuf,
}

/// A scenario's surroundings.
pub struct Stage {
    /// The files of the lab.
    pub(super) files: Files,
    folder: PathBuf,
    deadline: Instant,
    processes: u32,
    pub(super) notes: Vec<String>,
}

impl Stage {
    /// A stage that is there for so long, with an empty folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(files: Files, folder: PathBuf, limit: Duration) -> Result<Self> {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("drives"))
            .with_context(|| format!("could not make the folder {}", folder.display()))?;
        Ok(Self {
            files,
            folder,
            deadline: Instant::now() + limit,
            processes: 0,
            notes: Vec::new(),
        })
    }

    /// Keeps a fact for the results: a count, a time.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// An empty raw file of so many MiB.
    pub(super) fn raw_file(&self, name: &str, mib: u64) -> Result<PathBuf> {
        let path = self.folder.join("drives").join(name);
        File::create(&path)
            .and_then(|file| file.set_len(mib << 20))
            .with_context(|| format!("could not make the drive {}", path.display()))?;
        Ok(path)
    }

    /// A drive on a new raw file of 4 MiB.
    pub(super) fn drive(&self, id: &str) -> Result<design::Device> {
        Ok(design::drive(id, self.raw_file(id, 4)?))
    }

    /// A machine whose guest is stock Linux and does what it is told over its console.
    pub(super) fn linux(&self) -> VmConfig {
        let mut config = design::machine(&self.files.kernel);
        config.payload.initramfs = Some(self.files.initramfs.clone());
        // In the lab host a page fault of the host while the guest takes an exception can cost the exception.
        config.memory.prefault = true;
        config.words("console=ttyS0 quiet panic=-1 sundown.job=obey")
    }

    /// A machine whose guest writes to ports and halts.
    pub(super) fn tiny(&self, steps: &[Step]) -> Result<VmConfig> {
        let path = (0..)
            .map(|number| self.folder.join(format!("tiny-{number}.elf")))
            .find(|path| !path.exists())
            .unwrap_or_default();
        tiny::write(&path, steps)?;
        Ok(design::machine(&path).memory_mib(64))
    }

    /// A new folder for a process.
    pub(super) fn process_folder(&mut self) -> PathBuf {
        self.processes += 1;
        self.folder.join(format!("sundown-{}", self.processes))
    }

    /// A process without a machine, ready to answer.
    pub(super) fn process(&mut self) -> Result<Sundown> {
        let folder = self.process_folder();
        let mut process = Sundown::spawn(&self.files.sundown, &folder)?;
        process.wait_until_ready()?;
        Ok(process)
    }

    /// A machine that has not been booted.
    pub(super) fn create(&mut self, config: VmConfig) -> Result<Machine> {
        let process = self.process()?;
        let folder = self.folder.join(format!("sundown-{}", self.processes));
        Machine::create(process, config, folder, self.deadline)
    }

    /// A machine whose vCPUs run.
    pub(super) fn launch(&mut self, config: VmConfig) -> Result<Machine> {
        let mut machine = self.create(config)?;
        machine.start()?;
        Ok(machine)
    }

    /// A machine whose guest is ready for orders.
    pub(super) fn launch_ready(&mut self, config: VmConfig) -> Result<Machine> {
        let mut machine = self.launch(config)?;
        machine.ready()?;
        Ok(machine)
    }
}
