//! Counts of values in buckets.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts of values in growing buckets. Values are whole numbers: nanoseconds or rows.
pub(super) struct Histogram {
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Histogram {
        Histogram { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Lines of this histogram; values are divided by `unit` (1e9: nanoseconds as seconds).
    pub(super) fn write(&self, page: &mut String, name: &str, labels: &str, unit: f64) {
        let mut total = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        for (index, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let _ = match self.bounds.get(index) {
                Some(&bound) => {
                    writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{}\"}} {total}", bound as f64 / unit)
                }
                None => writeln!(page, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}"),
            };
        }
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit;
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(page, "{name}_sum{labels} {sum}\n{name}_count{labels} {total}");
    }

    /// How many values were observed, and their sum.
    pub(super) fn total(&self) -> (u64, u64) {
        (self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum(), self.sum.load(Ordering::Relaxed))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

/// 50 us to 100 s in nanoseconds, three a decade.
pub(super) const SECONDS: [u64; 19] = [
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    100_000_000_000,
];
pub(super) const ROWS: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];

/// Bounds that grow by a factor from the first one on.
pub(super) fn exponential(first: f64, factor: f64, count: i32) -> Vec<u64> {
    (0..count).map(|power| (first * factor.powi(power)).round() as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_inclusive() {
        let histogram = Histogram::new(&ROWS);
        [1, 2, 3, 9000].into_iter().for_each(|value| histogram.observe(value));
        let mut page = String::new();
        histogram.write(&mut page, "rows", "model=\"m\"", 1.0);
        assert!(page.contains("rows_bucket{model=\"m\",le=\"1\"} 1\n"), "{page}");
        assert!(page.contains("rows_bucket{model=\"m\",le=\"2\"} 2\n"), "{page}");
        assert!(page.contains("rows_bucket{model=\"m\",le=\"4\"} 3\n"), "{page}");
        assert!(page.contains("rows_bucket{model=\"m\",le=\"+Inf\"} 4\n"), "{page}");
        assert!(page.contains("rows_sum{model=\"m\"} 9006\nrows_count{model=\"m\"} 4\n"), "{page}");
    }
}
