//! A drive that firmware boots from: a FAT file system with a kernel, an initramfs and a script.

use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

use crate::machine::{built, folder};

/// Room for the kernel, the initramfs, and something to write.
pub const SIZE: usize = 24 << 20;
pub const KERNEL: &str = "vmlinuz.efi";
pub const INITRAMFS: &str = "initrd";

/// Makes one as the file `name` with `script` for the UEFI shell.
pub fn make(name: &str, script: &str) -> PathBuf {
    let parts = [
        (KERNEL, fs::read(built().parts.vmlinuz()).unwrap()),
        (INITRAMFS, fs::read(&built().initramfs).unwrap()),
        ("startup.nsh", script.replace('\n', "\r\n").into_bytes()),
    ];
    let mut disk = Cursor::new(vec![0; SIZE]);
    fatfs::format_volume(&mut disk, FormatVolumeOptions::new()).unwrap();
    let system = FileSystem::new(&mut disk, FsOptions::new()).unwrap();
    for (name, contents) in parts {
        let mut file = system.root_dir().create_file(name).unwrap();
        file.write_all(&contents).unwrap();
    }
    system.unmount().unwrap();
    let path = folder().join(format!("{name}.raw"));
    fs::write(&path, disk.into_inner()).unwrap();
    path
}

/// What stands in one of its files.
pub fn contents(disk: &Path, name: &str) -> Option<Vec<u8>> {
    let disk = File::options().read(true).write(true).open(disk).unwrap();
    let system = FileSystem::new(disk, FsOptions::new()).unwrap();
    let mut contents = Vec::new();
    let mut file = system.root_dir().open_file(name).ok()?;
    file.read_to_end(&mut contents).unwrap();
    Some(contents)
}
