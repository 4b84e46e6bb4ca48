//! The guest's part, told otherwise than it can be.

use super::*;

#[test]
fn the_guests_part() {
    let change = |change: fn(&mut GuestReport)| {
        broken(
            Completion,
            |report| change(&mut report.guest),
            Rule::Guest,
            &[],
        );
    };
    change(|guest| guest.handshake_sum_ns += 1);
    change(|guest| guest.span_ns -= 1);
    change(|guest| guest.overlap = None);
    change(|guest| guest.overlap = Some(2.0));
    change(|guest| guest.order = GuestOrder::Parallel);
    change(|guest| guest.order = GuestOrder::None);
    change(|guest| guest.devices[0].events[0].count = 0);
    change(|guest| guest.devices[0].events[0].last_ns -= 1);
    change(|guest| guest.devices[0].events[0].last_ns = i64::MAX);
    change(|guest| guest.devices[1].handshake.as_mut().unwrap().seen_ns = Some(-11));
    change(|guest| guest.devices[1].handshake.as_mut().unwrap().requested_ns = 1_000_000_000);
}

#[test]
fn a_queue_may_be_deleted_until_the_teardown_begins() {
    let mut report = good(Completion);
    let begin = report.teardown_start_ns;
    report.vcpu_pause_ns = report.vcpu_pause_ns.min(begin - 1);
    let deletion = |act| GuestEvent {
        act,
        first_ns: -300,
        last_ns: begin as i64,
        count: 2,
    };
    report.guest.devices[0]
        .events
        .push(deletion(GuestAct::DeleteSubmissionQueue));
    passes(&report);
    let last = report.guest.devices[0].events.last_mut().unwrap();
    last.last_ns += 1;
    assert_eq!(check(&report)[0].rule, Rule::Guest);
    *report.guest.devices[0].events.last_mut().unwrap() = deletion(GuestAct::BusMasterOff);
    assert_eq!(check(&report)[0].rule, Rule::Guest, "a vCPU stood still");
}

#[test]
fn a_handshake_that_never_ended_lasts_until_the_guest_last_looked() {
    let mut report = good(Completion);
    let given_up = &mut report.guest.devices[0];
    given_up.handshake.as_mut().unwrap().completed_ns = None;
    given_up.handshake.as_mut().unwrap().seen_ns = None;
    given_up.events.push(GuestEvent {
        act: GuestAct::Poll,
        first_ns: -99,
        last_ns: -40,
        count: 30,
    });
    report.guest.handshake_sum_ns = 40;
    report.guest.span_ns = 40;
    report.guest.overlap = Some(1.0);
    report.guest.order = GuestOrder::Parallel;
    passes(&report);
}
