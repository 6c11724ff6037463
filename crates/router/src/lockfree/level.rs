//! The tree of levels: what is subscribed at each place, and what is below it.

use std::ptr::NonNull;
use std::sync::Arc;

use super::NameHasher;
use super::node::{self, Element, Live, Node};
use super::txn::{Block, Txn};
use crate::topic::Levels;

/// One place in the tree of filters: reached from the root by the levels of a filter.
///
/// Never changed once published. Links are not owned: a copy shares what is below.
pub(super) struct Level<S> {
    /// The last level of the path; empty for the root.
    name: Arc<str>,
    /// The places one named level further.
    children: Node<Child<S>>,
    /// The place one `+` further.
    any: Option<NonNull<Level<S>>>,
    /// The subscriptions of the filter that ends here.
    here: Node<Entry<S>>,
    /// The subscriptions of the filter that goes on with `#`.
    below: Node<Entry<S>>,
}

impl<S> Level<S> {
    pub(super) fn new(name: &str) -> Self {
        Level {
            name: name.into(),
            children: Node::EMPTY,
            any: None,
            here: Node::EMPTY,
            below: Node::EMPTY,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

/// A named level among its siblings.
pub(super) struct Child<S> {
    hash: u64,
    level: NonNull<Level<S>>,
}

impl<S> Clone for Child<S> {
    fn clone(&self) -> Self {
        Child {
            hash: self.hash,
            level: self.level,
        }
    }
}

impl<S: 'static> Element<S> for Child<S> {
    fn key(&self) -> u64 {
        self.hash
    }

    fn block(node: Node<Self>) -> Block<S> {
        Block::Children(node)
    }
}

/// A subscription.
#[derive(Clone)]
pub(super) struct Entry<S> {
    pub(super) id: u64,
    pub(super) subscriber: S,
}

impl<S: Clone + 'static> Element<S> for Entry<S> {
    fn key(&self) -> u64 {
        id_key(self.id)
    }

    fn block(node: Node<Self>) -> Block<S> {
        Block::Entries(node)
    }
}

/// Where in its set the subscription `id` belongs; as unique as ids are, the factor being odd.
fn id_key(id: u64) -> u64 {
    // Ids are given out in sequence over all filters, so those of one filter may well be every
    // eighth. Multiplying by 2^64 divided by the golden ratio spreads them, most in the high bits,
    // and the tree looks at the low ones first.
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes()
}

/// A level that stays as it is, with all below it, during `'g`.
pub(super) struct LiveLevel<'g, S>(&'g Level<S>);

impl<S> Clone for LiveLevel<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for LiveLevel<'_, S> {}

impl<'g, S> LiveLevel<'g, S> {
    /// # Safety
    /// The level and all below it are neither freed nor changed during `'g`.
    pub(super) unsafe fn new(level: &'g Level<S>) -> Self {
        LiveLevel(level)
    }

    /// Another level with the same links.
    fn copy(self) -> Level<S> {
        let Level {
            name,
            children,
            any,
            here,
            below,
        } = self.0;
        Level {
            name: name.clone(),
            children: *children,
            any: *any,
            here: *here,
            below: *below,
        }
    }

    fn children(self) -> Live<'g, Child<S>> {
        // SAFETY: below a live level.
        unsafe { self.0.children.live() }
    }

    fn here(self) -> Live<'g, Entry<S>> {
        // SAFETY: below a live level.
        unsafe { self.0.here.live() }
    }

    fn below(self) -> Live<'g, Entry<S>> {
        // SAFETY: below a live level.
        unsafe { self.0.below.live() }
    }

    fn any(self) -> Option<(NonNull<Level<S>>, LiveLevel<'g, S>)> {
        let link = self.0.any?;
        // SAFETY: below a live level.
        Some((link, LiveLevel(unsafe { link.as_ref() })))
    }

    fn child(self, hash: u64, name: &str) -> Option<(NonNull<Level<S>>, LiveLevel<'g, S>)> {
        self.children()
            .candidates(hash)
            .iter()
            .filter(|child| child.hash == hash)
            .find_map(|child| {
                // SAFETY: below a live level.
                let level = unsafe { child.level.as_ref() };
                (*level.name == *name).then_some((child.level, LiveLevel(level)))
            })
    }

    /// Visits the subscriptions of all filters that match a topic of which `names` are left.
    ///
    /// `wild`: whether filters may go on with a wildcard here.
    pub(super) fn for_each_match(self, mut names: Levels<'_>, wild: bool, hasher: &NameHasher, f: &mut impl FnMut(&S)) {
        let mut visit = |entry: &Entry<S>| f(&entry.subscriber);
        if wild {
            self.below().for_each(&mut visit);
        }
        let Some(name) = names.next() else {
            return self.here().for_each(&mut visit);
        };
        // Many places have no named children; hashing is most of the cost of a step.
        if !self.0.children.is_empty()
            && let Some((_, child)) = self.child(hasher.hash(name), name)
        {
            child.for_each_match(names.clone(), true, hasher, f);
        }
        if wild && let Some((_, any)) = self.any() {
            any.for_each_match(names, true, hasher, f);
        }
    }

    /// Every block below this level, each shown once, a level after what is below it.
    pub(super) fn for_each_block_below(self, f: &mut impl FnMut(Block<S>)) {
        self.here().for_each_node(&mut |node| f(Block::Entries(node)));
        self.below().for_each_node(&mut |node| f(Block::Entries(node)));
        if let Some((link, any)) = self.any() {
            any.for_each_block_below(f);
            f(Block::Level(link));
        }
        self.children().for_each(&mut |child| {
            // SAFETY: below a live level.
            LiveLevel(unsafe { child.level.as_ref() }).for_each_block_below(f);
            f(Block::Level(child.level));
        });
        self.children().for_each_node(&mut |node| f(Block::Children(node)));
    }
}

/// `level` with `entry` added under the filter of which `rest` is left.
///
/// The caller replaces the block of `level`, if it is one, by the copy returned.
pub(super) fn insert<S: Clone + 'static>(
    txn: &mut Txn<S>,
    level: LiveLevel<'_, S>,
    mut rest: Levels<'_>,
    hasher: &NameHasher,
    entry: Entry<S>,
) -> Level<S> {
    let mut copy = level.copy();
    match rest.next() {
        None => copy.here = node::insert(txn, level.here(), entry),
        Some("#") => copy.below = node::insert(txn, level.below(), entry),
        Some("+") => {
            copy.any = Some(insert_below(txn, level.any(), "+", rest, hasher, entry));
        }
        Some(name) => {
            let hash = hasher.hash(name);
            let old = level.child(hash, name);
            let child = Child {
                hash,
                level: insert_below(txn, old, name, rest, hasher, entry),
            };
            copy.children = match old {
                None => node::insert(txn, level.children(), child),
                Some((old, _)) => node::replace(txn, level.children(), |child| child.level == old, child),
            };
        }
    }
    copy
}

/// The level that stands in the place of `old`, the one named `name` if there is none.
fn insert_below<S: Clone + 'static>(
    txn: &mut Txn<S>,
    old: Option<(NonNull<Level<S>>, LiveLevel<'_, S>)>,
    name: &str,
    rest: Levels<'_>,
    hasher: &NameHasher,
    entry: Entry<S>,
) -> NonNull<Level<S>> {
    let level = match old {
        Some((link, level)) => {
            txn.retire(Block::Level(link));
            insert(txn, level, rest, hasher, entry)
        }
        None => {
            let new = Level::new(name);
            // SAFETY: a new level links to nothing.
            insert(txn, unsafe { LiveLevel::new(&new) }, rest, hasher, entry)
        }
    };
    txn.level(level)
}

/// `level` without the entry `id` of the filter of which `rest` is left, and the subscriber;
/// `None` if there is no such entry, and then nothing was made.
///
/// The caller replaces the block of `level`, if it is one, by the copy returned, or prunes it if
/// that is empty.
pub(super) fn remove<S: Clone + 'static>(
    txn: &mut Txn<S>,
    level: LiveLevel<'_, S>,
    mut rest: Levels<'_>,
    hasher: &NameHasher,
    id: u64,
) -> Option<(Level<S>, S)> {
    let mut copy = level.copy();
    let subscriber = match rest.next() {
        None => {
            let (here, entry) = remove_entry(txn, level.here(), id)?;
            copy.here = here;
            entry.subscriber
        }
        Some("#") => {
            let (below, entry) = remove_entry(txn, level.below(), id)?;
            copy.below = below;
            entry.subscriber
        }
        Some("+") => {
            let (any, subscriber) = remove_below(txn, level.any()?, rest, hasher, id)?;
            copy.any = any;
            subscriber
        }
        Some(name) => {
            let hash = hasher.hash(name);
            let old = level.child(hash, name)?;
            let (new, subscriber) = remove_below(txn, old, rest, hasher, id)?;
            let is_old = |child: &Child<S>| child.level == old.0;
            copy.children = match new {
                Some(new) => node::replace(txn, level.children(), is_old, Child { hash, level: new }),
                None => {
                    let (children, _) = node::remove(txn, level.children(), hash, is_old)?;
                    children
                }
            };
            subscriber
        }
    };
    Some((copy, subscriber))
}

fn remove_entry<S: Clone + 'static>(
    txn: &mut Txn<S>,
    set: Live<'_, Entry<S>>,
    id: u64,
) -> Option<(Node<Entry<S>>, Entry<S>)> {
    node::remove(txn, set, id_key(id), |entry| entry.id == id)
}

/// What stands in the place of `old` afterwards, if anything does.
fn remove_below<S: Clone + 'static>(
    txn: &mut Txn<S>,
    old: (NonNull<Level<S>>, LiveLevel<'_, S>),
    rest: Levels<'_>,
    hasher: &NameHasher,
    id: u64,
) -> Option<(Option<NonNull<Level<S>>>, S)> {
    let (link, level) = old;
    let (level, subscriber) = remove(txn, level, rest, hasher, id)?;
    txn.retire(Block::Level(link));
    let new = (!level.is_empty()).then(|| txn.level(level));
    Some((new, subscriber))
}
