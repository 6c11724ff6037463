//! One allocation that holds a header and a run of items.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::offset_of;
use std::ptr::NonNull;

/// A header, and behind it `len` items whose number is known only when it is made: one pointer to
/// follow instead of two, and one word wide.
///
/// It is handled by pointer alone: a reference to it would not reach the items.
#[repr(C)]
pub(super) struct Run<H, T> {
    header: H,
    len: u32,
    items: [T; 0],
}

impl<H, T> Run<H, T> {
    /// Allocates a run of the first `len` items that `items` gives.
    ///
    /// # Panics
    /// If there are fewer, or more than `u32::MAX`; then nothing leaks.
    pub(super) fn new(header: H, len: usize, items: impl IntoIterator<Item = T>) -> NonNull<Self> {
        /// What was written so far, should `items` panic.
        struct Unfinished<H, T>(NonNull<Run<H, T>>, u32);

        impl<H, T> Drop for Unfinished<H, T> {
            fn drop(&mut self) {
                let Unfinished(run, written) = *self;
                // SAFETY: allocated for more items than these, which were written, as the header
                // was; nobody else knows the pointer.
                unsafe {
                    Run::items(run, written).drop_in_place();
                    (&raw mut (*run.as_ptr()).header).drop_in_place();
                    let len = (*run.as_ptr()).len;
                    dealloc(run.as_ptr().cast(), Run::<H, T>::layout(len));
                }
            }
        }

        let len = u32::try_from(len).expect("a run has at most u32::MAX items");
        let layout = Self::layout(len);
        // SAFETY: the layout includes `len` itself, so it is not of size zero.
        let run = unsafe { alloc(layout) }.cast::<Self>();
        let Some(run) = NonNull::new(run) else {
            handle_alloc_error(layout)
        };
        // SAFETY: allocated with the layout of this type, and its own.
        unsafe {
            (&raw mut (*run.as_ptr()).header).write(header);
            (&raw mut (*run.as_ptr()).len).write(len);
        }
        let mut unfinished = Unfinished(run, 0);
        for item in items.into_iter().take(len as usize) {
            // SAFETY: fewer than `len` were written, and there is room for those.
            unsafe { Self::items(run, len).cast::<T>().add(unfinished.1 as usize).write(item) };
            unfinished.1 += 1;
        }
        assert_eq!(unfinished.1, len, "fewer items than were promised");
        std::mem::forget(unfinished);
        run
    }

    /// Borrows the header.
    ///
    /// # Safety
    /// The run is neither freed nor changed during `'g`.
    pub(super) unsafe fn header<'g>(run: NonNull<Self>) -> &'g H {
        // SAFETY: written by `new`; the caller's promise.
        unsafe { &(*run.as_ptr()).header }
    }

    /// Borrows the items.
    ///
    /// # Safety
    /// The run is neither freed nor changed during `'g`.
    pub(super) unsafe fn slice<'g>(run: NonNull<Self>) -> &'g [T] {
        // SAFETY: both were written by `new`, all `len` of them; the caller's promise.
        unsafe { Self::items(run, (*run.as_ptr()).len).as_ref() }
    }

    /// Has memory bring the run, while the caller does something else before it looks at it.
    ///
    /// # Safety
    /// The run is neither freed nor changed meanwhile.
    pub(super) unsafe fn touch(run: NonNull<Self>) {
        // SAFETY: written by `new`; the caller's promise. Volatile: a load nobody needs would be
        // left out.
        unsafe { (&raw const (*run.as_ptr()).len).read_volatile() };
    }

    /// Frees the run, its header and its items.
    ///
    /// # Safety
    /// Nobody else can reach the run, and it is freed once.
    pub(super) unsafe fn free(run: NonNull<Self>) {
        // SAFETY: made by `new`, so that all of it was written and the layout is the same; the
        // caller promises that this is the last use.
        unsafe {
            let len = (*run.as_ptr()).len;
            Self::items(run, len).drop_in_place();
            (&raw mut (*run.as_ptr()).header).drop_in_place();
            dealloc(run.as_ptr().cast(), Self::layout(len));
        }
    }

    /// Where the first `len` items are.
    ///
    /// # Safety
    /// `run` is allocated, for at least as many.
    unsafe fn items(run: NonNull<Self>, len: u32) -> NonNull<[T]> {
        // SAFETY: within the allocation, as `layout` made it.
        let first = unsafe { run.byte_add(offset_of!(Self, items)) };
        NonNull::slice_from_raw_parts(first.cast(), len as usize)
    }

    fn layout(len: u32) -> Layout {
        let own = Layout::new::<Self>();
        let bytes = size_of::<T>()
            .checked_mul(len as usize)
            .and_then(|bytes| bytes.checked_add(offset_of!(Self, items)))
            .expect("a run fits in memory");
        // What is aligned behind the last item belongs to the run, so that a reference to its
        // header and length stays within the allocation.
        Layout::from_size_align(bytes.max(own.size()), own.align())
            .expect("a run fits in memory")
            .pad_to_align()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_run_holds_what_it_was_given_whatever_the_alignment() {
        let names = Run::new(7_u64, 3, *b"abc");
        let wide = Run::new(1_u8, 2, [u128::MAX, 5]);
        let none = Run::new((), 0, [0_u64; 0]);
        // SAFETY: just made, known to nobody else, and freed once, at the end.
        unsafe {
            assert_eq!((Run::header(names), Run::slice(names)), (&7, &b"abc"[..]));
            assert_eq!((Run::header(wide), Run::slice(wide)), (&1, &[u128::MAX, 5][..]));
            assert_eq!(Run::slice(none), []);
            Run::free(names);
            Run::free(wide);
            Run::free(none);
        }
    }

    #[test]
    fn an_iterator_that_panics_or_ends_early_leaks_nothing() {
        let counted = Rc::new(());
        let header = counted.clone();
        let items = (0..3).map(|index| {
            assert!(index < 2, "no third");
            counted.clone()
        });
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Run::new(header, 3, items)));
        assert!(made.is_err());
        let few = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Run::new(counted.clone(), 2, [counted.clone()])
        }));
        assert!(few.is_err());
        assert_eq!(Rc::strong_count(&counted), 1);
    }
}
