//! Draws that can be repeated, have the shape they should have, and stay inside their bounds.

use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const UNIFORM: Latency = Latency::Uniform {
    min: ms(100),
    max: ms(300),
};
const LOG_NORMAL: Latency = Latency::LogNormal {
    median: ms(500),
    sigma: 0.4,
};
const WRITTEN: Latency = Latency::Written {
    base: ms(10),
    ms_per_mib: 4.0,
    cap: ms(2000),
};

fn draws(latency: Latency, seed: u64, count: u64) -> Vec<Duration> {
    (0..count)
        .map(|n| latency.draw(seed, Purpose::Shutdown, n, 0))
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_latencies_and_another_one_others() {
    for latency in [UNIFORM, LOG_NORMAL] {
        let first = draws(latency, 7, 50);
        assert_eq!(first, draws(latency, 7, 50));
        assert_ne!(first, draws(latency, 8, 50));
        let mut distinct = first.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 50);
    }
}

/// A release of the generator that draws other values is a change that users notice.
#[test]
fn the_values_of_a_seed_are_those_of_every_release() {
    let micros = |latency, seed| -> Vec<u128> {
        let drawn = draws(latency, seed, 3);
        drawn.iter().map(Duration::as_micros).collect()
    };
    assert_eq!(micros(UNIFORM, 1), [180_497, 270_382, 275_278]);
    assert_eq!(micros(LOG_NORMAL, 1), [455_169, 617_383, 947_838]);
}

#[test]
fn purposes_have_values_of_their_own() {
    let of = |purpose| LOG_NORMAL.draw(1, purpose, 0, 0);
    let purposes = [
        Purpose::Shutdown,
        Purpose::AbruptShutdown,
        Purpose::Teardown,
        Purpose::Command(0),
        Purpose::Command(1),
    ];
    let mut drawn: Vec<_> = purposes.into_iter().map(of).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), purposes.len());
}

#[test]
fn distributions_have_their_shape() {
    let mut drawn = draws(LOG_NORMAL, 3, 20_000);
    drawn.sort_unstable();
    let at = |part: f64| drawn[(part * drawn.len() as f64) as usize].as_secs_f64();
    assert!((at(0.5) / 0.5 - 1.0).abs() < 0.02, "{}", at(0.5));
    // One standard deviation of the logarithm above the median.
    assert!((at(0.8413) / (0.5 * 0.4_f64.exp()) - 1.0).abs() < 0.03);
    let below = drawn.iter().filter(|one| **one <= LOG_NORMAL.bound());
    let share = below.count() as f64 / drawn.len() as f64;
    assert!((0.9975..0.9999).contains(&share), "{share}");

    let mut drawn = draws(UNIFORM, 3, 20_000);
    drawn.sort_unstable();
    assert!(drawn[0] < ms(101) && drawn[19_999] > ms(299));
    assert!((drawn[10_000].as_secs_f64() - 0.2).abs() < 0.004);
}

#[test]
fn what_was_written_counts_up_to_the_cap() {
    let with = |mib: u64| WRITTEN.draw(1, Purpose::Teardown, 0, mib << 20);
    assert_eq!((with(0), with(5)), (ms(10), ms(30)));
    assert_eq!(with(1 << 30), ms(2000));
    assert_eq!((WRITTEN.typical(), WRITTEN.bound()), (ms(10), ms(2000)));
}

#[test]
fn what_to_expect_and_what_to_reckon_with() {
    assert_eq!((UNIFORM.typical(), UNIFORM.bound()), (ms(200), ms(300)));
    assert_eq!(LOG_NORMAL.typical(), ms(500));
    assert_eq!(LOG_NORMAL.bound().as_millis(), 1721);
    let fixed = Latency::from(ms(70));
    assert_eq!((fixed.typical(), fixed.bound()), (ms(70), ms(70)));
    assert!(Latency::default().is_zero() && !fixed.is_zero());
}

#[test]
fn the_tail_is_cut_after_a_day() {
    let wild = Latency::LogNormal {
        median: LONGEST,
        sigma: 10.0,
    };
    assert_eq!(wild.bound(), LONGEST);
    assert!(draws(wild, 1, 100).into_iter().all(|one| one <= LONGEST));
}

#[test]
fn seeds_of_names_are_distinct_and_stay() {
    assert_eq!(seed_of("drive0"), seed_of("drive0"));
    assert_ne!(seed_of("drive0"), seed_of("drive1"));
}

proptest! {
    /// Whatever a caller hands over: no panic, and nothing beyond the bounds.
    #[test]
    fn every_draw_is_inside_its_bounds(
        min in 0..5_000_u64, more in 0..5_000_u64, sigma in 0.0..3.0, seed: u64, n: u64, written: u64,
    ) {
        let (min, max) = (ms(min), ms(min + more));
        let drawn = Latency::Uniform { min, max }.draw(seed, Purpose::Teardown, n, written);
        prop_assert!(min <= drawn && drawn <= max);
        let log_normal = Latency::LogNormal { median: min, sigma };
        prop_assert!(log_normal.draw(seed, Purpose::Teardown, n, written) <= LONGEST);
        let even = Latency::LogNormal { median: max, sigma: 0.0 };
        let drawn = even.draw(seed, Purpose::Teardown, n, written);
        prop_assert!(drawn.abs_diff(max) < Duration::from_micros(1), "{drawn:?} for {max:?}");
        let cap = Latency::Written { base: min, ms_per_mib: sigma, cap: max };
        prop_assert!(cap.draw(seed, Purpose::Teardown, n, written) <= max);
    }
}
