//! A subscription of a filter.

use std::num::NonZeroU64;

use super::node::{Node, Plain};
use super::set::{LiveSet, Set};
use super::txn::{Block, Reclaimed, Txn};

/// A subscription.
#[derive(Clone)]
pub(super) struct Subscription<S> {
    pub(super) id: NonZeroU64,
    pub(super) subscriber: S,
}

impl<S: 'static> Plain for Subscription<S> {
    fn key(&self) -> u64 {
        id_key(self.id)
    }
}

impl<S: 'static> Reclaimed<S> for Subscription<S> {
    fn block(node: Node<Self>) -> Block<S> {
        Block::Subscriptions(node)
    }
}

/// Where in its set the subscription `id` belongs; as unique as ids are, the factor being odd.
fn id_key(id: NonZeroU64) -> u64 {
    // Ids are given out in sequence over all filters, so those of one filter may well be every
    // eighth. Multiplying by 2^64 divided by the golden ratio spreads them, most in the high bits,
    // and the tree looks at the low ones first.
    id.get().wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes()
}

/// The subscriptions of one filter.
pub(super) type Subscriptions<S> = Set<Subscription<S>>;

/// The same while they stay as they are.
pub(super) type LiveSubscriptions<'g, S> = LiveSet<'g, Subscription<S>>;

// An id is not zero, which leaves zero to tell one from many.
const _: () = assert!(size_of::<Subscriptions<u64>>() == 16);

impl<S: Clone + 'static> LiveSubscriptions<'_, S> {
    /// The subscriptions without that of `id`, and its subscriber; `None` if there is none.
    pub(super) fn without(self, txn: &mut Txn<S>, id: NonZeroU64) -> Option<(Subscriptions<S>, S)> {
        let is_it = |subscription: &Subscription<S>| subscription.id == id;
        let (set, subscription) = self.change(txn, id_key(id), is_it, None)?;
        Some((set, subscription.subscriber.clone()))
    }
}
