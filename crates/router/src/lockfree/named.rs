//! Things by name: found by a hash of the name, told apart by the name.

use std::ptr::NonNull;

use super::node::{Node, Plain};
use super::run::Run;
use super::set::{LiveSet, Set};
use super::txn::{Block, Reclaimed, Txn};

/// Something, and its name in the same allocation: comparing the name fetches the thing.
pub(super) type Named<T> = Run<T, u8>;

/// A named thing among others.
pub(super) struct Link<T> {
    hash: u64,
    to: NonNull<Named<T>>,
}

impl<T> Clone for Link<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Link<T> {}

/// What has a name.
pub(super) trait Nameable<S>: Sized + 'static {
    /// The thing as a block to be freed.
    fn block(this: NonNull<Named<Self>>) -> Block<S>;

    /// A node of links as a block to be freed.
    fn links(node: Node<Link<Self>>) -> Block<S>;
}

impl<T: 'static> Plain for Link<T> {
    fn key(&self) -> u64 {
        self.hash
    }
}

impl<S, T: Nameable<S>> Reclaimed<S> for Link<T> {
    fn block(node: Node<Self>) -> Block<S> {
        T::links(node)
    }
}

/// A thing that stays as it is, with all below it, during `'g`.
pub(super) struct LiveNamed<'g, T> {
    pub(super) to: NonNull<Named<T>>,
    pub(super) value: &'g T,
}

/// A name and its hash.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) hash: u64,
    pub(super) text: &'a str,
}

impl<'g, T: 'static> LiveSet<'g, Link<T>> {
    /// The thing of that name.
    pub(super) fn find(self, name: Name<'_>) -> Option<LiveNamed<'g, T>> {
        let Name { hash, text } = name;
        self.candidates(hash)
            .iter()
            .filter(|link| link.hash == hash)
            .find_map(|link| {
                // SAFETY: below a live set.
                let (own, value) = unsafe { (Run::slice(link.to), Run::header(link.to)) };
                (own == text.as_bytes()).then_some(LiveNamed { to: link.to, value })
            })
    }

    /// Every thing.
    pub(super) fn for_each_named(self, f: &mut impl FnMut(LiveNamed<'g, T>)) {
        self.for_each(&mut |link| {
            let to = link.to;
            // SAFETY: below a live set.
            let value = unsafe { Run::header(to) };
            f(LiveNamed { to, value });
        });
    }
}

/// A named thing of the new version.
pub(super) fn make<S, T: Nameable<S>>(txn: &mut Txn<S>, value: T, name: &str) -> NonNull<Named<T>> {
    let named = Run::new(value, name.len(), name.bytes());
    txn.made(T::block(named));
    named
}

/// The set in which `value` stands in the place of `old`, or is added if there is none.
pub(super) fn put<S, T: Nameable<S>>(
    txn: &mut Txn<S>,
    set: LiveSet<'_, Link<T>>,
    name: Name<'_>,
    old: Option<LiveNamed<'_, T>>,
    value: T,
) -> Set<Link<T>> {
    let link = Link {
        hash: name.hash,
        to: make(txn, value, name.text),
    };
    match old {
        None => set.with(txn, link),
        Some(old) => change(txn, set, name, old, Some(link)),
    }
}

/// The set without `old`, which is in it.
pub(super) fn take<S, T: Nameable<S>>(
    txn: &mut Txn<S>,
    set: LiveSet<'_, Link<T>>,
    name: Name<'_>,
    old: LiveNamed<'_, T>,
) -> Set<Link<T>> {
    change(txn, set, name, old, None)
}

fn change<S, T: Nameable<S>>(
    txn: &mut Txn<S>,
    set: LiveSet<'_, Link<T>>,
    name: Name<'_>,
    old: LiveNamed<'_, T>,
    new: Option<Link<T>>,
) -> Set<Link<T>> {
    txn.retire(T::block(old.to));
    let changed = set.change(txn, name.hash, |link| link.to == old.to, new);
    let (set, _) = changed.expect("what was found in the set is in it");
    set
}
