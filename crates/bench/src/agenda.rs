//! Who of many is to be looked at now: those whose time has come, and those that wait for something else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tidecast_driver::Wait;

/// Numbers of publishers or the like, each in one of three places: due at a time, waiting for something that may have
/// happened in any turn, or taken out.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    timed: BinaryHeap<Reverse<(u64, usize)>>,
    waiting: Vec<usize>,
}

impl Agenda {
    /// With all of `0..count`, to be looked at at once.
    pub(crate) fn new(count: usize) -> Agenda {
        Agenda {
            timed: BinaryHeap::new(),
            waiting: (0..count).collect(),
        }
    }

    /// Moves all that are to be looked at at `now` to `out`.
    pub(crate) fn take(&mut self, now: u64, out: &mut Vec<usize>) {
        out.append(&mut self.waiting);
        while let Some(&Reverse((due, number))) = self.timed.peek()
            && due <= now
        {
            self.timed.pop();
            out.push(number);
        }
    }

    /// Puts one back: to be looked at `after` so long, or when something has happened.
    pub(crate) fn put(&mut self, number: usize, now: u64, after: Option<Duration>) {
        match after {
            Some(after) => {
                let due = now.saturating_add(crate::clock::nanoseconds(after));
                self.timed.push(Reverse((due, number)));
            }
            None => self.waiting.push(number),
        }
    }

    /// How long one may sleep after `now`, at most `nap`.
    pub(crate) fn sleep(&self, now: u64, nap: Duration) -> Wait {
        match self.timed.peek() {
            Some(&Reverse((due, _))) if due <= now => Wait::No,
            Some(&Reverse((due, _))) => Wait::AtMost(nap.min(Duration::from_nanos(due - now))),
            None => Wait::AtMost(nap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_whose_time_has_come_are_taken_and_those_that_wait_for_something_else_always() {
        let mut agenda = Agenda::new(3);
        let mut taken = Vec::new();
        agenda.take(100, &mut taken);
        assert_eq!(taken, [0, 1, 2]);
        agenda.put(0, 100, Some(Duration::from_nanos(50)));
        agenda.put(1, 100, None);
        agenda.put(2, 100, Some(Duration::from_nanos(20)));
        let nap = Duration::from_millis(1);
        assert_eq!(agenda.sleep(100, nap), Wait::AtMost(Duration::from_nanos(20)));
        taken.clear();
        agenda.take(119, &mut taken);
        assert_eq!(taken, [1]);
        agenda.take(130, &mut taken);
        assert_eq!(taken, [1, 2]);
        assert_eq!(agenda.sleep(150, nap), Wait::No);
        taken.clear();
        agenda.take(u64::MAX, &mut taken);
        assert_eq!(taken, [0]);
        assert_eq!(agenda.sleep(u64::MAX, nap), Wait::AtMost(nap), "nobody is left");
    }
}
