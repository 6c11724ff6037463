//! Persistent sets: radix trees of buckets, copied along one path by every change.

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::run::Run;
use super::txn::{Reclaimed, Txn};

/// How many bits of the key choose a child; a branch is 16 words, two cache lines.
#[cfg(not(any(test, loom)))]
const BITS: u32 = 4;
/// The most elements of two words in a bucket that could still be split. Wider buckets are faster
/// to walk and slower to copy; a full one is half a kilobyte.
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

/// What a set holds, and how it lies in the set's leaves, the buckets: elements in no order, at least
/// one, in one allocation aligned to more than one byte, which never changes once it is made.
pub(super) trait Element: Sized + 'static {
    /// An element in its bucket.
    type Ref<'g>: Copy;
    /// A bucket.
    type Bucket<'g>: Copy;

    /// Where in the tree the element belongs. Elements of one key are told apart by the caller.
    fn key(element: Self::Ref<'_>) -> u64;

    fn len(bucket: Self::Bucket<'_>) -> usize;

    /// The element of a number below `len`.
    fn at<'g>(bucket: Self::Bucket<'g>, number: usize) -> Self::Ref<'g>;

    /// Borrows a bucket, which may have memory bring it already.
    ///
    /// # Safety
    /// It was made for elements of this type, and is neither freed nor changed during `'g`.
    unsafe fn borrow<'g>(bucket: NonNull<()>) -> Self::Bucket<'g>;

    /// Frees a bucket and its elements.
    ///
    /// # Safety
    /// It was made for elements of this type, nobody else can reach it, and it is freed once.
    unsafe fn free(bucket: NonNull<()>);
}

/// Elements of which new buckets can be made.
pub(super) trait Copied: Element {
    /// The most elements of a bucket that could still be split.
    const BUCKET: usize;

    /// A bucket of copies of `elements`, of which there is one at least.
    fn gather<'g>(elements: impl ExactSizeIterator<Item = Self::Ref<'g>> + Clone) -> NonNull<()>;

    /// A copy of `bucket` with `new` in the place of those of `range`; not of none.
    fn splice(bucket: Self::Bucket<'_>, range: Range<usize>, new: Option<Self::Ref<'_>>) -> NonNull<()>;
}

/// An element that lies in its bucket as it is.
pub(super) trait Plain: 'static {
    /// As of [`Element`].
    fn key(&self) -> u64;
}

type PlainBucket<E> = Run<(), E>;

impl<E: Plain> Element for E {
    type Ref<'g> = &'g E;
    type Bucket<'g> = &'g [E];

    fn key(element: &E) -> u64 {
        element.key()
    }

    fn len(bucket: &[E]) -> usize {
        bucket.len()
    }

    // Bound early, as where the trait's types hide it.
    fn at<'g: 'g>(bucket: &'g [E], number: usize) -> &'g E {
        &bucket[number]
    }

    unsafe fn borrow<'g>(bucket: NonNull<()>) -> &'g [E] {
        // SAFETY: the caller's promise.
        unsafe { Run::slice(bucket.cast::<PlainBucket<E>>()) }
    }

    unsafe fn free(bucket: NonNull<()>) {
        // SAFETY: the caller's promise.
        unsafe { Run::free(bucket.cast::<PlainBucket<E>>()) }
    }
}

impl<E: Plain + Clone> Copied for E {
    const BUCKET: usize = BUCKET;

    fn gather<'g>(elements: impl ExactSizeIterator<Item = &'g E> + Clone) -> NonNull<()> {
        PlainBucket::new((), elements.len(), elements.cloned()).cast()
    }

    fn splice(bucket: &[E], range: Range<usize>, new: Option<&E>) -> NonNull<()> {
        let len = bucket.len() - range.len() + usize::from(new.is_some());
        let (before, after) = (&bucket[..range.start], &bucket[range.end..]);
        PlainBucket::new((), len, before.iter().chain(new).chain(after).cloned()).cast()
    }
}

/// A set, or a part of one, as a link of one word: copying it copies no element.
pub(super) struct Node<E> {
    /// Null for the empty set; the address of a bucket; or that of a branch, and one.
    tagged: *mut (),
    elements: PhantomData<*const E>,
}

/// The nodes by the next bits of the key; never all empty.
pub(super) type Branch<E> = [Node<E>; FANOUT];

const _: () = assert!(align_of::<PlainBucket<u8>>() > BRANCH && align_of::<Branch<u8>>() > BRANCH);
const BRANCH: usize = 1;

enum Kind<E> {
    Empty,
    Bucket(NonNull<()>),
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

    pub(super) fn bucket(bucket: NonNull<()>) -> Self {
        Self::from_raw(bucket.as_ptr())
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
            Some(bucket) => Kind::Bucket(bucket),
        }
    }

    /// Frees this node and its elements, not the nodes below it.
    ///
    /// # Safety
    /// Nobody else can reach the node, and it is freed once.
    pub(super) unsafe fn free(self)
    where
        E: Element,
    {
        match self.kind() {
            Kind::Empty => {}
            // SAFETY: given to `bucket`; the caller promises that this is the only use left.
            Kind::Bucket(bucket) => unsafe { E::free(bucket) },
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

enum View<'g, E: Element> {
    Empty,
    Bucket(E::Bucket<'g>),
    Branch(&'g Branch<E>),
}

impl<'g, E> Live<'g, E> {
    pub(super) fn is_empty(self) -> bool {
        self.node.is_empty()
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
            // SAFETY: a live bucket is allocated, is not empty, and is unchanged during 'g. Volatile: a load
            // nobody needs would be left out.
            unsafe { bucket.cast::<u8>().read_volatile() };
        }
        leaf
    }
}

impl<'g, E: Element> Live<'g, E> {
    fn view(self) -> View<'g, E> {
        match self.node.kind() {
            Kind::Empty => View::Empty,
            // SAFETY: a live bucket is allocated and unchanged during 'g.
            Kind::Bucket(bucket) => View::Bucket(unsafe { E::borrow(bucket) }),
            // SAFETY: a live branch is allocated and unchanged during 'g.
            Kind::Branch(children) => View::Branch(unsafe { children.as_ref() }),
        }
    }

    /// The bucket among whose elements those of `key` are.
    pub(super) fn candidates(self, key: u64) -> Option<E::Bucket<'g>> {
        match self.leaf(key).node.kind() {
            // SAFETY: a live bucket is allocated and unchanged during 'g.
            Kind::Bucket(bucket) => Some(unsafe { E::borrow(bucket) }),
            Kind::Empty | Kind::Branch(_) => None,
        }
    }

    /// The number of elements of this node itself.
    #[cfg(test)]
    pub(super) fn own_len(self) -> usize {
        match self.view() {
            View::Bucket(bucket) => E::len(bucket),
            View::Empty | View::Branch(_) => 0,
        }
    }

    /// Every element, bucket by bucket.
    pub(super) fn for_each(self, f: &mut impl FnMut(E::Ref<'g>)) {
        match self.view() {
            View::Empty => {}
            View::Bucket(bucket) => elements::<E>(bucket).for_each(f),
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

fn elements<'g, E: Element>(bucket: E::Bucket<'g>) -> impl ExactSizeIterator<Item = E::Ref<'g>> + Clone {
    (0..E::len(bucket)).map(move |number| E::at(bucket, number))
}

/// The set with `element` added.
pub(super) fn insert<S, E: Copied + Reclaimed<S>>(txn: &mut Txn<S>, set: Live<'_, E>, element: E::Ref<'_>) -> Node<E> {
    insert_at(txn, set, 0, element)
}

fn insert_at<S, E: Copied + Reclaimed<S>>(
    txn: &mut Txn<S>,
    node: Live<'_, E>,
    depth: u32,
    element: E::Ref<'_>,
) -> Node<E> {
    txn.retire_node(node.node);
    match node.view() {
        View::Empty => txn.bucket(E::gather(std::iter::once(element))),
        View::Bucket(bucket) => {
            let len = E::len(bucket);
            let all = txn.bucket(E::splice(bucket, len..len, Some(element)));
            if len < E::BUCKET || depth == MAX_DEPTH {
                return all;
            }
            let mut elements = Vec::with_capacity(len + 1);
            // SAFETY: made by the transaction, and not freed before it ends.
            unsafe { all.live() }.for_each(&mut |element| elements.push(element));
            txn.retire_node(all);
            build(txn, depth, &elements)
        }
        View::Branch(children) => {
            let slot = slot(E::key(element), depth);
            let mut nodes = *children;
            // SAFETY: one of its children.
            let child = unsafe { node.child(nodes[slot]) };
            nodes[slot] = insert_at(txn, child, depth + 1, element);
            txn.branch(nodes)
        }
    }
}

/// A tree of `elements`, all of which belong under the same node of `depth`.
fn build<S, E: Copied + Reclaimed<S>>(txn: &mut Txn<S>, depth: u32, elements: &[E::Ref<'_>]) -> Node<E> {
    if elements.is_empty() {
        return Node::EMPTY;
    }
    if elements.len() <= E::BUCKET || depth == MAX_DEPTH {
        return txn.bucket(E::gather(elements.iter().copied()));
    }
    let mut parts: [Vec<E::Ref<'_>>; FANOUT] = std::array::from_fn(|_| Vec::new());
    for &element in elements {
        parts[slot(E::key(element), depth)].push(element);
    }
    let children = parts.map(|part| build(txn, depth + 1, &part));
    txn.branch(children)
}

/// The set with the element of `key` that `is_it` replaced by `new`, or left out if that is `None`,
/// and the element; `None` if there is none.
pub(super) fn change<'g, S, E: Copied + Reclaimed<S>>(
    txn: &mut Txn<S>,
    set: Live<'g, E>,
    key: u64,
    is_it: impl Fn(E::Ref<'g>) -> bool,
    new: Option<E::Ref<'_>>,
) -> Option<(Node<E>, E::Ref<'g>)> {
    change_at(txn, set, 0, key, &is_it, new)
}

fn change_at<'g, S, E: Copied + Reclaimed<S>>(
    txn: &mut Txn<S>,
    node: Live<'g, E>,
    depth: u32,
    key: u64,
    is_it: &impl Fn(E::Ref<'g>) -> bool,
    new: Option<E::Ref<'_>>,
) -> Option<(Node<E>, E::Ref<'g>)> {
    match node.view() {
        View::Empty => None,
        View::Bucket(bucket) => {
            let index = elements::<E>(bucket).position(|element| E::key(element) == key && is_it(element))?;
            let left = if E::len(bucket) == 1 && new.is_none() {
                Node::EMPTY
            } else {
                txn.bucket(E::splice(bucket, index..index + 1, new))
            };
            txn.retire_node(node.node);
            Some((left, E::at(bucket, index)))
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
fn merged<S, E: Copied + Reclaimed<S>>(txn: &mut Txn<S>, nodes: Branch<E>) -> Node<E> {
    let mut count = 0;
    for node in nodes {
        // SAFETY: the node is part of the snapshot that the transaction reads, or made by the
        // transaction; neither is freed before it ends.
        match unsafe { node.live() }.view() {
            View::Empty => {}
            View::Bucket(bucket) if count + E::len(bucket) <= E::BUCKET / 2 => count += E::len(bucket),
            _ => return txn.branch(nodes),
        }
    }
    let mut all = Vec::with_capacity(count);
    for node in nodes {
        // SAFETY: as above.
        unsafe { node.live() }.for_each(&mut |element| all.push(element));
        txn.retire_node(node);
    }
    build(txn, MAX_DEPTH, &all)
}

fn slot(key: u64, depth: u32) -> usize {
    (key >> (depth * BITS)) as usize & (FANOUT - 1)
}
