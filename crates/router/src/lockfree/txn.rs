//! What one attempt at an update made, and what it puts out of use.

use std::ptr::NonNull;

use super::level::Level;
use super::named::{Link, Named};
use super::node::{Branch, Element, Node};
use super::subscription::{Subscription, Subscriptions};

/// One allocation, to be freed by itself.
pub(super) enum Block<S> {
    /// The subscriptions of one exact filter.
    Exact(NonNull<Named<Subscriptions<S>>>),
    Level(NonNull<Named<Level<S>>>),
    Exacts(Node<Link<Subscriptions<S>>>),
    Levels(Node<Link<Level<S>>>),
    Subscriptions(Node<Subscription<S>>),
}

impl<S> Block<S> {
    /// Frees the block and what it owns, not what it links to.
    ///
    /// # Safety
    /// Nobody else can reach the block, and it is freed once.
    pub(super) unsafe fn free(self) {
        // SAFETY: the caller's promise, of each.
        unsafe {
            match self {
                Block::Exact(exact) => Named::free(exact),
                Block::Level(level) => Named::free(level),
                Block::Exacts(node) => node.free(),
                Block::Levels(node) => node.free(),
                Block::Subscriptions(node) => node.free(),
            }
        }
    }
}

/// Blocks that nobody can reach once all who may still see them have gone.
///
/// Dropping it frees them: it is made where that is known.
pub(super) struct Garbage<S>(Vec<Block<S>>);

// SAFETY: the blocks are owned by this alone; they hold subscribers and names, and are dropped on
// whatever thread drops the garbage.
unsafe impl<S: Send> Send for Garbage<S> {}

impl<S> Drop for Garbage<S> {
    fn drop(&mut self) {
        for block in self.0.drain(..) {
            // SAFETY: whoever made this garbage promised that nobody reaches its blocks when it is
            // dropped, and each is in one garbage once.
            unsafe { block.free() };
        }
    }
}

/// One attempt at an update: the blocks made for the new version and those of the old version
/// that the new one does not share.
///
/// A block made and put out of use by the same attempt is in both lists; only one of them is ever
/// freed. Dropping the transaction, also while a panic unwinds, abandons the attempt: nobody has
/// seen what was made, so it is freed at once.
pub(super) struct Txn<S> {
    fresh: Vec<Block<S>>,
    stale: Vec<Block<S>>,
}

/// A path through a million elements, and what ends it.
const USUAL: usize = 8;

impl<S> Txn<S> {
    pub(super) fn new() -> Self {
        Txn {
            fresh: Vec::with_capacity(USUAL),
            stale: Vec::with_capacity(USUAL),
        }
    }

    /// Takes over a block that was just made.
    pub(super) fn made(&mut self, block: Block<S>) {
        self.fresh.push(block);
    }

    pub(super) fn bucket<E: Element<S>>(&mut self, len: usize, elements: impl IntoIterator<Item = E>) -> Node<E> {
        self.node(Node::bucket(len, elements))
    }

    pub(super) fn branch<E: Element<S>>(&mut self, children: Branch<E>) -> Node<E> {
        self.node(Node::branch(children))
    }

    fn node<E: Element<S>>(&mut self, node: Node<E>) -> Node<E> {
        if !node.is_empty() {
            self.fresh.push(E::block(node));
        }
        node
    }

    /// The block is not part of the new version.
    pub(super) fn retire(&mut self, block: Block<S>) {
        self.stale.push(block);
    }

    /// The node is not part of the new version.
    pub(super) fn retire_node<E: Element<S>>(&mut self, node: Node<E>) {
        if !node.is_empty() {
            self.stale.push(E::block(node));
        }
    }

    /// The new version is the current one: keeps what was made, and gives back what is out of use,
    /// to be dropped when no reader of the old version is left.
    pub(super) fn commit(mut self) -> Garbage<S> {
        self.fresh.clear();
        Garbage(std::mem::take(&mut self.stale))
    }
}

impl<S> Drop for Txn<S> {
    fn drop(&mut self) {
        for block in self.fresh.drain(..) {
            // SAFETY: made by this transaction and never published; each is listed once.
            unsafe { block.free() };
        }
    }
}
