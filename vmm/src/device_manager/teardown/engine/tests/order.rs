//! The order in which devices are shut down.

use super::*;

#[test]
fn t1_nothing_at_all_returns() {
    let ran = run(Machine::new(), Completion, 4);
    assert!(ran.run.stamps.is_empty());
    assert_eq!(ran.run.start(), ran.run.end());
}

#[test]
fn t11_blocking_siblings_overlap() {
    let ran = run(drives(16, Cost::work(ms(60))), Completion, 64);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.took() < ms(300), "{:?}", ran.took());
    assert_eq!(ran.run.workers_used, 16);
}

#[test]
fn t20_what_cannot_be_ordered_is_finished_with_a_warning() {
    let machine = Machine::new()
        .with_sync("s", "", 1)
        .with_async("p", "s", 2)
        .with_sync("c", "p", 4);
    let ran = run(machine.listed(&["c", "s", "p"]), Completion, 4);
    assert!(ran.run.warnings[0].starts_with("ordering forced to sync"));
    assert!(
        ran.model
            .calls
            .iter()
            .all(|calls| calls.load(Ordering::SeqCst) == 1)
    );
}

#[test]
fn t26_five_thousand_devices_on_eight_workers() {
    let ran = run(drives(2500, Cost::default()), Completion, 8);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.run.workers_used <= 8 && ran.made <= 8);
}

#[test]
fn t28_a_device_that_fails_stops_nobody() {
    for policy in [Serial, Completion] {
        let machine = Machine::new()
            .with_async("port", "", 0)
            .with_async("drive", "port", 0);
        let model = Model {
            fails: HashSet::from([1]),
            ..Model::of(&machine)
        };
        let ran = run_model(machine, model, policy, 4, usize::MAX);
        assert_eq!(ran.check(), Ok(()));
        assert_eq!(ran.run.stamps[0].outcome, Outcome::Done);
        let Outcome::Failed { error } = &ran.run.stamps[1].outcome else {
            panic!("it did not fail")
        };
        assert!(error.starts_with("reset: "), "{error}");
        assert_eq!(ran.run.troubled().count(), 1);
    }
}
