//! Subscribers that do not read while the run lasts: what they find when they read again.

use std::collections::BTreeMap;

use crate::check::Faults;
use crate::payload::{Stamp, nearest};

/// What became of the slow subscribers.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct SlowReport {
    /// How many there were.
    pub connections: u64,
    /// How many were still open at the end.
    pub still_open: u64,
    /// Those that were closed, by close code and reason.
    pub closed: BTreeMap<String, u64>,
    /// Notices that messages were dropped.
    pub lag_notices: u64,
    /// Messages that were dropped, by those notices.
    pub lagged_messages: u64,
    /// Messages that had been kept for them.
    pub deliveries: u64,
}

/// The slow subscribers of one thread. Losses are theirs to expect; what comes twice or out of order is a fault.
#[derive(Debug, Default)]
pub(crate) struct Slow {
    publishers: usize,
    /// By subscriber and publisher, the number after the last message.
    next: Vec<u64>,
    report: SlowReport,
    faults: Faults,
}

impl Slow {
    pub(crate) fn new(subscribers: usize, publishers: usize) -> Slow {
        Slow {
            publishers,
            next: vec![0; subscribers * publishers],
            report: SlowReport {
                connections: subscribers as u64,
                still_open: subscribers as u64,
                ..SlowReport::default()
            },
            faults: Faults::default(),
        }
    }

    pub(crate) fn deliver(&mut self, subscriber: usize, stamp: &Stamp) {
        self.report.deliveries += 1;
        let publisher = stamp.publisher as usize;
        if publisher >= self.publishers {
            self.faults.corrupt += 1;
            return;
        }
        let next = &mut self.next[subscriber * self.publishers + publisher];
        match nearest(*next, stamp.sequence) {
            Some(sequence) if sequence >= *next => *next = sequence + 1,
            // Whether it is a repeated one or a late one cannot be told without remembering all.
            Some(_) => self.faults.reordered += 1,
            None => self.faults.corrupt += 1,
        }
    }

    pub(crate) fn lag(&mut self, dropped: u64) {
        self.report.lag_notices += 1;
        self.report.lagged_messages += dropped;
    }

    /// One was closed, in the words given.
    pub(crate) fn closed(&mut self, how: &str) {
        *self.report.closed.entry(how.to_owned()).or_default() += 1;
        self.report.still_open -= 1;
    }

    /// Events so far, by which it is known whether some still come.
    pub(crate) fn events(&self) -> u64 {
        self.report.deliveries + self.report.lag_notices + self.report.closed.values().sum::<u64>()
    }

    pub(crate) fn finish(self) -> (SlowReport, Faults) {
        (self.report, self.faults)
    }
}

impl SlowReport {
    pub(crate) fn add(&mut self, other: SlowReport) {
        self.connections += other.connections;
        self.still_open += other.still_open;
        for (how, count) in other.closed {
            *self.closed.entry(how).or_default() += count;
        }
        self.lag_notices += other.lag_notices;
        self.lagged_messages += other.lagged_messages;
        self.deliveries += other.deliveries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_expected_and_going_back_is_a_fault() {
        let mut slow = Slow::new(2, 2);
        let stamp = |publisher, sequence| Stamp {
            run: 0,
            publisher,
            sequence,
            intended: 0,
        };
        for (subscriber, publisher, sequence) in [(0, 0, 0), (0, 0, 9), (1, 0, 3), (0, 1, 4), (0, 0, 9), (0, 2, 0)] {
            slow.deliver(subscriber, &stamp(publisher, sequence));
        }
        slow.lag(8);
        slow.lag(2);
        slow.closed("4000 slow consumer");
        let (report, faults) = slow.finish();
        assert_eq!((faults.reordered, faults.corrupt), (1, 1));
        assert_eq!(
            (report.deliveries, report.lag_notices, report.lagged_messages),
            (6, 2, 10)
        );
        assert_eq!((report.connections, report.still_open), (2, 1));
        let mut all = SlowReport::default();
        all.add(report.clone());
        all.add(report);
        assert_eq!((all.closed["4000 slow consumer"], all.still_open), (2, 2));
    }
}
