//! How fast something may come: the generic cell rate algorithm, a token bucket kept in one number.
//!
//! ```text
//!   now            paid off                      now + tolerance
//!    │◀── owed ───────▶│◀── cost of what comes ──▶│              fits: paid off later by its cost
//!    └──────────────── tolerance ────────────────▶│
//! ```
//!
//! The number is the moment at which all that was let in is paid off, in nanoseconds. Moments that have passed all mean the
//! same, so a number that was never set is one that has recovered, and there is nothing to be filled up by a clock.

use std::num::NonZeroU32;
use std::time::Duration;

use tidecast_websocket::Millis;

const NANOS: u64 = 1_000_000_000;
/// The longest that anything is paid off in, so that no burst makes the number run away from the clock.
const MOST_OWED: u64 = 3600 * NANOS;

/// A limit of so many units a second, with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u64,
    /// How long a full burst takes to be paid off.
    tolerance: u64,
}

impl Rate {
    /// `per_second` units on average; after silence `burst` of them, or those of a second if that is more, at once.
    pub fn new(per_second: NonZeroU32, burst: u32) -> Rate {
        let per_second = u64::from(per_second.get());
        let burst = u64::from(burst).max(per_second);
        Rate {
            per_second,
            tolerance: (burst * NANOS / per_second).min(MOST_OWED),
        }
    }

    /// When all is paid off once `units` more are let in at `now`; `paid_off` is when what came before is. What costs more than a
    /// burst is let in when nothing is owed, and paid off in full.
    ///
    /// # Errors
    /// It is too much; after so long it is not.
    pub(crate) fn next(&self, paid_off: u64, units: u64, now: Millis) -> Result<u64, Duration> {
        let now = nanos(now);
        let cost = (units * NANOS / self.per_second).min(MOST_OWED);
        let owed = paid_off.saturating_sub(now);
        let wait = (owed + cost.min(self.tolerance)).saturating_sub(self.tolerance);
        if wait > 0 {
            return Err(Duration::from_nanos(wait));
        }
        Ok(now + owed + cost)
    }
}

/// A moment on the scale of the numbers kept.
pub(crate) fn nanos(now: Millis) -> u64 {
    now.0 * 1_000_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_second).unwrap(), burst)
    }

    #[test]
    fn a_burst_is_let_in_at_once_and_then_as_many_as_are_paid_off() {
        let rate = rate(10, 20);
        let mut paid_off = 0;
        let now = Millis(5_000);
        for _ in 0..20 {
            paid_off = rate.next(paid_off, 1, now).unwrap();
        }
        assert_eq!(rate.next(paid_off, 1, now), Err(Duration::from_millis(100)));
        assert!(rate.next(paid_off, 1, Millis(5_099)).is_err());
        paid_off = rate.next(paid_off, 1, Millis(5_100)).unwrap();
        assert!(rate.next(paid_off, 1, Millis(5_100)).is_err());
        // After silence it is as at the start.
        for _ in 0..20 {
            paid_off = rate.next(paid_off, 1, Millis(60_000)).unwrap();
        }
        assert!(rate.next(paid_off, 1, Millis(60_000)).is_err());
    }

    #[test]
    fn what_is_larger_than_a_burst_is_let_in_alone_and_paid_off_in_full() {
        let rate = rate(1_000, 0);
        let paid_off = rate.next(0, 5_000, Millis(0)).unwrap();
        assert_eq!(rate.next(paid_off, 1, Millis(4_000)), Err(Duration::from_millis(1)));
        assert!(rate.next(paid_off, 1, Millis(4_001)).is_ok());
        assert!(rate.next(paid_off, 5_000, Millis(4_999)).is_err());
        assert!(rate.next(paid_off, 5_000, Millis(5_000)).is_ok());
    }

    proptest! {
        /// Against a bucket that is filled up all the time.
        #[test]
        fn it_lets_in_what_a_bucket_of_tokens_does(
            per_second in prop_oneof![1u32..50, 1_000u32..1_000_000],
            burst in 0u32..100,
            steps in proptest::collection::vec((0u64..3_000, 1u64..20), 1..60),
        ) {
            let rate = rate(per_second, burst);
            let full = f64::from(per_second.max(burst));
            let (mut tokens, mut paid_off, mut now) = (full, 0, 0);
            for (time, units) in steps {
                now += time;
                tokens = (tokens + time as f64 * f64::from(per_second) / 1e3).min(full);
                let needed = (units as f64).min(full);
                match rate.next(paid_off, units, Millis(now)) {
                    Ok(next) => {
                        prop_assert!(tokens >= needed - 1e-3, "{tokens} of {needed}");
                        paid_off = next;
                        tokens -= units as f64;
                    }
                    Err(wait) => {
                        prop_assert!(tokens <= needed + 1e-3, "{tokens} of {needed}");
                        let later = Millis(now + wait.as_millis() as u64 + 1);
                        prop_assert!(rate.next(paid_off, units, later).is_ok());
                    }
                }
            }
        }

        #[test]
        fn no_numbers_overflow_it(per_second: u32, burst: u32, paid_off in 0..u64::MAX / 2, units in 0u64..1 << 30, now in 0u64..1 << 40) {
            if let Some(per_second) = NonZeroU32::new(per_second) {
                let _ = Rate::new(per_second, burst).next(paid_off, units, Millis(now));
            }
        }
    }
}
