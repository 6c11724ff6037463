//! Persistent sets: radix trees of buckets, copied along one path by every change.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::txn::{Block, Txn};

/// How many bits of the key choose a child; a branch is 8 × 16 bytes, two cache lines.
#[cfg(not(any(test, loom)))]
const BITS: u32 = 3;
/// The most elements of a bucket that could still be split. Wider buckets are faster to walk and
/// slower to copy; a full one of `Entry<u16>` is 512 bytes.
#[cfg(not(any(test, loom)))]
const BUCKET: usize = 32;

// While checking, a handful of elements makes a deep tree.
#[cfg(any(test, loom))]
const BITS: u32 = 1;
#[cfg(any(test, loom))]
const BUCKET: usize = 2;

pub(super) const FANOUT: usize = 1 << BITS;
/// Below this depth the key has no bits left: a bucket holds whatever collides.
const MAX_DEPTH: u32 = u64::BITS / BITS;

/// What a set holds.
pub(super) trait Element<S>: Clone + 'static {
    /// Where in the tree the element belongs. Elements of one key are told apart by the caller.
    fn key(&self) -> u64;

    /// The node as a block to be freed.
    fn block(node: Node<Self>) -> Block<S>;
}

/// A set, or a part of one: a bucket of elements in no order, or a branch by the next bits of the
/// key. Empty if and only if it is a bucket of none. A link: copying it copies no element.
pub(super) enum Node<E> {
    Bucket(NonNull<[E]>),
    Branch(NonNull<[Node<E>; FANOUT]>),
}

// The tag hides in the null pointer a bucket never has.
const _: () = assert!(size_of::<Node<u64>>() == 16);

impl<E> Clone for Node<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Node<E> {}

impl<E> Node<E> {
    /// The empty set; not an allocation.
    pub(super) const EMPTY: Self = Node::Bucket(NonNull::slice_from_raw_parts(NonNull::dangling(), 0));

    pub(super) fn is_empty(self) -> bool {
        matches!(self, Node::Bucket(elements) if elements.is_empty())
    }

    pub(super) fn bucket(elements: Box<[E]>) -> Self {
        Node::Bucket(NonNull::from(Box::leak(elements)))
    }

    pub(super) fn branch(children: [Node<E>; FANOUT]) -> Self {
        Node::Branch(NonNull::from(Box::leak(Box::new(children))))
    }

    /// Frees this node and its elements, not the nodes below it.
    ///
    /// # Safety
    /// Nobody else can reach the node, and it is freed once.
    pub(super) unsafe fn free(self) {
        match self {
            // SAFETY: made by `bucket` from a box, or `EMPTY`, which is what a box of none is; the
            // caller promises that this is the only use left.
            Node::Bucket(elements) => drop(unsafe { Box::from_raw(elements.as_ptr()) }),
            // SAFETY: made by `branch` from a box; the same promise.
            Node::Branch(children) => drop(unsafe { Box::from_raw(children.as_ptr()) }),
        }
    }

    /// Borrows the node.
    ///
    /// # Safety
    /// The node and all nodes below it are neither freed nor changed during `'g`.
    pub(super) unsafe fn live<'g>(self) -> Live<'g, E> {
        Live {
            node: self,
            scope: PhantomData,
        }
    }
}

/// A node that stays as it is, with all below it, during `'g`.
pub(super) struct Live<'g, E> {
    node: Node<E>,
    scope: PhantomData<&'g E>,
}

impl<E> Clone for Live<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Live<'_, E> {}

enum View<'g, E> {
    Bucket(&'g [E]),
    Branch([Live<'g, E>; FANOUT]),
}

impl<'g, E> Live<'g, E> {
    fn view(self) -> View<'g, E> {
        match self.node {
            // SAFETY: a live bucket is allocated, or dangling and empty, and unchanged during 'g.
            Node::Bucket(elements) => View::Bucket(unsafe { elements.as_ref() }),
            Node::Branch(children) => {
                // SAFETY: a live branch is allocated and unchanged during 'g.
                let children: &'g [Node<E>; FANOUT] = unsafe { children.as_ref() };
                // SAFETY: being below a live node, the children are live for as long.
                View::Branch(children.map(|child| unsafe { child.live() }))
            }
        }
    }

    /// The child that holds `key`, without looking at the others; the node itself if a bucket.
    fn step(self, key: u64, depth: u32) -> Result<&'g [E], Live<'g, E>> {
        match self.node {
            // SAFETY: as in `view`.
            Node::Bucket(elements) => Ok(unsafe { elements.as_ref() }),
            Node::Branch(children) => {
                // SAFETY: as in `view`.
                let children: &'g [Node<E>; FANOUT] = unsafe { children.as_ref() };
                // SAFETY: being below a live node, the child is live for as long.
                Err(unsafe { children[slot(key, depth)].live() })
            }
        }
    }

    /// The elements among which those of `key` are.
    pub(super) fn candidates(self, key: u64) -> &'g [E] {
        let mut node = self;
        let mut depth = 0;
        loop {
            match node.step(key, depth) {
                Ok(elements) => return elements,
                Err(child) => node = child,
            }
            depth += 1;
        }
    }

    /// Every element, bucket by bucket.
    pub(super) fn for_each(self, f: &mut impl FnMut(&'g E)) {
        match self.view() {
            View::Bucket(elements) => elements.iter().for_each(f),
            View::Branch(children) => children.into_iter().for_each(|child| child.for_each(f)),
        }
    }

    /// Every node, from the leaves up, so that each may be freed when it is shown.
    pub(super) fn for_each_node(self, f: &mut impl FnMut(Node<E>)) {
        if let View::Branch(children) = self.view() {
            children.into_iter().for_each(|child| child.for_each_node(f));
        }
        f(self.node);
    }
}

/// The set with `element` added.
pub(super) fn insert<S, E: Element<S>>(txn: &mut Txn<S>, set: Live<'_, E>, element: E) -> Node<E> {
    insert_at(txn, set, 0, element)
}

fn insert_at<S, E: Element<S>>(txn: &mut Txn<S>, node: Live<'_, E>, depth: u32, element: E) -> Node<E> {
    txn.retire(E::block(node.node));
    match node.view() {
        View::Bucket(elements) => {
            let mut all = Vec::with_capacity(elements.len() + 1);
            all.extend_from_slice(elements);
            all.push(element);
            build(txn, depth, all)
        }
        View::Branch(children) => {
            let slot = slot(element.key(), depth);
            let child = insert_at(txn, children[slot], depth + 1, element);
            let mut nodes = children.map(|child| child.node);
            nodes[slot] = child;
            txn.branch(nodes)
        }
    }
}

/// A tree of `elements`, all of which belong under the same node of `depth`.
fn build<S, E: Element<S>>(txn: &mut Txn<S>, depth: u32, elements: Vec<E>) -> Node<E> {
    if elements.len() <= BUCKET || depth == MAX_DEPTH {
        return txn.bucket(elements.into_boxed_slice());
    }
    let mut parts: [Vec<E>; FANOUT] = std::array::from_fn(|_| Vec::new());
    for element in elements {
        parts[slot(element.key(), depth)].push(element);
    }
    let children = parts.map(|part| build(txn, depth + 1, part));
    txn.branch(children)
}

/// The set with the element of `key` that `is_it` replaced; as it is if there is none.
pub(super) fn replace<S, E: Element<S>>(
    txn: &mut Txn<S>,
    set: Live<'_, E>,
    is_it: impl Fn(&E) -> bool,
    element: E,
) -> Node<E> {
    let key = element.key();
    change_at(txn, set, 0, key, &is_it, Some(element)).map_or(set.node, |(node, _)| node)
}

/// The set without the element of `key` that `is_it`, and the element; `None` if there is none.
pub(super) fn remove<S, E: Element<S>>(
    txn: &mut Txn<S>,
    set: Live<'_, E>,
    key: u64,
    is_it: impl Fn(&E) -> bool,
) -> Option<(Node<E>, E)> {
    change_at(txn, set, 0, key, &is_it, None)
}

fn change_at<S, E: Element<S>>(
    txn: &mut Txn<S>,
    node: Live<'_, E>,
    depth: u32,
    key: u64,
    is_it: &impl Fn(&E) -> bool,
    new: Option<E>,
) -> Option<(Node<E>, E)> {
    match node.view() {
        View::Bucket(elements) => {
            let index = elements
                .iter()
                .position(|element| element.key() == key && is_it(element))?;
            let (before, after) = (&elements[..index], &elements[index + 1..]);
            let bucket = before.iter().cloned().chain(new).chain(after.iter().cloned()).collect();
            txn.retire(E::block(node.node));
            Some((txn.bucket(bucket), elements[index].clone()))
        }
        View::Branch(children) => {
            let slot = slot(key, depth);
            let (child, old) = change_at(txn, children[slot], depth + 1, key, is_it, new)?;
            txn.retire(E::block(node.node));
            let mut nodes = children.map(|child| child.node);
            nodes[slot] = child;
            Some((merged(txn, nodes), old))
        }
    }
}

/// A branch of `nodes`, or one bucket where that is at most half full, so that an element coming
/// and going at the edge does not split and merge every time.
fn merged<S, E: Element<S>>(txn: &mut Txn<S>, nodes: [Node<E>; FANOUT]) -> Node<E> {
    let mut count = 0;
    for node in nodes {
        match node {
            Node::Bucket(elements) => count += elements.len(),
            Node::Branch(_) => return txn.branch(nodes),
        }
    }
    if count > BUCKET / 2 {
        return txn.branch(nodes);
    }
    let mut all = Vec::with_capacity(count);
    for node in nodes {
        // SAFETY: the node is part of the snapshot that the transaction reads, or made by the
        // transaction; neither is freed before it ends.
        unsafe { node.live() }.for_each(&mut |element| all.push(E::clone(element)));
        txn.retire(E::block(node));
    }
    txn.bucket(all.into_boxed_slice())
}

fn slot(key: u64, depth: u32) -> usize {
    (key >> (depth * BITS)) as usize & (FANOUT - 1)
}
