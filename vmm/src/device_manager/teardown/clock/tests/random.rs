//! Random machines: every rule holds, and every end is the oracle's.

use proptest::prelude::*;

use super::*;
use crate::device_manager::teardown::tests::oracle::{
    self, locking_machines, machines, machines_of,
};

const MOST: Duration = Duration::from_millis(20);

/// The lists that registration, links and deferred probes make can be kept: nothing is warned of.
fn kept(machine: &Machine) -> Result<(), TestCaseError> {
    for policy in TeardownPolicy::ALL {
        let plan = plan(machine, policy);
        let spans = spans(&plan);
        prop_assert_eq!(oracle::check(&machine.graph, policy, &spans), Ok(()));
        prop_assert_eq!(Some(spans), oracle::spans(machine, policy));
        prop_assert!(plan.rules.warnings.is_empty());
        prop_assert!(is_chain_of_waits(&plan));
    }
    Ok(())
}

/// In a list of any order the kernel can hang under completion, and only there.
fn in_any_order(machine: &Machine) -> Result<(), TestCaseError> {
    let serial = plan(machine, Serial).total;
    for policy in TeardownPolicy::ALL {
        let plan = plan(machine, policy);
        // Somebody always runs, whatever had to be forced.
        prop_assert!(plan.total <= serial);
        let spans = spans(&plan);
        match oracle::spans(machine, policy) {
            Some(expected) => {
                prop_assert_eq!(oracle::check(&machine.graph, policy, &spans), Ok(()));
                prop_assert_eq!(spans, expected);
            }
            None => {
                prop_assert_eq!(policy, Completion);
                prop_assert!(plan.rules.warnings[0].starts_with("ordering forced to sync"));
            }
        }
        once(&plan)?;
        if plan.rules.warnings.is_empty() {
            all_before(&machine.graph, &plan)?;
        }
    }
    Ok(())
}

/// Whatever is not warned of goes after all its children and consumers.
fn all_before(graph: &Graph, plan: &Plan) -> Result<(), TestCaseError> {
    for device in 0..graph.len() {
        for before in graph.dependants(device) {
            let (before, after) = (plan.devices[before], plan.devices[device]);
            prop_assert!(before.end <= after.start, "{before:?}, {after:?}");
        }
    }
    Ok(())
}

/// T1: every device is started once, and the end of the last is the end of all.
fn once(plan: &Plan) -> Result<(), TestCaseError> {
    let mut order = plan.order.clone();
    order.sort_unstable();
    prop_assert!(order.into_iter().eq(0..plan.devices.len()));
    let last = plan.devices.iter().map(|planned| planned.end).max();
    prop_assert_eq!(Some(plan.total), last);
    Ok(())
}

/// Whether each device of the critical chain starts when the one before it ends, and the first at once.
fn is_chain_of_waits(plan: &Plan) -> bool {
    let mut now = Duration::ZERO;
    let chain = plan.critical_chain();
    chain.iter().all(|&device| {
        let planned = plan.devices[device];
        let starts = planned.start == now;
        now = planned.end;
        starts
    }) && now == plan.total
}

/// Waiting for less never takes longer.
fn no_slower(machine: &Machine) -> Result<(), TestCaseError> {
    let [serial, cookie, completion] =
        TeardownPolicy::ALL.map(|policy| plan(machine, policy).total);
    prop_assert!(cookie <= serial, "cookie {cookie:?}, serial {serial:?}");
    prop_assert!(
        completion <= cookie,
        "completion {completion:?}, cookie {cookie:?}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn t1_to_t3_and_t10_hold_and_ends_equal_the_oracles(machine in machines(300, MOST, false)) {
        kept(&machine)?;
    }

    #[test]
    fn completion_is_never_slower_than_cookie_nor_cookie_than_serial(machine in machines(300, MOST, false)) {
        no_slower(&machine)?;
    }

    #[test]
    fn fewer_workers_break_no_rule(machine in machines(120, MOST, false), workers in 1..9_usize) {
        for policy in [Cookie, Completion] {
            let plan = predict(&machine.graph, policy, &machine.costs, workers);
            prop_assert_eq!(oracle::check(&machine.graph, policy, &spans(&plan)), Ok(()));
            prop_assert!(plan.workers_used <= workers);
            once(&plan)?;
        }
    }

    #[test]
    fn t12_under_one_lock_no_two_overlap_and_everything_ends(
        machine in locking_machines(120, MOST),
        workers in prop_oneof![Just(UNLIMITED), 1..9_usize],
    ) {
        for policy in TeardownPolicy::ALL {
            let plan = predict(&machine.graph, policy, &machine.costs, workers);
            // The check of the rules is the check of the locks.
            prop_assert_eq!(oracle::check(&machine.graph, policy, &spans(&plan)), Ok(()));
            once(&plan)?;
            if workers == UNLIMITED {
                prop_assert!(is_chain_of_waits(&plan));
                prop_assert!(plan.total <= super::plan(&machine, Serial).total);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn ends_equal_the_oracles_in_lists_of_any_order(machine in machines(40, MOST, true)) {
        in_any_order(&machine)?;
    }

    // Small enough that some have nothing to warn of.
    #[test]
    fn ends_equal_the_oracles_in_short_lists_of_any_order(machine in machines(5, MOST, true)) {
        in_any_order(&machine)?;
    }
}

proptest! {
    // As large as a rack; few, for they take long.
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn ends_equal_the_oracles_on_two_thousand_devices(machine in machines_of(1500..=2000, MOST, false)) {
        kept(&machine)?;
        no_slower(&machine)?;
    }

    #[test]
    fn ends_equal_the_oracles_on_two_thousand_devices_in_any_order(machine in machines_of(1500..=2000, MOST, true)) {
        in_any_order(&machine)?;
    }
}
