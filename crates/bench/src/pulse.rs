//! What happens while a run goes on, for whoever watches it: latencies of the last second.
//!
//! The histograms of the report are exact and belong to the threads that fill them. This one is coarse and small, and may be read
//! by another thread at any time: its counts only grow, and the difference of two looks at them is what came between.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of each power of two: a latency is known to 3 %.
const EACH: u64 = 16;

/// The narrowest buckets, in nanoseconds.
const UNIT: u64 = 64;

/// Enough for all that 64 bits can hold.
const BUCKETS: usize = bucket(u64::MAX) + 1;

/// How many latencies one thread has seen, by bucket. Only that thread writes.
#[derive(Debug)]
pub(crate) struct Pulse(Box<[AtomicU64]>);

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

/// The bucket of a latency in nanoseconds: the first ones are a unit wide, each power of two has as many after that.
const fn bucket(latency: u64) -> usize {
    let value = latency / UNIT;
    let scale = match value.checked_ilog2() {
        Some(log) => log.saturating_sub(EACH.ilog2()),
        None => 0,
    };
    (scale as u64 * EACH + (value >> scale)) as usize
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let scale = (bucket / EACH).saturating_sub(1);
    let value = bucket - scale * EACH;
    (value as f64 + 0.5) * (1u64 << scale) as f64 * UNIT as f64
}

impl Pulse {
    /// `count` things took `latency` nanoseconds each.
    #[inline]
    pub(crate) fn beat(&self, latency: u64, count: u64) {
        let cell = &self.0[bucket(latency)];
        cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}

/// Looks at all threads' pulses from time to time.
#[derive(Debug)]
pub(crate) struct Watcher {
    before: Vec<u64>,
}

impl Watcher {
    pub(crate) fn new() -> Watcher {
        Watcher {
            before: vec![0; BUCKETS],
        }
    }

    /// What the latencies since the last look were, in microseconds: half of them within the first, 99 of 100 within the second;
    /// none if there were none.
    pub(crate) fn look<'a>(&mut self, pulses: impl IntoIterator<Item = &'a Pulse>) -> Option<(f64, f64)> {
        let mut counts = vec![0; BUCKETS];
        for pulse in pulses {
            for (sum, cell) in counts.iter_mut().zip(&pulse.0) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
        let news: Vec<u64> = counts
            .iter()
            .zip(&self.before)
            .map(|(now, before)| now - before)
            .collect();
        self.before = counts;
        let total: u64 = news.iter().sum();
        let within = |share: f64| {
            let rank = (total as f64 * share).ceil() as u64;
            let mut seen = 0;
            let bucket = news.iter().position(|&count| {
                seen += count;
                seen >= rank
            });
            middle(bucket.unwrap_or_default()) / 1e3
        };
        (total > 0).then(|| (within(0.5), within(0.99)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_within_three_percent_of_the_middle_of_its_bucket() {
        for shift in 10..63 {
            for latency in [1u64 << shift, (1 << shift) + 1, 3 << (shift - 1), (2 << shift) - 1] {
                let error = middle(bucket(latency)) / latency as f64 - 1.0;
                assert!(error.abs() < 0.033, "{latency}: {error}");
            }
        }
        assert_eq!((bucket(0), bucket(63), bucket(64)), (0, 0, 1));
    }

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        let mut last = 0;
        for value in 0..1_000_000 {
            let next = bucket(value * UNIT);
            assert!(next == last || next == last + 1, "{value}");
            last = next;
        }
    }

    #[test]
    fn a_look_tells_what_came_since_the_last_one_in_all_threads() {
        let pulses = [Pulse::default(), Pulse::default()];
        let mut watcher = Watcher::new();
        assert_eq!(watcher.look(&pulses), None);
        pulses[0].beat(1_000_000, 60);
        pulses[1].beat(9_000_000, 40);
        let (p50, p99) = watcher.look(&pulses).unwrap();
        assert!(
            (p50 / 1_000.0 - 1.0).abs() < 0.04 && (p99 / 9_000.0 - 1.0).abs() < 0.04,
            "{p50} {p99}"
        );
        assert_eq!(watcher.look(&pulses), None, "nothing since");
        pulses[1].beat(5_000, 1);
        let (p50, p99) = watcher.look(&pulses).unwrap();
        assert!(p50 == p99 && (p50 / 5.0 - 1.0).abs() < 0.04, "{p50} {p99}");
    }
}
