//! What one attempt at an update made, and what it puts out of use.

use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use super::exact::Exact;
use super::level::Level;
use super::named::{Link, Named};
use super::node::{Branch, Fork, Node};
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

/// Blocks that an update puts out of use, and where it stands among such.
pub(super) struct Bag<S: 'static> {
    blocks: List<Block<S>>,
    /// For whoever lists bags; not owned.
    pub(super) next: *mut Bag<S>,
}

/// Blocks that nobody can reach once all who may still see them have gone.
///
/// Dropping it frees them: it is made where that is known.
pub(super) struct Garbage<S: 'static>(Box<Bag<S>>);

// SAFETY: the blocks are owned by this alone; they hold subscribers and names, and are dropped on
// whatever thread drops the garbage.
unsafe impl<S: Send + 'static> Send for Garbage<S> {}

impl<S: 'static> Garbage<S> {
    /// The garbage as a pointer of its owner's.
    pub(super) fn into_raw(self) -> *mut Bag<S> {
        let bag: *mut Box<Bag<S>> = &raw mut ManuallyDrop::new(self).0;
        // SAFETY: read once, from what is not dropped.
        Box::into_raw(unsafe { bag.read() })
    }

    /// The garbage that `into_raw` gave.
    ///
    /// # Safety
    /// It is taken back once.
    pub(super) unsafe fn from_raw(bag: *mut Bag<S>) -> Self {
        // SAFETY: from a box, and owned by the caller.
        Garbage(unsafe { Box::from_raw(bag) })
    }
}

impl<S: 'static> Drop for Garbage<S> {
    fn drop(&mut self) {
        for block in self.0.blocks.drain() {
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
    fresh: Fresh<S>,
    /// In the memory it will wait in; garbage only once the attempt has succeeded.
    stale: Box<Bag<S>>,
}

/// The blocks made, freed if nobody is going to see them.
struct Fresh<S: 'static>(List<Block<S>>);

impl<S: 'static> Drop for Fresh<S> {
    fn drop(&mut self) {
        for block in self.0.drain() {
            // SAFETY: made by this transaction and never published; each is listed once.
            unsafe { block.free() };
        }
    }
}

/// A path through a million elements, and what ends it.
const USUAL: usize = 8;

/// A list that needs no memory of its own while it has no more than `USUAL` items: an update that allocates less
/// takes less time, now and when its garbage is freed.
struct List<T> {
    /// `few[..len]` are items, and those of `more` only if `len == USUAL`.
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

    fn clear(&mut self) {
        self.len = 0;
        self.more.clear();
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
            fresh: Fresh(List::new()),
            stale: Box::new(Bag {
                blocks: List::new(),
                next: ptr::null_mut(),
            }),
        }
    }

    /// Takes over a block that was just made.
    pub(super) fn made(&mut self, block: Block<S>) {
        self.fresh.0.push(block);
    }

    /// Takes over a bucket that was just made.
    pub(super) fn bucket<E: Reclaimed<S>>(&mut self, bucket: NonNull<()>) -> Node<E> {
        self.node(Node::bucket(bucket))
    }

    pub(super) fn fork<E: Reclaimed<S>>(&mut self, children: Fork<E>) -> Node<E> {
        self.node(Node::fork(children))
    }

    pub(super) fn branch<E: Reclaimed<S>>(&mut self, children: Branch<E>) -> Node<E> {
        self.node(Node::branch(children))
    }

    fn node<E: Reclaimed<S>>(&mut self, node: Node<E>) -> Node<E> {
        self.fresh.0.push(E::block(node));
        node
    }

    /// The block is not part of the new version.
    pub(super) fn retire(&mut self, block: Block<S>) {
        self.stale.blocks.push(block);
    }

    /// The node is not part of the new version.
    pub(super) fn retire_node<E: Reclaimed<S>>(&mut self, node: Node<E>) {
        if !node.is_empty() {
            self.stale.blocks.push(E::block(node));
        }
    }

    /// The new version is the current one: keeps what was made, and gives back what is out of use,
    /// to be dropped when no reader of the old version is left.
    pub(super) fn commit(mut self) -> Garbage<S> {
        self.fresh.0.clear();
        Garbage(self.stale)
    }
}
