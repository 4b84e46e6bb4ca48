//! `outb PORT VALUE`: writes one byte to an I/O port. Stock cloud kernels have no
//! /dev/port, so the guest writes its boot marker, and pokes reset ports, with this.
//! Stands alone (no_std, no libc), so that the lab builds it with one call of rustc.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};

const SYS_EXIT: usize = 60;
const SYS_IOPL: usize = 172;
const USAGE: usize = 2;
const NOT_PERMITTED: usize = 1;

/// The stack pointer at entry points at argc, with argv behind it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start)
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc, then argc pointers to NUL-terminated strings there.
    let (port, value) = unsafe {
        if *stack != 3 {
            exit(USAGE);
        }
        (number(*stack.add(2) as *const u8), number(*stack.add(3) as *const u8))
    };
    let (Some(port), Some(value)) = (port, value) else { exit(USAGE) };
    let (Ok(port), Ok(value)) = (u16::try_from(port), u8::try_from(value)) else { exit(USAGE) };
    if system_call(SYS_IOPL, 3) != 0 {
        exit(NOT_PERMITTED);
    }
    // SAFETY: the I/O privilege level now allows the instruction; it touches no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
    exit(0)
}

/// A decimal or 0x-prefixed number.
///
/// # Safety
/// `text` points to a NUL-terminated string.
unsafe fn number(mut text: *const u8) -> Option<u32> {
    let mut value = 0u32;
    let mut base = 10;
    // SAFETY: reading stops at the NUL.
    unsafe {
        if *text == b'0' && *text.add(1) == b'x' {
            base = 16;
            text = text.add(2);
        }
        if *text == 0 {
            return None;
        }
        while *text != 0 {
            let digit = (*text as char).to_digit(base)?;
            value = value.checked_mul(base)?.checked_add(digit)?;
            text = text.add(1);
        }
    }
    Some(value)
}

fn exit(code: usize) -> ! {
    system_call(SYS_EXIT, code);
    loop {}
}

fn system_call(call: usize, argument: usize) -> isize {
    let result;
    // SAFETY: neither of the two calls made here touches this program's memory.
    unsafe {
        asm!("syscall", inlateout("rax") call as isize => result, in("rdi") argument,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(USAGE)
}
