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
/// len: u32 | keys: [u32; len] | ends: [u32; len] | subscriptions: [Subscriptions<S>; len] | names
/// ```
///
/// The name of number `i` ends `ends[i]` bytes behind the beginning of the names, and begins where that of `i - 1`
/// ends. Of a short name on its own, `malloc`, a pointer to it and its whole hash would take as much as all the rest.
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

/// Before the keys: their number.
const KEYS: usize = size_of::<u32>();

/// Where the ends of names of a bucket of `len` begin.
const fn ends_at(len: usize) -> usize {
    KEYS + len * size_of::<u32>()
}

/// Where its subscriptions begin.
const fn subscriptions_at<S>(len: usize) -> usize {
    let align = align_of::<Subscriptions<S>>();
    (ends_at(len) + len * size_of::<u32>()).next_multiple_of(align)
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

    fn keys(self) -> &'g [u32] {
        // SAFETY: what is behind the length is as many keys, unchanged during 'g.
        unsafe { NonNull::slice_from_raw_parts(self.start.byte_add(KEYS).cast(), self.len).as_ref() }
    }

    fn ends(self) -> &'g [u32] {
        // SAFETY: what is behind the keys is as many ends, unchanged during 'g.
        unsafe { NonNull::slice_from_raw_parts(self.start.byte_add(ends_at(self.len)).cast(), self.len).as_ref() }
    }

    fn subscriptions(self) -> &'g [Subscriptions<S>] {
        let at = subscriptions_at::<S>(self.len);
        // SAFETY: there are as many, aligned as `layout` promised, and unchanged during 'g.
        unsafe { NonNull::slice_from_raw_parts(self.start.byte_add(at).cast(), self.len).as_ref() }
    }

    /// Where in the names those of the filters of `range` are.
    fn span(self, range: Range<usize>) -> Range<usize> {
        let ends = self.ends();
        let before = |number: usize| if number == 0 { 0 } else { ends[number - 1] as usize };
        before(range.start)..before(range.end)
    }

    fn names(self, range: Range<usize>) -> &'g str {
        let span = self.span(range);
        // SAFETY: ends rise up to the number of bytes behind the subscriptions, unchanged during 'g. They are
        // whole names one after the other, each copied from a `str`.
        unsafe {
            let start = self.start.byte_add(names_at::<S>(self.len) + span.start);
            str::from_utf8_unchecked(NonNull::slice_from_raw_parts(start, span.len()).as_ref())
        }
    }

    fn at(self, number: usize) -> LiveExact<'g, S> {
        LiveExact {
            key: self.keys()[number],
            name: self.names(number..number + 1),
            subscriptions: &self.subscriptions()[number],
        }
    }

    /// The filters of that key, which may be those of several names.
    pub(super) fn all_of_key(self, key: u32) -> impl Iterator<Item = LiveExact<'g, S>> {
        (0..self.len)
            .filter(move |number| self.keys()[*number] == key)
            .map(move |number| self.at(number))
    }

    /// The filter of that key and name.
    pub(super) fn find(self, key: u32, name: &str) -> Option<LiveExact<'g, S>> {
        self.all_of_key(key).find(|exact| exact.name == name)
    }
}

/// The filter of that key and name in a set.
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
        let end = self.names_written + name.len();
        // SAFETY: the assertion: there is room for one more, and its name.
        unsafe {
            self.key(self.written).write(key);
            self.end(self.written).write(end as u32);
            self.subscriptions(self.written).write(subscriptions);
            self.name(self.names_written)
                .copy_from_nonoverlapping(NonNull::from(name.as_bytes()).cast(), name.len());
        }
        self.written += 1;
        self.names_written = end;
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
        let (keys, ends) = (&other.keys()[range.clone()], &other.ends()[range.clone()]);
        // One loop for all three: most buckets are so small that calls to copy them take longer.
        for ((key, end), subscriptions) in keys.iter().zip(ends).zip(&other.subscriptions()[range]) {
            let subscriptions = subscriptions.clone();
            // SAFETY: the assertion: there is room for as many more.
            unsafe {
                self.key(self.written).write(*key);
                self.end(self.written).write(end.wrapping_add(moved));
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
        let start = self.start.cast();
        std::mem::forget(self);
        start
    }
}

impl<S> Unfinished<S> {
    /// Where the key of filter `number` is.
    ///
    /// # Safety
    /// Of this function and those below: `number < len`, or, to write nothing there, `number == len`; of a name
    /// the same for `at` and `names`.
    unsafe fn key(&self, number: usize) -> NonNull<u32> {
        // SAFETY: the caller's promise; within the allocation as `layout` made it, or at its end.
        unsafe { self.start.byte_add(KEYS).cast().add(number) }
    }

    unsafe fn end(&self, number: usize) -> NonNull<u32> {
        // SAFETY: as above.
        unsafe { self.start.byte_add(ends_at(self.len)).cast().add(number) }
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
