//! What waits for a connection that does not read, where messages may be dropped rather than the connection closed.
//!
//! ```text
//!   socket ◀── queue: merged ranges ◀── refill ◀── backlog: one entry per message
//!                                                     │ drop-old: the oldest goes     ╲
//!                                                     │ latest: one per key stays      ╲  counted, told as lag
//!                                                     │ drop-new: no more comes in     ╱
//! ```
//!
//! A [`Queue`] knows no messages, only bytes: that is why it is cheap. So once a socket is full, what may have to be
//! dropped is kept here, message by message, and so is what comes behind it, for the order is kept. Nothing is copied: an
//! entry is a range of a log, as in a queue.

use std::collections::{HashMap, VecDeque};

use crate::outbox::{Outbox, Queue, Range, SegmentId};
use tidecast_broker::Slow;

/// Bytes moved to the queue at a time: more than a socket takes at once, and no more than can be spared, for from then on
/// they are not dropped.
const REFILL: usize = 64 * 1024;

/// What may be held back for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

/// One message, or one that was dropped.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Empty if it was dropped.
    range: Range,
    slow: Slow,
}

/// Messages that were dropped from a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lag {
    /// The subscriber list.
    pub(crate) list: u32,
    pub(crate) dropped: u64,
    /// They were older than all that still waits; else younger.
    pub(crate) first: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It waits; so many others, or it, were dropped.
    Within(u64),
    /// It waits, and that is too much: none of what waits may be dropped.
    Beyond,
}

/// The messages that wait for one connection, behind its queue.
///
/// Invariants: `bytes` and `messages` count the entries that are not dropped; the first entry is not; entries before
/// `droppable` are none that may be dropped; `latest` holds the entries of [`Slow::Latest`], each the only one of its key.
/// Entries are numbered from `first`.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    entries: VecDeque<Waiting>,
    first: u64,
    droppable: u64,
    latest: HashMap<(u32, u64), u64>,
    bytes: usize,
    messages: usize,
    /// Bytes of [`Slow::Close`], which are never dropped.
    fixed: usize,
    lags: Vec<Lag>,
}

impl Backlog {
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether there is nothing left to be sent or told.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_empty() && self.lags.is_empty()
    }

    /// Adds a message to what waits behind `queued` bytes, and makes room for it as its subscription asks for.
    pub(crate) fn push(
        &mut self,
        range: Range,
        slow: Slow,
        queued: usize,
        bounds: Bounds,
        outbox: &mut Outbox,
    ) -> Kept {
        let before = self.dropped();
        if let Slow::DropNew { list } = slow
            && !self.has_room(range.len(), 1, queued, bounds)
        {
            self.count(list, false);
            return Kept::Within(self.dropped() - before);
        }
        let number = self.first + self.entries.len() as u64;
        if let Slow::Latest { list, key } = slow
            && let Some(earlier) = self.latest.insert((list, key), number)
        {
            self.drop_entry(earlier, outbox);
        }
        outbox.pin_range(range);
        self.entries.push_back(Waiting { range, slow });
        self.bytes += range.len();
        self.messages += 1;
        if slow == Slow::Close {
            self.fixed += range.len();
        }
        let mut within = true;
        while !self.has_room(0, 0, queued, bounds) {
            let Some(oldest) = self.oldest_droppable() else {
                // What was let in because it fitted, and is not dropped any more, is not held against a reply.
                within = queued + self.fixed <= bounds.bytes;
                break;
            };
            self.drop_entry(oldest, outbox);
        }
        self.trim();
        if within {
            Kept::Within(self.dropped() - before)
        } else {
            Kept::Beyond
        }
    }

    fn has_room(&self, bytes: usize, messages: usize, queued: usize, bounds: Bounds) -> bool {
        // One message is always kept, however large.
        self.messages + messages <= 1
            || (queued + self.bytes + bytes <= bounds.bytes && self.messages + messages <= bounds.messages)
    }

    fn dropped(&self) -> u64 {
        self.lags.iter().map(|lag| lag.dropped).sum()
    }

    fn count(&mut self, list: u32, first: bool) {
        match self.lags.iter_mut().find(|lag| (lag.list, lag.first) == (list, first)) {
            Some(lag) => lag.dropped += 1,
            None => self.lags.push(Lag {
                list,
                dropped: 1,
                first,
            }),
        }
    }

    /// The oldest message that may be dropped to make room.
    fn oldest_droppable(&mut self) -> Option<u64> {
        let from = (self.droppable.max(self.first) - self.first) as usize;
        let found = self
            .entries
            .range(from..)
            .position(|entry| !entry.range.is_empty() && entry.slow.drops_old());
        self.droppable = self.first + found.map_or(self.entries.len(), |found| from + found) as u64;
        found.map(|_| self.droppable)
    }

    /// Drops the entry of this number, which is there.
    fn drop_entry(&mut self, number: u64, outbox: &mut Outbox) {
        let entry = &mut self.entries[(number - self.first) as usize];
        let Waiting { range, slow } = *entry;
        entry.range = Range::EMPTY;
        self.bytes -= range.len();
        self.messages -= 1;
        outbox.unpin_range(range);
        if let Slow::Latest { list, key } = slow
            && self.latest.get(&(list, key)) == Some(&number)
        {
            self.latest.remove(&(list, key));
        }
        if let Some(list) = slow.list() {
            // The youngest, if all others have to stay.
            let first = number + 1 < self.first + self.entries.len() as u64;
            self.count(list, first);
        }
    }

    /// Forgets entries that were dropped: those at the front at once, all when they are the most.
    fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.range.is_empty()) {
            self.entries.pop_front();
            self.first += 1;
        }
        if self.entries.len() > 2 * self.messages + 64 {
            self.entries.retain(|entry| !entry.range.is_empty());
            self.droppable = self.first;
            self.latest.clear();
            for (number, entry) in (self.first..).zip(&self.entries) {
                if let Slow::Latest { list, key } = entry.slow {
                    self.latest.insert((list, key), number);
                }
            }
        }
    }

    /// Moves the next messages to the queue, which is empty.
    pub(crate) fn refill(&mut self, queue: &mut Queue, outbox: &mut Outbox) {
        let mut moved = 0;
        while moved < REFILL
            && let Some(Waiting { range, slow }) = self.entries.pop_front()
        {
            if let Slow::Latest { list, key } = slow
                && self.latest.get(&(list, key)) == Some(&self.first)
            {
                self.latest.remove(&(list, key));
            }
            self.first += 1;
            if !range.is_empty() {
                moved += range.len();
                self.bytes -= range.len();
                self.messages -= 1;
                if slow == Slow::Close {
                    self.fixed -= range.len();
                }
                queue.push(range, outbox);
                outbox.unpin_range(range);
            }
        }
        self.trim();
    }

    pub(crate) fn has_lags(&self) -> bool {
        !self.lags.is_empty()
    }

    /// What was dropped and not told yet.
    pub(crate) fn take_lags(&mut self) -> Vec<Lag> {
        std::mem::take(&mut self.lags)
    }

    /// Drops everything, lags too.
    pub(crate) fn clear(&mut self, outbox: &mut Outbox) {
        for entry in self.entries.drain(..) {
            outbox.unpin_range(entry.range);
        }
        *self = Backlog::default();
    }

    /// What waits, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> {
        let there = self.entries.iter().filter(|entry| !entry.range.is_empty());
        there.map(|entry| entry.range)
    }

    /// Bytes that lie in the sealed segment `victim`.
    pub(crate) fn bytes_in(&self, victim: SegmentId) -> usize {
        let there = self.entries.iter().filter(|entry| entry.range.is_in(victim));
        there.map(|entry| entry.range.len()).sum()
    }

    /// Copies out what lies in the sealed segment `victim`.
    pub(crate) fn detach(&mut self, victim: SegmentId, outbox: &mut Outbox) {
        let is_there = |entry: &&Waiting| entry.range.is_in(victim);
        let ranges: Vec<Range> = self.entries.iter().filter(is_there).map(|entry| entry.range).collect();
        if ranges.is_empty() {
            return;
        }
        let mut copied = outbox.copy(ranges.iter()).split(ranges.iter().map(|range| range.len()));
        for entry in self.entries.iter_mut().filter(|entry| entry.range.is_in(victim)) {
            let Some(copy) = copied.next() else { break };
            outbox.pin_range(copy);
            outbox.unpin_range(entry.range);
            entry.range = copy;
        }
    }

    /// Checks the invariants.
    #[cfg(test)]
    fn check(&self) {
        let there: Vec<_> = self.entries.iter().filter(|entry| !entry.range.is_empty()).collect();
        assert_eq!(there.len(), self.messages);
        assert_eq!(there.iter().map(|entry| entry.range.len()).sum::<usize>(), self.bytes);
        let fixed = there.iter().filter(|entry| entry.slow == Slow::Close);
        assert_eq!(fixed.map(|entry| entry.range.len()).sum::<usize>(), self.fixed);
        assert!(self.entries.front().is_none_or(|entry| !entry.range.is_empty()));
        let before = (self.droppable.max(self.first) - self.first) as usize;
        let mut undroppable = self.entries.iter().take(before).filter(|entry| !entry.range.is_empty());
        assert!(undroppable.all(|entry| !entry.slow.drops_old()));
        let latest = there
            .iter()
            .filter(|entry| matches!(entry.slow, Slow::Latest { .. }))
            .count();
        assert_eq!(latest, self.latest.len());
        for (&(list, key), &number) in &self.latest {
            let entry = &self.entries[(number - self.first) as usize];
            assert_eq!(entry.slow, Slow::Latest { list, key });
            assert!(!entry.range.is_empty());
        }
    }
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
