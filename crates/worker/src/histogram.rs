//! How long things took, readable by other threads.

use std::time::Duration;

use crate::counters::Counter;

/// Buckets: two for each doubling of a microsecond, up to 16 s, and one for all that is longer.
const BUCKETS: usize = 2 * 24 + 2;

/// Times that one thread records and others read.
///
/// The bounds of buckets are 1, 1.5, 2, 3, 4, 6, … microseconds, so that a percentile read from it is off by a third at the most.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    /// Nanoseconds, all times together.
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|_| Counter::default()),
            sum: Counter::default(),
        }
    }
}

impl Histogram {
    /// Records a time that `count` things took each.
    #[inline]
    pub(crate) fn record(&self, time: Duration, count: u64) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].add(count);
        self.sum.add(nanos.saturating_mul(count));
    }

    /// Adds what was recorded to `times`.
    pub fn add_to(&self, times: &mut Times) {
        for (sum, bucket) in times.counts.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        times.nanos += self.sum.get();
    }
}

/// The bucket of a time: the first whose bound is not below it.
#[inline]
fn bucket_of(nanos: u64) -> usize {
    if nanos <= 1000 {
        return 0;
    }
    // A time that is just what a bound says belongs below it.
    let scaled = (nanos - 1) / 500;
    // At least 2: the highest bit says which doubling, the next one which half of it.
    let doubling = scaled.ilog2() as usize;
    let half = (scaled >> (doubling - 1)) as usize & 1;
    (2 * doubling + half - 1).min(BUCKETS - 1)
}

/// What [`Histogram`]s have at one moment, or several together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    counts: [u64; BUCKETS],
    nanos: u64,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            counts: [0; BUCKETS],
            nanos: 0,
        }
    }
}

impl Times {
    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in seconds.
    pub fn sum(&self) -> f64 {
        self.nanos as f64 / 1e9
    }

    /// The buckets from below: a bound in seconds, and how many times were not above it. The last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut count = 0;
        self.counts.iter().enumerate().map(move |(bucket, more)| {
            count += more;
            (bound(bucket), count)
        })
    }

    /// The time in seconds that a share of all, 0 to 1, did not take longer than; nothing, if nothing was recorded. Within
    /// a bucket times are taken to be spread evenly.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.count();
        let wanted = share.clamp(0.0, 1.0) * all as f64;
        let (mut below, mut lower) = (0, 0.0);
        for (bound, count) in self.buckets() {
            if count as f64 >= wanted && count > below {
                if bound.is_infinite() {
                    return Some(lower);
                }
                let place = (wanted - below as f64) / (count - below) as f64;
                return Some(lower + (bound - lower) * place.max(0.0));
            }
            (below, lower) = (count, bound);
        }
        None
    }

    /// What was recorded since `earlier`, which are times of the same histograms.
    #[must_use]
    pub fn since(&self, earlier: &Times) -> Times {
        Times {
            counts: std::array::from_fn(|bucket| self.counts[bucket].saturating_sub(earlier.counts[bucket])),
            nanos: self.nanos.saturating_sub(earlier.nanos),
        }
    }
}

/// The bound of a bucket in seconds.
fn bound(bucket: usize) -> f64 {
    if bucket == BUCKETS - 1 {
        return f64::INFINITY;
    }
    let (doubling, half) = (bucket.div_ceil(2), bucket % 2);
    // 1, 1.5, 2, 3, …: an odd bucket lies in the middle of a doubling.
    let doubled = (1_u64 << doubling) as f64;
    let micros = if half == 1 { doubled * 0.75 } else { doubled };
    micros * 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(histogram: &Histogram) -> Times {
        let mut times = Times::default();
        histogram.add_to(&mut times);
        times
    }

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_is_not_below_it() {
        let bounds: Vec<f64> = (0..BUCKETS).map(bound).collect();
        assert_eq!(bounds[..6], [1e-6, 1.5e-6, 2e-6, 3e-6, 4e-6, 6e-6]);
        assert!(bounds.is_sorted_by(|one, other| one < other));
        for (bucket, bound) in bounds.iter().enumerate().take(BUCKETS - 1) {
            let nanos = (bound * 1e9).round() as u64;
            assert_eq!(bucket_of(nanos), bucket, "{nanos} ns");
            assert_eq!(bucket_of(nanos + 1), bucket + 1, "{nanos} ns and one more");
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn all_that_is_recorded_is_in_the_count_and_in_the_sum() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(10), 3);
        histogram.record(Duration::from_secs(60), 1);
        let times = times(&histogram);
        assert_eq!((times.count(), times.sum()), (4, 60.00003));
        assert_eq!(times.buckets().last(), Some((f64::INFINITY, 4)));
        assert_eq!(times.buckets().filter(|(_, count)| *count == 0).count(), 7);
    }

    #[test]
    fn a_quantile_lies_where_the_times_do() {
        let histogram = Histogram::default();
        assert_eq!(times(&histogram).quantile(0.5), None);
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros), 1);
        }
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0), (0.01, 10.0)] {
            let quantile = times(&histogram).quantile(share).unwrap() * 1e6;
            assert!((quantile / micros - 1.0).abs() < 0.34, "{share}: {quantile} µs");
        }
        histogram.record(Duration::from_secs(100), 1_000_000);
        assert_eq!(times(&histogram).quantile(0.99), Some(bound(BUCKETS - 2)));
    }

    #[test]
    fn what_was_recorded_since_is_the_difference() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(1), 5);
        let before = times(&histogram);
        histogram.record(Duration::from_micros(7), 2);
        let since = times(&histogram).since(&before);
        assert_eq!((since.count(), since.sum()), (2, 14e-6));
    }
}
