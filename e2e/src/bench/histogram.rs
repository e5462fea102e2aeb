//! Latencies, counted in buckets whose width grows with the value: none is off by more than 1/64 of itself.

use std::time::Duration;

/// Each power of two is cut into so many buckets.
const PARTS_BITS: u32 = 6;
const PARTS: u64 = 1 << PARTS_BITS;
/// Nanoseconds up to a little over an hour.
const BUCKETS: usize = ((42 - PARTS_BITS as usize) + 1) * PARTS as usize;

/// Counted latencies.
#[derive(Clone)]
pub struct Histogram {
    buckets: Vec<u32>,
    count: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: vec![0; BUCKETS],
            count: 0,
            largest: 0,
        }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let last = self.buckets.len() - 1;
        if let Some(bucket) = self.buckets.get_mut(bucket(nanoseconds).min(last)) {
            *bucket += 1;
        }
        self.count += 1;
        self.largest = self.largest.max(nanoseconds);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.largest = self.largest.max(other.largest);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latency, milliseconds, that this share (0 to 1) of all did not exceed; 0 when none was counted.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (number, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return upper(number).min(self.largest) as f64 / 1e6;
            }
        }
        self.largest as f64 / 1e6
    }

    /// The largest latency, milliseconds, exactly.
    pub fn max_ms(&self) -> f64 {
        self.largest as f64 / 1e6
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let power = nanoseconds.checked_ilog2().unwrap_or(0);
    if power < PARTS_BITS {
        return nanoseconds as usize;
    }
    let shift = power - PARTS_BITS;
    (u64::from(shift + 1) * PARTS + ((nanoseconds >> shift) - PARTS)) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let shift = bucket / PARTS - 1;
    ((PARTS + bucket % PARTS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_a_64th_of_the_exact_one() {
        let mut histogram = Histogram::default();
        let mut exact: Vec<u64> = (0..10_000_u64).map(|number| (number * 7919) % 1_000_003 * 37).collect();
        for nanoseconds in &exact {
            histogram.record(Duration::from_nanos(*nanoseconds));
        }
        exact.sort_unstable();
        for share in [0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let wanted = exact[(exact.len() as f64 * share).ceil() as usize - 1] as f64 / 1e6;
            let found = histogram.quantile_ms(share);
            assert!(
                found >= wanted && found <= wanted * (1.0 + 1.0 / 64.0) + 1e-6,
                "{share}: {found}, exactly {wanted}"
            );
        }
        assert_eq!(histogram.max_ms(), exact[9_999] as f64 / 1e6);
    }

    #[test]
    fn every_value_is_in_the_bucket_that_ends_at_or_after_it() {
        for nanoseconds in (0..5_000).chain([u64::from(u32::MAX), 1 << 41, (1 << 42) - 1]) {
            let number = bucket(nanoseconds);
            assert!(upper(number) >= nanoseconds, "{nanoseconds}");
            assert!(number == 0 || upper(number - 1) < nanoseconds, "{nanoseconds}");
            assert!(number < BUCKETS, "{nanoseconds}");
        }
    }

    #[test]
    fn sums_count_both() {
        let mut one = Histogram::default();
        one.record(Duration::from_millis(1));
        let mut other = Histogram::default();
        other.record(Duration::from_millis(9));
        one.add(&other);
        assert_eq!((one.count(), one.max_ms()), (2, 9.0));
    }
}
