//! What the lab is made of and does not build: QEMU, kernel, modules, firmware, busybox, lspci.
//! `resources/lab/setup` fetches them; this runs it and knows where it puts them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The folder that `resources/lab/setup` fills.
#[derive(Debug, Clone)]
pub struct Parts {
    folder: PathBuf,
}

impl Parts {
    /// Runs `resources/lab/setup`, which does nothing when all is there.
    ///
    /// # Errors
    /// When it fails; it has then said on standard error what is missing.
    pub fn ready() -> Result<Self> {
        let setup = workspace::resource("lab/setup");
        let status = Command::new(&setup)
            .status()
            .with_context(|| format!("could not run {}", setup.display()))?;
        if !status.success() {
            bail!(
                "the lab is not set up: {} failed; its lines above say what is missing",
                setup.display()
            );
        }
        Ok(Self { folder: folder()? })
    }

    /// The stock kernel, a bzImage.
    pub fn vmlinuz(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// QEMU: a program that runs it with its own libraries.
    pub fn qemu(&self) -> PathBuf {
        self.folder.join("qemu/qemu-system-x86_64")
    }

    /// The same for the lab host: (here, there). There is no hierarchy of libraries in it but its own.
    ///
    /// # Errors
    /// When its dynamic loader cannot say what it needs.
    pub fn qemu_files(&self, there: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
        let root = self.folder.join("qemu");
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let loader = root.join("usr/lib64/ld-linux-x86-64.so.2");
        let program = root.join("usr/bin/qemu-system-x86_64");
        let output = Command::new(&loader)
            .arg("--library-path")
            .arg(&libraries)
            .arg("--list")
            .arg(&program)
            .output()
            .with_context(|| format!("could not run {}", loader.display()))?;
        let list = String::from_utf8_lossy(&output.stdout);
        // Lines such as `libz.so.1 => /path/libz.so.1 (0x7f…)`.
        let needed = list
            .lines()
            .filter_map(|line| line.split_once("=> ")?.1.split(' ').next())
            .map(PathBuf::from);
        let bios =
            ["bios-256k.bin", "vgabios.bin"].map(|name| root.join("usr/share/seabios").join(name));
        let roms = ["linuxboot_dma.bin", "kvmvapic.bin"]
            .map(|name| root.join("usr/share/qemu").join(name));
        let all = [self.qemu(), program, loader].into_iter();
        let all = all.chain(needed).chain(bios).chain(roms);
        Ok(all
            .filter_map(|file| {
                let place = there.join(file.strip_prefix(&root).ok()?);
                Some((file, place))
            })
            .collect())
    }

    /// Debian's newest kernel, a bzImage.
    pub fn newest_vmlinuz(&self) -> PathBuf {
        self.folder.join("newest/vmlinuz")
    }

    /// A folder of modules of the newest kernel that a guest can insert, unpacked.
    pub fn newest_modules(&self) -> PathBuf {
        self.folder.join("newest/modules")
    }

    /// A folder to lay over a guest's root, so that it has nvme-cli, fio and file systems' programs.
    pub fn suites(&self) -> PathBuf {
        self.folder.join("suites")
    }

    /// UEFI's reference implementation for QEMU's machines, to be read only.
    pub fn ovmf(&self) -> PathBuf {
        self.folder.join("firmware/ovmf-code.fd")
    }

    /// Where a machine of OVMF begins with its variables: to be copied.
    pub fn ovmf_variables(&self) -> PathBuf {
        self.folder.join("firmware/ovmf-variables.fd")
    }

    /// U-Boot for QEMU's PCs, as a ROM. The one of 64 bits tells a kernel of no memory.
    pub fn u_boot(&self) -> PathBuf {
        self.folder.join("firmware/u-boot.rom")
    }

    /// A statically linked busybox.
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// A folder to lay over a guest's root, so that it has `lspci`.
    pub fn pciutils(&self) -> PathBuf {
        self.folder.join("pciutils")
    }

    /// A folder to lay over the lab host's root, so that it has `curl`.
    pub fn curl(&self) -> PathBuf {
        self.folder.join("curl")
    }

    /// The kernel's modules that the lab host inserts, in this order.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("modules");
        let order = read(&folder.join("order"))?;
        Ok(order
            .lines()
            .map(|name| folder.join(format!("{name}.ko")))
            .collect())
    }

    /// A folder of modules that a guest can insert, unpacked.
    pub fn guest_modules(&self) -> PathBuf {
        self.folder.join("guest-modules")
    }

    /// The kernel's release, as `uname -r` prints it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kernel_release(&self) -> Result<String> {
        Ok(read(&self.folder.join("kernel-release"))?.trim().to_owned())
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| {
        format!(
            "could not read {}; remove its folder's file `ready` and run resources/lab/setup",
            path.display()
        )
    })
}

/// The same rule as in `resources/lab/setup`.
fn folder() -> Result<PathBuf> {
    if let Some(folder) = set("SUNDOWN_LAB_CACHE") {
        return Ok(folder);
    }
    let caches = set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .context("neither HOME nor SUNDOWN_LAB_CACHE is set: the lab's cache folder is unknown")?;
    Ok(caches.join("sundown/lab"))
}

fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
