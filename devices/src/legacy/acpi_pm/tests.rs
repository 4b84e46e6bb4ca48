//! The guest's side of the fixed ACPI registers.

use std::thread::sleep;

use super::super::recorder::Recorder;
use super::*;

const BASE: PioAddress = PioAddress(ACPI_PM.first);

fn read16(pm: &AcpiPm, register: usize) -> u16 {
    let mut bytes = [0; 2];
    pm.pio_read(BASE, register as u16, &mut bytes);
    u16::from_le_bytes(bytes)
}

fn write16(pm: &AcpiPm, register: usize, value: u16) {
    pm.pio_write(BASE, register as u16, &value.to_le_bytes());
}

fn timer(pm: &AcpiPm) -> u32 {
    let mut bytes = [0; 4];
    pm.pio_read(BASE, TIMER as u16, &mut bytes);
    u32::from_le_bytes(bytes)
}

#[test]
fn the_timer_counts_at_its_rate_and_wraps_at_32_bits() {
    assert_eq!(timer_ticks(Duration::from_secs(1)), 3_579_545);
    assert_eq!(timer_ticks(Duration::ZERO), 0);
    // 2^32 ticks and a little.
    assert!(timer_ticks(Duration::from_millis(1_199_865)) < 4000);

    let recorder = Recorder::new();
    let pm = AcpiPm::new(recorder.clone(), recorder);
    let first = timer(&pm);
    let mut last = first;
    for _ in 0..1000 {
        let now = timer(&pm);
        assert!(now >= last);
        last = now;
    }
    sleep(Duration::from_millis(10));
    assert!(timer(&pm) - first >= 35_795);
}

#[test]
fn the_power_button_interrupts_once_enabled_until_acknowledged() {
    let recorder = Recorder::new();
    let pm = AcpiPm::new(recorder.clone(), recorder.clone());
    assert!(!pm.press_power_button());
    assert!(!recorder.level());
    write16(&pm, ENABLE, POWER_BUTTON);
    assert!(recorder.level(), "a press before is pending");
    assert_eq!(read16(&pm, STATUS), POWER_BUTTON);
    write16(&pm, STATUS, POWER_BUTTON);
    assert!(!recorder.level());
    assert_eq!(read16(&pm, STATUS), 0);

    assert!(pm.press_power_button());
    assert!(recorder.level());
    // Acknowledged by the high byte alone.
    pm.pio_write(BASE, STATUS as u16 + 1, &[0x01]);
    assert!(!recorder.level());
}

#[test]
fn enable_bits_read_back() {
    let recorder = Recorder::new();
    let pm = AcpiPm::new(recorder.clone(), recorder);
    write16(&pm, ENABLE, 0xFFFF);
    assert_eq!(read16(&pm, ENABLE), ENABLE_WRITABLE);
    pm.pio_write(BASE, ENABLE as u16, &[0]);
    assert_eq!(read16(&pm, ENABLE), ENABLE_WRITABLE & 0xFF00);
}

#[test]
fn s5_powers_off_and_other_sleep_types_do_not() {
    let recorder = Recorder::new();
    let pm = AcpiPm::new(recorder.clone(), recorder.clone());
    assert_eq!(read16(&pm, CONTROL), SCI_ENABLED);
    let s5 = u16::from(SLP_TYP_S5) << SLEEP_TYPE_SHIFT;
    // As ACPICA does it: the type first, then the type with SLP_EN.
    write16(&pm, CONTROL, s5 | SCI_ENABLED);
    assert!(recorder.take().is_empty());
    write16(&pm, CONTROL, s5 | SLEEP_ENABLE | SCI_ENABLED);
    assert_eq!(recorder.take(), [GuestEvent::PowerOff]);
    assert_eq!(read16(&pm, CONTROL) & SLEEP_ENABLE, 0, "write-only");
    write16(&pm, CONTROL, 1 << SLEEP_TYPE_SHIFT | SLEEP_ENABLE);
    assert!(recorder.take().is_empty());
}

#[test]
fn shut_down_lowers_the_line_and_restarts_the_timer() {
    let recorder = Recorder::new();
    let pm = AcpiPm::new(recorder.clone(), recorder.clone());
    write16(&pm, ENABLE, POWER_BUTTON);
    pm.press_power_button();
    sleep(Duration::from_millis(5));
    let before = timer(&pm);
    let by = Deadline::after(Duration::from_secs(1));
    pm.shut_down(by, &mut Phases::default()).unwrap();
    assert!(!recorder.level());
    assert_eq!((read16(&pm, STATUS), read16(&pm, ENABLE)), (0, 0));
    assert!(timer(&pm) < before);
}

#[test]
fn odd_accesses_do_no_harm() {
    let recorder = Recorder::new();
    let pm = AcpiPm::new(recorder.clone(), recorder.clone());
    for offset in [0, 1, 3, 5, 7, 11, 12, 100, u16::MAX] {
        for len in [0, 1, 2, 3, 4, 8, 64] {
            pm.pio_read(BASE, offset, &mut vec![0; len]);
            pm.pio_write(BASE, offset, &vec![0; len]);
        }
    }
    assert!(recorder.take().is_empty());
}
