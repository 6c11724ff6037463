//! The tree of levels, for filters with wildcards: what is subscribed at each place, and what is
//! below it.

use std::num::NonZeroU64;
use std::ptr::NonNull;

use super::NameHasher;
use super::named::{self, Link, LiveNamed, Nameable, Named};
use super::node::Node;
use super::set::{LiveSet, Set};
use super::subscription::{LiveSubscriptions, Subscription, Subscriptions};
use super::txn::{Block, Txn};
use crate::topic::Levels;

/// One place in the tree of filters: reached from the root by the levels of a filter, its name
/// being the last of them.
///
/// Never changed once published. Links are not owned: a copy shares what is below.
#[derive(Clone)]
pub(super) struct Level<S> {
    /// The places one named level further.
    children: Set<Link<Level<S>>>,
    /// The place one `+` further.
    any: Option<NonNull<Named<Level<S>>>>,
    /// The subscriptions of the filter that ends here.
    here: Subscriptions<S>,
    /// The subscriptions of the filter that goes on with `#`.
    below: Subscriptions<S>,
}

impl<S: Clone + 'static> Nameable<S> for Level<S> {
    fn block(this: NonNull<Named<Self>>) -> Block<S> {
        Block::Level(this)
    }

    fn links(node: Node<Link<Self>>) -> Block<S> {
        Block::Levels(node)
    }
}

impl<S> Level<S> {
    /// A place where nothing is subscribed.
    pub(super) const NEW: Self = Level {
        children: Set::EMPTY,
        any: None,
        here: Set::EMPTY,
        below: Set::EMPTY,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

/// A level that stays as it is, with all below it, during `'g`.
pub(super) struct LiveLevel<'g, S>(&'g Level<S>);

impl<S> Clone for LiveLevel<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for LiveLevel<'_, S> {}

impl<'g, S: Clone + 'static> LiveLevel<'g, S> {
    /// # Safety
    /// The level and all below it are neither freed nor changed during `'g`.
    pub(super) unsafe fn new(level: &'g Level<S>) -> Self {
        LiveLevel(level)
    }

    fn children(self) -> LiveSet<'g, Link<Level<S>>> {
        // SAFETY: part of a live level.
        unsafe { self.0.children.live() }
    }

    fn here(self) -> LiveSet<'g, Subscription<S>> {
        // SAFETY: part of a live level.
        unsafe { self.0.here.live() }
    }

    fn below(self) -> LiveSet<'g, Subscription<S>> {
        // SAFETY: part of a live level.
        unsafe { self.0.below.live() }
    }

    fn any(self) -> Option<LiveNamed<'g, Level<S>>> {
        let to = self.0.any?;
        // SAFETY: below a live level.
        let value = unsafe { Named::header(to) };
        Some(LiveNamed { to, value })
    }

    /// Visits the subscriptions of all filters that match a topic of which `names` are left.
    ///
    /// `wild`: whether filters may go on with a wildcard here.
    pub(super) fn for_each_match(self, mut names: Levels<'_>, wild: bool, hasher: &NameHasher, f: &mut impl FnMut(&S)) {
        let mut visit = |subscription: &Subscription<S>| f(&subscription.subscriber);
        if wild {
            self.below().for_each(&mut visit);
        }
        let Some(name) = names.next() else {
            return self.here().for_each(&mut visit);
        };
        // Most of the time goes into waiting for memory: two waits at once are shorter than one
        // after the other.
        if let Some(any) = self.0.any {
            // SAFETY: below a live level.
            unsafe { Named::touch(any) };
        }
        // Many places have no named children; hashing is a good part of a step.
        if !self.0.children.is_empty()
            && let Some(child) = self.children().find(hasher.name(name))
        {
            LiveLevel(child.value).for_each_match(names.clone(), true, hasher, f);
        }
        if wild && let Some(any) = self.any() {
            LiveLevel(any.value).for_each_match(names, true, hasher, f);
        }
    }

    /// The subscriptions of the filter itself of which `rest` is left, if there may be any.
    pub(super) fn of(self, mut rest: Levels<'_>, hasher: &NameHasher) -> Option<LiveSubscriptions<'g, S>> {
        match rest.next() {
            None => Some(self.here()),
            Some("#") => Some(self.below()),
            Some("+") => LiveLevel(self.any()?.value).of(rest, hasher),
            Some(name) => LiveLevel(self.children().find(hasher.name(name))?.value).of(rest, hasher),
        }
    }

    /// Every block below this level, each shown once, a level after what is below it.
    pub(super) fn for_each_block_below(self, f: &mut impl FnMut(Block<S>)) {
        self.here().for_each_block(f);
        self.below().for_each_block(f);
        if let Some(any) = self.any() {
            LiveLevel(any.value).for_each_block_below(f);
            f(Block::Level(any.to));
        }
        self.children().for_each_named(&mut |child| {
            LiveLevel(child.value).for_each_block_below(f);
            f(Block::Level(child.to));
        });
        self.children().for_each_block(f);
    }
}

/// `level` with `new` added under the filter of which `rest` is left.
///
/// The caller replaces the block of `level`, if it is one, by the copy returned.
pub(super) fn insert<S: Clone + 'static>(
    txn: &mut Txn<S>,
    level: LiveLevel<'_, S>,
    mut rest: Levels<'_>,
    hasher: &NameHasher,
    new: Subscription<S>,
) -> Level<S> {
    let mut copy = level.0.clone();
    match rest.next() {
        None => copy.here = level.here().with(txn, new),
        Some("#") => copy.below = level.below().with(txn, new),
        Some("+") => {
            let old = level.any();
            let any = insert_below(txn, old.as_ref(), rest, hasher, new);
            if let Some(old) = old {
                txn.retire(Block::Level(old.to));
            }
            copy.any = Some(named::make(txn, any, "+"));
        }
        Some(name) => {
            let name = hasher.name(name);
            let old = level.children().find(name);
            let child = insert_below(txn, old.as_ref(), rest, hasher, new);
            copy.children = named::put(txn, level.children(), name, old, child);
        }
    }
    copy
}

/// What stands in the place of `old`, or in a new one if there is none.
fn insert_below<S: Clone + 'static>(
    txn: &mut Txn<S>,
    old: Option<&LiveNamed<'_, Level<S>>>,
    rest: Levels<'_>,
    hasher: &NameHasher,
    new: Subscription<S>,
) -> Level<S> {
    let nothing = Level::NEW;
    let level = LiveLevel(old.map_or(&nothing, |old| old.value));
    insert(txn, level, rest, hasher, new)
}

/// `level` without the subscription `id` of the filter of which `rest` is left, and the subscriber;
/// `None` if there is no such subscription.
///
/// The caller replaces the block of `level`, if it is one, by the copy returned, or prunes it if
/// that is empty.
pub(super) fn remove<S: Clone + 'static>(
    txn: &mut Txn<S>,
    level: LiveLevel<'_, S>,
    mut rest: Levels<'_>,
    hasher: &NameHasher,
    id: NonZeroU64,
) -> Option<(Level<S>, S)> {
    let mut copy = level.0.clone();
    let subscriber;
    match rest.next() {
        None => (copy.here, subscriber) = level.here().without(txn, id)?,
        Some("#") => (copy.below, subscriber) = level.below().without(txn, id)?,
        Some("+") => {
            let old = level.any()?;
            let any;
            (any, subscriber) = remove(txn, LiveLevel(old.value), rest, hasher, id)?;
            txn.retire(Block::Level(old.to));
            copy.any = (!any.is_empty()).then(|| named::make(txn, any, "+"));
        }
        Some(name) => {
            let name = hasher.name(name);
            let old = level.children().find(name)?;
            let child;
            (child, subscriber) = remove(txn, LiveLevel(old.value), rest, hasher, id)?;
            copy.children = if child.is_empty() {
                named::take(txn, level.children(), name, old)
            } else {
                named::put(txn, level.children(), name, Some(old), child)
            };
        }
    }
    Some((copy, subscriber))
}
