//! `sundown-nvme` as a process, and drivers played over its socket: what they read and write, where their
//! memory is, how interrupts come, and clients that leave in the middle.

// A test may stop at the first surprise, and so may what it is made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod driver;
mod kills;
mod machine;
mod passed_through;
mod process;

use driver::{Driver, REMOTE};
use process::Process;

/// NVMe base 2.0, section 3.1.3.6.
const CSTS: u64 = 0x1C;
const READY: u32 = 1;
const FATAL: u32 = 1 << 1;

#[test]
fn a_driver_finds_the_drive_writes_and_reads_and_is_interrupted() {
    let process = Process::start("drives");
    let mut driver = Driver::connect(&process);
    let admin = driver.connect_vector(0);
    let io = driver.connect_vector(1);
    driver.enable(0);
    let identity = driver.identify(0x8000);
    assert_eq!(&identity[4..24], b"drives              ");
    assert!(admin.fired(&mut driver), "the admin queue's vector");
    driver.make_queues();
    let written: Vec<u8> = (0..4096).map(|byte| (byte % 251) as u8).collect();
    driver.put(0x9000, &written);
    driver.transfer(1, 0x9000, 0, 8);
    driver.transfer(2, 0xA000, 0, 8);
    assert_eq!(driver.get(0xA000, 4096), written);
    assert!(io.fired(&mut driver), "the I/O queue's vector");
    assert!(!driver.connect_vector(2).has_fired());
}

#[test]
fn data_and_lists_in_memory_without_a_descriptor_go_by_messages_and_queues_do_not() {
    let process = Process::start("remote");
    let mut driver = Driver::connect(&process);
    driver.enable(0);
    let identity = driver.identify(REMOTE);
    assert_eq!(&identity[4..24], b"remote              ");
    driver.make_queues();
    // Three pages: the second entry of the command is a list, which lies there too.
    let written: Vec<u8> = (0..12288).map(|byte| (byte % 241) as u8).collect();
    driver.put(REMOTE + 0x1000, &written);
    let list = [REMOTE + 0x2000, REMOTE + 0x3000].map(u64::to_le_bytes);
    driver.put(REMOTE + 0x5000, &list.concat());
    driver.transfer_list(1, REMOTE + 0x1000, REMOTE + 0x5000, 24);
    driver.transfer(2, 0x9000, 0, 8);
    assert_eq!(driver.get(0x9000, 4096), written[..4096]);
    driver.transfer(2, REMOTE + 0x8000, 16, 8);
    assert_eq!(driver.get(REMOTE + 0x8000, 4096), written[8192..]);

    let mut driver = driver.reconnect(&process);
    driver.start_at(REMOTE);
    assert_eq!(driver.register(CSTS) & (READY | FATAL), FATAL);
}

#[test]
fn a_reset_by_the_client_leaves_a_drive_as_after_power_on() {
    let process = Process::start("resets");
    let mut driver = Driver::connect(&process);
    driver.enable(0);
    assert_eq!(driver.register(CSTS) & READY, READY);
    driver.reset();
    assert_eq!(driver.register(CSTS) & READY, 0);
    assert_eq!(driver.config(4, 2), [0, 0], "command register");
    driver.enable(0);
    driver.identify(0x8000);
}

#[test]
fn a_client_that_leaves_with_commands_under_way_leaves_a_drive_for_the_next() {
    let process = Process::start("leaves");
    let mut driver = Driver::connect(&process);
    driver.enable(0);
    driver.make_queues();
    driver.put(0x9000, &[0x5A; 4096]);
    driver.transfer(1, 0x9000, 0, 8);
    // Each asks for memory that nobody will give any more.
    for block in 0..16 {
        driver.submit(2, REMOTE, block * 8, 8);
    }
    let mut driver = driver.reconnect(&process);
    assert_eq!(driver.register(CSTS) & READY, 0, "reset between clients");
    driver.enable(0);
    driver.make_queues();
    driver.transfer(2, 0xA000, 0, 8);
    assert_eq!(driver.get(0xA000, 4096), [0x5A; 4096]);
}

#[test]
fn memory_is_taken_back_under_load_and_accesses_to_it_fail() {
    let process = Process::start("unmap");
    let mut driver = Driver::connect(&process);
    driver.enable(0);
    driver.make_queues();
    driver.map_more();
    for block in 0..8 {
        driver.submit(2, driver::MORE, block * 8, 8);
    }
    driver.unmap_more();
    for _ in 0..8 {
        driver.finish();
    }
    let status = driver.try_transfer(2, driver::MORE, 0, 8);
    assert_ne!(status, 0, "there is no memory any more");
    driver.map_more();
    assert_eq!(driver.try_transfer(2, driver::MORE, 0, 8), 0);
}

#[test]
fn descriptors_that_are_no_memory_or_no_eventfds_are_refused() {
    let process = Process::start("refused");
    let mut driver = Driver::connect(&process);
    driver.refuses_descriptors();
    driver.enable(0);
    driver.identify(0x8000);
}

#[test]
fn the_process_ends_clean_and_says_what_is_wrong_with_its_drive() {
    let mut process = Process::start("ends");
    let mut driver = Driver::connect(&process);
    driver.enable(0);
    driver.make_queues();
    driver.transfer(1, 0x9000, 0, 8);
    let (code, said) = process.try_another();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("another process is listening"), "{said}");
    assert_eq!(process.terminate(), 0);
    assert!(!process.socket().exists());
    let (code, said) = Process::refused(r#"{ "type": "nvme", "id": "d" }"#);
    assert_eq!(code, 1);
    assert!(said.contains("namespaces"), "{said}");
}

#[test]
fn doorbells_are_rung_in_a_page_that_the_client_maps() {
    let process = Process::start_with("mapped", &["--doorbells", "mapped"]);
    let mut driver = Driver::connect(&process);
    driver.map_doorbells();
    // Twice the same: queues that begin anew begin with doorbells at 0, and the same values count again.
    for _ in 0..2 {
        driver.enable(0);
        driver.identify(0x8000);
        driver.make_queues();
        driver.put(0x9000, &[7; 4096]);
        for block in 0..40 {
            driver.transfer(1, 0x9000, block * 8, 8);
        }
        driver.transfer(2, 0xA000, 312, 8);
        assert_eq!(driver.get(0xA000, 4096), [7; 4096]);
        driver.reset();
    }
    // Messages ring them as well.
    driver.forget_doorbells();
    driver.enable(0);
    driver.identify(0x8000);
}

#[test]
fn eventfds_stand_for_doorbells_while_their_values_are_in_memory() {
    let process = Process::start("events");
    let mut driver = Driver::connect(&process);
    driver.enable(0);
    driver.make_queues();
    assert_eq!(driver.ask_for_events(), [0; 0], "values count");
    driver.use_shadow();
    assert_eq!(driver.ask_for_events(), [0x1008]);
    driver.put(0x9000, &[7; 4096]);
    for block in 0..100 {
        driver.transfer(1, 0x9000, block % 40 * 8, 8);
        // Long enough to fall asleep, now and then.
        if block % 10 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    driver.spoil_events();
    driver.transfer(2, 0xA000, 312, 8);
    assert_eq!(driver.get(0xA000, 4096), [7; 4096]);
    driver.reset();
    assert_eq!(driver.ask_for_events(), [0; 0]);
    driver.forget_events();
    driver.enable(0);
    driver.make_queues();
    driver.transfer(2, 0xA000, 312, 8);
}

#[test]
fn an_eventfd_that_blocks_holds_up_neither_drive_nor_process() {
    let mut process = Process::start("blocks");
    let mut driver = Driver::connect(&process);
    let _full = [driver.connect_full_vector(0), driver.connect_full_vector(1)];
    driver.enable(0);
    driver.make_queues();
    for block in 0..40 {
        driver.transfer(1, 0x9000, block * 8, 8);
    }
    let mut driver = driver.reconnect(&process);
    driver.enable(0);
    driver.make_queues();
    driver.transfer(2, 0xA000, 0, 8);
    assert_eq!(process.terminate(), 0);
}

#[test]
fn a_client_that_holds_the_process_up_in_a_signal_does_so_for_a_moment() {
    let mut process = Process::start("held");
    let mut driver = Driver::connect(&process);
    driver.enable(0);
    driver.make_queues();
    driver.transfer(1, 0x9000, 0, 8);
    if !driver.hold_up_a_signal(1) {
        eprintln!("the process never wrote at the right moment: that it goes on is not tested");
    }
    driver.transfer(2, 0xA000, 0, 8);
    assert_eq!(process.terminate(), 0);
}

#[test]
fn clients_that_come_and_go_leave_no_descriptors_behind() {
    let process = Process::start("goes");
    let mut driver = Driver::connect(&process);
    // Its threads make their rings when they first run.
    let before = process.settled_descriptors();
    for round in 0..20 {
        let _vector = driver.connect_vector(1);
        driver.enable(0);
        if round % 2 == 0 {
            driver.make_queues();
            driver.submit(2, REMOTE, 0, 8);
        }
        driver.refuses_descriptors();
        driver = driver.reconnect(&process);
    }
    assert_eq!(process.settled_descriptors(), before);
}
