//! Filters without wildcards: a bucket of them is one allocation, names, subscriptions and all.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::node::{self, Copied, Element, Live, Node};
use super::subscription::Subscriptions;
use super::txn::{Block, Reclaimed, Txn};

/// A filter without wildcards as an element of a set; it lies in buckets only.
pub(super) struct Exact<S>(PhantomData<Subscriptions<S>>);

/// Such a filter in its bucket.
pub(super) struct LiveExact<'g, S> {
    /// Where it belongs among those of its root.
    pub(super) key: u32,
    pub(super) name: &'g str,
    pub(super) subscriptions: &'g Subscriptions<S>,
}

impl<S> Clone for LiveExact<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for LiveExact<'_, S> {}

/// A bucket during `'g`.
///
/// ```text
/// len: u32 | len × (start: u32, key: u32) | end: u32 | subscriptions: [Subscriptions<S>; len] | names
/// ```
///
/// A name begins `start` bytes behind the beginning of the names and ends where the next one begins. Its bounds are
/// beside the key: whoever finds the one has fetched the others, and waits for memory once less.
/// Of a short name on its own, `malloc`, a pointer to it and its whole hash would take as much as all the rest.
pub(super) struct LiveBucket<'g, S> {
    start: NonNull<u8>,
    len: usize,
    scope: PhantomData<&'g Subscriptions<S>>,
}

impl<S> Clone for LiveBucket<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for LiveBucket<'_, S> {}

/// Before the table of starts and keys: how many there are.
const TABLE: usize = size_of::<u32>();

/// The words of the table of a bucket of `len`.
const fn table_len(len: usize) -> usize {
    2 * len + 1
}

/// Where the subscriptions begin.
const fn subscriptions_at<S>(len: usize) -> usize {
    let align = align_of::<Subscriptions<S>>();
    (TABLE + table_len(len) * size_of::<u32>()).next_multiple_of(align)
}

/// Where the names begin.
const fn names_at<S>(len: usize) -> usize {
    subscriptions_at::<S>(len) + len * size_of::<Subscriptions<S>>()
}

// What a filter of one subscriber takes in the broker, besides its name and its part of the bucket's own.
const _: () = assert!(names_at::<u64>(32) - names_at::<u64>(30) == 2 * 24);

/// Of a bucket of `len` filters with `names` bytes of names.
fn layout<S>(len: usize, names: usize) -> Layout {
    let align = align_of::<Subscriptions<S>>().max(align_of::<u32>());
    // Far from overflowing: lengths are of `u32`, and what is behind them was allocated before.
    Layout::from_size_align(names_at::<S>(len) + names, align).expect("a bucket fits in memory")
}

impl<'g, S> LiveBucket<'g, S> {
    /// The number of bytes of all names.
    fn names_len(self) -> usize {
        self.span(0..self.len).len()
    }

    /// Starts and keys in turn, and the end.
    fn table(self) -> &'g [u32] {
        // SAFETY: what is behind the length is so many words, unchanged during 'g.
        unsafe { NonNull::slice_from_raw_parts(self.start.byte_add(TABLE).cast(), table_len(self.len)).as_ref() }
    }

    fn key(self, number: usize) -> u32 {
        self.table()[2 * number + 1]
    }

    fn subscriptions(self) -> &'g [Subscriptions<S>] {
        let at = subscriptions_at::<S>(self.len);
        // SAFETY: there are as many, aligned as `layout` promised, and unchanged during 'g.
        unsafe { NonNull::slice_from_raw_parts(self.start.byte_add(at).cast(), self.len).as_ref() }
    }

    /// Where in the names those of the filters of `range` are.
    fn span(self, range: Range<usize>) -> Range<usize> {
        let table = self.table();
        table[2 * range.start] as usize..table[2 * range.end] as usize
    }

    fn names(self, range: Range<usize>) -> &'g str {
        let span = self.span(range);
        // SAFETY: starts rise up to the number of bytes behind the subscriptions, unchanged during 'g. They are
        // those of whole names one after the other, each copied from a `str`.
        unsafe {
            let start = self.start.byte_add(names_at::<S>(self.len) + span.start);
            str::from_utf8_unchecked(NonNull::slice_from_raw_parts(start, span.len()).as_ref())
        }
    }

    fn at(self, number: usize) -> LiveExact<'g, S> {
        LiveExact {
            key: self.key(number),
            name: self.names(number..number + 1),
            subscriptions: &self.subscriptions()[number],
        }
    }

    /// The filters of that key, which may be those of several names.
    pub(super) fn all_of_key(self, key: u32) -> impl Iterator<Item = LiveExact<'g, S>> {
        (0..self.len)
            .filter(move |number| self.key(*number) == key)
            .map(move |number| self.at(number))
    }

    /// The filter of that key and name.
    #[inline]
    pub(super) fn find(self, key: u32, name: &str) -> Option<LiveExact<'g, S>> {
        self.all_of_key(key).find(|exact| exact.name == name)
    }
}

/// The filter of that key and name in a set.
#[inline]
pub(super) fn find<'g, S: 'static>(set: Live<'g, Exact<S>>, key: u32, name: &str) -> Option<LiveExact<'g, S>> {
    set.candidates(key.into())?.find(key, name)
}

/// The set in which `new` stands in the place of `old`, of the same name, or is added if there is none.
pub(super) fn put<S: Clone + 'static>(
    txn: &mut Txn<S>,
    set: Live<'_, Exact<S>>,
    old: Option<LiveExact<'_, S>>,
    new: LiveExact<'_, S>,
) -> Node<Exact<S>> {
    match old {
        None => node::insert(txn, set, new),
        Some(old) => change(txn, set, old, Some(new)),
    }
}

/// The set without `old`, which is in it.
pub(super) fn take<S: Clone + 'static>(
    txn: &mut Txn<S>,
    set: Live<'_, Exact<S>>,
    old: LiveExact<'_, S>,
) -> Node<Exact<S>> {
    change(txn, set, old, None)
}

fn change<S: Clone + 'static>(
    txn: &mut Txn<S>,
    set: Live<'_, Exact<S>>,
    old: LiveExact<'_, S>,
    new: Option<LiveExact<'_, S>>,
) -> Node<Exact<S>> {
    let is_it = |exact: LiveExact<'_, S>| ptr::eq(exact.subscriptions, old.subscriptions);
    let changed = node::change(txn, set, old.key.into(), is_it, new);
    let (set, _) = changed.expect("what was found in the set is in it");
    set
}

/// A bucket that is being written. Dropped, for a clone may panic, it leaves nothing behind.
struct Unfinished<S> {
    start: NonNull<u8>,
    len: usize,
    names: usize,
    /// How many filters, and how many bytes of their names, were written.
    ///
    /// `written <= len`, `names_written <= names`
    written: usize,
    names_written: usize,
    of: PhantomData<Subscriptions<S>>,
}

impl<S: Clone> Unfinished<S> {
    /// Room for `len` filters with `names` bytes of names.
    fn new(len: usize, names: usize) -> Self {
        let first = u32::try_from(len).expect("a bucket has at most u32::MAX filters");
        u32::try_from(names).expect("their names have at most u32::MAX bytes");
        let layout = layout::<S>(len, names);
        // SAFETY: the layout includes the length, so it is not of size zero.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: just allocated, large and aligned enough for the length.
        unsafe { start.cast::<u32>().write(first) };
        Unfinished {
            start,
            len,
            names,
            written: 0,
            names_written: 0,
            of: PhantomData,
        }
    }

    /// Writes one more filter.
    fn push(&mut self, exact: LiveExact<'_, S>) {
        let LiveExact {
            key,
            name,
            subscriptions,
        } = exact;
        assert!(self.written < self.len && name.len() <= self.names - self.names_written);
        let subscriptions = subscriptions.clone();
        // SAFETY: the assertion: there is room for one more, and its name.
        unsafe {
            self.table(self.written).write([self.names_written as u32, key]);
            self.subscriptions(self.written).write(subscriptions);
            self.name(self.names_written)
                .copy_from_nonoverlapping(NonNull::from(name.as_bytes()).cast(), name.len());
        }
        self.written += 1;
        self.names_written += name.len();
    }

    /// Writes some filters of another bucket.
    fn extend(&mut self, other: LiveBucket<'_, S>, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let names = other.names(range.clone());
        assert!(range.len() <= self.len - self.written && names.len() <= self.names - self.names_written);
        let moved = (self.names_written as u32).wrapping_sub(other.span(range.clone()).start as u32);
        // SAFETY: the assertion: there is room for their names.
        unsafe {
            self.name(self.names_written)
                .copy_from_nonoverlapping(NonNull::from(names.as_bytes()).cast(), names.len());
        }
        self.names_written += names.len();
        let (table, _) = other.table()[2 * range.start..2 * range.end].as_chunks();
        // One loop for both: most buckets are so small that calls to copy them take longer.
        for ([start, key], subscriptions) in table.iter().zip(&other.subscriptions()[range]) {
            let subscriptions = subscriptions.clone();
            // SAFETY: the assertion: there is room for as many more.
            unsafe {
                self.table(self.written).write([start.wrapping_add(moved), *key]);
                self.subscriptions(self.written).write(subscriptions);
            }
            self.written += 1;
        }
    }

    fn finish(self) -> NonNull<()> {
        assert!(
            self.written == self.len && self.names_written == self.names,
            "fewer filters than were promised"
        );
        // SAFETY: the table has one word more.
        unsafe { self.table(self.len).cast().write(self.names as u32) };
        let start = self.start.cast();
        std::mem::forget(self);
        start
    }
}

impl<S> Unfinished<S> {
    /// Where start and key of filter `number` are.
    ///
    /// # Safety
    /// Of this function and those below: `number < len`, or `number == len`, where there is one word more in the table,
    /// and nothing else; of a name the same for `at` and `names`.
    unsafe fn table(&self, number: usize) -> NonNull<[u32; 2]> {
        // SAFETY: the caller's promise; within the allocation as `layout` made it, or at its end.
        unsafe { self.start.byte_add(TABLE).cast().add(number) }
    }

    unsafe fn subscriptions(&self, number: usize) -> NonNull<Subscriptions<S>> {
        // SAFETY: as above.
        unsafe { self.start.byte_add(subscriptions_at::<S>(self.len)).cast().add(number) }
    }

    unsafe fn name(&self, at: usize) -> NonNull<u8> {
        // SAFETY: as above.
        unsafe { self.start.byte_add(names_at::<S>(self.len) + at) }
    }
}

impl<S> Drop for Unfinished<S> {
    fn drop(&mut self) {
        // SAFETY: so many subscriptions were written and belong to this; the layout is that of `new`.
        unsafe {
            NonNull::slice_from_raw_parts(self.subscriptions(0), self.written).drop_in_place();
            dealloc(self.start.as_ptr(), layout::<S>(self.len, self.names));
        }
    }
}

impl<S: 'static> Element for Exact<S> {
    type Ref<'g> = LiveExact<'g, S>;
    type Bucket<'g> = LiveBucket<'g, S>;

    fn key(element: LiveExact<'_, S>) -> u64 {
        element.key.into()
    }

    fn len(bucket: LiveBucket<'_, S>) -> usize {
        bucket.len
    }

    // Bound early, as where the trait's types hide it.
    fn at<'g: 'g>(bucket: LiveBucket<'g, S>, number: usize) -> LiveExact<'g, S> {
        bucket.at(number)
    }

    unsafe fn borrow<'g>(bucket: NonNull<()>) -> LiveBucket<'g, S> {
        LiveBucket {
            start: bucket.cast(),
            // SAFETY: a bucket begins with its length.
            len: unsafe { bucket.cast::<u32>().read() } as usize,
            scope: PhantomData,
        }
    }

    unsafe fn free(bucket: NonNull<()>) {
        // SAFETY: made by `Unfinished`, so all of it was written, and the layout is the same; the caller promises
        // that this is the last use.
        unsafe {
            let bucket: LiveBucket<'_, S> = Self::borrow(bucket);
            let layout = layout::<S>(bucket.len, bucket.names_len());
            let subscriptions = bucket.start.byte_add(subscriptions_at::<S>(bucket.len)).cast();
            NonNull::<[Subscriptions<S>]>::slice_from_raw_parts(subscriptions, bucket.len).drop_in_place();
            dealloc(bucket.start.as_ptr(), layout);
        }
    }
}

impl<S: Clone + 'static> Copied for Exact<S> {
    /// Copying what counts references touches memory elsewhere for each: then fewer lie together.
    #[cfg(not(any(test, loom)))]
    const BUCKET: usize = if needs_drop::<S>() { 8 } else { 24 };
    #[cfg(any(test, loom))]
    const BUCKET: usize = if needs_drop::<S>() { 1 } else { 2 };

    fn gather<'g>(elements: impl ExactSizeIterator<Item = LiveExact<'g, S>> + Clone) -> NonNull<()> {
        let names = elements.clone().map(|exact| exact.name.len()).sum();
        let mut bucket = Unfinished::new(elements.len(), names);
        elements.for_each(|exact| bucket.push(exact));
        bucket.finish()
    }

    fn splice(bucket: LiveBucket<'_, S>, range: Range<usize>, new: Option<LiveExact<'_, S>>) -> NonNull<()> {
        let len = bucket.len - range.len() + usize::from(new.is_some());
        let names = bucket.names_len() - bucket.span(range.clone()).len() + new.map_or(0, |new| new.name.len());
        let mut spliced = Unfinished::new(len, names);
        spliced.extend(bucket, 0..range.start);
        if let Some(new) = new {
            spliced.push(new);
        }
        spliced.extend(bucket, range.end..bucket.len);
        spliced.finish()
    }
}

impl<S: 'static> Reclaimed<S> for Exact<S> {
    fn block(node: Node<Self>) -> Block<S> {
        Block::Exacts(node)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::super::set::Set;
    use super::super::subscription::Subscription;
    use super::*;

    fn one<S>(subscriber: S) -> Subscriptions<S> {
        let id = NonZeroU64::MIN;
        Set::One(Subscription { id, subscriber })
    }

    fn exact<'a, S>(key: u32, name: &'a str, subscriptions: &'a Subscriptions<S>) -> LiveExact<'a, S> {
        LiveExact {
            key,
            name,
            subscriptions,
        }
    }

    fn shown<S: Copy>(bucket: LiveBucket<'_, S>) -> Vec<(u32, &str, S)> {
        let filters = (0..bucket.len).map(|number| bucket.at(number));
        let shown = filters.map(|exact| match exact.subscriptions {
            Set::One(only) => (exact.key, exact.name, only.subscriber),
            Set::Many(_) => panic!("each was given one subscription"),
        });
        shown.collect()
    }

    /// Makes buckets of any type of subscriber, whatever its alignment.
    fn make_buckets<S: Copy + PartialEq + std::fmt::Debug + 'static>(subscribers: [S; 4]) {
        let [a, b, c, d] = subscribers;
        let (all, new) = ([one(a), one(b), one(c)], one(d));
        let filters = [exact(7, "a/b", &all[0]), exact(9, "", &all[1]), exact(7, "ä", &all[2])];
        let whole = Exact::gather(filters.into_iter());
        // SAFETY: just made, known to nobody else, and freed once, at the end.
        let bucket: LiveBucket<'_, S> = unsafe { Exact::borrow(whole) };
        assert_eq!(shown(bucket), [(7, "a/b", a), (9, "", b), (7, "ä", c)]);
        assert_eq!(bucket.find(7, "ä").map(|found| found.key), Some(7));
        assert!(bucket.find(9, "ä").is_none() && bucket.find(7, "a").is_none());
        assert_eq!(
            bucket.all_of_key(7).map(|found| found.name).collect::<Vec<_>>(),
            ["a/b", "ä"]
        );

        for at in 0..=3 {
            for end in at..=3 {
                for new in [None, Some(exact(1, "new/name", &new))] {
                    let mut wanted = shown(bucket);
                    wanted.splice(at..end, new.map(|new| (new.key, new.name, d)));
                    if wanted.is_empty() {
                        continue;
                    }
                    let spliced = Exact::splice(bucket, at..end, new);
                    // SAFETY: as above.
                    unsafe {
                        assert_eq!(shown::<S>(Exact::borrow(spliced)), wanted);
                        Exact::<S>::free(spliced);
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { Exact::<S>::free(whole) };
    }

    #[test]
    fn a_bucket_holds_what_it_was_given_whatever_the_alignment() {
        make_buckets([1_u8, 2, 3, 4]);
        make_buckets([1_u64, 2, 3, 4]);
        make_buckets([1_u128, 2, 3, u128::MAX]);
        make_buckets([(); 4]);
    }

    /// Panics when it is cloned for the fifth time.
    struct Fused(Rc<std::cell::Cell<u32>>);

    impl Clone for Fused {
        fn clone(&self) -> Self {
            self.0.set(self.0.get() + 1);
            assert!(self.0.get() != 5, "the fuse has burnt down");
            Fused(Rc::clone(&self.0))
        }
    }

    #[test]
    fn a_clone_that_panics_leaks_nothing() {
        let counted = Rc::new(std::cell::Cell::new(0));
        let subscriptions = one(Fused(Rc::clone(&counted)));
        let filters = [exact(1, "a", &subscriptions); 3];
        let whole = Exact::gather(filters.into_iter());
        // SAFETY: just made, known to nobody else, and freed once, at the end.
        let bucket: LiveBucket<'_, Fused> = unsafe { Exact::borrow(whole) };
        let new = Some(exact(2, "b", &subscriptions));
        let spliced = catch_unwind(AssertUnwindSafe(|| Exact::splice(bucket, 1..2, new)));
        assert!(spliced.is_err());
        assert_eq!(
            Rc::strong_count(&counted),
            2 + 3,
            "here, in the filters' set and in the bucket"
        );
        // SAFETY: as above.
        unsafe { Exact::<Fused>::free(whole) };
        assert_eq!(Rc::strong_count(&counted), 2);
    }
}
