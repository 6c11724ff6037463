//! The lock-free core: atomic pointers to immutable trees. See [`algorithm`](crate::algorithm).
//!
//! Everything `unsafe` of this crate is below this module. It leans on four invariants:
//!
//! 1. *Published blocks never change.* What is reachable from a root pointer is only read.
//! 2. *Blocks are reached only from a root, under a guard taken before the root was loaded.*
//!    References are bound to the guard by `Live`, `LiveSet`, `LiveLevel` and `LiveBucket`.
//! 3. *A version of a root owns its blocks as a tree*: no block is linked to twice within one
//!    version, and roots share none. Two versions share blocks; those of the older that the newer
//!    does not share are exactly what the update between them retired.
//! 4. *What is retired is freed once*, after every guard that could have been taken while it was
//!    reachable is gone; only the update that won the exchange retires.

pub(crate) mod cells;
mod exact;
mod level;
mod named;
mod node;
mod reclaim;
mod run;
mod set;
mod subscription;
mod txn;

use std::hash::Hasher;
use std::num::NonZeroU64;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crossbeam_epoch::{self as epoch, Guard};
use crossbeam_utils::{Backoff, CachePadded};
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use crate::sync::{AtomicPtr, AtomicUsize, Ordering, random_seed};
use crate::topic::Levels;
use exact::{Exact, LiveExact};
use level::{Level, LiveLevel};
use named::{Name, Named};
use node::{Live, Node};
use reclaim::Reclaimer;
use set::Set;
use subscription::{LiveSubscriptions, Subscription};
use txn::{Block, Garbage, Txn};

/// The keyed hash of names.
///
/// Names come from strangers, and names of one hash are searched one by one, so the key is of the
/// system's randomness. foldhash is no match for someone who learns hashes, but nobody is shown
/// one; it takes a third of the time of SipHash.
pub(crate) struct NameHasher {
    seed: u64,
    shared: SharedSeed,
}

impl NameHasher {
    fn new() -> Self {
        NameHasher {
            seed: random_seed(),
            shared: SharedSeed::from_u64(random_seed()),
        }
    }

    fn name<'a>(&self, text: &'a str) -> Name<'a> {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(text.as_bytes());
        let hash = hasher.finish();
        // While checking, names collide often.
        let hash = if cfg!(any(test, loom)) {
            hash & (1 << 30 | 1)
        } else {
            hash
        };
        Name { hash, text }
    }
}

/// What stands for a filter without wildcards, or several: its hash, as far as that is kept.
///
/// Four bytes lie closely and are enough: of a million names some hundred pairs have one in common.
/// The lowest bits choose the root, the rest is the key below it. The highest is left to the caller, who
/// may have to say beside it what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExactHash(pub(crate) u32);

impl ExactHash {
    pub(crate) const BITS: u32 = 31;

    fn of(name: Name<'_>) -> Self {
        ExactHash(name.hash as u32 & ((1 << Self::BITS) - 1))
    }

    fn root(self) -> usize {
        self.0 as usize & ((1 << ROOT_BITS) - 1)
    }

    fn key(self) -> u32 {
        self.0 >> ROOT_BITS
    }
}

/// How many bits of the hash choose a root. A root is one word: 256 are 2 KiB a router, few enough
/// for many routers, and enough that readers of other topics seldom notice an update.
#[cfg(not(any(test, loom)))]
const ROOT_BITS: u32 = 8;
#[cfg(any(test, loom))]
const ROOT_BITS: u32 = 1;

/// A set of subscriptions by filter that many threads read and change.
pub(crate) struct Core<S: Clone + Send + Sync + 'static> {
    /// The filters without wildcards: by the low bits of their hash a `Node<Exact>`.
    exact: Box<[AtomicPtr<()>]>,
    /// The filters with wildcards. Never null, and never a level that was here before while anyone
    /// is pinned who saw it.
    wild: CachePadded<AtomicPtr<Named<Level<S>>>>,
    /// The subscriptions: counted after each update took effect.
    len: CachePadded<AtomicUsize>,
    garbage: Arc<Reclaimer<S>>,
    hasher: NameHasher,
}

// SAFETY: a core owns the trees below its roots; it hands out `&S` to every thread and drops `S` on
// any, and so do the guards' deferred functions.
unsafe impl<S: Clone + Send + Sync + 'static> Send for Core<S> {}
// SAFETY: the same.
unsafe impl<S: Clone + Send + Sync + 'static> Sync for Core<S> {}

type Exacts<'g, S> = Live<'g, Exact<S>>;

impl<S: Clone + Send + Sync + 'static> Core<S> {
    pub(crate) fn new() -> Self {
        let top = Named::new(Level::NEW, 0, []);
        Core {
            exact: (0..1 << ROOT_BITS).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            wild: CachePadded::new(AtomicPtr::new(top.as_ptr())),
            len: CachePadded::new(AtomicUsize::new(0)),
            garbage: Arc::new(Reclaimer::new()),
            hasher: NameHasher::new(),
        }
    }

    /// The number of subscriptions, of the updates that have returned and perhaps others.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Visits the subscriptions that match a topic of these levels, as of one moment during the
    /// call. `wild`: filters that start with a wildcard take part.
    pub(crate) fn for_each_match(&self, names: Levels<'_>, wild: bool, f: &mut impl FnMut(&S)) {
        let topic = names.rest();
        let hash = self.exact_hash(&names);
        let guard = epoch::pin();
        let (exacts, top) = self.load(hash, &guard);
        let exacts = exacts.fetch(hash.key().into());
        top.for_each_match(names, wild, &self.hasher, f);
        if let Some(exact) = exact::find(exacts, hash.key(), topic) {
            // SAFETY: below a live set.
            unsafe { exact.subscriptions.live() }.for_each(&mut |subscription| f(&subscription.subscriber));
        }
    }

    /// What stands for a filter of these levels, none of which is a wildcard.
    pub(crate) fn exact_hash(&self, filter: &Levels<'_>) -> ExactHash {
        ExactHash::of(self.hasher.name(filter.rest()))
    }

    /// Visits the subscriptions of the filter of these levels itself, as of one moment during the call.
    pub(crate) fn for_each_of(&self, filter: Levels<'_>, f: &mut impl FnMut(&S)) {
        let mut visit = |subscriptions: LiveSubscriptions<'_, S>| {
            subscriptions.for_each(&mut |subscription| f(&subscription.subscriber));
        };
        if is_exact(&filter) {
            let hash = self.exact_hash(&filter);
            let guard = epoch::pin();
            let (exacts, _) = self.load(hash, &guard);
            if let Some(exact) = exact::find(exacts, hash.key(), filter.rest()) {
                // SAFETY: below a live set.
                visit(unsafe { exact.subscriptions.live() });
            }
        } else {
            let guard = epoch::pin();
            let (_, top) = self.load(ExactHash(0), &guard);
            if let Some(subscriptions) = top.of(filter, &self.hasher) {
                visit(subscriptions);
            }
        }
    }

    /// The filter of that hash and the id of its subscription whose subscriber `is_it` takes, as of one
    /// moment during the call; of several any.
    pub(crate) fn find_exact<R>(
        &self,
        hash: ExactHash,
        is_it: impl Fn(&S) -> bool,
        found: impl FnOnce(&str, u64) -> R,
    ) -> Option<R> {
        let guard = epoch::pin();
        let (exacts, _) = self.load(hash, &guard);
        let (name, id) = exacts
            .candidates(hash.key().into())?
            .all_of_key(hash.key())
            .find_map(|exact| {
                let mut id = None;
                // SAFETY: below a live set.
                unsafe { exact.subscriptions.live() }.for_each(&mut |subscription| {
                    if is_it(&subscription.subscriber) {
                        id = Some(subscription.id);
                    }
                });
                Some((exact.name, id?))
            })?;
        Some(found(name, id.get()))
    }

    /// Adds a subscription under an id that was never used before and is not 0.
    pub(crate) fn insert(&self, filter: Levels<'_>, id: u64, subscriber: &S) {
        let id = NonZeroU64::new(id).expect("ids begin at 1");
        let new = || Subscription {
            id,
            subscriber: subscriber.clone(),
        };
        let guard = epoch::pin();
        let inserted = if is_exact(&filter) {
            let (hash, name) = (self.exact_hash(&filter), filter.rest());
            update(self.exact(hash), &self.garbage, &guard, |txn, root| {
                // SAFETY: as in `load`.
                let set: Exacts<'_, S> = unsafe { Node::from_raw(root).live() };
                let old = exact::find(set, hash.key(), name);
                let all = match old {
                    None => Set::One(new()),
                    // SAFETY: below a live set.
                    Some(old) => unsafe { old.subscriptions.live() }.with(txn, new()),
                };
                let exact = LiveExact {
                    key: hash.key(),
                    name,
                    subscriptions: &all,
                };
                Some((exact::put(txn, set, old, exact).into_raw(), ()))
            })
        } else {
            self.update_wild(&guard, |txn, top| {
                Some((level::insert(txn, top, filter.clone(), &self.hasher, new()), ()))
            })
        };
        debug_assert!(inserted.is_some());
        self.len.fetch_add(1, Ordering::Release);
    }

    /// Takes a subscription out; `None` if the filter has none of that id.
    pub(crate) fn remove(&self, filter: Levels<'_>, id: u64) -> Option<S> {
        let id = NonZeroU64::new(id)?;
        let guard = epoch::pin();
        let subscriber = if is_exact(&filter) {
            let (hash, name) = (self.exact_hash(&filter), filter.rest());
            update(self.exact(hash), &self.garbage, &guard, |txn, root| {
                // SAFETY: as in `load`.
                let set: Exacts<'_, S> = unsafe { Node::from_raw(root).live() };
                let old = exact::find(set, hash.key(), name)?;
                // SAFETY: below a live set.
                let (left, subscriber) = unsafe { old.subscriptions.live() }.without(txn, id)?;
                let set = if left.is_empty() {
                    exact::take(txn, set, old)
                } else {
                    let subscriptions = &left;
                    exact::put(txn, set, Some(old), LiveExact { subscriptions, ..old })
                };
                Some((set.into_raw(), subscriber))
            })
        } else {
            self.update_wild(&guard, |txn, top| {
                level::remove(txn, top, filter.clone(), &self.hasher, id)
            })
        }?;
        self.len.fetch_sub(1, Ordering::Release);
        Some(subscriber)
    }

    fn update_wild<R>(
        &self,
        guard: &Guard,
        change: impl Fn(&mut Txn<S>, LiveLevel<'_, S>) -> Option<(Level<S>, R)>,
    ) -> Option<R> {
        update(&self.wild, &self.garbage, guard, |txn, root| {
            let old = NonNull::new(root)?;
            // SAFETY: as in `load`.
            let top = unsafe { LiveLevel::new(Named::header(old)) };
            let (new, result) = change(txn, top)?;
            txn.retire(Block::Level(old));
            Some((named::make(txn, new, "").as_ptr(), result))
        })
    }

    /// The root of the exact filters of that hash.
    fn exact(&self, hash: ExactHash) -> &AtomicPtr<()> {
        &self.exact[hash.root()]
    }

    /// Both trees that may match a topic of that hash, as they are at one moment.
    fn load<'g>(&self, hash: ExactHash, _guard: &'g Guard) -> (Exacts<'g, S>, LiveLevel<'g, S>) {
        let exact = self.exact(hash);
        let mut wild = self.wild.load(ORDER);
        let node = loop {
            let node = exact.load(ORDER);
            let again = self.wild.load(ORDER);
            if wild == again {
                break node;
            }
            wild = again;
        };
        // SAFETY: invariants 1 and 4: what the roots lead to was there when they were read, which
        // is after the guard was taken. `wild` is never null.
        unsafe {
            let top = Named::header(NonNull::new_unchecked(wild));
            (Node::from_raw(node).live(), LiveLevel::new(top))
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Drop for Core<S> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: no other thread can load the roots any more, and no guard's view of
        // them is left, for those borrow the core.
        let guard = unsafe { epoch::unprotected() };
        self.for_each_block(guard, &mut |block| {
            // SAFETY: as above; a version is a tree, so each block is shown once, after those it
            // links to.
            unsafe { block.free() }
        });
    }
}

impl<S: Clone + Send + Sync + 'static> Core<S> {
    /// Every block, each shown once, after those it links to.
    fn for_each_block(&self, guard: &Guard, f: &mut impl FnMut(Block<S>)) {
        for root in 0..1 << ROOT_BITS {
            let (exacts, _) = self.load(ExactHash(root), guard);
            exacts.for_each(&mut |exact| {
                // SAFETY: below a live set.
                unsafe { exact.subscriptions.live() }.for_each_block(f);
            });
            exacts.for_each_node(&mut |node| f(Block::Exacts(node)));
        }
        let (_, top) = self.load(ExactHash(0), guard);
        top.for_each_block_below(f);
        if let Some(top) = NonNull::new(self.wild.load(ORDER)) {
            f(Block::Level(top));
        }
    }
}

/// Of the roots: one order of all loads and exchanges, so that what a match finds in two of them
/// was there at one moment, for every match the same. It also releases the blocks to whoever loads
/// the root.
const ORDER: Ordering = Ordering::SeqCst;

/// Replaces what `root` points to by what `change` makes of it, trying again while others are
/// faster; gives up where `change` does.
fn update<S: Send + 'static, T, R>(
    root: &AtomicPtr<T>,
    reclaimer: &Arc<Reclaimer<S>>,
    guard: &Guard,
    change: impl Fn(&mut Txn<S>, *mut T) -> Option<(*mut T, R)>,
) -> Option<R> {
    let backoff = Backoff::new();
    loop {
        let old = root.load(ORDER);
        let mut txn = Txn::new();
        let (new, result) = change(&mut txn, old)?;
        if root.compare_exchange(old, new, ORDER, Ordering::Relaxed).is_ok() {
            let garbage: Garbage<S> = txn.commit();
            // SAFETY: the blocks that only the old version led to are no longer reachable; whoever
            // holds any of them was pinned before now. Winning the exchange makes this the only one
            // to retire them.
            unsafe { reclaimer.retire(garbage, guard) };
            return Some(result);
        }
        backoff.spin();
    }
}

fn is_exact(filter: &Levels<'_>) -> bool {
    !filter.rest().bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

// Part of the unit tests too, where sets are deep and names collide.
#[cfg(test)]
#[path = "../../tests/linearizable.rs"]
mod linearizable;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The places of the current version, the root left out, and the exact filters.
    fn places(core: &Core<u8>) -> (usize, usize) {
        let guard = epoch::pin();
        let (mut places, mut exact) = (0, 0);
        core.for_each_block(&guard, &mut |block| match block {
            Block::Level(_) => places += 1,
            // SAFETY: of the version at hand, below the guard.
            Block::Exacts(node) => exact += unsafe { node.live() }.own_len(),
            _ => {}
        });
        (places - 1, exact)
    }

    /// The places that filters with wildcards lead to, which is their beginnings without a last
    /// `#`, and the filters without.
    fn wanted_places<'a>(filters: impl Iterator<Item = &'a String>) -> (usize, usize) {
        let (mut beginnings, mut exact) = (BTreeSet::new(), BTreeSet::new());
        for filter in filters {
            if filter.contains(['+', '#']) {
                let mut levels: Vec<_> = filter.split('/').collect();
                levels.pop_if(|last| *last == "#");
                beginnings.extend((1..=levels.len()).map(|count| levels[..count].join("/")));
            } else {
                exact.insert(filter);
            }
        }
        (beginnings.len(), exact.len())
    }

    #[test]
    fn there_is_a_place_for_each_beginning_of_a_filter_with_wildcards_and_no_other() {
        let names = ["a", "b", "c", "d", "e", "", "+", "#"];
        let mut filters = Vec::new();
        for first in names {
            filters.push(first.to_owned());
            for second in names.iter().filter(|_| first != "#") {
                filters.push(format!("{first}/{second}"));
            }
        }
        let core = Core::new();
        for (index, filter) in filters.iter().enumerate() {
            core.insert(Levels::of(filter), index as u64 + 1, &0);
            assert_eq!(places(&core), wanted_places(filters[..=index].iter()));
        }
        // 29 and the number of filters have no factor in common: every filter has its turn.
        let count = filters.len();
        let order: Vec<_> = (0..count).map(|step| step * 29 % count).collect();
        for (step, &index) in order.iter().enumerate() {
            assert_eq!(core.remove(Levels::of(&filters[index]), index as u64 + 1), Some(0));
            let left = order[step + 1..].iter().map(|&index| &filters[index]);
            assert_eq!(places(&core), wanted_places(left));
        }
        let mut left = 0;
        core.for_each_block(&epoch::pin(), &mut |_| left += 1);
        assert_eq!(left, 1, "the root alone");
    }
}
