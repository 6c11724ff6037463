//! What workers have to tell whoever keeps the logs. They never wait for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::ledger::End;

/// Entries that may wait. Whoever keeps the logs comes by several times a second.
const ENTRIES: usize = 8192;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// A WebSocket ended.
    Ended(Box<Ended>),
    /// A connection or request was refused because of a limit.
    Refused {
        /// Which limit, in one word, as in the label of the metric.
        reason: &'static str,
        /// Who was refused.
        peer: SocketAddr,
    },
    /// Connections cannot be accepted: the error's number. It is tried again.
    CannotAccept(i32),
}

/// A WebSocket that ended, and what was done over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The connection's name, as in `hello`.
    pub name: String,
    /// Where the client was. The port is 0 if only a proxy knows it.
    pub peer: SocketAddr,
    /// Whose it was, if that is known.
    pub identity: Option<Arc<str>>,
    /// What ended it.
    pub end: End,
    /// How long it was open.
    pub duration: Duration,
    /// Bytes that were received.
    pub bytes_in: u64,
    /// Bytes that were sent.
    pub bytes_out: u64,
    /// Messages that came from it.
    pub messages_in: u64,
    /// Messages that were delivered to it.
    pub messages_out: u64,
}

/// Where workers write, and whoever keeps the logs reads.
#[derive(Debug)]
pub struct Journal {
    entries: ArrayQueue<Entry>,
    /// Whether the ends of connections are wanted.
    wants_ends: AtomicBool,
    lost: AtomicU64,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            entries: ArrayQueue::new(ENTRIES),
            wants_ends: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        }
    }
}

impl Journal {
    /// Whether connections that end are written down: not, unless this was said.
    pub fn set_wants_ends(&self, wants: bool) {
        self.wants_ends.store(wants, Ordering::Relaxed);
    }

    pub(crate) fn wants_ends(&self) -> bool {
        self.wants_ends.load(Ordering::Relaxed)
    }

    /// Writes something down, unless there is no room.
    pub(crate) fn write(&self, entry: Entry) {
        if self.entries.push(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest entry that was not read yet.
    pub fn read(&self) -> Option<Entry> {
        self.entries.pop()
    }

    /// How many entries there was no room for since this was asked last.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let journal = Journal::default();
        for number in 0..ENTRIES + 3 {
            journal.write(Entry::CannotAccept(number as i32));
        }
        assert_eq!((journal.take_lost(), journal.take_lost()), (3, 0));
        assert_eq!(journal.read(), Some(Entry::CannotAccept(0)));
        assert_eq!(std::iter::from_fn(|| journal.read()).count(), ENTRIES - 1);
    }
}
