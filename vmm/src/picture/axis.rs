//! From nanoseconds to places in a picture.

/// A time axis from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    left: f64,
    right: f64,
    length_ns: f64,
    step_ns: u64,
}

/// About how many ticks fit.
const TICKS: u64 = 10;

impl Axis {
    /// An axis on which `length_ns` fits between two places.
    pub(super) fn new(length_ns: u64, left: f64, right: f64) -> Self {
        let length_ns = length_ns.max(1000);
        Self {
            left,
            right,
            length_ns: length_ns as f64,
            step_ns: step(length_ns, TICKS),
        }
    }

    /// Where a moment is.
    pub(super) fn x(&self, ns: u64) -> f64 {
        self.left + (self.right - self.left) * (ns as f64 / self.length_ns).min(1.0)
    }

    /// The ticks' moments with their labels, the unit at the last.
    pub(super) fn ticks(&self) -> Vec<(u64, String)> {
        let (unit, name) = unit(self.step_ns);
        let count = (self.length_ns / self.step_ns as f64) as u64;
        (0..=count)
            .map(|tick| {
                let at = tick * self.step_ns;
                let figure = at as f64 / unit;
                let label = if tick == count {
                    format!("{figure} {name}")
                } else {
                    figure.to_string()
                };
                (at, label)
            })
            .collect()
    }
}

/// What ticks so far apart are labelled in: its nanoseconds, and its name.
pub(crate) fn unit(step_ns: u64) -> (f64, &'static str) {
    if step_ns < 100_000 {
        (1000.0, "µs")
    } else {
        (1_000_000.0, "ms")
    }
}

/// The round step (1, 2 or 5 times a power of ten) that makes no more than `most` ticks.
pub(crate) fn step(length_ns: u64, most: u64) -> u64 {
    let mut power = 1;
    loop {
        for factor in [1, 2, 5] {
            let step: u64 = factor * power;
            if length_ns / step <= most {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(step(4_004_000_000, TICKS), 500_000_000);
        assert_eq!(step(504_000_000, TICKS), 50_000_000);
        assert_eq!(step(1_000_000, TICKS), 100_000);
        assert_eq!(step(u64::MAX, TICKS), 2_000_000_000_000_000_000);
    }

    #[test]
    fn ticks_bear_labels_and_lie_on_the_axis() {
        let axis = Axis::new(450_000_000, 100.0, 1000.0);
        let ticks = axis.ticks();
        assert_eq!(ticks.first(), Some(&(0, "0".to_owned())));
        assert_eq!(ticks.last(), Some(&(450_000_000, "450 ms".to_owned())));
        assert_eq!(
            (axis.x(0), axis.x(225_000_000), axis.x(450_000_000)),
            (100.0, 550.0, 1000.0)
        );
        assert_eq!(
            Axis::new(0, 0.0, 1.0)
                .ticks()
                .last()
                .map(|tick| tick.1.as_str()),
            Some("1 µs")
        );
    }
}
