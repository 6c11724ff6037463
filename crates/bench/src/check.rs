//! Whether every subscriber gets every message of every publisher, once and in order.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::payload::nearest;

/// What went wrong with deliveries. All zero is the only good result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Faults {
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries that came again.
    pub duplicated: u64,
    /// Deliveries that came after a later message of the same publisher.
    pub reordered: u64,
    /// Messages of this run that cannot be: of a publisher or with a number that was never sent.
    pub corrupt: u64,
}

impl Faults {
    /// Whether there are none.
    pub fn is_clean(&self) -> bool {
        *self == Faults::default()
    }

    pub(crate) fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
    }
}

/// Follows the sequence numbers of `publishers` publishers, those of its topic, at each of `subscribers` subscribers.
///
/// Per pair one number is kept: the next one expected. Only what goes wrong costs more: the numbers that were skipped are
/// remembered, so that a late one is known from a repeated one.
///
/// Invariant per pair: every number below `next` has been delivered, or is in `missing`.
#[derive(Debug)]
pub(crate) struct Checker {
    publishers: usize,
    next: Vec<u64>,
    /// By pair, the ranges skipped: start to end (exclusive).
    missing: HashMap<usize, BTreeMap<u64, u64>>,
    faults: Faults,
}

impl Checker {
    pub(crate) fn new(subscribers: usize, publishers: usize) -> Checker {
        Checker {
            publishers,
            next: vec![0; subscribers * publishers],
            missing: HashMap::new(),
            faults: Faults::default(),
        }
    }

    /// The faults so far; what has not come yet is no fault until [`Checker::finish`].
    #[cfg(test)]
    pub(crate) fn faults(&self) -> Faults {
        self.faults
    }

    /// Takes note that a message cannot be one of this run.
    pub(crate) fn corrupt(&mut self) {
        self.faults.corrupt += 1;
    }

    /// Takes note of a delivery, and returns the numbers that this subscriber need not be waited for any more: the one
    /// delivered and any skipped before it; none if it was late or repeated.
    ///
    /// `sequence` is the last 32 bits of its number. A number `horizon` or more ahead of the expected one was never sent, and
    /// is counted as corrupt.
    #[inline]
    pub(crate) fn deliver(&mut self, subscriber: usize, publisher: usize, sequence: u32, horizon: u64) -> Range<u64> {
        let pair = subscriber * self.publishers + publisher;
        let next = self.next[pair];
        if sequence == next as u32 {
            self.next[pair] = next + 1;
            return next..next + 1;
        }
        self.out_of_order(pair, sequence, horizon)
    }

    #[cold]
    fn out_of_order(&mut self, pair: usize, sequence: u32, horizon: u64) -> Range<u64> {
        let next = self.next[pair];
        let Some(sequence) = nearest(next, sequence) else {
            self.faults.corrupt += 1;
            return 0..0;
        };
        if sequence < next {
            if self.take_missing(pair, sequence) {
                self.faults.lost -= 1;
                self.faults.reordered += 1;
            } else {
                self.faults.duplicated += 1;
            }
            return 0..0;
        }
        if sequence - next >= horizon {
            self.faults.corrupt += 1;
            return 0..0;
        }
        self.faults.lost += sequence - next;
        self.missing.entry(pair).or_default().insert(next, sequence);
        self.next[pair] = sequence + 1;
        next..sequence + 1
    }

    /// Whether `sequence` was skipped; it no longer is.
    fn take_missing(&mut self, pair: usize, sequence: u64) -> bool {
        let Some(ranges) = self.missing.get_mut(&pair) else {
            return false;
        };
        let Some((&start, &end)) = ranges.range(..=sequence).next_back() else {
            return false;
        };
        if sequence >= end {
            return false;
        }
        ranges.remove(&start);
        if start < sequence {
            ranges.insert(start, sequence);
        }
        if sequence + 1 < end {
            ranges.insert(sequence + 1, end);
        }
        true
    }

    /// The faults of the whole run. `sent` says, for each subscriber, how many messages each publisher of its topic sent.
    pub(crate) fn finish<'a>(mut self, sent: impl Fn(usize) -> &'a [u64]) -> Faults {
        if self.publishers > 0 {
            for (subscriber, nexts) in self.next.chunks_exact(self.publishers).enumerate() {
                let sent = sent(subscriber);
                assert_eq!(sent.len(), self.publishers, "a count for every publisher");
                for (&next, &sent) in nexts.iter().zip(sent) {
                    self.faults.lost += sent.saturating_sub(next);
                }
            }
        }
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: u64 = 64;

    /// The naive twin for one pair: looks at the whole history at once.
    fn oracle(delivered: &[u64], sent: u64) -> Faults {
        let mut faults = Faults::default();
        for (i, sequence) in delivered.iter().enumerate() {
            if delivered[..i].contains(sequence) {
                faults.duplicated += 1;
            } else if delivered[..i].iter().any(|earlier| earlier > sequence) {
                faults.reordered += 1;
            }
        }
        faults.lost = (0..sent).filter(|sequence| !delivered.contains(sequence)).count() as u64;
        faults
    }

    fn check(delivered: &[u64], sent: u64) -> Faults {
        let mut checker = Checker::new(1, 1);
        let mut accounted = Vec::new();
        for &sequence in delivered {
            accounted.extend(checker.deliver(0, 0, sequence as u32, HORIZON));
        }
        let expected: Vec<u64> = (0..delivered.iter().max().map_or(0, |last| last + 1)).collect();
        assert_eq!(
            accounted, expected,
            "every number is accounted for once, in order: {delivered:?}"
        );
        checker.finish(|_| std::slice::from_ref(&sent))
    }

    #[test]
    fn a_perfect_run_has_no_faults() {
        let mut checker = Checker::new(3, 2);
        for sequence in 0..100 {
            for (subscriber, publisher) in [(0, 0), (2, 1), (1, 0), (1, 1), (0, 1), (2, 0)] {
                assert_eq!(
                    checker.deliver(subscriber, publisher, sequence as u32, HORIZON),
                    sequence..sequence + 1
                );
            }
        }
        assert!(checker.faults().is_clean());
        assert!(checker.finish(|_| &[100, 100]).is_clean());
    }

    #[test]
    fn every_kind_of_fault_is_named() {
        let faults = |lost, duplicated, reordered| Faults {
            lost,
            duplicated,
            reordered,
            corrupt: 0,
        };
        for (delivered, sent, expected) in [
            (&[0, 1, 2][..], 4, faults(1, 0, 0)),
            (&[0, 2, 3], 4, faults(1, 0, 0)),
            (&[0, 1, 1, 2], 3, faults(0, 1, 0)),
            (&[0, 2, 1, 3], 4, faults(0, 0, 1)),
            (&[3, 0, 0, 1], 4, faults(1, 1, 2)),
            (&[], 5, faults(5, 0, 0)),
        ] {
            assert_eq!(check(delivered, sent), expected, "{delivered:?}");
            assert_eq!(oracle(delivered, sent), expected, "the oracle on {delivered:?}");
        }
    }

    #[test]
    fn any_jumble_is_judged_as_the_oracle_judges_it() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let sent = random.u64(1..24);
            let mut delivered: Vec<u64> = (0..sent).filter(|_| random.u8(..) > 30).collect();
            for _ in 0..random.usize(..4) {
                if delivered.is_empty() {
                    break;
                }
                let (from, to) = (random.usize(..delivered.len()), random.usize(..delivered.len()));
                match random.bool() {
                    true => delivered.swap(from, to),
                    false => delivered.insert(to, delivered[from]),
                }
            }
            assert_eq!(
                check(&delivered, sent),
                oracle(&delivered, sent),
                "{delivered:?} of {sent}"
            );
        }
    }

    #[test]
    fn a_number_that_was_never_sent_is_corrupt_and_moves_nothing() {
        let mut checker = Checker::new(1, 1);
        assert!(checker.deliver(0, 0, HORIZON as u32, HORIZON).is_empty());
        assert!(checker.deliver(0, 0, u32::MAX, HORIZON).is_empty());
        assert_eq!(checker.deliver(0, 0, 0, HORIZON), 0..1);
        let faults = checker.finish(|_| &[1]);
        assert_eq!((faults.corrupt, faults.lost), (2, 0));
    }

    #[test]
    fn numbers_go_on_beyond_the_bits_that_messages_have_for_them() {
        let mut checker = Checker::new(1, 1);
        let first = (7 << 32) - 2;
        checker.next[0] = first;
        for sequence in [first, first + 3, first + 1, first + 2, first + 4, first + 4] {
            checker.deliver(0, 0, sequence as u32, HORIZON);
        }
        let faults = checker.finish(|_| &[(7 << 32) + 3]);
        let expected = Faults {
            reordered: 2,
            duplicated: 1,
            ..Faults::default()
        };
        assert_eq!(faults, expected);
    }

    #[test]
    fn a_loss_at_one_subscriber_is_counted_there_alone() {
        let mut checker = Checker::new(2, 2);
        checker.deliver(0, 0, 0, HORIZON);
        checker.deliver(1, 1, 0, HORIZON);
        assert_eq!(checker.finish(|_| &[1, 1]).lost, 2);
    }

    #[test]
    fn subscribers_of_different_topics_lack_what_was_sent_to_theirs() {
        let mut checker = Checker::new(2, 1);
        checker.deliver(0, 0, 0, HORIZON);
        checker.deliver(1, 0, 0, HORIZON);
        let sent = [[3], [1]];
        assert_eq!(checker.finish(|subscriber| &sent[subscriber]).lost, 2);
    }
}
