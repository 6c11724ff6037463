//! Provided buffers: one ring of equal buffers from which the kernel takes one per receive.
//!
//! Buffers are leases that go home on drop. Giving back is two steps: a dropped [`Lease`] writes its entry into the
//! ring (`add`), and [`BufferRing::commit`] makes all entries since the last one visible to the kernel by one store.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

const PAGE: usize = 4096;

/// The buffers and the ring that offers them to the kernel.
///
/// Invariant: every buffer is in exactly one place: offered in the ring, or out as one [`Lease`].
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    size: u32,
    /// The next position to write, not yet seen by the kernel until committed.
    tail: Cell<u16>,
    /// Buffers out as leases or filled and not yet harvested.
    taken: Cell<u16>,
}

impl BufferRing {
    /// `count` buffers (a power of two, at most 32,768) of `size` bytes each.
    pub(crate) fn new(count: u16, size: u32) -> io::Result<BufferRing> {
        if !count.is_power_of_two() || count > 1 << 15 || size == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{count} receive buffers of {size} bytes: the count has to be a power of two up to 32768"),
            ));
        }
        let ring = BufferRing {
            entries: allocate(Self::entries_layout(count)).cast(),
            memory: allocate(Self::memory_layout(count, size)),
            count,
            size,
            tail: Cell::new(0),
            taken: Cell::new(count),
        };
        for id in 0..count {
            ring.add(id);
        }
        ring.commit();
        Ok(ring)
    }

    fn entries_layout(count: u16) -> Layout {
        Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE).expect("at most 512 KiB")
    }

    fn memory_layout(count: u16, size: u32) -> Layout {
        Layout::from_size_align(usize::from(count) * size as usize, PAGE).expect("at most 128 TiB")
    }

    pub(crate) fn address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Buffers the kernel does not have at present.
    pub(crate) fn taken(&self) -> u16 {
        self.taken.get()
    }

    /// Writes buffer `id` into the ring; the kernel sees it after the next [`BufferRing::commit`].
    fn add(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (self.count - 1));
        // SAFETY: `index < count`, so both the entry and the buffer's start lie inside their allocations. Entries
        // between the committed tail and the head are not read by the kernel, and only this thread writes them
        // (the type is not Sync).
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * self.size as usize) as u64);
            entry.set_len(self.size);
            entry.set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        self.taken.set(self.taken.get() - 1);
    }

    /// Makes all added buffers available to the kernel.
    pub(crate) fn commit(&self) {
        // SAFETY: `entries` points at the first entry of the ring, in whose reserved field the kernel keeps the tail;
        // the field is two bytes, aligned, and shared with the kernel only through atomic access.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail.get(), Ordering::Release);
    }

    /// The lease of a buffer that the kernel has just reported filled with `len` bytes.
    pub(crate) fn lease(self: &Rc<Self>, id: u16, len: u32) -> Lease {
        assert!(
            id < self.count && len <= self.size,
            "the kernel reports a buffer of this ring"
        );
        self.taken.set(self.taken.get() + 1);
        Lease {
            ring: Rc::clone(self),
            id,
            len,
        }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: both were allocated in `new` with these very layouts. No lease is left (each holds an Rc of this),
        // and the io_uring instance that knew the ring was dropped before (see the field order of `Ring`).
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::entries_layout(self.count));
            dealloc(self.memory.as_ptr(), Self::memory_layout(self.count, self.size));
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout's size is not zero: counts are powers of two and sizes are checked by `new`.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Received bytes, in a buffer that goes back to the kernel when this is dropped.
pub struct Lease {
    ring: Rc<BufferRing>,
    id: u16,
    len: u32,
}

impl Lease {
    fn start(&self) -> *mut u8 {
        // SAFETY: `id < count` was checked when the lease was made, so the offset is inside the allocation.
        unsafe {
            self.ring
                .memory
                .as_ptr()
                .add(usize::from(self.id) * self.ring.size as usize)
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer belongs to this lease alone until it is dropped: the kernel gave it up by reporting it
        // and gets it back only through `add`. `len <= size`, and the memory was zeroed, so it is initialised.
        unsafe { std::slice::from_raw_parts(self.start(), self.len as usize) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len as usize) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ring.add(self.id);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_offered_again_when_its_lease_is_dropped() {
        let ring = Rc::new(BufferRing::new(4, 64).unwrap());
        assert_eq!(ring.taken(), 0);
        let mut first = ring.lease(2, 5);
        first.copy_from_slice(b"hello");
        let second = ring.lease(3, 64);
        assert_eq!(ring.taken(), 2);
        assert_eq!((&first[..], second.len()), (&b"hello"[..], 64));
        drop(first);
        drop(second);
        assert_eq!(ring.taken(), 0);
        ring.commit();
    }

    #[test]
    fn a_count_that_is_no_power_of_two_is_refused_with_the_reason() {
        let error = BufferRing::new(3, 64).err().expect("3 is no power of two");
        assert!(error.to_string().contains("power of two"), "{error}");
    }
}
