//! Persistent sets: radix trees of buckets, copied along one path by every change.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::run::Run;
use super::txn::{Block, Txn};

/// How many bits of the key choose a child; a branch is 16 words, two cache lines.
#[cfg(not(any(test, loom)))]
const BITS: u32 = 4;
/// The most elements of a bucket that could still be split. Wider buckets are faster to walk and
/// slower to copy; a full one of two words each is half a kilobyte.
#[cfg(not(any(test, loom)))]
const BUCKET: usize = 32;

// While checking, a handful of elements makes a deep tree.
#[cfg(any(test, loom))]
const BITS: u32 = 1;
#[cfg(any(test, loom))]
const BUCKET: usize = 2;

const FANOUT: usize = 1 << BITS;
/// Below this depth the key has no bits left: a bucket holds whatever collides.
const MAX_DEPTH: u32 = u64::BITS / BITS;

/// What a set holds.
pub(super) trait Element<S>: Clone + 'static {
    /// Where in the tree the element belongs. Elements of one key are told apart by the caller.
    fn key(&self) -> u64;

    /// The node as a block to be freed.
    fn block(node: Node<Self>) -> Block<S>;
}

/// A set, or a part of one, as a link of one word: copying it copies no element.
pub(super) struct Node<E> {
    /// Null for the empty set; the address of a bucket; or that of a branch, and one.
    tagged: *mut (),
    elements: PhantomData<*const E>,
}

/// Elements in no order, at least one.
type Bucket<E> = Run<(), E>;
/// The nodes by the next bits of the key; never all empty.
pub(super) type Branch<E> = [Node<E>; FANOUT];

const _: () = assert!(align_of::<Bucket<u8>>() > BRANCH && align_of::<Branch<u8>>() > BRANCH);
const BRANCH: usize = 1;

enum Kind<E> {
    Empty,
    Bucket(NonNull<Bucket<E>>),
    Branch(NonNull<Branch<E>>),
}

impl<E> Clone for Node<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Node<E> {}

impl<E> PartialEq for Node<E> {
    fn eq(&self, other: &Self) -> bool {
        self.tagged == other.tagged
    }
}

impl<E> Node<E> {
    /// The empty set; not an allocation.
    pub(super) const EMPTY: Self = Node {
        tagged: ptr::null_mut(),
        elements: PhantomData,
    };

    pub(super) fn is_empty(self) -> bool {
        self.tagged.is_null()
    }

    fn is_branch(self) -> bool {
        self.tagged.addr() & BRANCH != 0
    }

    /// The node as a pointer, to be kept in an atomic one.
    pub(super) fn into_raw(self) -> *mut () {
        self.tagged
    }

    /// The node that `into_raw` gave.
    pub(super) fn from_raw(raw: *mut ()) -> Self {
        Node {
            tagged: raw,
            elements: PhantomData,
        }
    }

    pub(super) fn bucket(len: usize, elements: impl IntoIterator<Item = E>) -> Self {
        if len == 0 {
            return Self::EMPTY;
        }
        Self::from_raw(Bucket::new((), len, elements).as_ptr().cast())
    }

    pub(super) fn branch(children: Branch<E>) -> Self {
        let branch: *mut Branch<E> = Box::into_raw(Box::new(children));
        Self::from_raw(branch.map_addr(|addr| addr | BRANCH).cast())
    }

    fn kind(self) -> Kind<E> {
        match NonNull::new(self.tagged) {
            None => Kind::Empty,
            Some(_) if self.is_branch() => {
                let branch = self.tagged.map_addr(|addr| addr & !BRANCH);
                // The address of a box is not null.
                NonNull::new(branch.cast()).map_or(Kind::Empty, Kind::Branch)
            }
            Some(bucket) => Kind::Bucket(bucket.cast()),
        }
    }

    /// Frees this node and its elements, not the nodes below it.
    ///
    /// # Safety
    /// Nobody else can reach the node, and it is freed once.
    pub(super) unsafe fn free(self) {
        match self.kind() {
            Kind::Empty => {}
            // SAFETY: made by `bucket`; the caller promises that this is the only use left.
            Kind::Bucket(bucket) => unsafe { Run::free(bucket) },
            // SAFETY: made by `branch` from a box; the same promise.
            Kind::Branch(children) => drop(unsafe { Box::from_raw(children.as_ptr()) }),
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
    Branch(&'g Branch<E>),
}

impl<'g, E> Live<'g, E> {
    pub(super) fn is_empty(self) -> bool {
        self.node.is_empty()
    }

    fn view(self) -> View<'g, E> {
        match self.node.kind() {
            Kind::Empty => View::Bucket(&[]),
            // SAFETY: a live bucket is allocated and unchanged during 'g.
            Kind::Bucket(bucket) => View::Bucket(unsafe { Run::slice(bucket) }),
            // SAFETY: a live branch is allocated and unchanged during 'g.
            Kind::Branch(children) => View::Branch(unsafe { children.as_ref() }),
        }
    }

    /// A child of this node.
    ///
    /// # Safety
    /// `child` is among the children of this node.
    unsafe fn child(self, child: Node<E>) -> Self {
        // SAFETY: being below a live node, the child is live for as long.
        unsafe { child.live() }
    }

    /// The part of the set in which those of `key` are: a bucket, if there are any.
    fn leaf(self, key: u64) -> Self {
        let mut node = self;
        let mut rest = key;
        while let Kind::Branch(children) = node.node.kind() {
            // SAFETY: a live branch is allocated and unchanged during 'g.
            let children = unsafe { children.as_ref() };
            // SAFETY: one of its children.
            node = unsafe { node.child(children[rest as usize & (FANOUT - 1)]) };
            rest >>= BITS;
        }
        node
    }

    /// That part, which memory is to bring while the caller does something else before it looks.
    pub(super) fn fetch(self, key: u64) -> Self {
        let leaf = self.leaf(key);
        if let Kind::Bucket(bucket) = leaf.node.kind() {
            // SAFETY: a live bucket is allocated and unchanged during 'g.
            unsafe { Run::touch(bucket) };
        }
        leaf
    }

    /// The elements among which those of `key` are.
    pub(super) fn candidates(self, key: u64) -> &'g [E] {
        match self.leaf(key).node.kind() {
            // SAFETY: a live bucket is allocated and unchanged during 'g.
            Kind::Bucket(bucket) => unsafe { Run::slice(bucket) },
            Kind::Empty | Kind::Branch(_) => &[],
        }
    }

    /// Every element, bucket by bucket.
    pub(super) fn for_each(self, f: &mut impl FnMut(&'g E)) {
        match self.view() {
            View::Bucket(elements) => elements.iter().for_each(f),
            View::Branch(children) => {
                for &child in children {
                    // SAFETY: one of its children.
                    unsafe { self.child(child) }.for_each(f);
                }
            }
        }
    }

    /// Every node that is an allocation, from the leaves up, so that each may be freed when it is shown.
    pub(super) fn for_each_node(self, f: &mut impl FnMut(Node<E>)) {
        if let View::Branch(children) = self.view() {
            for &child in children {
                // SAFETY: one of its children.
                unsafe { self.child(child) }.for_each_node(f);
            }
        }
        if !self.node.is_empty() {
            f(self.node);
        }
    }
}

/// The set with `element` added.
pub(super) fn insert<S, E: Element<S>>(txn: &mut Txn<S>, set: Live<'_, E>, element: E) -> Node<E> {
    insert_at(txn, set, 0, element)
}

fn insert_at<S, E: Element<S>>(txn: &mut Txn<S>, node: Live<'_, E>, depth: u32, element: E) -> Node<E> {
    txn.retire_node(node.node);
    match node.view() {
        View::Bucket(elements) if elements.len() < BUCKET || depth == MAX_DEPTH => {
            let all = elements.iter().cloned().chain([element]);
            txn.bucket(elements.len() + 1, all)
        }
        View::Bucket(elements) => {
            let mut all = Vec::with_capacity(elements.len() + 1);
            all.extend_from_slice(elements);
            all.push(element);
            build(txn, depth, &all)
        }
        View::Branch(children) => {
            let slot = slot(element.key(), depth);
            let mut nodes = *children;
            // SAFETY: one of its children.
            let child = unsafe { node.child(nodes[slot]) };
            nodes[slot] = insert_at(txn, child, depth + 1, element);
            txn.branch(nodes)
        }
    }
}

/// A tree of `elements`, all of which belong under the same node of `depth`.
fn build<S, E: Element<S>>(txn: &mut Txn<S>, depth: u32, elements: &[E]) -> Node<E> {
    if elements.len() <= BUCKET || depth == MAX_DEPTH {
        return txn.bucket(elements.len(), elements.iter().cloned());
    }
    let mut parts: [Vec<E>; FANOUT] = std::array::from_fn(|_| Vec::new());
    for element in elements {
        parts[slot(element.key(), depth)].push(element.clone());
    }
    let children = parts.map(|part| build(txn, depth + 1, &part));
    txn.branch(children)
}

/// The set with the element of `key` that `is_it` replaced by `new`, or left out if that is `None`,
/// and the element; `None` if there is none.
pub(super) fn change<S, E: Element<S>>(
    txn: &mut Txn<S>,
    set: Live<'_, E>,
    key: u64,
    is_it: impl Fn(&E) -> bool,
    new: Option<E>,
) -> Option<(Node<E>, E)> {
    change_at(txn, set, 0, key, &is_it, new)
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
            let len = elements.len() - 1 + usize::from(new.is_some());
            let all = before.iter().cloned().chain(new).chain(after.iter().cloned());
            let bucket = txn.bucket(len, all);
            txn.retire_node(node.node);
            Some((bucket, elements[index].clone()))
        }
        View::Branch(children) => {
            let slot = slot(key, depth);
            let mut nodes = *children;
            // SAFETY: one of its children.
            let child = unsafe { node.child(nodes[slot]) };
            let (child, old) = change_at(txn, child, depth + 1, key, is_it, new)?;
            // Looking whether to merge fetches every child, so only a child that went does it: a
            // branch has about as many elements as children at least.
            let went = child.is_empty() || nodes[slot].is_branch() && !child.is_branch();
            nodes[slot] = child;
            txn.retire_node(node.node);
            let node = if went { merged(txn, nodes) } else { txn.branch(nodes) };
            Some((node, old))
        }
    }
}

/// A branch of `nodes`, or one bucket where that is at most half full, so that an element coming
/// and going at the edge does not split and merge every time.
fn merged<S, E: Element<S>>(txn: &mut Txn<S>, nodes: Branch<E>) -> Node<E> {
    let mut count = 0;
    for node in nodes {
        // SAFETY: the node is part of the snapshot that the transaction reads, or made by the
        // transaction; neither is freed before it ends.
        match unsafe { node.live() }.view() {
            View::Bucket(elements) if count + elements.len() <= BUCKET / 2 => count += elements.len(),
            _ => return txn.branch(nodes),
        }
    }
    let mut all = Vec::with_capacity(count);
    for node in nodes {
        // SAFETY: as above.
        unsafe { node.live() }.for_each(&mut |element| all.push(E::clone(element)));
        txn.retire_node(node);
    }
    txn.bucket(count, all)
}

fn slot(key: u64, depth: u32) -> usize {
    (key >> (depth * BITS)) as usize & (FANOUT - 1)
}
