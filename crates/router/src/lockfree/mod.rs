//! The lock-free core: one atomic pointer to an immutable tree. See [`algorithm`](crate::algorithm).
//!
//! Everything `unsafe` of this crate is below this module. It leans on four invariants:
//!
//! 1. *Published blocks never change.* What is reachable from the root pointer is only read.
//! 2. *Blocks are reached only from a root, under a guard taken before the root was loaded.*
//!    References are bound to the guard by `Live`, `LiveLevel` and [`Snapshot`].
//! 3. *A version owns its blocks as a tree*: no block is linked to twice within one version. Two
//!    versions share blocks; those of the older that the newer does not share are exactly what
//!    the update between them retired.
//! 4. *What is retired is freed once*, after every guard that could have been taken while it was
//!    reachable is gone; only the update that won the exchange retires.

mod level;
mod node;
mod txn;

use crossbeam_epoch::{self as epoch, Atomic, Guard, Owned};
use crossbeam_utils::CachePadded;

use crate::sync::{NameState, Ordering};
use crate::topic::Levels;
use level::{Entry, Level, LiveLevel};
use txn::{Garbage, Txn};

/// The hash of a level's name; keyed, for the names come from strangers.
pub(crate) struct NameHasher(NameState);

impl NameHasher {
    fn hash(&self, name: &str) -> u64 {
        use std::hash::BuildHasher;
        let hash = self.0.hash_one(name);
        // While checking, names collide often.
        if cfg!(any(test, loom)) { hash & 3 } else { hash }
    }
}

/// One version: immutable once published.
struct Root<S> {
    top: Level<S>,
    len: usize,
}

/// A set of subscriptions by filter that many threads read and change.
pub(crate) struct Core<S: Clone + Send + Sync + 'static> {
    root: CachePadded<Atomic<Root<S>>>,
    hasher: NameHasher,
}

// SAFETY: a `Root` is a tree of boxes whose links are not shared with any other owner outside the
// guards' protocol; it hands out `&S` to every thread and drops `S` on any.
unsafe impl<S: Send + Sync> Send for Root<S> {}
// SAFETY: the same.
unsafe impl<S: Send + Sync> Sync for Root<S> {}

impl<S: Clone + Send + Sync + 'static> Core<S> {
    pub(crate) fn new() -> Self {
        Core {
            root: CachePadded::new(Atomic::new(Root {
                top: Level::new(""),
                len: 0,
            })),
            hasher: NameHasher(NameState::default()),
        }
    }

    /// The number of subscriptions.
    pub(crate) fn len(&self) -> usize {
        let guard = epoch::pin();
        self.load(&guard).0.len
    }

    /// Visits the subscriptions that match a topic of these levels, as of one moment during the
    /// call. `wild`: filters that start with a wildcard take part.
    pub(crate) fn for_each_match(&self, names: Levels<'_>, wild: bool, f: &mut impl FnMut(&S)) {
        let guard = epoch::pin();
        self.load(&guard).top().for_each_match(names, wild, &self.hasher, f);
    }

    /// Adds a subscription under an id that was never used before.
    pub(crate) fn insert(&self, filter: Levels<'_>, id: u64, subscriber: &S) {
        let updated = self.update(|txn, old| {
            let entry = Entry {
                id,
                subscriber: subscriber.clone(),
            };
            let top = level::insert(txn, old.top(), filter.clone(), &self.hasher, entry);
            Some((
                Root {
                    top,
                    len: old.0.len + 1,
                },
                (),
            ))
        });
        debug_assert!(updated.is_some());
    }

    /// Takes a subscription out; `None` if the filter has none of that id.
    pub(crate) fn remove(&self, filter: Levels<'_>, id: u64) -> Option<S> {
        self.update(|txn, old| {
            let (top, subscriber) = level::remove(txn, old.top(), filter.clone(), &self.hasher, id)?;
            Some((
                Root {
                    top,
                    len: old.0.len - 1,
                },
                subscriber,
            ))
        })
    }

    /// Replaces the current version by what `change` makes of it, trying again while others are
    /// faster; gives up where `change` does.
    fn update<T>(&self, change: impl Fn(&mut Txn<S>, Snapshot<'_, S>) -> Option<(Root<S>, T)>) -> Option<T> {
        let guard = epoch::pin();
        let backoff = crossbeam_utils::Backoff::new();
        loop {
            let mut txn = Txn::new();
            let old = self.root.load(Ordering::Acquire, &guard);
            // SAFETY: as in `load`.
            let snapshot = Snapshot(unsafe { old.deref() });
            let (new, result) = change(&mut txn, snapshot)?;
            // Release: whoever loads the new root sees the blocks it leads to.
            let exchange =
                self.root
                    .compare_exchange(old, Owned::new(new), Ordering::AcqRel, Ordering::Relaxed, &guard);
            if exchange.is_ok() {
                let garbage: Garbage<S> = txn.commit();
                // SAFETY: the old root is no longer reachable, nor are the blocks that only it led
                // to; whoever holds any of them was pinned before now. `S: Send + 'static`, so any
                // thread may drop it at any time. Winning the exchange makes this the only one to
                // retire the old version.
                unsafe {
                    guard.defer_unchecked(move || {
                        drop(garbage);
                        drop(old.into_owned());
                    });
                }
                return Some(result);
            }
            backoff.spin();
        }
    }

    fn load<'g>(&self, guard: &'g Guard) -> Snapshot<'g, S> {
        let root = self.root.load(Ordering::Acquire, guard);
        // SAFETY: the root is never null. It was published with Release and read with Acquire, and
        // it is retired only after it was replaced, so it outlives the guard.
        Snapshot(unsafe { root.deref() })
    }
}

impl<S: Clone + Send + Sync + 'static> Drop for Core<S> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: no other thread can load the root any more, and no guard's snapshot
        // of it is left, for those borrow the core.
        let guard = unsafe { epoch::unprotected() };
        let root = self.root.load(Ordering::Relaxed, guard);
        // SAFETY: never null; owned by this core alone.
        let snapshot = Snapshot(unsafe { root.deref() });
        // SAFETY: a version is a tree, so each block is shown once, after those it links to.
        snapshot
            .top()
            .for_each_block_below(&mut |block| unsafe { block.free() });
        // SAFETY: as above; this is the last use.
        drop(unsafe { root.into_owned() });
    }
}

/// One version, as long as its guard is held.
struct Snapshot<'g, S>(&'g Root<S>);

impl<S> Clone for Snapshot<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Snapshot<'_, S> {}

impl<'g, S> Snapshot<'g, S> {
    fn top(self) -> LiveLevel<'g, S> {
        // SAFETY: invariants 1 and 4; a snapshot is bound to the guard under which its root was
        // loaded.
        unsafe { LiveLevel::new(&self.0.top) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The places of the current version, the root left out.
    fn places(core: &Core<u8>) -> usize {
        let guard = epoch::pin();
        let mut places = 0;
        core.load(&guard).top().for_each_block_below(&mut |block| {
            places += usize::from(matches!(block, txn::Block::Level(_)));
        });
        places
    }

    /// The places that filters lead to: their beginnings without a last `#`.
    fn wanted_places<'a>(filters: impl Iterator<Item = &'a String>) -> usize {
        let mut beginnings = BTreeSet::new();
        for filter in filters {
            let mut levels: Vec<_> = filter.split('/').collect();
            levels.pop_if(|last| *last == "#");
            beginnings.extend((1..=levels.len()).map(|count| levels[..count].join("/")));
        }
        beginnings.len()
    }

    #[test]
    fn there_is_a_place_for_each_beginning_of_a_filter_and_no_other() {
        let names = ["a", "b", "c", "d", "e", "", "+", "#"];
        let mut filters = Vec::new();
        for first in names {
            filters.push(first.to_owned());
            for second in names.iter().filter(|_| first != "#") {
                filters.push(format!("{first}/{second}"));
            }
        }
        let core = Core::new();
        for (id, filter) in (0..).zip(&filters) {
            core.insert(filter.split('/'), id, &0);
            assert_eq!(places(&core), wanted_places(filters[..=id as usize].iter()));
        }
        // 29 and the number of filters have no factor in common: every filter has its turn.
        let count = filters.len();
        let order: Vec<_> = (0..count).map(|step| step * 29 % count).collect();
        for (step, &index) in order.iter().enumerate() {
            assert_eq!(core.remove(filters[index].split('/'), index as u64), Some(0));
            let left = order[step + 1..].iter().map(|&index| &filters[index]);
            assert_eq!(places(&core), wanted_places(left));
        }
        let guard = epoch::pin();
        assert!(core.load(&guard).0.top.is_empty());
    }
}
