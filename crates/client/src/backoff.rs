//! When to come back: exponential back-off with full jitter, without a clock or a source of chance of its own.

use std::time::{Duration, Instant};

/// How a [`Session`](crate::Session) comes back after it lost its connection.
///
/// Before the n-th attempt in a row it waits a random time between nothing and `first` · 2^(n-1), but `max` at most. That
/// is *full jitter*: of many clients that lost the same broker at once, no two need to come back at once. A broker that
/// says `bye` gives each client a time, and that is waited for at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// The longest wait before the first attempt.
    pub first: Duration,
    /// The longest wait before any attempt.
    pub max: Duration,
    /// How many attempts in a row may fail before the session gives up; none for any number.
    pub attempts: Option<u32>,
    /// How long a connection must have lasted for the attempts to be counted from the start again: else a broker that
    /// accepts connections and drops them would be hammered.
    pub settled: Duration,
}

impl Default for Reconnect {
    /// From 500 ms, which a restart takes, to 30 s, at which a million clients make 67,000 attempts a second at most; for
    /// ever; settled after 10 s.
    fn default() -> Reconnect {
        Reconnect {
            first: Duration::from_millis(500),
            max: Duration::from_secs(30),
            attempts: None,
            settled: Duration::from_secs(10),
        }
    }
}

/// The count of attempts.
///
/// ```text
///             lost, after `settled`: attempts = 0
///   up ------------------------------------------> down until an Instant
///    ^        lost, earlier: attempts go on          |       ^
///    |                                               |       | failed: attempts + 1
///    +------------------- connected -----------------+-------+
/// ```
#[derive(Debug)]
pub(crate) struct Backoff {
    settings: Reconnect,
    /// Waits since the last connection that settled.
    attempts: u32,
    up_since: Option<Instant>,
}

impl Backoff {
    /// For a connection that came up at `now`.
    pub(crate) fn new(settings: Reconnect, now: Instant) -> Backoff {
        Backoff {
            settings,
            attempts: 0,
            up_since: Some(now),
        }
    }

    /// An attempt succeeded.
    pub(crate) fn handle_connected(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// The connection was lost, or an attempt failed: when to try next, not before `at_least` has passed. `random` is any
    /// number, each as likely as the others. None if it is time to give up.
    pub(crate) fn handle_lost(&mut self, now: Instant, at_least: Duration, random: u32) -> Option<Instant> {
        if let Some(since) = self.up_since.take()
            && now.saturating_duration_since(since) >= self.settings.settled
        {
            self.attempts = 0;
        }
        if self.settings.attempts.is_some_and(|limit| self.attempts >= limit) {
            return None;
        }
        let factor = 2u32.saturating_pow(self.attempts);
        let ceiling = self.settings.first.saturating_mul(factor).min(self.settings.max);
        self.attempts += 1;
        let jitter = ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX));
        now.checked_add(jitter.max(at_least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Reconnect = Reconnect {
        first: Duration::from_millis(100),
        max: Duration::from_millis(1000),
        attempts: None,
        settled: Duration::from_secs(10),
    };

    /// The waits of so many attempts in a row, in milliseconds.
    fn waits(backoff: &mut Backoff, now: Instant, random: u32, count: usize) -> Vec<u128> {
        (0..count)
            .map(|_| (backoff.handle_lost(now, Duration::ZERO, random).unwrap() - now).as_millis())
            .collect()
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_longest_wait_and_chance_spreads_below_it() {
        let now = Instant::now();
        let most = waits(&mut Backoff::new(SETTINGS, now), now, u32::MAX, 6);
        assert_eq!(most, [100, 200, 400, 800, 1000, 1000]);
        let half = waits(&mut Backoff::new(SETTINGS, now), now, u32::MAX / 2, 6);
        assert!(
            half.iter().zip(&most).all(|(half, most)| half.abs_diff(most / 2) <= 1),
            "{half:?}"
        );
        assert_eq!(waits(&mut Backoff::new(SETTINGS, now), now, 0, 6), [0; 6]);
    }

    #[test]
    fn the_ceiling_stays_after_any_number_of_attempts() {
        let now = Instant::now();
        let most = waits(&mut Backoff::new(SETTINGS, now), now, u32::MAX, 1000);
        assert_eq!(most[999], 1000);
    }

    #[test]
    fn a_broker_that_names_a_time_is_not_come_back_to_earlier() {
        let now = Instant::now();
        let mut backoff = Backoff::new(SETTINGS, now);
        let at_least = Duration::from_millis(1730);
        assert_eq!(backoff.handle_lost(now, at_least, u32::MAX), Some(now + at_least));
    }

    #[test]
    fn only_a_connection_that_lasted_starts_the_count_again() {
        let mut now = Instant::now();
        let mut backoff = Backoff::new(SETTINGS, now);
        assert_eq!(waits(&mut backoff, now, u32::MAX, 2), [100, 200]);
        backoff.handle_connected(now);
        now += SETTINGS.settled - Duration::from_millis(1);
        assert_eq!(waits(&mut backoff, now, u32::MAX, 1), [400]);
        backoff.handle_connected(now);
        now += SETTINGS.settled;
        assert_eq!(waits(&mut backoff, now, u32::MAX, 1), [100]);
    }

    #[test]
    fn after_the_attempts_that_are_allowed_it_gives_up() {
        let now = Instant::now();
        let settings = Reconnect {
            attempts: Some(2),
            ..SETTINGS
        };
        let mut backoff = Backoff::new(settings, now);
        waits(&mut backoff, now, 0, 2);
        assert_eq!(backoff.handle_lost(now, Duration::ZERO, 0), None);
    }
}
