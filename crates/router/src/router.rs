//! The router: who wants a topic.

use crossbeam_utils::CachePadded;

use crate::lockfree::Core;
use crate::sync::{AtomicU64, Ordering};
use crate::topic::{Filter, Topic};

/// Names one subscription of one router; never used again after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(u64);

impl SubscriptionId {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Filters, and for each the subscribers `S` that want the topics it matches.
///
/// Any number of threads may match, subscribe and unsubscribe at once, without locks: see
/// [`algorithm`](crate::algorithm). `S` is what stands for a subscriber at the caller's, and is
/// cloned when its neighbours in the tree change, so it should be small: a number, an index, an
/// `Arc`.
///
/// A subscriber may subscribe twice and is then visited twice: what is unique is the
/// subscription. A shared subscription (`$share/…`) is visited like any other with the filter in
/// it; choosing one of its group is up to the caller.
///
/// ```
/// use tidecast_router::{Filter, Limits, Router, Topic};
///
/// let limits = Limits::default();
/// let router = Router::new();
/// let filter = Filter::parse("news/+", &limits)?;
/// let id = router.subscribe(&filter, "ann");
///
/// let mut found = Vec::new();
/// router.for_each_match(Topic::parse("news/sport", &limits)?, |who| found.push(*who));
/// assert_eq!(found, ["ann"]);
///
/// assert_eq!(router.unsubscribe(&filter, id), Some("ann"));
/// assert!(router.is_empty());
/// # Ok::<(), tidecast_router::TopicError>(())
/// ```
pub struct Router<S: Clone + Send + Sync + 'static> {
    core: Core<S>,
    /// Counts the updates that took effect.
    generation: CachePadded<AtomicU64>,
    next_id: CachePadded<AtomicU64>,
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// A router without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Router {
            core: Core::new(),
            generation: CachePadded::new(AtomicU64::new(0)),
            next_id: CachePadded::new(AtomicU64::new(1)),
        }
    }

    /// The number of subscriptions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.len()
    }

    /// Whether there are no subscriptions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that rises with every subscription that comes or goes.
    ///
    /// A caller may keep what a match found, with the generation read *before* the match, for as
    /// long as the generation is still the same: then it holds every update that had returned
    /// before the generation was read again. Costs one load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        // Acquire: with Release below, a match after this sees the updates it counts.
        self.generation.load(Ordering::Acquire)
    }

    /// Visits every subscription whose filter matches `topic`, each once, in no order.
    ///
    /// What is visited is the state of one moment during the call. `f` may call the router. What it
    /// holds up, until it returns, is the freeing of memory.
    pub fn for_each_match(&self, topic: Topic<'_>, mut f: impl FnMut(&S)) {
        self.core.for_each_match(topic.levels(), !topic.is_reserved(), &mut f);
    }

    /// Adds a subscription: when this returns, every match finds it.
    pub fn subscribe(&self, filter: &Filter, subscriber: S) -> SubscriptionId {
        // Relaxed: unique is enough.
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.core.insert(filter.levels(), id, &subscriber);
        self.generation.fetch_add(1, Ordering::Release);
        SubscriptionId(id)
    }

    /// Ends a subscription: when this returns, no match that begins finds it.
    ///
    /// `filter` is that of the subscription. Gives back the subscriber, or `None` if the filter has
    /// no subscription `id`, for instance because it was ended before.
    pub fn unsubscribe(&self, filter: &Filter, id: SubscriptionId) -> Option<S> {
        let subscriber = self.core.remove(filter.levels(), id.0)?;
        self.generation.fetch_add(1, Ordering::Release);
        Some(subscriber)
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Router<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> std::fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("len", &self.len())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
