//! What one thread's subscribers have received: checked, counted, timed.

use hdrhistogram::Histogram;

use crate::check::Checker;
use crate::clock::Span;
use crate::ledger::Ledger;
use crate::payload::{Locator, Stamp};

/// The longest latency told apart, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// A histogram of nanoseconds, exact to three digits from 64 ns on.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(64, LONGEST, 3).expect("the bounds are in order and the digits at most five")
}

/// A message that is no delivery of this run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

/// Deliveries are counted in batches, the bytes of one read each: one clock reading stands for all of them.
#[derive(Debug)]
pub(crate) struct Tally {
    run: u32,
    publishers: usize,
    locator: Locator,
    checker: Checker,
    ledger: Ledger,
    span: Span,
    latency: Histogram<u64>,
    /// Of the current batch: when it arrived, and what it held so far.
    arrived: u64,
    batch: u64,
    /// Deliveries of the batch that were to be sent at the same time, and that time: messages that were sent together
    /// come together and are recorded together.
    alike: u64,
    intended: u64,
    totals: Totals,
}

/// Sums over the run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// In the span.
    pub(crate) deliveries: u64,
    /// Bytes of frames, in the span.
    pub(crate) wire_bytes: u64,
    /// Before, in and after the span.
    pub(crate) all_deliveries: u64,
    /// When the last one came.
    pub(crate) last: u64,
}

impl Tally {
    pub(crate) fn new(run: u32, subscribers: u32, publishers: usize, in_flight: u64, locator: Locator) -> Tally {
        Tally {
            run,
            publishers,
            locator,
            checker: Checker::new(subscribers as usize, publishers),
            ledger: Ledger::new(subscribers, publishers, in_flight),
            span: u64::MAX..u64::MAX,
            latency: histogram(),
            arrived: 0,
            batch: 0,
            alike: 0,
            intended: 0,
            totals: Totals::default(),
        }
    }

    /// Says what part of the run is measured.
    pub(crate) fn measure(&mut self, span: Span) {
        self.span = span;
    }

    /// By publisher, how many messages all subscribers of this thread have.
    pub(crate) fn completed(&self) -> &[u64] {
        self.ledger.completed()
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Bytes arrived at `now`; the deliveries in them follow, then [`Tally::end_batch`].
    #[inline]
    pub(crate) fn begin_batch(&mut self, now: u64) {
        self.arrived = now;
    }

    /// A message was delivered to a subscriber of this thread.
    #[inline]
    pub(crate) fn deliver(&mut self, subscriber: usize, message: &[u8]) -> Result<(), NotOurs> {
        let stamp = match self.locator.stamp(message) {
            Some(stamp) if stamp.run == self.run => stamp,
            _ => return Err(NotOurs),
        };
        let Stamp {
            publisher,
            sequence,
            intended,
            ..
        } = stamp;
        let publisher = publisher as usize;
        if publisher >= self.publishers {
            self.checker.corrupt();
            return Ok(());
        }
        let accounted = self
            .checker
            .deliver(subscriber, publisher, sequence, self.ledger.capacity());
        self.ledger.account(publisher, accounted);
        if intended != self.intended {
            self.record();
            self.intended = intended;
        }
        self.alike += 1;
        self.batch += 1;
        Ok(())
    }

    /// The batch, of `bytes` bytes as they came, is over.
    #[inline]
    pub(crate) fn end_batch(&mut self, bytes: usize) {
        self.record();
        if self.batch > 0 {
            self.totals.last = self.arrived;
        }
        self.totals.all_deliveries += self.batch;
        if self.span.contains(&self.arrived) {
            self.totals.deliveries += self.batch;
            self.totals.wire_bytes += bytes as u64;
        }
        self.batch = 0;
    }

    /// Records the latency of the deliveries that are alike. What was to be sent in the span counts, whenever it came: a
    /// slow delivery must not escape by being late.
    fn record(&mut self) {
        if self.alike > 0 && self.span.contains(&self.intended) {
            let latency = self.arrived.saturating_sub(self.intended).min(LONGEST);
            self.latency
                .record_n(latency, self.alike)
                .expect("the value is within the bounds");
        }
        self.alike = 0;
    }

    /// Ends the run, in which publisher `p` sent `sent[p]` messages.
    pub(crate) fn finish(self, sent: &[u64]) -> (crate::check::Faults, Histogram<u64>, Totals) {
        (self.checker.finish(sent), self.latency, self.totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Template;
    use crate::plan::Protocol;

    const RUN: u32 = 9;

    fn tally() -> Tally {
        let mut tally = Tally::new(RUN, 2, 1, 8, Locator::new(Protocol::Raw, "t"));
        tally.measure(1_000_000..2_000_000);
        tally
    }

    fn message(run: u32, publisher: u32, sequence: u64, intended: u64) -> Vec<u8> {
        let stamp = Stamp {
            run,
            publisher,
            sequence,
            intended,
        };
        Template::new(Protocol::Raw, "t", 32).stamped(&stamp).to_vec()
    }

    fn batch(tally: &mut Tally, now: u64, subscriber: usize, messages: &[(u64, u64)]) {
        tally.begin_batch(now);
        for &(sequence, intended) in messages {
            tally.deliver(subscriber, &message(RUN, 0, sequence, intended)).unwrap();
        }
        tally.end_batch(messages.len() * 34);
    }

    #[test]
    fn deliveries_count_by_arrival_and_latencies_by_the_time_of_sending() {
        let mut tally = tally();
        // Sent before the span, arrived in it; sent in it, twice at the same time; sent in it, arrived after it.
        batch(
            &mut tally,
            1_100_000,
            0,
            &[(0, 900_000), (1, 1_050_000), (2, 1_050_000)],
        );
        batch(&mut tally, 2_500_000, 0, &[(3, 1_990_000)]);
        batch(&mut tally, 2_600_000, 1, &[(0, 900_000)]);
        assert_eq!(tally.completed(), [1]);
        let (faults, latency, totals) = tally.finish(&[4]);
        assert_eq!(faults.lost, 3, "the second subscriber lacks three");
        assert_eq!(
            (totals.deliveries, totals.wire_bytes, totals.all_deliveries, totals.last),
            (3, 102, 5, 2_600_000)
        );
        assert_eq!(latency.len(), 3);
        assert!((latency.min() as f64 - 50_000.0).abs() < 100.0, "{}", latency.min());
        assert!((latency.max() as f64 - 510_000.0).abs() < 1_000.0, "{}", latency.max());
    }

    #[test]
    fn messages_of_other_runs_are_not_ours_and_impossible_ones_are_corrupt() {
        let mut tally = tally();
        assert_eq!(tally.deliver(0, &message(RUN + 1, 0, 0, 0)), Err(NotOurs));
        assert_eq!(tally.deliver(0, b"hello"), Err(NotOurs));
        assert_eq!(tally.deliver(0, &message(RUN, 1, 0, 0)), Ok(()), "no such publisher");
        assert_eq!(
            tally.deliver(0, &message(RUN, 0, 8, 0)),
            Ok(()),
            "more than can be in flight"
        );
        tally.end_batch(0);
        let (faults, _, totals) = tally.finish(&[0]);
        assert_eq!((faults.corrupt, totals.all_deliveries), (2, 1));
    }
}
