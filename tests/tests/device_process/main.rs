//! `sundown-nvme` under QEMU, whose vfio-user client nobody here wrote, with guests and firmware that nobody
//! here wrote either. Logs and disks stay in `target/lab/tests/device-process`.

// A test may stop at the first surprise, and so may what it is made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod boot_disk;
mod console;
mod drive;
mod firmware;
mod linux;
mod machine;
