//! The router: who wants a topic.

use std::hash::BuildHasher;

use crossbeam_utils::CachePadded;

use crate::group::registry::KeyState;
use crate::group::{Group, GroupEntry, Groups, SharedOptions, Strategy};
use crate::lockfree::{Core, ExactHash};
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

    /// The id of this number, which [`Router::new_id`] gave out.
    pub(crate) fn from_number(number: u64) -> Self {
        SubscriptionId(number)
    }
}

/// Stands for a filter without wildcards in its router, in four bytes: for who has so many that the
/// router's text of them should be the only one. See [`Router::find`].
///
/// Several filters may have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterHash(ExactHash);

impl FilterHash {
    /// How many bits the number has.
    pub const BITS: u32 = ExactHash::BITS;

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.0
    }

    /// What stands for the same filters as that whose number it is.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        FilterHash(ExactHash(number))
    }
}

const _: () = assert!(size_of::<FilterHash>() == 4);

/// Filters, and for each the subscribers `S` that want the topics it matches.
///
/// Any number of threads may match, subscribe and unsubscribe at once, without locks: see
/// [`algorithm`](crate::algorithm). `S` is what stands for a subscriber at the caller's, and is
/// cloned when its neighbours in the tree change, so it should be small: a number, an index, an
/// `Arc`.
///
/// A subscriber may subscribe twice and is then visited twice: what is unique is the
/// subscription. Of the subscribers of a shared subscription (`$share/<group>/<filter>`) a match
/// visits one, chosen by the [`Strategy`] of the group. A group is what has the same name and the
/// same filter; a member of two groups, or of a group and with a filter of its own, gets a message
/// from each.
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
    /// Apart, so that who has no groups does not pay for them.
    shared: Core<GroupEntry<S>>,
    groups: Groups<S>,
    /// Entries in `shared`, each counted before it comes and until after it went; and members.
    shared_entries: CachePadded<AtomicU64>,
    members: AtomicU64,
    strategy: Strategy,
    /// Makes of a topic the key of a sticky group.
    keys: KeyState,
    /// Counts the updates that took effect.
    generation: CachePadded<AtomicU64>,
    next_id: CachePadded<AtomicU64>,
}

/// What a topic leads to.
#[derive(Debug)]
pub enum Route<'a, S: Clone + Send + Sync + 'static> {
    /// One subscriber.
    One(&'a S),
    /// A group, one of whose members is to get the message: see [`Group::pick`].
    Group(&'a Group<S>),
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// A router without subscriptions, whose groups take turns.
    #[must_use]
    pub fn new() -> Self {
        Self::with_strategy(Strategy::default())
    }

    /// A router without subscriptions, and the strategy of groups whose first member names none.
    #[must_use]
    pub fn with_strategy(strategy: Strategy) -> Self {
        Router {
            core: Core::new(),
            shared: Core::new(),
            groups: Groups::new(),
            shared_entries: CachePadded::new(AtomicU64::new(0)),
            members: AtomicU64::new(0),
            strategy,
            keys: KeyState::default(),
            generation: CachePadded::new(AtomicU64::new(0)),
            next_id: CachePadded::new(AtomicU64::new(1)),
        }
    }

    /// The number of subscriptions, each member of a group being one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.len() + self.members.load(Ordering::Acquire) as usize
    }

    /// Whether there are no subscriptions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that rises with every subscription that comes or goes, save those that join a group
    /// that is there or leave it to others: they change the [`Group`] and not what leads to it.
    ///
    /// A caller may keep what a match found, with the generation read *before* the match, for as
    /// long as the generation is still the same: then it holds every update that had returned
    /// before the generation was read again. With groups, what may be kept are the routes
    /// ([`for_each_route`](Self::for_each_route)), and a member is picked for each message. Costs one
    /// load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        // Acquire: with Release below, a match after this sees the updates it counts.
        self.generation.load(Ordering::Acquire)
    }

    /// Visits every subscription whose filter matches `topic`, each once, in no order, and one
    /// member of every group whose filter does.
    ///
    /// What is visited besides groups is the state of one moment during the call, and the members
    /// of each group are those of one moment during the call. `f` may call the router. What it holds
    /// up, until it returns, is the freeing of memory.
    pub fn for_each_match(&self, topic: Topic<'_>, mut f: impl FnMut(&S)) {
        self.for_each_route(topic, |route| match route {
            Route::One(subscriber) => f(subscriber),
            Route::Group(group) => {
                let key = match group.strategy() {
                    Strategy::Sticky => self.sticky_key(topic),
                    _ => 0,
                };
                group.pick_with(key, &mut f);
            }
        });
    }

    /// As [`for_each_match`](Self::for_each_match), with each group as such: for callers who keep
    /// what a topic leads to, or choose the key of sticky groups.
    pub fn for_each_route(&self, topic: Topic<'_>, mut f: impl FnMut(Route<'_, S>)) {
        let wild = !topic.is_reserved();
        self.core
            .for_each_match(topic.levels(), wild, &mut |subscriber: &S| f(Route::One(subscriber)));
        // Acquire: who sees the count of a subscribe that has returned sees its entry.
        if self.shared_entries.load(Ordering::Acquire) > 0 {
            self.shared
                .for_each_match(topic.levels(), wild, &mut |entry: &GroupEntry<S>| {
                    if entry.group.place().entry() == entry.id {
                        f(Route::Group(&entry.group));
                    }
                });
        }
    }

    /// Visits the subscriptions of `filter` itself, each once, in no order; of a shared filter none.
    ///
    /// What is visited is the state of one moment during the call. `f` may call the router.
    pub fn for_each_of(&self, filter: &Filter, mut f: impl FnMut(&S)) {
        if filter.share_group().is_none() {
            self.core.for_each_of(filter.levels(), &mut f);
        }
    }

    /// What stands for `filter`, if it has no wildcards and is not shared. It is the same for as long as
    /// the router lives.
    #[must_use]
    pub fn hash(&self, filter: &Filter) -> Option<FilterHash> {
        let is_plain = filter.is_exact() && filter.share_group().is_none();
        is_plain.then(|| FilterHash(self.core.exact_hash(&filter.levels())))
    }

    /// A subscription of a filter that `hash` stands for, whose subscriber `is_it` takes: the filter, and
    /// what [`unsubscribe`](Self::unsubscribe) wants besides. Of several any.
    ///
    /// ```
    /// # use tidecast_router::{Filter, Limits, Router};
    /// let router = Router::new();
    /// let filter = Filter::parse("user/17/alerts", &Limits::default())?;
    /// router.subscribe(&filter, 17);
    /// let hash = router.hash(&filter).expect("it has no wildcards");
    ///
    /// let (filter, id) = router.find(hash, |who| *who == 17).expect("it was subscribed");
    /// assert_eq!(filter.as_str(), "user/17/alerts");
    /// assert_eq!(router.unsubscribe(&filter, id), Some(17));
    /// # Ok::<(), tidecast_router::TopicError>(())
    /// ```
    pub fn find(&self, hash: FilterHash, is_it: impl Fn(&S) -> bool) -> Option<(Filter, SubscriptionId)> {
        self.core
            .find_exact(hash.0, is_it, |name, id| (Filter::of_exact(name), SubscriptionId(id)))
    }

    /// The key by which a match of `topic` picks from sticky groups. The same topic has the same
    /// key for as long as the router lives, and no longer.
    #[must_use]
    pub fn sticky_key(&self, topic: Topic<'_>) -> u64 {
        self.keys.hash_one(topic)
    }

    /// Adds a subscription: when this returns, every match finds it. With a shared filter it joins
    /// the group, or founds it, as with [`SharedOptions::default`].
    pub fn subscribe(&self, filter: &Filter, subscriber: S) -> SubscriptionId {
        self.subscribe_shared(filter, subscriber, &SharedOptions::default())
    }

    /// Adds a subscription that says how it wants to share. With a filter that is not shared
    /// `options` mean nothing.
    pub fn subscribe_shared(&self, filter: &Filter, subscriber: S, options: &SharedOptions) -> SubscriptionId {
        let id = self.new_id();
        self.subscribe_as(id, filter, subscriber, options);
        id
    }

    /// An id for [`subscribe_as`](Self::subscribe_as).
    pub(crate) fn new_id(&self) -> SubscriptionId {
        // Relaxed: unique is enough.
        SubscriptionId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Adds a subscription under an id that its subscriber already knows, and nobody has used.
    pub(crate) fn subscribe_as(&self, id: SubscriptionId, filter: &Filter, subscriber: S, options: &SharedOptions) {
        if filter.share_group().is_none() {
            self.core.insert(filter.levels(), id.0, &subscriber);
            self.raise_generation();
            return;
        }
        let group = loop {
            let group = self
                .groups
                .get_or_insert_with(filter, || Group::new(options.strategy.unwrap_or(self.strategy)));
            if group.join(id.0, &subscriber, &options.load) {
                break group;
            }
            // Whoever ended it is about to take it out; not to wait for that, do it.
            self.groups.remove(filter, |other| other.is_same(&group));
        };
        self.members.fetch_add(1, Ordering::Release);
        // From here on the group does not end, for this is a member; but it may be that nobody has
        // entered it yet, or that the generation does not count it yet.
        let place = group.place();
        if place.entry() == 0 {
            let id = self.new_id().0;
            let group = group.clone();
            self.shared_entries.fetch_add(1, Ordering::Release);
            self.shared.insert(filter.levels(), id, &GroupEntry { group, id });
            if !place.choose(id) {
                self.remove_entry(filter, id);
            }
        }
        if !place.is_announced() {
            self.raise_generation();
            place.set_announced();
        }
    }

    /// Makes what callers keep look old.
    pub(crate) fn raise_generation(&self) {
        // Release: see `generation`.
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn remove_entry(&self, filter: &Filter, id: u64) {
        self.shared.remove(filter.levels(), id);
        self.shared_entries.fetch_sub(1, Ordering::Release);
    }

    /// Ends a subscription: when this returns, no match that begins finds it.
    ///
    /// `filter` is that of the subscription. Gives back the subscriber, or `None` if the filter has
    /// no subscription `id`, for instance because it was ended before. With the last member of a
    /// group the group ends.
    pub fn unsubscribe(&self, filter: &Filter, id: SubscriptionId) -> Option<S> {
        if filter.share_group().is_none() {
            let subscriber = self.core.remove(filter.levels(), id.0)?;
            self.raise_generation();
            return Some(subscriber);
        }
        let group = self.groups.get(filter)?;
        let left = group.leave(id.0)?;
        self.members.fetch_sub(1, Ordering::Release);
        if left.last {
            self.groups.remove(filter, |other| other.is_same(&group));
            // Every member saw to it that there is an entry before it could be told to leave.
            self.remove_entry(filter, group.place().entry());
            self.raise_generation();
        }
        Some(left.subscriber)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::Limits;

    fn filter(text: &str) -> Filter {
        Filter::parse(text, &Limits::default()).expect(text)
    }

    #[test]
    fn the_subscribers_of_a_filter_are_those_of_no_other_one() {
        let filters = ["a", "a/b", "a/+", "a/#", "+", "#", "+/b", "a/+/#", "$share/g/a/b"].map(filter);
        let router = Router::new();
        let of = |filter: &Filter| {
            let mut found = Vec::new();
            router.for_each_of(filter, |who| found.push(*who));
            found.sort_unstable();
            found
        };
        for (number, filter) in filters.iter().enumerate() {
            assert_eq!(of(filter), []);
            router.subscribe(filter, number);
            router.subscribe(filter, number + 100);
        }
        let (shared, others) = filters.split_last().expect("there are some");
        for (number, filter) in others.iter().enumerate() {
            assert_eq!(of(filter), [number, number + 100]);
        }
        assert_eq!(of(shared), [], "of a group one is picked for each message");
        assert_eq!(of(&filter("a/b/c")), []);
        assert_eq!(of(&filter("+/+")), []);
    }

    #[test]
    fn a_filter_is_found_by_its_hash_and_who_subscribes_though_others_have_the_same_hash() {
        let router = Router::new();
        let filters: Vec<_> = (0..50).map(|number| filter(&format!("a/{number}"))).collect();
        let ids: Vec<_> = filters
            .iter()
            .zip(0..)
            .map(|(filter, who)| router.subscribe(filter, who))
            .collect();
        let hash = |filter| router.hash(filter).expect("it has no wildcards");
        let same = filters
            .iter()
            .filter(|filter| hash(filter) == hash(&filters[0]))
            .count();
        assert!(same > 1, "in these tests names collide");
        for (who, (filter, id)) in filters.iter().zip(ids).enumerate() {
            let number = hash(filter).get();
            assert!(number < 1 << FilterHash::BITS);
            let found = router.find(FilterHash::from_number(number), |other| *other == who);
            assert_eq!(found, Some((filter.clone(), id)));
            assert_eq!(router.unsubscribe(filter, id), Some(who));
            assert_eq!(router.find(hash(filter), |other| *other == who), None);
        }
    }

    #[test]
    fn filters_with_wildcards_and_of_groups_have_no_hash() {
        let router = Router::<()>::new();
        for text in ["a/+", "#", "$share/g/a"] {
            assert_eq!(router.hash(&filter(text)), None);
        }
    }
}
