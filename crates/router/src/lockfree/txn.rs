//! What one attempt at an update made, and what it puts out of use.

use std::ptr::NonNull;

use super::level::{Child, Entry, Level};
use super::node::{Element, FANOUT, Node};

/// One allocation, to be freed by itself.
pub(super) enum Block<S> {
    Level(NonNull<Level<S>>),
    Children(Node<Child<S>>),
    Entries(Node<Entry<S>>),
}

impl<S> Block<S> {
    /// Frees the block and what it owns, not what it links to.
    ///
    /// # Safety
    /// Nobody else can reach the block, and it is freed once.
    pub(super) unsafe fn free(self) {
        match self {
            // SAFETY: made by `Txn::level` from a box; the caller promises the rest.
            Block::Level(level) => drop(unsafe { Box::from_raw(level.as_ptr()) }),
            // SAFETY: the caller's promise.
            Block::Children(node) => unsafe { node.free() },
            // SAFETY: the caller's promise.
            Block::Entries(node) => unsafe { node.free() },
        }
    }
}

/// Blocks that nobody can reach once all who may still see them have gone.
///
/// Dropping it frees them: it is made where that is known.
pub(super) struct Garbage<S>(Vec<Block<S>>);

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

impl<S> Txn<S> {
    pub(super) fn new() -> Self {
        Txn {
            fresh: Vec::new(),
            stale: Vec::new(),
        }
    }

    pub(super) fn level(&mut self, level: Level<S>) -> NonNull<Level<S>> {
        let level = NonNull::from(Box::leak(Box::new(level)));
        self.fresh.push(Block::Level(level));
        level
    }

    pub(super) fn bucket<E: Element<S>>(&mut self, elements: Box<[E]>) -> Node<E> {
        let node = Node::bucket(elements);
        self.fresh.push(E::block(node));
        node
    }

    pub(super) fn branch<E: Element<S>>(&mut self, children: [Node<E>; FANOUT]) -> Node<E> {
        let node = Node::branch(children);
        self.fresh.push(E::block(node));
        node
    }

    /// The block is not part of the new version.
    pub(super) fn retire(&mut self, block: Block<S>) {
        self.stale.push(block);
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
