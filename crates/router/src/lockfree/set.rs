//! Sets as they lie in a block: most have one element, which lies there too.

use super::node::{self, Copied, Live, Node, Plain};
use super::txn::{Block, Reclaimed, Txn};

/// A persistent set. Its links are not owned: a copy shares what is below.
#[derive(Clone)]
pub(super) enum Set<E> {
    One(E),
    /// Any number, also none, or one that is left.
    Many(Node<E>),
}

impl<E> Set<E> {
    pub(super) const EMPTY: Self = Set::Many(Node::EMPTY);

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Set::Many(node) if node.is_empty())
    }

    /// Borrows the set.
    ///
    /// # Safety
    /// The set and all below it are neither freed nor changed during `'g`.
    pub(super) unsafe fn live(&self) -> LiveSet<'_, E> {
        match self {
            Set::One(element) => LiveSet::One(element),
            // SAFETY: the caller's promise.
            Set::Many(node) => LiveSet::Many(unsafe { node.live() }),
        }
    }
}

/// A set that stays as it is, with all below it, during `'g`.
pub(super) enum LiveSet<'g, E> {
    One(&'g E),
    Many(Live<'g, E>),
}

impl<E> Clone for LiveSet<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for LiveSet<'_, E> {}

impl<'g, E: Plain> LiveSet<'g, E> {
    /// The elements among which those of `key` are.
    pub(super) fn candidates(self, key: u64) -> &'g [E] {
        match self {
            LiveSet::One(element) => std::slice::from_ref(element),
            LiveSet::Many(node) => node.candidates(key).unwrap_or(&[]),
        }
    }

    pub(super) fn for_each(self, f: &mut impl FnMut(&'g E)) {
        match self {
            LiveSet::One(element) => f(element),
            // Most places of filters with wildcards have none: that is found out here, without a call.
            LiveSet::Many(node) if node.is_empty() => {}
            LiveSet::Many(node) => node.for_each(f),
        }
    }

    /// Every block of the set itself.
    pub(super) fn for_each_block<S>(self, f: &mut impl FnMut(Block<S>))
    where
        E: Reclaimed<S>,
    {
        match self {
            LiveSet::One(_) => {}
            LiveSet::Many(node) => node.for_each_node(&mut |node| f(E::block(node))),
        }
    }
}

impl<'g, E: Plain + Clone> LiveSet<'g, E> {
    /// The set with `element` added.
    pub(super) fn with<S>(self, txn: &mut Txn<S>, element: E) -> Set<E>
    where
        E: Reclaimed<S>,
    {
        match self {
            LiveSet::One(first) => Set::Many(txn.bucket(E::gather([first, &element].into_iter()))),
            LiveSet::Many(node) if node.is_empty() => Set::One(element),
            LiveSet::Many(node) => Set::Many(node::insert(txn, node, &element)),
        }
    }

    /// The set with the element of `key` that `is_it` replaced by `new`, or left out if that is
    /// `None`, and the element; `None` if there is none.
    pub(super) fn change<S>(
        self,
        txn: &mut Txn<S>,
        key: u64,
        is_it: impl Fn(&E) -> bool,
        new: Option<E>,
    ) -> Option<(Set<E>, &'g E)>
    where
        E: Reclaimed<S>,
    {
        match self {
            LiveSet::One(element) => (element.key() == key && is_it(element)).then(|| {
                let set = new.map_or(Set::EMPTY, Set::One);
                (set, element)
            }),
            LiveSet::Many(node) => {
                let (node, old) = node::change(txn, node, key, is_it, new.as_ref())?;
                Some((Set::Many(node), old))
            }
        }
    }
}
