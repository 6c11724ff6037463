//! The subscriptions of one filter.

use std::num::NonZeroU64;
use std::ptr::NonNull;

use super::named::{Link, Nameable, Named};
use super::node::{self, Element, Live, Node};
use super::txn::{Block, Txn};

/// A subscription.
#[derive(Clone)]
pub(super) struct Entry<S> {
    pub(super) id: NonZeroU64,
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
fn id_key(id: NonZeroU64) -> u64 {
    // Ids are given out in sequence over all filters, so those of one filter may well be every
    // eighth. Multiplying by 2^64 divided by the golden ratio spreads them, most in the high bits,
    // and the tree looks at the low ones first.
    id.get().wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes()
}

/// Subscriptions by id. Most filters have one, which lies where the filter does.
#[derive(Clone)]
pub(super) enum Subscriptions<S> {
    One(Entry<S>),
    /// Any number, also none or one that is left.
    Many(Node<Entry<S>>),
}

// An id is not zero, which leaves zero to tell the two apart.
const _: () = assert!(size_of::<Subscriptions<u64>>() == 16);

impl<S: Clone + 'static> Nameable<S> for Subscriptions<S> {
    fn block(this: NonNull<Named<Self>>) -> Block<S> {
        Block::Exact(this)
    }

    fn links(node: Node<Link<Self>>) -> Block<S> {
        Block::Exacts(node)
    }
}

impl<S> Subscriptions<S> {
    pub(super) const NONE: Self = Subscriptions::Many(Node::EMPTY);

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Subscriptions::Many(node) if node.is_empty())
    }
}

/// Subscriptions that stay as they are during `'g`.
pub(super) struct LiveSubscriptions<'g, S>(&'g Subscriptions<S>);

impl<'g, S> LiveSubscriptions<'g, S> {
    /// # Safety
    /// The subscriptions are neither freed nor changed during `'g`.
    pub(super) unsafe fn new(subscriptions: &'g Subscriptions<S>) -> Self {
        LiveSubscriptions(subscriptions)
    }

    pub(super) fn for_each(self, f: &mut impl FnMut(&S)) {
        match self.0 {
            Subscriptions::One(entry) => f(&entry.subscriber),
            // SAFETY: live, as they are.
            Subscriptions::Many(node) => unsafe { node.live() }.for_each(&mut |entry| f(&entry.subscriber)),
        }
    }

    pub(super) fn for_each_block(self, f: &mut impl FnMut(Block<S>)) {
        if let Subscriptions::Many(node) = self.0 {
            // SAFETY: live, as they are.
            unsafe { node.live() }.for_each_node(&mut |node| f(Block::Entries(node)));
        }
    }
}

impl<S: Clone + 'static> LiveSubscriptions<'_, S> {
    /// The subscriptions with `entry` added.
    pub(super) fn with(self, txn: &mut Txn<S>, entry: Entry<S>) -> Subscriptions<S> {
        match self.0 {
            Subscriptions::One(first) => Subscriptions::Many(txn.bucket(2, [first.clone(), entry])),
            Subscriptions::Many(node) if node.is_empty() => Subscriptions::One(entry),
            Subscriptions::Many(node) => {
                // SAFETY: live, as they are.
                let set: Live<'_, Entry<S>> = unsafe { node.live() };
                Subscriptions::Many(node::insert(txn, set, entry))
            }
        }
    }

    /// The subscriptions without that of `id`, and its subscriber; `None` if there is none.
    pub(super) fn without(self, txn: &mut Txn<S>, id: NonZeroU64) -> Option<(Subscriptions<S>, S)> {
        match self.0 {
            Subscriptions::One(entry) => (entry.id == id).then(|| (Subscriptions::NONE, entry.subscriber.clone())),
            Subscriptions::Many(node) => {
                // SAFETY: live, as they are.
                let set: Live<'_, Entry<S>> = unsafe { node.live() };
                let (node, entry) = node::remove(txn, set, id_key(id), |entry| entry.id == id)?;
                Some((Subscriptions::Many(node), entry.subscriber))
            }
        }
    }
}
