//! What is chosen when a hub is made and when somebody subscribes.

use std::fmt;
use std::sync::Arc;

use crate::group::{Load, Strategy};
use crate::topic::Limits;

/// What to do with a message that finds the queue of a subscription full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// Ends the subscription: what is queued can still be received, then it is
    /// [`Overflowed`](super::RecvError::Overflowed).
    Close,
    /// Drops the message. How many were dropped is told before the next message that was not, which
    /// takes up no room from then on.
    DropNew,
    /// Drops the message that waits longest. Subscriptions of one filter and about the same
    /// capacity then read one queue, in which a publish is one write for all of them.
    #[default]
    DropOld,
    /// Keeps the newest message of each key, and as many keys as the capacity says: a message
    /// replaces the one of its key that still waits, even if there is room, and takes its place in
    /// the order. If there is none and no room, the key that waits longest is dropped. The key is
    /// the topic, or what [`SubscribeOptions::key`] says.
    Latest,
}

/// A number for each message; see [`SubscribeOptions::key`].
pub(crate) type KeyFunction<T> = Arc<dyn Fn(&str, &T) -> u64 + Send + Sync>;

/// How a subscription is to be.
///
/// ```
/// use tidecast_router::{Overflow, SubscribeOptions};
///
/// let options = SubscribeOptions::<u32>::new().capacity(16).overflow(Overflow::Latest);
/// # let _ = options;
/// ```
pub struct SubscribeOptions<T> {
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
    pub(crate) key: Option<KeyFunction<T>>,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) load: Option<Load>,
    pub(crate) retained: bool,
}

/// The most messages of a queue.
const MAX_CAPACITY: usize = 1 << 30;

impl<T> SubscribeOptions<T> {
    /// A queue of 1,024 messages that drops the oldest, and what the hub retained first.
    #[must_use]
    pub fn new() -> Self {
        SubscribeOptions {
            capacity: 1024,
            overflow: Overflow::default(),
            key: None,
            strategy: None,
            load: None,
            retained: true,
        }
    }

    /// With a queue of so many messages; it takes about 20 bytes for each from the start (with
    /// [`Overflow::Latest`] about 40).
    ///
    /// # Panics
    /// `messages` is 0 or above 2^30.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        assert!(
            (1..=MAX_CAPACITY).contains(&messages),
            "a capacity is 1 to {MAX_CAPACITY} messages"
        );
        self.capacity = messages;
        self
    }

    /// With this policy.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// With this key for [`Overflow::Latest`], made of the topic and the value. It is called by the
    /// publisher's thread.
    #[must_use]
    pub fn key(mut self, key: impl Fn(&str, &T) -> u64 + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// With this strategy for the group of a shared filter, if this subscription founds it: see
    /// [`SharedOptions::strategy`](crate::SharedOptions::strategy).
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// With this load as a member of a group that goes by [`Strategy::LeastLoaded`]. Without it the
    /// load of a subscription that was made with a shared filter is the number of messages in its
    /// queue; of any other it stays 0.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.load = Some(load);
        self
    }

    /// Whether to begin with what the hub retained. A member of a group never does.
    #[must_use]
    pub fn retained(mut self, retained: bool) -> Self {
        self.retained = retained;
        self
    }
}

impl<T> Default for SubscribeOptions<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for SubscribeOptions<T> {
    fn clone(&self) -> Self {
        SubscribeOptions {
            capacity: self.capacity,
            overflow: self.overflow,
            key: self.key.clone(),
            strategy: self.strategy,
            load: self.load.clone(),
            retained: self.retained,
        }
    }
}

impl<T> fmt::Debug for SubscribeOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscribeOptions")
            .field("capacity", &self.capacity)
            .field("overflow", &self.overflow)
            .field("key", &self.key.as_ref().map(|_| "function"))
            .field("strategy", &self.strategy)
            .field("load", &self.load)
            .field("retained", &self.retained)
            .finish()
    }
}

/// How a hub is to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubOptions {
    /// How long topics and filters may be.
    pub limits: Limits,
    /// How many topics may have a retained message. Each keeps its message alive.
    pub retained_topics: usize,
    /// The strategy of groups whose first member names none.
    pub strategy: Strategy,
}

impl Default for HubOptions {
    /// MQTT-like limits, 1,024 retained topics, groups that take turns.
    fn default() -> Self {
        HubOptions {
            limits: Limits::default(),
            retained_topics: 1024,
            strategy: Strategy::default(),
        }
    }
}

impl HubOptions {
    /// The same as the default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With these limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// With at most so many retained topics.
    #[must_use]
    pub fn retained_topics(mut self, topics: usize) -> Self {
        self.retained_topics = topics;
        self
    }

    /// With this strategy.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }
}
