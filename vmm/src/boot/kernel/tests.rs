//! Payloads made by hand.

use std::io::Write;

use linux_loader::loader::bootparam::boot_params;

use super::*;

fn memory(mib: usize) -> GuestRam {
    GuestRam::from_ranges(&[(GuestAddress(0), mib << 20)]).unwrap()
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A bzImage of one setup sector and a page of code.
fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 2 * 512 + 4096];
    image[0x1F1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20Fu16.to_le_bytes());
    image[0x211] = 1;
    image[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    image[0x22C..0x230].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
    image[0x236] = 1;
    image[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes());
    image[0x260..0x264].copy_from_slice(&0x10_0000u32.to_le_bytes());
    image[1024..1028].copy_from_slice(b"CODE");
    image
}

/// An ELF file with a PVH entry and one segment at 16 MiB: four bytes in the file, 8 KiB in memory.
fn elf() -> Vec<u8> {
    fn put(image: &mut [u8], at: usize, value: u64, width: usize) {
        image[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    let mut image = vec![0; 0x300];
    image[..7].copy_from_slice(b"\x7FELF\x02\x01\x01");
    for (at, value, width) in [(24, 0x100_0000, 8), (32, 64, 8), (54, 56, 2), (56, 2, 2)] {
        put(&mut image, at, value, width);
    }
    // A note of 20 bytes: name and value are 4 bytes each, type 18 is the PVH entry.
    for (at, value, width) in [(64, 4, 4), (72, 0x200, 8), (96, 20, 8), (104, 20, 8)] {
        put(&mut image, at, value, width);
    }
    for (at, value) in [
        (0x200, 4),
        (0x204, 4),
        (0x208, 18),
        (0x20C, 0x006E_6558),
        (0x210, 0x100_0000),
    ] {
        put(&mut image, at, value, 4);
    }
    for (at, value, width) in [
        (120, 1, 4),
        (128, 0x2F0, 8),
        (144, 0x100_0000, 8),
        (152, 4, 8),
        (160, 0x2000, 8),
    ] {
        put(&mut image, at, value, width);
    }
    image[0x2F0..0x2F4].copy_from_slice(b"CODE");
    image
}

fn config(kernel: &Path, initramfs: Option<&Path>, cmdline: &str) -> PayloadConfig {
    PayloadConfig {
        kernel: kernel.to_owned(),
        initramfs: initramfs.map(Path::to_owned),
        cmdline: Some(cmdline.to_owned()),
    }
}

#[test]
fn a_bzimage_is_loaded_with_initramfs_and_command_line() {
    let kernel = file(&bzimage());
    let initramfs = file(&[7; 5000]);
    let memory = memory(64);
    let mut payload =
        Payload::open(&config(kernel.path(), Some(initramfs.path()), "quiet")).unwrap();
    let entry = payload.load(&memory, GuestAddress(0xE0000)).unwrap();

    assert_eq!(entry.regs.rip, 0x10_0200);
    assert_eq!(memory.read_obj::<[u8; 4]>(KERNEL).unwrap(), *b"CODE");
    assert_eq!(
        memory.read_obj::<[u8; 6]>(COMMAND_LINE).unwrap(),
        *b"quiet\0"
    );
    let params: boot_params = memory.read_obj(GuestAddress(entry.regs.rsi)).unwrap();
    let (address, size) = (params.hdr.ramdisk_image, params.hdr.ramdisk_size);
    assert_eq!(size, 5000);
    assert_eq!(
        memory
            .read_obj::<u8>(GuestAddress(u64::from(address + size) - 1))
            .unwrap(),
        7
    );
    assert_eq!({ params.acpi_rsdp_addr }, 0xE0000);
}

#[test]
fn a_second_load_gives_the_same_memory() {
    let kernel = file(&bzimage());
    let initramfs = file(&[7; 5000]);
    let memory = memory(64);
    let mut payload = Payload::open(&config(kernel.path(), Some(initramfs.path()), "a")).unwrap();
    let first = payload.load(&memory, GuestAddress(0xE0000)).unwrap();
    memory.write_slice(&[0xCC; 4096], KERNEL).unwrap();
    let second = payload.load(&memory, GuestAddress(0xE0000)).unwrap();
    assert_eq!(first.regs, second.regs);
    assert_eq!(memory.read_obj::<[u8; 4]>(KERNEL).unwrap(), *b"CODE");
}

#[test]
fn what_an_elf_file_leaves_out_is_zero_at_every_boot() {
    let kernel = file(&elf());
    let memory = memory(64);
    let mut payload = Payload::open(&config(kernel.path(), None, "")).unwrap();
    for _ in 0..2 {
        let entry = payload.load(&memory, GuestAddress(0xE0000)).unwrap();
        assert_eq!(entry.regs.rip, 0x100_0000);
        let read = |at| memory.read_obj::<u32>(GuestAddress(at)).unwrap();
        assert_eq!(read(0x100_0000).to_le_bytes(), *b"CODE");
        assert_eq!((read(0x100_0004), read(0x100_1FFC)), (0, 0));
        memory
            .write_slice(&[0xCC; 0x3000], GuestAddress(0x100_0000))
            .unwrap();
    }
    assert_eq!(
        memory.read_obj::<u8>(GuestAddress(0x100_2000)).unwrap(),
        0xCC
    );
}

#[test]
fn memory_that_is_too_small_says_how_much_is_needed() {
    let kernel = file(&bzimage());
    let initramfs = file(&vec![1; 16 << 20]);
    let mut payload = Payload::open(&config(kernel.path(), Some(initramfs.path()), "")).unwrap();
    let error = payload
        .load(&memory(32), GuestAddress(0xE0000))
        .err()
        .unwrap();
    assert!(
        matches!(error, PayloadError::TooSmall { needed_mib } if needed_mib >= 33),
        "{error}"
    );
}

#[test]
fn what_is_no_kernel_is_refused_by_name() {
    for bytes in [vec![], vec![0; 4096], b"#!/bin/sh\n".repeat(100)] {
        let kernel = file(&bytes);
        let error = Payload::open(&config(kernel.path(), None, ""))
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .contains(&*kernel.path().to_string_lossy()),
            "{error}"
        );
    }
    let error = Payload::open(&config(Path::new("/nowhere/vmlinuz"), None, ""))
        .err()
        .unwrap();
    assert!(error.to_string().contains("/nowhere/vmlinuz"), "{error}");
}

#[test]
fn a_command_line_that_does_not_fit_is_refused() {
    let kernel = file(&bzimage());
    let long = "x".repeat(COMMAND_LINE_SIZE);
    assert!(matches!(
        Payload::open(&config(kernel.path(), None, &long)),
        Err(PayloadError::CommandLine(_))
    ));
}
