//! Random machines on real threads, held against the rules.

use proptest::prelude::*;

use super::*;
use crate::device_manager::teardown::tests::oracle::machines;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stamps_keep_the_rules(
        machine in machines(60, Duration::from_micros(800), false),
        workers in 1..9_u16,
        serial in prop::bool::weighted(0.2),
        threads in prop::option::weighted(0.3, 0..6_usize),
    ) {
        let policy = if serial { Serial } else { Completion };
        let model = Model::of(&machine);
        let ran = run_model(machine, model, policy, workers, threads.unwrap_or(usize::MAX));
        prop_assert_eq!(ran.check(), Ok(()));
        prop_assert!(ran.run.workers_used <= workers);
    }

    #[test]
    fn short_calls_keep_the_rules(machine in machines(250, Duration::from_micros(30), false), workers in 1..65_u16) {
        let ran = run(machine, Completion, workers);
        prop_assert_eq!(ran.check(), Ok(()));
    }
}
