//! Median, minimum and maximum.

use serde::Serialize;

/// How values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread<T> {
    /// How many there are.
    pub n: usize,
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: T,
    /// The smallest.
    pub min: T,
    /// The largest.
    pub max: T,
}

impl Spread<u64> {
    /// Of times in nanoseconds; none if there are none.
    pub fn of_ns(values: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut values: Vec<u64> = values.into_iter().collect();
        values.sort_unstable();
        Self::of(&values, u64::midpoint)
    }
}

impl Spread<f64> {
    /// Of ratios; none if there are none.
    pub fn of_ratios(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self::of(&values, f64::midpoint)
    }
}

impl<T: Copy> Spread<T> {
    fn of(sorted: &[T], mean: impl Fn(T, T) -> T) -> Option<Self> {
        let n = sorted.len();
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Self {
            n,
            median: mean(sorted[(n - 1) / 2], sorted[n / 2]),
            min,
            max,
        })
    }
}
