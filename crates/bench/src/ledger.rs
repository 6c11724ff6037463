//! Which messages have landed: those that every subscriber has received.
//!
//! Each thread counts for its own subscribers in a [`Ledger`] and publishes, per publisher, how many messages are complete
//! with it: one store per turn of its loop, to an [`Landings`] cell that only it writes. A publisher's window is the least
//! of these counts over all threads. Counts suffice because subscribers account for messages in order, skipped ones
//! included, so that messages complete in order as well.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Messages one publisher may have outstanding at most, whatever the load: what a ledger has room for.
pub(crate) const MAX_IN_FLIGHT: u64 = 1 << 16;

/// Counts for one thread's subscribers.
///
/// Invariant: for every publisher, message `n` with `completed <= n < completed + capacity` is still waited for by
/// `waiting[n % capacity]` subscribers.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// By publisher, the subscribers of its topic.
    subscribers: Vec<u32>,
    capacity: u64,
    /// By publisher, `capacity` counters each.
    waiting: Vec<u32>,
    /// By publisher.
    completed: Vec<u64>,
    /// Publishers whose count has moved since somebody asked, each once.
    moved: Vec<u32>,
    is_moved: Vec<bool>,
}

impl Ledger {
    /// For messages of which at most `in_flight` of a publisher are outstanding at a time; `subscribers` says by publisher
    /// how many wait for each.
    pub(crate) fn new(subscribers: Vec<u32>, in_flight: u64) -> Ledger {
        let capacity = in_flight.next_power_of_two();
        let waiting = subscribers
            .iter()
            .flat_map(|&count| std::iter::repeat_n(count, capacity as usize))
            .collect();
        Ledger {
            capacity,
            waiting,
            completed: vec![0; subscribers.len()],
            moved: Vec::new(),
            is_moved: vec![false; subscribers.len()],
            subscribers,
        }
    }

    /// How far ahead of what a subscriber expects a message can be.
    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// One subscriber need not be waited for with these messages any more.
    #[inline]
    pub(crate) fn account(&mut self, publisher: usize, messages: Range<u64>) {
        for message in messages {
            let slot = publisher * self.capacity as usize + (message & (self.capacity - 1)) as usize;
            let waiting = &mut self.waiting[slot];
            *waiting -= 1;
            if *waiting == 0 {
                // Free for the message one capacity later, which is sent only after this one has landed.
                *waiting = self.subscribers[publisher];
                self.completed[publisher] += 1;
                if !self.is_moved[publisher] {
                    self.is_moved[publisher] = true;
                    self.moved.push(publisher as u32);
                }
            }
        }
    }

    /// Publishers with messages that are complete since the last call, and how many all subscribers of this thread have.
    pub(crate) fn take_moved(&mut self) -> impl Iterator<Item = (usize, u64)> {
        let Ledger {
            moved,
            is_moved,
            completed,
            ..
        } = self;
        moved.drain(..).map(|publisher| {
            let publisher = publisher as usize;
            is_moved[publisher] = false;
            (publisher, completed[publisher])
        })
    }

    /// By publisher, how many messages all subscribers of this thread have.
    #[cfg(test)]
    pub(crate) fn completed(&self) -> &[u64] {
        &self.completed
    }
}

/// Where the threads tell each other what is complete with them. A row per thread, each on cache lines of its own.
#[derive(Debug)]
pub(crate) struct Landings {
    rows: Vec<Row>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Row(Vec<AtomicU64>);

impl Landings {
    /// `waits` says for each thread, by publisher, whether it has subscribers to wait for.
    pub(crate) fn new<P: IntoIterator<Item = bool>>(waits: impl IntoIterator<Item = P>) -> Landings {
        let row = |publishers: P| {
            // A thread without subscribers holds nothing up.
            let start = |waits: bool| if waits { 0 } else { u64::MAX };
            let mut cells: Vec<_> = publishers
                .into_iter()
                .map(|waits| AtomicU64::new(start(waits)))
                .collect();
            // Padded, so that the cells of two threads' rows never share a cache line.
            cells.resize_with(cells.len().next_multiple_of(16), AtomicU64::default);
            Row(cells)
        };
        Landings {
            rows: waits.into_iter().map(row).collect(),
        }
    }

    /// Says that `completed` messages of `publisher` are complete with `thread`; whether that is news.
    pub(crate) fn publish(&self, thread: usize, publisher: usize, completed: u64) -> bool {
        let cell = &self.rows[thread].0[publisher];
        // Only this thread writes the cell.
        let news = cell.load(Ordering::Relaxed) != completed;
        if news {
            // Pairs with the load in `landed`: not for data, of which there is none, but so that a publisher woken
            // by this thread sees the count.
            cell.store(completed, Ordering::Release);
        }
        news
    }

    /// How many messages of `publisher` every subscriber has.
    pub(crate) fn landed(&self, publisher: usize) -> u64 {
        let complete = |row: &Row| row.0[publisher].load(Ordering::Acquire);
        self.rows.iter().map(complete).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_when_the_last_subscriber_has_it() {
        let mut ledger = Ledger::new(vec![3], 4);
        for _ in 0..2 {
            ledger.account(0, 0..1);
            assert_eq!(ledger.completed(), [0]);
        }
        ledger.account(0, 0..1);
        assert_eq!(ledger.completed(), [1]);
    }

    #[test]
    fn a_skipped_message_holds_the_window_up_no_longer() {
        let mut ledger = Ledger::new(vec![2], 4);
        ledger.account(0, 0..3);
        ledger.account(0, 0..1);
        assert_eq!(ledger.completed(), [1]);
        ledger.account(0, 1..3);
        assert_eq!(ledger.completed(), [3]);
    }

    #[test]
    fn counters_are_used_again_and_publishers_do_not_touch_each_others() {
        let mut ledger = Ledger::new(vec![2, 2], 3);
        assert_eq!(ledger.capacity(), 4, "rounded up to a power of two");
        for message in 0..100 {
            for _ in 0..2 {
                ledger.account(1, message..message + 1);
            }
            assert_eq!(ledger.completed(), [0, message + 1]);
        }
    }

    #[test]
    fn a_message_has_landed_when_every_thread_with_subscribers_says_so() {
        let landings = Landings::new([[true; 2], [false; 2], [true; 2]]);
        assert!(landings.publish(0, 1, 5));
        assert!(!landings.publish(0, 1, 5), "no news the second time");
        assert_eq!(landings.landed(1), 0);
        assert!(landings.publish(2, 1, 3));
        assert_eq!((landings.landed(0), landings.landed(1)), (0, 3));
    }

    #[test]
    fn without_subscribers_everything_has_landed_at_once() {
        assert_eq!(Landings::new([[false], [false]]).landed(0), u64::MAX);
    }

    #[test]
    fn a_publisher_is_told_to_have_moved_once_however_many_messages_are_complete() {
        let mut ledger = Ledger::new(vec![1, 1], 8);
        ledger.account(1, 0..3);
        ledger.account(1, 3..4);
        assert_eq!(ledger.take_moved().collect::<Vec<_>>(), [(1, 4)]);
        assert_eq!(ledger.take_moved().count(), 0);
        ledger.account(0, 0..1);
        ledger.account(1, 4..5);
        assert_eq!(ledger.take_moved().collect::<Vec<_>>(), [(0, 1), (1, 5)]);
    }

    #[test]
    fn a_thread_waits_only_for_the_topics_it_subscribes_to() {
        let landings = Landings::new([[true, false], [true, true]]);
        landings.publish(1, 0, 4);
        landings.publish(1, 1, 4);
        assert_eq!((landings.landed(0), landings.landed(1)), (0, 4));
    }
}
