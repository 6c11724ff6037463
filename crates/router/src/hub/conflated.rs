//! The newest message of each key.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::group::registry::KeyState;
use crate::lockfree::cells::Message;

/// A message and the hash of its key, or the key itself.
struct Pending<T> {
    key: u64,
    message: Message<T>,
}

/// The newest message of each key that waits, in the order in which the keys began to wait.
///
/// Invariants: `index` holds `first + i` for each `waiting[i]`; no two of those have one key;
/// `waiting.len() <= capacity`.
pub(crate) struct Conflated<T> {
    waiting: VecDeque<Pending<T>>,
    /// The number of what waits first.
    first: u64,
    index: HashTable<u64>,
    capacity: usize,
}

/// By what messages replace each other.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    /// The topic, of which this is the hash.
    Topic(u64),
    /// A number of the caller's.
    Number(u64),
}

impl<T> Conflated<T> {
    /// All memory is allocated here and none later.
    pub(crate) fn new(capacity: usize) -> Self {
        Conflated {
            waiting: VecDeque::with_capacity(capacity),
            first: 0,
            // Twice as much: a table at most half full makes room by tidying up instead of growing.
            index: HashTable::with_capacity(2 * capacity),
            capacity,
        }
    }

    /// Adds a message, and gives back the one that makes room for it: of the same key, or, if all
    /// places are taken by others, of the key that waits longest.
    pub(crate) fn push(&mut self, key: Key, message: Message<T>) -> Option<Message<T>> {
        let Conflated {
            waiting, first, index, ..
        } = self;
        let (number, by_topic) = match key {
            Key::Topic(hash) => (hash, true),
            Key::Number(number) => (number, false),
        };
        let same = |at: &u64| {
            let other = &waiting[(at - *first) as usize];
            other.key == number && (!by_topic || other.message.topic() == message.topic())
        };
        if let Some(&at) = index.find(hash(number), same) {
            let replaced = &mut waiting[(at - *first) as usize].message;
            return Some(std::mem::replace(replaced, message));
        }
        let oldest = if self.waiting.len() == self.capacity {
            self.pop()
        } else {
            None
        };
        let Conflated {
            waiting, first, index, ..
        } = self;
        let at = *first + waiting.len() as u64;
        waiting.push_back(Pending { key: number, message });
        index.insert_unique(hash(number), at, |at| hash(waiting[(at - *first) as usize].key));
        oldest
    }

    /// Takes the message whose key waits longest.
    pub(crate) fn pop(&mut self) -> Option<Message<T>> {
        let pending = self.waiting.pop_front()?;
        let entry = self.index.find_entry(hash(pending.key), |at| *at == self.first);
        entry.expect("what waits is in the index").remove();
        self.first += 1;
        Some(pending.message)
    }
}

/// Spreads numbers, which may come in sequence, over all bits.
fn hash(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// The key of a topic.
pub(crate) fn topic_key(state: &KeyState, topic: &str) -> Key {
    Key::Topic(state.hash_one(topic))
}
