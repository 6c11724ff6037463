//! When one connection is to do something: send a message, say a command.
//!
//! Closed loop: as soon as the window has room; the intended time is the time of sending. Open loop: at times fixed before
//! the run, whatever the broker does; a message that goes out late keeps its time, so its wait counts as latency
//! and a stall of the broker is seen by every message it held up, not by one ("coordinated omission").

use std::time::Duration;

use crate::load::Load;
use crate::scenario::Pace;

/// The times of one connection, in nanoseconds of the generator's clock. Number `n` is due at `start` plus what the load says
/// of its turn.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    load: Load,
    start: u64,
    pace: Pace,
}

impl Schedule {
    pub(crate) fn new(load: Load, start: u64, pace: Pace) -> Schedule {
        Schedule { load, start, pace }
    }

    /// The load begins at `start`.
    pub(crate) fn begin(&mut self, start: u64) {
        self.start = start;
    }

    /// The intended time of number `sequence`, if it may go out at `now` with `in_flight` outstanding.
    #[inline]
    pub(crate) fn due(&self, sequence: u64, in_flight: u64, now: u64) -> Option<u64> {
        match self.load {
            Load::Window(window) => (now >= self.start && in_flight < u64::from(window)).then_some(now),
            Load::Rate(_) | Load::Steps(_) => self.intended(sequence).filter(|&intended| intended <= now),
        }
    }

    /// How long after `now` number `sequence` is due; none if that does not depend on time.
    pub(crate) fn wait(&self, sequence: u64, now: u64) -> Option<Duration> {
        let due = match self.load {
            Load::Window(_) => Some(self.start).filter(|&start| start > now),
            Load::Rate(_) | Load::Steps(_) => self.intended(sequence),
        };
        due.map(|due| Duration::from_nanos(due.saturating_sub(now)))
    }

    /// The time of number `sequence` in an open loop.
    #[inline]
    fn intended(&self, sequence: u64) -> Option<u64> {
        // From the start each time, not from the one before: errors of rounding do not add up.
        let turn = sequence as f64 * self.pace.stride + self.pace.offset;
        Some(self.start.saturating_add(self.load.due(turn)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(load: Load, start: u64, publisher: usize, publishers: usize) -> Schedule {
        Schedule::new(load, start, Pace::even(publisher, publishers))
    }

    #[test]
    fn a_window_lets_as_many_go_as_it_has_room_for_and_stamps_them_with_now() {
        let schedule = schedule(Load::Window(3), 70, 0, 1);
        assert_eq!(schedule.due(0, 0, 69), None, "the run has not begun");
        assert_eq!(schedule.wait(0, 69), Some(Duration::from_nanos(1)));
        assert_eq!(schedule.due(0, 0, 77), Some(77));
        assert_eq!(schedule.due(2, 2, 78), Some(78));
        assert_eq!(schedule.due(3, 3, 79), None);
        assert_eq!(schedule.wait(3, 79), None);
    }

    #[test]
    fn an_open_loop_keeps_its_times_however_late_it_is() {
        let schedule = schedule(Load::Rate(1_000.0), 5_000_000, 0, 1);
        assert_eq!(schedule.due(0, 0, 4_999_999), None);
        assert_eq!(
            schedule.wait(0, 4_000_000),
            Some(Duration::from_millis(1)),
            "one millisecond to go"
        );
        // Three seconds late, with everything outstanding: the messages are due and keep the times they had.
        let late = 3_005_000_000;
        assert_eq!(schedule.due(0, 0, late), Some(5_000_000));
        assert_eq!(schedule.due(1, 1, late), Some(6_000_000));
        assert_eq!(schedule.due(3_000, 3_000, late), Some(late));
        assert_eq!(schedule.due(3_001, 3_001, late), None);
        assert_eq!(schedule.wait(0, late), Some(Duration::ZERO));
    }

    #[test]
    fn publishers_share_the_rate_by_taking_turns() {
        let times = |publisher| {
            let schedule = schedule(Load::Rate(1e9), 0, publisher, 4);
            (0..3).map(move |n| schedule.due(n, 0, u64::MAX).unwrap())
        };
        let mut all: Vec<u64> = (0..4).flat_map(times).collect();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<u64>>());
    }

    #[test]
    fn a_rate_that_is_no_whole_number_of_nanoseconds_does_not_drift() {
        let schedule = schedule(Load::Rate(3.0), 0, 0, 1);
        assert_eq!(schedule.due(3_000_000, 0, u64::MAX), Some(1_000_000_000_000_000));
    }

    #[test]
    fn steps_are_taken_by_all_publishers_together() {
        let load = Load::parse_rate("10,20", Duration::from_secs(1)).unwrap();
        let within = |publisher| {
            let schedule = schedule(load.clone(), 0, publisher, 3);
            (0..10)
                .filter(move |&n| schedule.due(n, 0, 1_999_999_999).is_some())
                .count()
        };
        assert_eq!((0..3).map(within).sum::<usize>(), 30);
    }
}
