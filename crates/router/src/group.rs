//! Groups of shared subscriptions: many members, one of whom gets each message.

mod place;
pub(crate) mod registry;
mod tree;

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::lockfree::cells::Versioned;
use crate::sync::{AtomicU64, Ordering};
use crate::topic::Filter;
pub(crate) use place::Place;
pub(crate) use tree::Tree;

/// By what a group chooses the member that gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// One after the other. While members come and go the turns shift, so that somebody may be left
    /// out once or have two turns.
    #[default]
    RoundRobin,
    /// Any, all equally likely. Unlike taking turns it writes to nothing that threads share.
    Random,
    /// The same key has the same member for as long as that is in the group, save that a new member
    /// takes over its share of the keys: consistent hashing with 64 points for each member, so that
    /// members' shares of many keys differ by an eighth of the mean (one standard deviation).
    ///
    /// The key is the topic, or whatever the caller of [`Group::pick`] passes.
    Sticky,
    /// The member with the least [`Load`]: in a group of up to eight the least of all, in a larger one
    /// the lesser of two chosen at random, which is nearly as even and costs no look at all of them.
    LeastLoaded,
}

/// How much a member of a group has to do, in any unit that all members have in common.
///
/// A handle: clones show and change the same load, which starts at 0. The subscriber counts up what
/// it is given and down what is done, or sets what it measured; nothing here does.
#[derive(Debug, Clone, Default)]
pub struct Load(Arc<CachePadded<std::sync::atomic::AtomicU64>>);

// The load is advice, ordered with nothing: loom has nothing to find in it, and it is the one atomic
// that callers make outside of models.
impl Load {
    /// A load of 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The load.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the load.
    pub fn set(&self, load: u64) {
        self.0.store(load, Ordering::Relaxed);
    }

    /// Adds to the load.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Takes from the load what was added to it.
    pub fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }
}

/// What a subscriber says of itself when it joins a group.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SharedOptions {
    /// The strategy of the group, if this is its first member; else the group stays with the one it
    /// has until its last member has left. `None`: the router's default.
    pub strategy: Option<Strategy>,
    /// The load of this member, for [`Strategy::LeastLoaded`]. Several subscriptions may have one
    /// load in common.
    pub load: Load,
}

impl SharedOptions {
    /// The router's strategy, and a load of 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this strategy.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// With this load, of which the caller keeps a clone.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }
}

/// The subscribers of one `$share/<group>/<filter>`.
///
/// A handle: cheap to clone, and good for as long as the [generation](crate::Router::generation) of
/// the router is what it was before the group was found. Who joins or leaves meanwhile is seen, for
/// that changes the group and not the generation.
pub struct Group<S: Clone + Send + Sync + 'static>(Arc<Inner<S>>);

struct Inner<S: Clone + Send + Sync + 'static> {
    strategy: Strategy,
    members: Versioned<Members<S>>,
    /// Whose turn is next.
    turn: CachePadded<AtomicU64>,
    place: Place,
}

/// One version of a group.
///
/// Invariant: `ended` only if there are no members, and it is the last version.
struct Members<S> {
    /// By points that are hashes of ids.
    points: Tree<Arc<Member<S>>>,
    ended: bool,
}

struct Member<S> {
    id: u64,
    load: Load,
    subscriber: S,
}

/// Points of a member in a sticky group: the spread of the shares goes with the square root of it,
/// the memory with it.
#[cfg(not(loom))]
const STICKY_POINTS: u64 = 64;
#[cfg(loom)]
const STICKY_POINTS: u64 = 2;

/// Up to so many members, all loads are looked at: a handful of memory accesses buys the exact answer.
const FEW: usize = 8;

impl<S: Clone + Send + Sync + 'static> Group<S> {
    pub(crate) fn new(strategy: Strategy) -> Self {
        Group(Arc::new(Inner {
            strategy,
            members: Versioned::new(Members {
                points: Tree::EMPTY,
                ended: false,
            }),
            turn: CachePadded::new(AtomicU64::new(0)),
            place: Place::new(),
        }))
    }

    /// The strategy its first member chose.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.0.strategy
    }

    /// The number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        let points = self.0.members.read(|members| members.points.len());
        points / self.points_each() as usize
    }

    /// Whether all have left. It stays so: who subscribes then founds another group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The member to get a message, or `None` if all have left.
    ///
    /// It was a member at one moment during the call: never one whose unsubscribe had returned
    /// before, and never `None` while there was one throughout. `key` matters to
    /// [`Strategy::Sticky`] only, and any number will do: it is hashed here. Takes no lock; with
    /// `n` members it takes `O(log n)` steps.
    pub fn pick(&self, key: u64) -> Option<S> {
        self.pick_with(key, S::clone)
    }

    /// As [`pick`](Self::pick), showing the member to `f` without a clone. What `f` holds up, until it
    /// returns, is the freeing of memory.
    pub fn pick_with<R>(&self, key: u64, f: impl FnOnce(&S) -> R) -> Option<R> {
        self.0.members.read(|members| {
            let points = &members.points;
            let member = match (self.0.strategy, points.len()) {
                (_, 0) => None,
                (Strategy::RoundRobin, len) => {
                    // Relaxed: turns order nothing else.
                    let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
                    points.nth((turn % len as u64) as usize)
                }
                (Strategy::Random, len) => points.nth(fastrand::usize(..len)),
                (Strategy::Sticky, _) => points.at_or_after(mix(key)),
                (Strategy::LeastLoaded, len) => least_loaded(points, len),
            };
            member.map(|member| f(&member.subscriber))
        })
    }

    /// Whether both are the same group.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Adds a member; `false` if the group has ended.
    pub(crate) fn join(&self, id: u64, subscriber: &S, load: &Load) -> bool {
        let member = Arc::new(Member {
            id,
            load: load.clone(),
            subscriber: subscriber.clone(),
        });
        self.0.members.update(|members| {
            if members.ended {
                return Err(false);
            }
            let points = self.points_of(id).fold(members.points.clone(), |points, point| {
                points.with(point, Arc::clone(&member))
            });
            Ok((Members { points, ended: false }, true))
        })
    }

    /// Takes a member out, if `id` is one.
    pub(crate) fn leave(&self, id: u64) -> Option<Left<S>> {
        let point = mix(id);
        self.0.members.update(|members| {
            let Some(member) = members.points.get(point).filter(|member| member.id == id) else {
                return Err(None);
            };
            let points = self
                .points_of(id)
                .fold(members.points.clone(), |points, point| points.without(point));
            let last = points.len() == 0;
            let left = Left {
                subscriber: member.subscriber.clone(),
                last,
            };
            Ok((Members { points, ended: last }, Some(left)))
        })
    }

    /// Where it stands in the tree.
    pub(crate) fn place(&self) -> &Place {
        &self.0.place
    }

    fn points_each(&self) -> u64 {
        match self.0.strategy {
            Strategy::Sticky => STICKY_POINTS,
            _ => 1,
        }
    }

    /// The first is `mix(id)`. No two members have a point in common: ids stay below 2^58, and
    /// `mix` is a bijection.
    fn points_of(&self, id: u64) -> impl Iterator<Item = u64> + use<S> {
        (0..self.points_each()).map(move |index| mix(id | index << 58))
    }
}

/// What is left of a member who left.
pub(crate) struct Left<S> {
    pub(crate) subscriber: S,
    /// The group has ended with it.
    pub(crate) last: bool,
}

fn least_loaded<S>(points: &Tree<Arc<Member<S>>>, len: usize) -> Option<&Arc<Member<S>>> {
    if len <= FEW {
        // From a random start, so that equals take turns.
        let start = fastrand::usize(..len);
        return (0..len)
            .filter_map(|index| points.nth((start + index) % len))
            .min_by_key(|member| member.load.get());
    }
    let first = fastrand::usize(..len);
    // Another one: any distance but 0.
    let second = (first + fastrand::usize(1..len)) % len;
    [first, second]
        .into_iter()
        .filter_map(|rank| points.nth(rank))
        .min_by_key(|member| member.load.get())
}

/// Spreads a number over all bits; a bijection (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A group in the tree, under the id `id`: visited if its [`Place`] has chosen that.
pub(crate) struct GroupEntry<S: Clone + Send + Sync + 'static> {
    pub(crate) group: Group<S>,
    pub(crate) id: u64,
}

impl<S: Clone + Send + Sync + 'static> Clone for GroupEntry<S> {
    fn clone(&self) -> Self {
        GroupEntry {
            group: self.group.clone(),
            id: self.id,
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Clone for Group<S> {
    fn clone(&self) -> Self {
        Group(Arc::clone(&self.0))
    }
}

impl<S: Clone + Send + Sync + 'static> std::fmt::Debug for Group<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("strategy", &self.strategy())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Groups by filter, which names the group too.
pub(crate) type Groups<S> = registry::Registry<Filter, Group<S>>;
