//! A published message: one allocation, however many have it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use super::sync::{AtomicUsize, Ordering, fence};

/// The block behind the handles. The bytes of the topic follow it.
struct Block<T> {
    /// Handles and shares of rings.
    count: AtomicUsize,
    /// In bytes.
    topic: usize,
    /// Counts what a hub retained; 0 for a message that was not.
    retained: u64,
    value: T,
}

impl<T> Block<T> {
    /// Of a block with so many bytes of topic.
    fn layout(topic: usize) -> Layout {
        let layout = Layout::new::<Self>();
        Layout::from_size_align(layout.size() + topic, layout.align()).expect("a topic has at most 64 KiB")
    }
}

/// What was published: a topic and a value, shared by all who receive it.
///
/// Cloning counts, and copies nothing. Dereferences to the value.
///
/// Invariant: `count` is the number of handles and of shares that rings hold, and the block lives as
/// long as it is above 0.
pub struct Message<T> {
    block: NonNull<Block<T>>,
    owned: PhantomData<Block<T>>,
}

// SAFETY: a handle gives every thread `&T` and may drop `T` on any, as an `Arc` does.
unsafe impl<T: Send + Sync> Send for Message<T> {}
// SAFETY: the same.
unsafe impl<T: Send + Sync> Sync for Message<T> {}

impl<T> Message<T> {
    /// A message of its own, as a hub makes them.
    #[must_use]
    pub fn new(topic: &str, value: T) -> Self {
        Self::retained(topic, value, 0)
    }

    pub(crate) fn retained(topic: &str, value: T, retained: u64) -> Self {
        let layout = Block::<T>::layout(topic.len());
        // SAFETY: a block is never of size zero, for it has a count.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }.cast::<Block<T>>()) else {
            handle_alloc_error(layout)
        };
        // SAFETY: freshly allocated with room for a block and the topic behind it.
        unsafe {
            block.write(Block {
                count: AtomicUsize::new(1),
                topic: topic.len(),
                retained,
                value,
            });
            let bytes = block.add(1).cast::<u8>();
            bytes.copy_from_nonoverlapping(NonNull::from(topic).cast(), topic.len());
        }
        Message {
            block,
            owned: PhantomData,
        }
    }

    /// Where it was published.
    #[must_use]
    pub fn topic(&self) -> &str {
        let length = self.block().topic;
        // SAFETY: `length` bytes of UTF-8 follow the block, which lives as long as the handle.
        unsafe {
            let bytes = self.block.add(1).cast::<u8>();
            std::str::from_utf8_unchecked(NonNull::slice_from_raw_parts(bytes, length).as_ref())
        }
    }

    /// What was published.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.block().value
    }

    /// Whether both are of the same publish.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.block == other.block
    }

    /// The number by which the hub retained it; 0 if it did not.
    pub(crate) fn retained_as(&self) -> u64 {
        self.block().retained
    }

    fn block(&self) -> &Block<T> {
        // SAFETY: the block lives as long as the handle.
        unsafe { self.block.as_ref() }
    }

    /// Counts `shares` more and gives what stands for them: each is to be given back once, by
    /// [`from_share`](Self::from_share) or [`release`](Self::release).
    pub(super) fn share(&self, shares: usize) -> NonNull<()> {
        let count = &self.block().count;
        // Relaxed: whoever counts up has a handle, so the block is not going away. And if that is the
        // only one, nobody else counts: no need for a locked instruction. Acquire: what those did who
        // had another one comes before what is done with the new shares, for the store below does not
        // pass it on.
        let count = match count.load(Ordering::Acquire) {
            1 => {
                count.store(1 + shares, Ordering::Relaxed);
                1
            }
            _ => count.fetch_add(shares, Ordering::Relaxed),
        };
        // As in `Arc`: leaked handles must not make the count wrap.
        if count > isize::MAX as usize {
            std::process::abort();
        }
        self.block.cast()
    }

    /// As [`share`](Self::share), with this handle as one of the shares; at least one.
    pub(super) fn into_share(self, shares: usize) -> NonNull<()> {
        let share = match shares {
            1 => self.block.cast(),
            _ => self.share(shares - 1),
        };
        std::mem::forget(self);
        share
    }

    /// The handle that a share stands for.
    ///
    /// # Safety
    /// `share` comes from [`share`](Self::share) of a message of the same `T`, and this share of it
    /// was not given back yet.
    pub(super) unsafe fn from_share(share: NonNull<()>) -> Self {
        Message {
            block: share.cast(),
            owned: PhantomData,
        }
    }

    /// Gives back `shares` at once.
    ///
    /// # Safety
    /// As for [`from_share`](Self::from_share), for each of them.
    pub(super) unsafe fn release(share: NonNull<()>, shares: usize) {
        // SAFETY: the caller's promise: these are counted.
        unsafe { drop_counted(share.cast::<Block<T>>(), shares) };
    }
}

/// # Safety
/// So many of the count belong to the caller, who does not use them again.
unsafe fn drop_counted<T>(block: NonNull<Block<T>>, handles: usize) {
    // SAFETY: the caller's handles keep the block alive up to here.
    let shared = unsafe { block.as_ref() };
    // If these are all there are nobody can count up either: no need for a locked instruction.
    // Acquire, here and in the fence: what other handles did to the value comes before its drop.
    if shared.count.load(Ordering::Acquire) != handles {
        if shared.count.fetch_sub(handles, Ordering::Release) != handles {
            return;
        }
        fence(Ordering::Acquire);
    }
    let layout = Block::<T>::layout(shared.topic);
    /// Frees the block also when the drop of the value panics.
    struct Free(NonNull<u8>, Layout);
    impl Drop for Free {
        fn drop(&mut self) {
            // SAFETY: allocated by `Message::retained` with this layout; nobody has it any more.
            unsafe { dealloc(self.0.as_ptr(), self.1) };
        }
    }
    let _free = Free(block.cast(), layout);
    // SAFETY: the count is 0: this is the last use.
    unsafe { block.drop_in_place() };
}

impl<T> Drop for Message<T> {
    fn drop(&mut self) {
        // SAFETY: the handle is one of the count.
        unsafe { drop_counted(self.block, 1) };
    }
}

impl<T> Clone for Message<T> {
    fn clone(&self) -> Self {
        let share = self.share(1);
        // SAFETY: the share just made.
        unsafe { Self::from_share(share) }
    }
}

impl<T> Deref for Message<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value()
    }
}

impl<T: fmt::Debug> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("value", self.value())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_message_keeps_its_topic_and_drops_its_value_with_the_last_handle() {
        let value = Arc::new(7);
        for topic in ["a", "a/b/ü", &"x".repeat(65_535)] {
            let message = Message::new(topic, Arc::clone(&value));
            let other = message.clone();
            assert!(message.is_same(&other) && !message.is_same(&Message::new(topic, Arc::clone(&value))));
            drop(message);
            assert_eq!((other.topic(), **other), (topic, 7));
            assert_eq!(Arc::strong_count(&value), 2);
            drop(other);
            assert_eq!(Arc::strong_count(&value), 1);
        }
    }

    #[test]
    fn shares_count_like_handles() {
        let value = Arc::new(());
        let message = Message::new("a", Arc::clone(&value));
        let share = message.share(3);
        drop(message);
        assert_eq!(Arc::strong_count(&value), 2);
        // SAFETY: three shares: one by one, then the rest.
        let (one, ()) = unsafe {
            (
                Message::<Arc<()>>::from_share(share),
                Message::<Arc<()>>::release(share, 2),
            )
        };
        assert_eq!(Arc::strong_count(&value), 2);
        drop(one);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_value_that_panics_when_dropped_is_freed_all_the_same() {
        struct Bomb(Arc<()>);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(Arc::strong_count(&self.0) == 0, "the bomb goes off");
            }
        }
        let counted = Arc::new(());
        let message = Message::new("a", Bomb(Arc::clone(&counted)));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(message))).is_err());
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
