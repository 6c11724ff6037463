//! What one attempt at an update made, and what it puts out of use.

use std::ptr::NonNull;

use super::exact::Exact;
use super::level::Level;
use super::named::{Link, Named};
use super::node::{Branch, Node};
use super::subscription::Subscription;

/// One allocation, to be freed by itself.
pub(super) enum Block<S> {
    Level(NonNull<Named<Level<S>>>),
    Exacts(Node<Exact<S>>),
    Levels(Node<Link<Level<S>>>),
    Subscriptions(Node<Subscription<S>>),
}

impl<S: 'static> Block<S> {
    /// Frees the block and what it owns, not what it links to.
    ///
    /// # Safety
    /// Nobody else can reach the block, and it is freed once.
    pub(super) unsafe fn free(self) {
        // SAFETY: the caller's promise, of each.
        unsafe {
            match self {
                Block::Level(level) => Named::free(level),
                Block::Exacts(node) => node.free(),
                Block::Levels(node) => node.free(),
                Block::Subscriptions(node) => node.free(),
            }
        }
    }
}

/// An element whose nodes are blocks of their own.
pub(super) trait Reclaimed<S> {
    /// The node as a block to be freed.
    fn block(node: Node<Self>) -> Block<S>
    where
        Self: Sized;
}

/// Blocks that nobody can reach once all who may still see them have gone.
///
/// Dropping it frees them: it is made where that is known.
pub(super) struct Garbage<S: 'static>(List<Block<S>>);

// SAFETY: the blocks are owned by this alone; they hold subscribers and names, and are dropped on
// whatever thread drops the garbage.
unsafe impl<S: Send + 'static> Send for Garbage<S> {}

impl<S: 'static> Drop for Garbage<S> {
    fn drop(&mut self) {
        for block in self.0.drain() {
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
pub(super) struct Txn<S: 'static> {
    fresh: List<Block<S>>,
    stale: List<Block<S>>,
}

/// A path through a million elements, and what ends it.
const USUAL: usize = 8;

/// A list that needs no memory of its own while it has no more than `USUAL` items: an update that allocates less
/// takes less time, now and when its garbage is freed.
struct List<T> {
    /// `few[..len]` are there, and `more` only if those are all.
    few: [Option<T>; USUAL],
    len: usize,
    more: Vec<T>,
}

impl<T> List<T> {
    fn new() -> Self {
        List {
            few: [const { None }; USUAL],
            len: 0,
            more: Vec::new(),
        }
    }

    fn push(&mut self, item: T) {
        match self.few.get_mut(self.len) {
            Some(place) => {
                *place = Some(item);
                self.len += 1;
            }
            None => self.more.push(item),
        }
    }

    /// Takes all items out.
    fn drain(&mut self) -> impl Iterator<Item = T> {
        let few = &mut self.few[..std::mem::take(&mut self.len)];
        few.iter_mut().filter_map(Option::take).chain(self.more.drain(..))
    }
}

impl<S: 'static> Txn<S> {
    pub(super) fn new() -> Self {
        Txn {
            fresh: List::new(),
            stale: List::new(),
        }
    }

    /// Takes over a block that was just made.
    pub(super) fn made(&mut self, block: Block<S>) {
        self.fresh.push(block);
    }

    /// Takes over a bucket that was just made.
    pub(super) fn bucket<E: Reclaimed<S>>(&mut self, bucket: NonNull<()>) -> Node<E> {
        self.node(Node::bucket(bucket))
    }

    pub(super) fn branch<E: Reclaimed<S>>(&mut self, children: Branch<E>) -> Node<E> {
        self.node(Node::branch(children))
    }

    fn node<E: Reclaimed<S>>(&mut self, node: Node<E>) -> Node<E> {
        self.fresh.push(E::block(node));
        node
    }

    /// The block is not part of the new version.
    pub(super) fn retire(&mut self, block: Block<S>) {
        self.stale.push(block);
    }

    /// The node is not part of the new version.
    pub(super) fn retire_node<E: Reclaimed<S>>(&mut self, node: Node<E>) {
        if !node.is_empty() {
            self.stale.push(E::block(node));
        }
    }

    /// The new version is the current one: keeps what was made, and gives back what is out of use,
    /// to be dropped when no reader of the old version is left.
    pub(super) fn commit(mut self) -> Garbage<S> {
        self.fresh = List::new();
        Garbage(std::mem::replace(&mut self.stale, List::new()))
    }
}

impl<S: 'static> Drop for Txn<S> {
    fn drop(&mut self) {
        for block in self.fresh.drain() {
            // SAFETY: made by this transaction and never published; each is listed once.
            unsafe { block.free() };
        }
    }
}
