//! The API while a teardown takes its time, and the stream of events.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::client::{Client, ClientError};
use api::clock::monotonic_ns;
use api::error::ErrorCode;
use api::events::{Event, EventKind};
use api::report::Cause;
use api::state::VmState;

use super::design::{Design, root_port};
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("the_api_answers_while_a_teardown_runs", 60, during_teardown),
    Scenario::new("events_are_replayed_without_holes", 60, replay),
];

fn refused(answer: Result<(), ClientError>, call: &str) -> Result<()> {
    match answer {
        Ok(()) => anyhow::bail!("{call} was not refused"),
        Err(error) => {
            ensure!(
                error.status() == Some(409) && error.code() == Some(ErrorCode::WrongState),
                "{call} was refused with {error}, not with status 409, wrong-state"
            );
            Ok(())
        }
    }
}

fn during_teardown(stage: &mut Stage) -> Result<()> {
    let drive = stage.drive("slow")?.teardown_ms(4000);
    let config = stage.tiny(&[READY])?.with([root_port("rp0", [drive])]);
    let mut machine = stage.launch(config.clone())?;
    machine.ready()?;
    machine.client().reboot().context("vm.reboot failed")?;
    let number = machine.teardown_by(Cause::Api)?;

    let client = machine.client();
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut pings = 0;
    while begin.elapsed() < Duration::from_secs(1) {
        let asked = Instant::now();
        client.ping().context("vmm.ping failed")?;
        slowest = slowest.max(asked.elapsed());
        pings += 1;
    }
    let state = client.info().context("vm.info failed")?.state;
    ensure!(
        state == VmState::Rebooting,
        "in a teardown the machine is {state:?}"
    );
    client.topology().context("vm.topology failed")?;
    client.teardowns().context("vm.teardowns failed")?;
    client
        .teardown_policy()
        .context("vm.teardown-policy failed")?;
    refused(client.pause(), "vm.pause")?;
    refused(client.resume(), "vm.resume")?;
    refused(client.boot(), "vm.boot")?;
    refused(client.reboot(), "vm.reboot")?;
    refused(client.power_button(), "vm.power-button")?;
    refused(client.create(&config), "vm.create")?;
    let answered = monotonic_ns();

    let ended = loop {
        let event = machine.next_event("teardown-ended")?;
        if let EventKind::TeardownEnded { number: of, .. } = event.event {
            ensure!(of == number, "teardown {of} ended, not {number}");
            break event.at_ns;
        }
    };
    ensure!(
        answered < ended,
        "the last answer came at {answered} ns, after the teardown had ended at {ended} ns"
    );
    stage.note(format!(
        "{pings} pings in the first second of a teardown, the slowest {} ms",
        slowest.as_millis()
    ));
    machine.booted()?;
    machine.ready()?;
    machine.end()
}

/// The events behind `since` that there are now.
fn events_behind(client: &Client, since: u64) -> Result<Vec<Event>> {
    client
        .event_lines(Some(since), false)
        .context("the events could not be had")?
        .map(|line| serde_json::from_str(&line?).context("an event is not understood"))
        .collect()
}

fn replay(stage: &mut Stage) -> Result<()> {
    let config = stage.tiny(&[READY])?;
    let mut machine = stage.launch(config)?;
    machine.ready()?;
    for _ in 0..3 {
        machine.reboot()?;
        machine.ready()?;
    }
    let all = events_behind(machine.client(), 0)?;
    let numbers: Vec<u64> = all.iter().map(|event| event.seq).collect();
    let wanted: Vec<u64> = (1..=all.len() as u64).collect();
    ensure!(numbers == wanted, "the events are numbered {numbers:?}");
    ensure!(
        all.is_sorted_by_key(|event| event.seq) && all[0].event == EventKind::VmCreated,
        "the first event is {:?}",
        all[0].event
    );
    let boots: Vec<u64> = all
        .iter()
        .filter_map(|event| match event.event {
            EventKind::VmBooted { boot } => Some(boot),
            _ => None,
        })
        .collect();
    ensure!(boots == [1, 2, 3, 4], "the boots are {boots:?}");

    let middle = all.len() as u64 / 2;
    let behind = events_behind(machine.client(), middle)?;
    ensure!(
        behind == all[middle as usize..],
        "events behind {middle} are not those of the whole stream"
    );
    // A second follower sees what the first sees.
    let mut second = machine.client().events(Some(middle))?;
    machine.client().pause().context("vm.pause failed")?;
    machine.client().resume().context("vm.resume failed")?;
    let deadline = Some(Instant::now() + Duration::from_secs(10));
    for event in &all[middle as usize..] {
        let seen = second.next_by(deadline)?;
        ensure!(
            seen.as_ref() == Some(event),
            "{seen:?} instead of {event:?}"
        );
    }
    for wanted in [EventKind::VmPaused, EventKind::VmResumed] {
        let seen = second.next_by(deadline)?.map(|event| event.event);
        ensure!(
            seen.as_ref() == Some(&wanted),
            "{seen:?} instead of {wanted:?}"
        );
    }
    machine.end()
}
