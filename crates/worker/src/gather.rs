//! When what is to be sent waits for more, so that it goes out in fewer sends.
//!
//! A send costs much the same whether it carries one message or thirty. While the worker is idle a message goes out at
//! once. When it is not, and more had come by the time the last flush ended, as much as that flush took can pass until
//! those who published before have heard of it and publish again: sent on their own, the two halves of what is under way
//! never meet. So the worker waits for a part of that time, if experience tells that it saves sends.
//!
//! Besides, there is the delay that is configured, for those who want fewer sends at the price of latency.

use std::time::{Duration, Instant};

/// The longest that anything is held back without having been asked to.
const LONGEST: Duration = Duration::from_millis(2);
/// From here on the bytes of a send cost more than the send.
const HEAVY: usize = 64 * 1024;
/// Experience goes from 0 to this, and begins in the middle.
const BEST: u8 = 7;
/// Against experience, it is tried once in so many times.
const TRIAL: u8 = 32;

/// What there is to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Volume {
    /// Connections that are sent something.
    pub(crate) sends: usize,
    /// How often something was put to a connection's queue.
    pub(crate) pushes: usize,
}

/// Decides how long to wait.
#[derive(Debug)]
pub(crate) struct Gather {
    /// The delay that is configured.
    delay: Duration,
    /// When the last flush ended.
    flushed_at: Instant,
    /// How long it took.
    took: Duration,
    /// More had come by then.
    pressed: bool,
    /// How often waiting saved sends of late.
    experience: u8,
    /// How often it was not tried since it was last.
    untried: u8,
    /// Since when it is tried, and what there was to be sent then.
    trial: Option<(Instant, Volume)>,
}

impl Gather {
    pub(crate) fn new(delay: Duration, now: Instant) -> Gather {
        Gather {
            delay,
            flushed_at: now,
            took: Duration::ZERO,
            pressed: false,
            experience: BEST / 2 + 1,
            untried: 0,
            trial: None,
        }
    }

    /// How much longer what is to be sent, of which the logs have `bytes`, is held back at `now`: not at all if that is zero,
    /// and it has to be flushed. `volume` is asked for what that is, if need be.
    pub(crate) fn hold(&mut self, bytes: usize, now: Instant, volume: impl FnOnce() -> Volume) -> Duration {
        let asked_for = self.delay.saturating_sub(now - self.flushed_at);
        if self.trial.is_none() && self.is_worth_trying(bytes) {
            self.trial = Some((now, volume()));
        }
        let by_itself = match self.trial {
            Some((since, _)) if bytes < HEAVY => self.patience().saturating_sub(now - since),
            _ => Duration::ZERO,
        };
        asked_for.max(by_itself)
    }

    /// A half of what a flush takes, which is what the next one would make those wait who come too late for this one.
    fn patience(&self) -> Duration {
        (self.took / 2).min(LONGEST)
    }

    fn is_worth_trying(&mut self, bytes: usize) -> bool {
        // Once a flush: the press is over when the decision is made.
        if !std::mem::take(&mut self.pressed) || bytes >= HEAVY {
            return false;
        }
        self.untried += 1;
        let worth = self.experience > BEST / 2 || self.untried >= TRIAL;
        if worth {
            self.untried = 0;
        }
        worth
    }

    /// A flush of `volume` begins: what was held back for it?
    pub(crate) fn begin_flush(&mut self, volume: Volume) {
        let Some((_, before)) = self.trial.take() else { return };
        let came = volume.pushes - before.pushes;
        let saved = came - (volume.sends - before.sends).min(came);
        // Of the wait there has to be something: a quarter of the sends that there were.
        if saved > 0 && saved >= before.sends / 4 {
            self.experience = (self.experience + 1).min(BEST);
        } else {
            self.experience = self.experience.saturating_sub(1);
        }
    }

    /// A flush that took until `now` and began at `begun` is over; `pressed` tells whether something has come meanwhile.
    pub(crate) fn end_flush(&mut self, begun: Instant, now: Instant, pressed: bool) {
        (self.flushed_at, self.took, self.pressed) = (now, now - begun, pressed);
    }

    /// The worker slept: there is no hurry any more.
    pub(crate) fn rest(&mut self) {
        self.pressed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_micros(1000);

    /// A worker that sends to a hundred connections.
    struct Story {
        gather: Gather,
        now: Instant,
    }

    impl Story {
        fn new(delay: Duration) -> Story {
            let now = Instant::now();
            Story {
                gather: Gather::new(delay, now),
                now,
            }
        }

        fn hold(&mut self, bytes: usize) -> Duration {
            let volume = Volume {
                sends: 100,
                pushes: 100,
            };
            self.gather.hold(bytes, self.now, || volume)
        }

        fn flush(&mut self, pushes: usize, pressed: bool) {
            self.gather.begin_flush(Volume { sends: 100, pushes });
            let begun = self.now;
            self.now += FLUSH;
            self.gather.end_flush(begun, self.now, pressed);
        }

        /// Of so many flushes under pressure, how many were waited for, if waiting brings `pushes` in all?
        fn waits(&mut self, flushes: usize, pushes: usize) -> usize {
            let mut waits = 0;
            for _ in 0..flushes {
                if !self.hold(1000).is_zero() {
                    waits += 1;
                    self.now += FLUSH / 2;
                    assert!(self.hold(1000).is_zero(), "the time is over");
                }
                self.flush(pushes, true);
            }
            waits
        }
    }

    #[test]
    fn a_worker_that_was_idle_does_not_wait() {
        let mut story = Story::new(Duration::ZERO);
        assert!(story.hold(1000).is_zero());
        story.flush(100, false);
        assert!(story.hold(1000).is_zero());
        story.flush(100, true);
        story.gather.rest();
        assert!(story.hold(1000).is_zero());
    }

    #[test]
    fn under_pressure_a_worker_waits_for_half_of_a_flush_and_once() {
        let mut story = Story::new(Duration::ZERO);
        story.flush(100, true);
        assert_eq!(story.hold(1000), FLUSH / 2);
        story.now += FLUSH / 4;
        assert_eq!(story.hold(1000), FLUSH / 4);
        // Enough has come.
        assert!(story.hold(HEAVY).is_zero());
        story.flush(200, false);
        assert!(story.hold(1000).is_zero());
    }

    #[test]
    fn a_worker_goes_on_waiting_as_long_as_that_saves_sends_and_tries_again_later() {
        let mut story = Story::new(Duration::ZERO);
        story.flush(100, true);
        assert_eq!(story.waits(100, 200), 100);
        // What comes goes to others, or nothing comes: a few times, and then rarely.
        let trials = story.waits(320, 100);
        assert!((8..=16).contains(&trials), "{trials}");
        // It pays again: two trials tell, one each in so many.
        story.waits(usize::from(TRIAL) * 5, 200);
        assert_eq!(story.waits(100, 200), 100);
    }

    #[test]
    fn a_delay_that_is_asked_for_is_kept_since_the_last_flush() {
        let delay = Duration::from_millis(5);
        let mut story = Story::new(delay);
        story.now += delay;
        assert!(story.hold(1000).is_zero(), "a message that comes alone goes at once");
        story.flush(100, false);
        story.now += Duration::from_millis(1);
        assert_eq!(story.hold(1000), delay - Duration::from_millis(1));
    }
}
