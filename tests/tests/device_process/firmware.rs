//! Firmware with NVMe drivers of its own reads from a drive of another process, writes to it, and boots a stock
//! kernel from it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::boot_disk::{self, INITRAMFS, KERNEL};
use crate::drive::Drive;
use crate::machine::{Boot, Machine, Running};

/// For a guest that says what the drive holds, as the kernel read it.
const WORDS: &str = "console=ttyS0 panic=-1 sundown.job=digest sundown.drives=1 sundown.wait=60 sundown.then=poweroff";

/// The UEFI shell writes a file and resets the machine; then it starts the kernel, which has its initramfs
/// read by the firmware.
#[test]
fn ovmf_reads_writes_resets_and_boots_a_stock_kernel_from_a_drive() {
    let script = format!(
        "if exist fs0:\\mark.txt then\n  fs0:\n  {KERNEL} initrd=\\{INITRAMFS} {WORDS}\nendif\n\
         echo from the shell > fs0:\\mark.txt\nreset\n"
    );
    let disk = boot_disk::make("ovmf", &script);
    let drive = Drive::serve_file("ovmf", "trapped", disk);
    let machine = Machine {
        name: "ovmf",
        drives: &[&drive],
        boot: Boot::Ovmf,
    };
    let console = machine.run();
    console.assert_well();
    let digest = console.said("digest");
    assert_eq!(digest, [digest_of(drive.disk())], "{console}");
    let mark = boot_disk::contents(drive.disk(), "mark.txt").expect("the shell has made the file");
    // The shell writes UTF-16.
    let mark: Vec<_> = mark.into_iter().filter(u8::is_ascii_graphic).collect();
    assert_eq!(mark, b"fromtheshell", "{console}");
    drive.stop();
}

/// U-Boot is told by its console what to do, as somebody who debugs a board would.
#[test]
fn u_boot_reads_writes_and_boots_a_stock_kernel_from_a_drive() {
    let disk = boot_disk::make("u-boot", "");
    let drive = Drive::serve_file("u-boot", "trapped", disk);
    let machine = Machine {
        name: "u-boot",
        drives: &[&drive],
        boot: Boot::Uboot,
    };
    let mut running = machine.start();
    running.wait_for("Hit any key to stop autoboot");
    running.type_keys("\r");
    running.wait_for(PROMPT);
    tell(&mut running, "nvme scan");
    let found = tell(&mut running, "nvme info");
    assert!(found.contains("Capacity: 24.0 MB"), "{found}");
    let listed = tell(&mut running, "ls nvme 0").to_lowercase();
    assert!(listed.contains(KERNEL), "{listed}");

    // Blocks at the drive's end, which the file system does not use: written, read back, compared there and here.
    let last = boot_disk::SIZE / 512 - 64;
    tell(&mut running, "mw.l 1000000 5ad0c0de 2000");
    let wrote = tell(&mut running, &format!("nvme write 1000000 {last:x} 40"));
    assert!(wrote.contains("OK"), "{wrote}");
    let read = tell(&mut running, &format!("nvme read 1100000 {last:x} 40"));
    assert!(read.contains("OK"), "{read}");
    let compared = tell(&mut running, "cmp.b 1000000 1100000 8000");
    assert!(
        compared.contains("32768 byte(s) were the same"),
        "{compared}"
    );

    tell(&mut running, &format!("load nvme 0 10000000 {INITRAMFS}"));
    tell(&mut running, "setenv size ${filesize}");
    tell(&mut running, &format!("load nvme 0 2000000 {KERNEL}"));
    tell(&mut running, &format!("setenv bootargs {WORDS}"));
    running.type_keys("zboot 2000000 0 10000000 ${size}\r");
    let console = running.wait();
    console.assert_well();
    let digest = console.said("digest");
    assert_eq!(digest, [digest_of(drive.disk())], "{console}");
    let written = fs::read(drive.disk()).unwrap();
    assert!(
        written[last * 512..]
            .chunks(4)
            .all(|word| word == 0x5ad0_c0de_u32.to_le_bytes()),
        "{console}"
    );
    drive.stop();
}

const PROMPT: &str = "=> ";

/// Types a command, and gives what U-Boot says to it.
fn tell(running: &mut Running<'_>, command: &str) -> String {
    running.type_keys(command);
    running.type_keys("\r");
    running.wait_for(PROMPT)
}

/// The SHA-256 of a file, as a guest says it of a drive.
fn digest_of(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_whitespace().next().unwrap().to_owned()
}
