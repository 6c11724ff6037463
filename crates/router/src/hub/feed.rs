//! One filter's messages for all who read them at their own pace.

use std::sync::Arc;
use std::task::Waker;

use super::signal::{Sleeper, Waiters};
use crate::group::Place;
use crate::lockfree::cells::{Handover, Join, Reader, Ring, Taken};
use crate::topic::Filter;

/// What feeds are told apart by: subscriptions of one filter and about one capacity have one feed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct FeedKey {
    pub(crate) filter: Filter,
    /// A power of two.
    pub(crate) slots: usize,
}

/// A ring that publishers write once per message, however many subscriptions read it, and where the
/// readers wait. It has one place in the router.
pub(crate) struct Feed<T> {
    ring: Arc<Ring<T>>,
    waiters: Waiters,
    pub(crate) place: Place,
}

impl<T> Feed<T> {
    pub(crate) fn new(slots: usize) -> Self {
        Feed {
            ring: Arc::new(Ring::new(slots)),
            waiters: Waiters::new(),
            place: Place::new(),
        }
    }

    /// The capacity it was made with.
    pub(crate) fn slots(&self) -> usize {
        self.ring.slots()
    }

    /// Reads from here on, or says why not.
    pub(crate) fn join(self: &Arc<Self>, capacity: usize) -> Result<FeedReader<T>, NoReader> {
        match self.ring.join(capacity) {
            Join::Reader(reader) => Ok(FeedReader {
                reader,
                feed: Arc::clone(self),
                sleeper: Arc::new(Sleeper::new()),
            }),
            Join::Ended => Err(NoReader::Ended),
            Join::Full => Err(NoReader::Full),
        }
    }

    /// Publishes to all readers, wakes them, and says how many they are. `message` is asked for if
    /// there is one.
    pub(crate) fn push<'m>(&self, message: impl FnOnce() -> Handover<'m, T>) -> usize
    where
        T: 'm,
    {
        let reached = self.ring.push(message);
        if reached > 0 {
            self.waiters.notify();
        }
        reached
    }

    /// Wakes all readers, because the hub has closed.
    pub(crate) fn wake(&self) {
        self.waiters.notify();
    }
}

/// Why a feed cannot be joined.
pub(crate) enum NoReader {
    /// Its last reader has left.
    Ended,
    /// It has as many readers as can be counted.
    Full,
}

/// One reader of a feed.
pub(crate) struct FeedReader<T> {
    reader: Reader<T>,
    feed: Arc<Feed<T>>,
    sleeper: Arc<Sleeper>,
}

impl<T> FeedReader<T> {
    pub(crate) fn feed(&self) -> &Arc<Feed<T>> {
        &self.feed
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Taken<T> {
        self.reader.take()
    }

    pub(crate) fn arm(&self, waker: &Waker) {
        self.feed.waiters.arm(&self.sleeper, waker);
    }

    /// As [`Reader::leave`].
    pub(crate) fn leave(&mut self) -> bool {
        self.reader.leave()
    }
}
