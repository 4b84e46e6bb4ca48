//! What the drive is held against: the shortest loop that reads a file through io_uring.

use std::fs::File;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

use super::driver::PAGE;

/// Reads pages at random with `depth` of them under way, for as long as `more` says so. Returns how many.
pub fn reads(file: &File, size: u64, depth: u16, mut more: impl FnMut() -> bool) -> u64 {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(256)
        .expect("io_uring");
    let mut buffers = vec![[0_u8; PAGE as usize]; depth.into()];
    let mut state = 1_u64;
    let mut entry = |index: u64| {
        state = (state.wrapping_mul(6_364_136_223_846_793_005)).wrapping_add(1);
        let offset = (state >> 33) % (size / PAGE) * PAGE;
        let buffer = &mut buffers[index as usize];
        opcode::Read::new(
            types::Fd(file.as_raw_fd()),
            buffer.as_mut_ptr(),
            PAGE as u32,
        )
        .offset(offset)
        .build()
        .user_data(index)
    };
    for index in 0..u64::from(depth) {
        // SAFETY: the buffers outlive the ring's last completion, which the loop waits for.
        unsafe { ring.submission().push(&entry(index)).expect("room") };
    }
    let (mut done, mut under_way, mut goes_on) = (0_u64, u64::from(depth), true);
    let mut found = Vec::new();
    while under_way > 0 {
        ring.submit_and_wait(1).expect("io_uring_enter");
        found.extend(
            ring.completion()
                .map(|entry| (entry.user_data(), entry.result())),
        );
        for (index, result) in found.drain(..) {
            assert_eq!(result, PAGE as i32);
            done += 1;
            if done.is_multiple_of(1024) {
                goes_on = more();
            }
            if goes_on {
                // SAFETY: as above.
                unsafe { ring.submission().push(&entry(index)).expect("room") };
            } else {
                under_way -= 1;
            }
        }
    }
    done
}
