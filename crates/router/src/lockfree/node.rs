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
const BITS: u32 = 2;
#[cfg(any(test, loom))]
const BUCKET: usize = 2;

const FANOUT: usize = 1 << BITS;
/// How many ways the half of these bits makes.
const HALF_FANOUT: usize = 1 << (BITS / 2);
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
    /// Null for the empty set; the address of a bucket; or that of a fork or branch, and its tag.
    tagged: *mut (),
    elements: PhantomData<*const E>,
}

/// The nodes by the next bits of the key; never all empty.
pub(super) type Branch<E> = [Node<E>; FANOUT];
/// As a branch, by half as many bits, and all are buckets or empty: what a full bucket becomes at first. Of sixteen
/// buckets each would have one or two elements, and the buckets themselves take as much memory as two.
pub(super) type Fork<E> = [Node<E>; HALF_FANOUT];

const _: () = assert!(align_of::<PlainBucket<u8>>() > TAGS && align_of::<Branch<u8>>() > TAGS);
const TAGS: usize = BRANCH | FORK;
const BRANCH: usize = 1;
const FORK: usize = 2;

enum Kind<E> {
    Empty,
    Bucket(NonNull<()>),
    Fork(NonNull<Fork<E>>),
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

    /// Whether there are nodes below.
    fn is_inner(self) -> bool {
        self.tagged.addr() & TAGS != 0
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

    pub(super) fn fork(children: Fork<E>) -> Self {
        let fork: *mut Fork<E> = Box::into_raw(Box::new(children));
        Self::from_raw(fork.map_addr(|addr| addr | FORK).cast())
    }

    pub(super) fn branch(children: Branch<E>) -> Self {
        let branch: *mut Branch<E> = Box::into_raw(Box::new(children));
        Self::from_raw(branch.map_addr(|addr| addr | BRANCH).cast())
    }

    fn kind(self) -> Kind<E> {
        // Without its tag the address of a box, which is not null, or that of a bucket, or null.
        let Some(block) = NonNull::new(self.tagged.map_addr(|addr| addr & !TAGS)) else {
            return Kind::Empty;
        };
        match self.tagged.addr() & TAGS {
            BRANCH => Kind::Branch(block.cast()),
            FORK => Kind::Fork(block.cast()),
            _ => Kind::Bucket(block),
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
            // SAFETY: made by `fork` from a box; the same promise.
            Kind::Fork(children) => drop(unsafe { Box::from_raw(children.as_ptr()) }),
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
    Fork(&'g Fork<E>),
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
        while node.node.is_inner() {
            let child = match node.node.kind() {
                // SAFETY: a live fork is allocated and unchanged during 'g.
                Kind::Fork(children) => (unsafe { children.as_ref() })[rest as usize & (HALF_FANOUT - 1)],
                // SAFETY: a live branch is too.
                Kind::Branch(children) => (unsafe { children.as_ref() })[rest as usize & (FANOUT - 1)],
                Kind::Empty | Kind::Bucket(_) => break,
            };
            // SAFETY: one of its children.
            node = unsafe { node.child(child) };
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
            // SAFETY: a live fork is allocated and unchanged during 'g.
            Kind::Fork(children) => View::Fork(unsafe { children.as_ref() }),
            // SAFETY: a live branch is allocated and unchanged during 'g.
            Kind::Branch(children) => View::Branch(unsafe { children.as_ref() }),
        }
    }

    /// The nodes below this one.
    fn children(self) -> &'g [Node<E>] {
        match self.view() {
            View::Fork(children) => children,
            View::Branch(children) => children,
            View::Empty | View::Bucket(_) => &[],
        }
    }

    /// The bucket among whose elements those of `key` are.
    pub(super) fn candidates(self, key: u64) -> Option<E::Bucket<'g>> {
        match self.leaf(key).node.kind() {
            // SAFETY: a live bucket is allocated and unchanged during 'g.
            Kind::Bucket(bucket) => Some(unsafe { E::borrow(bucket) }),
            Kind::Empty | Kind::Fork(_) | Kind::Branch(_) => None,
        }
    }

    /// The number of elements of this node itself.
    #[cfg(test)]
    pub(super) fn own_len(self) -> usize {
        match self.view() {
            View::Bucket(bucket) => E::len(bucket),
            View::Empty | View::Fork(_) | View::Branch(_) => 0,
        }
    }

    /// Every element, bucket by bucket.
    pub(super) fn for_each(self, f: &mut impl FnMut(E::Ref<'g>)) {
        if let View::Bucket(bucket) = self.view() {
            elements::<E>(bucket).for_each(&mut *f);
        }
        for &child in self.children() {
            // SAFETY: one of its children.
            unsafe { self.child(child) }.for_each(f);
        }
    }

    /// Every node that is an allocation, from the leaves up, so that each may be freed when it is shown.
    pub(super) fn for_each_node(self, f: &mut impl FnMut(Node<E>)) {
        for &child in self.children() {
            // SAFETY: one of its children.
            unsafe { self.child(child) }.for_each_node(f);
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
            rebuild(txn, depth, &[all])
        }
        View::Fork(children) => {
            let slot = slot(E::key(element), depth) & (HALF_FANOUT - 1);
            let mut nodes = *children;
            // SAFETY: one of its children.
            let child = unsafe { node.child(nodes[slot]) };
            if let View::Bucket(bucket) = child.view()
                && E::len(bucket) >= E::BUCKET
            {
                let len = E::len(bucket);
                txn.retire_node(child.node);
                nodes[slot] = txn.bucket(E::splice(bucket, len..len, Some(element)));
                return rebuild(txn, depth, &nodes);
            }
            nodes[slot] = insert_at(txn, child, depth, element);
            txn.fork(nodes)
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

/// A tree in the place of `nodes`, which are buckets or empty and all belong under the same node of `depth`.
fn rebuild<S, E: Copied + Reclaimed<S>>(txn: &mut Txn<S>, depth: u32, nodes: &[Node<E>]) -> Node<E> {
    let mut elements = Vec::new();
    for &node in nodes {
        // SAFETY: the node is part of the snapshot that the transaction reads, or made by the
        // transaction; neither is freed before it ends.
        unsafe { node.live() }.for_each(&mut |element| elements.push(element));
        txn.retire_node(node);
    }
    build(txn, depth, &elements)
}

/// A tree of `elements`, all of which belong under the same node of `depth`.
fn build<S, E: Copied + Reclaimed<S>>(txn: &mut Txn<S>, depth: u32, elements: &[E::Ref<'_>]) -> Node<E> {
    if elements.is_empty() {
        return Node::EMPTY;
    }
    if elements.len() <= E::BUCKET || depth == MAX_DEPTH {
        return txn.bucket(E::gather(elements.iter().copied()));
    }
    let parts: [_; HALF_FANOUT] = split::<E, _>(elements, depth);
    if parts.iter().all(|part| part.len() <= E::BUCKET) {
        let children = parts.map(|part| build(txn, depth, &part));
        return txn.fork(children);
    }
    let parts: [_; FANOUT] = split::<E, _>(elements, depth);
    let children = parts.map(|part| build(txn, depth + 1, &part));
    txn.branch(children)
}

/// The elements by as many bits as tell so many parts apart.
fn split<'g, E: Element, const PARTS: usize>(elements: &[E::Ref<'g>], depth: u32) -> [Vec<E::Ref<'g>>; PARTS] {
    let mut parts = std::array::from_fn(|_| Vec::new());
    for &element in elements {
        parts[slot(E::key(element), depth) & (PARTS - 1)].push(element);
    }
    parts
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
        View::Fork(children) => {
            let slot = slot(key, depth) & (HALF_FANOUT - 1);
            let mut nodes = *children;
            // SAFETY: one of its children.
            let child = unsafe { node.child(nodes[slot]) };
            let (child, old) = change_at(txn, child, depth, key, is_it, new)?;
            nodes[slot] = child;
            txn.retire_node(node.node);
            let merged = child.is_empty().then(|| merged(txn, depth, &nodes)).flatten();
            Some((merged.unwrap_or_else(|| txn.fork(nodes)), old))
        }
        View::Branch(children) => {
            let slot = slot(key, depth);
            let mut nodes = *children;
            // SAFETY: one of its children.
            let child = unsafe { node.child(nodes[slot]) };
            let (child, old) = change_at(txn, child, depth + 1, key, is_it, new)?;
            // Looking whether to merge fetches every child, so only a child that went does it: a
            // branch has about as many elements as children at least.
            let went = child.is_empty() || nodes[slot].is_inner() && !child.is_inner();
            nodes[slot] = child;
            txn.retire_node(node.node);
            let merged = went.then(|| merged(txn, depth, &nodes)).flatten();
            Some((merged.unwrap_or_else(|| txn.branch(nodes)), old))
        }
    }
}

/// One bucket in the place of `nodes`, if that is at most half full, so that an element coming and
/// going at the edge does not split and merge every time.
fn merged<S, E: Copied + Reclaimed<S>>(txn: &mut Txn<S>, depth: u32, nodes: &[Node<E>]) -> Option<Node<E>> {
    let mut count = 0;
    for node in nodes {
        // SAFETY: as in `rebuild`.
        match unsafe { node.live() }.view() {
            View::Empty => {}
            View::Bucket(bucket) if count + E::len(bucket) <= E::BUCKET / 2 => count += E::len(bucket),
            _ => return None,
        }
    }
    Some(rebuild(txn, depth, nodes))
}

fn slot(key: u64, depth: u32) -> usize {
    (key >> (depth * BITS)) as usize & (FANOUT - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU64;

    use super::super::subscription::Subscription;
    use super::*;

    type Set = Node<Subscription<u64>>;

    /// The set after one update, of which nobody else knows: what it put out of use is freed at once.
    fn update(change: impl FnOnce(&mut Txn<u64>) -> Set) -> Set {
        let mut txn = Txn::new();
        let set = change(&mut txn);
        drop(txn.commit());
        set
    }

    fn subscription(number: u64) -> Subscription<u64> {
        Subscription {
            id: NonZeroU64::new(number).expect("numbers begin at 1"),
            subscriber: number,
        }
    }

    /// Of every kind there is, the nodes of the set.
    fn kinds(set: Set) -> [usize; 3] {
        let mut kinds = [0; 3];
        // SAFETY: of the current version, which nobody changes meanwhile.
        unsafe { set.live() }.for_each_node(&mut |node| match node.kind() {
            Kind::Empty => panic!("what is empty is no allocation"),
            Kind::Bucket(_) => kinds[0] += 1,
            Kind::Fork(_) => kinds[1] += 1,
            Kind::Branch(_) => kinds[2] += 1,
        });
        kinds
    }

    #[test]
    fn a_set_holds_what_came_and_did_not_go_however_deep_it_is() {
        const COUNT: u64 = 600;
        let mut set = Set::EMPTY;
        let mut wanted = BTreeSet::new();
        let check = |set: Set, wanted: &BTreeSet<u64>| {
            let mut found = BTreeSet::new();
            // SAFETY: of the current version, which nobody changes meanwhile.
            unsafe { set.live() }.for_each(&mut |subscription| assert!(found.insert(subscription.subscriber)));
            assert_eq!(found, *wanted);
        };
        for number in 1..=COUNT {
            let new = subscription(number);
            // SAFETY: as above, until the update replaces it.
            set = update(|txn| insert(txn, unsafe { set.live() }, &new));
            wanted.insert(number);
            check(set, &wanted);
        }
        let [buckets, forks, branches] = kinds(set);
        assert!(
            buckets > forks && forks > 0 && branches > 0,
            "{buckets} {forks} {branches}"
        );
        // 7 and the count have no factor in common: each goes once.
        for number in (1..=COUNT).map(|step| step * 7 % COUNT + 1) {
            let gone = subscription(number);
            let key = Plain::key(&gone);
            let is_it = |other: &Subscription<u64>| other.id == gone.id;
            set = update(|txn| {
                // SAFETY: as above.
                let live = unsafe { set.live() };
                let (set, old) = change(txn, live, key, is_it, None).expect("it is in the set");
                assert_eq!(old.subscriber, number);
                set
            });
            wanted.remove(&number);
            check(set, &wanted);
        }
        assert!(set.is_empty());
    }

    #[test]
    fn a_full_bucket_becomes_a_fork_before_it_becomes_a_branch() {
        let mut set = Set::EMPTY;
        let mut seen = Vec::new();
        // In turn such as belong to either half of a fork.
        let all = (1..=64).map(subscription);
        let (left, right): (Vec<_>, Vec<_>) = all.partition(|new| slot(Plain::key(new), 0) & 1 == 0);
        for new in left.iter().zip(&right).flat_map(<[_; 2]>::from) {
            // SAFETY: nobody else knows the set.
            set = update(|txn| insert(txn, unsafe { set.live() }, new));
            let kind = match set.kind() {
                Kind::Empty => "empty",
                Kind::Bucket(_) => "bucket",
                Kind::Fork(_) => "fork",
                Kind::Branch(_) => "branch",
            };
            if seen.last() != Some(&kind) {
                seen.push(kind);
            }
        }
        assert_eq!(seen, ["bucket", "fork", "branch"]);
        // SAFETY: nobody else knows the nodes, and each is shown once, after those below it.
        unsafe { set.live() }.for_each_node(&mut |node| unsafe { node.free() });
    }
}
