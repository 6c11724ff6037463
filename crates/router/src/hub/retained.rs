//! The last value of each topic that was published to be kept.

use std::hash::BuildHasher;
use std::sync::Arc;

use crate::group::Tree;
use crate::group::registry::KeyState;
use crate::lockfree::cells::sync::{AtomicU64, Ordering};
use crate::lockfree::cells::{Message, Versioned};
use crate::topic::{Filter, Limits, Topic};

/// The messages of one hash of topics, nearly always one.
type Messages<T> = Arc<[Message<T>]>;

struct Map<T> {
    by_topic: Tree<Messages<T>>,
    len: usize,
}

/// Topics and their last retained message, at most so many.
pub(crate) struct Retained<T: Send + Sync + 'static> {
    map: Versioned<Map<T>>,
    /// The number of the last message retained: a message of a higher number is newer.
    last: AtomicU64,
    limit: usize,
    limits: Limits,
    state: KeyState,
}

/// There is no room for another topic.
pub(crate) struct Full {
    pub(crate) limit: usize,
}

impl<T: Send + Sync + 'static> Retained<T> {
    pub(crate) fn new(limit: usize, limits: Limits) -> Self {
        Retained {
            map: Versioned::new(Map {
                by_topic: Tree::EMPTY,
                len: 0,
            }),
            last: AtomicU64::new(0),
            limit,
            limits,
            state: KeyState::default(),
        }
    }

    /// A message with a number of its own.
    pub(crate) fn message(&self, topic: Topic<'_>, value: T) -> Message<T> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        Message::retained(topic.as_str(), value, number)
    }

    /// Keeps `message`, unless a newer one of its topic is kept already.
    pub(crate) fn keep(&self, message: &Message<T>) -> Result<(), Full> {
        let hash = self.state.hash_one(message.topic());
        self.map.update(|map| {
            let old = map.by_topic.get(hash).map_or(&[][..], |messages| messages);
            let (same, others): (Vec<_>, Vec<_>) = old.iter().partition(|old| old.topic() == message.topic());
            match same.first() {
                Some(kept) if kept.retained_as() > message.retained_as() => return Err(Ok(())),
                None if map.len >= self.limit => return Err(Err(Full { limit: self.limit })),
                _ => {}
            }
            let len = map.len + 1 - same.len();
            let messages = others.into_iter().chain([message]).cloned().collect();
            let by_topic = map.by_topic.with(hash, messages);
            Ok((Map { by_topic, len }, Ok(())))
        })
    }

    /// Forgets the message of `topic`, and says whether there was one.
    pub(crate) fn forget(&self, topic: Topic<'_>) -> bool {
        let hash = self.state.hash_one(topic.as_str());
        self.map.update(|map| {
            let old = map.by_topic.get(hash).map_or(&[][..], |messages| messages);
            let left: Messages<T> = old
                .iter()
                .filter(|message| message.topic() != topic.as_str())
                .cloned()
                .collect();
            if left.len() == old.len() {
                return Err(false);
            }
            let by_topic = if left.is_empty() {
                map.by_topic.without(hash)
            } else {
                map.by_topic.with(hash, left)
            };
            let len = map.len - 1;
            Ok((Map { by_topic, len }, true))
        })
    }

    /// What is kept for the topics that `filter` matches and none of `except` does, in the order in
    /// which it was published. Looks at all topics, unless the filter names one.
    pub(crate) fn matching(&self, filter: &Filter, except: &[Filter]) -> Vec<Message<T>> {
        let mut found = Vec::new();
        self.map.read(|map| {
            let mut visit = |messages: &Messages<T>| {
                for message in messages.iter() {
                    let topic = Topic::parse(message.topic(), &self.limits).expect("it was published");
                    if filter.matches(topic) && !except.iter().any(|other| other.matches(topic)) {
                        found.push(message.clone());
                    }
                }
            };
            if filter.is_exact() {
                let hash = self.state.hash_one(filter.as_str());
                map.by_topic.get(hash).into_iter().for_each(visit);
            } else {
                map.by_topic.for_each(&mut visit);
            }
        });
        found.sort_unstable_by_key(Message::retained_as);
        found
    }
}
