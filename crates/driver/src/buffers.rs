//! Provided buffers: one ring of equal buffers which the kernel fills with what it receives.
//!
//! ```text
//!   a buffer  │ piece │ piece │ piece │   room   │      one piece for each receive, in order
//!               Lease   Lease   Lease   kernel's
//! ```
//!
//! Where the kernel can (`IOU_PBUF_RING_INC`, Linux 6.12), it fills a buffer piece by piece, so that a small message does not take a whole
//! one; elsewhere a buffer has one piece. A piece is a lease. A buffer goes home once the kernel is done with it and
//! the last of its leases was dropped, in two steps: its entry is written into the ring (`add`), and
//! [`BufferRing::commit`] makes all entries since the last one visible to the kernel by one store.

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
/// Invariant: of every buffer, the octets before `filled` are out as leases, or were; those from there on are the kernel's,
/// unless it is done with the buffer.
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    size: u32,
    /// The next position to write, not yet seen by the kernel until committed.
    tail: Cell<u16>,
    /// Buffers that the kernel is done with and that are not offered again.
    taken: Cell<u16>,
    /// What became of each buffer.
    states: Box<[State]>,
}

/// How far a buffer has come.
#[derive(Debug, Default)]
struct State {
    /// Octets that the kernel has reported.
    filled: Cell<u32>,
    /// Leases that were not dropped.
    leases: Cell<u32>,
    /// The kernel puts nothing more into it.
    done: Cell<bool>,
}

impl BufferRing {
    /// `count` buffers (a power of two, at most 32,768) of `size` bytes each.
    pub(crate) fn new(count: u16, size: u32) -> io::Result<BufferRing> {
        Self::check(count, size)?;
        let ring = BufferRing {
            entries: allocate(Self::entries_layout(count)).cast(),
            memory: allocate(Self::memory_layout(count, size)),
            count,
            size,
            tail: Cell::new(0),
            taken: Cell::new(count),
            states: (0..count).map(|_| State::default()).collect(),
        };
        for id in 0..count {
            ring.add(id);
        }
        ring.commit();
        Ok(ring)
    }

    /// Whether there can be so many buffers of that size.
    pub(crate) fn check(count: u16, size: u32) -> io::Result<()> {
        if !count.is_power_of_two() || count > 1 << 15 || size == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{count} receive buffers of {size} bytes: the count has to be a power of two up to 32768"),
            ));
        }
        Ok(())
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

    /// Bytes of all buffers.
    pub(crate) fn memory(&self) -> usize {
        usize::from(self.count) * self.size as usize
    }

    /// Buffers the kernel does not have at present.
    pub(crate) fn taken(&self) -> u16 {
        self.taken.get()
    }

    /// Writes the whole buffer `id` into the ring; the kernel sees it after the next [`BufferRing::commit`].
    fn add(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (self.count - 1));
        // SAFETY: `index < count`, so both the entry and the buffer's start lie inside their allocations. Entries
        // between the committed tail and the head are neither read nor written by the kernel, and only this thread writes
        // them (the type is not Sync).
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

    /// The lease of what the kernel has just reported: `len` octets of a buffer, behind what it reported before. With `more`,
    /// it goes on with the same buffer.
    pub(crate) fn lease(self: &Rc<Self>, id: u16, len: u32, more: bool) -> Lease {
        let state = &self.states[usize::from(id)];
        let start = state.filled.get();
        assert!(
            !state.done.get() && len <= self.size - start,
            "the kernel reports what it has put into a buffer of this ring"
        );
        state.filled.set(start + len);
        state.leases.set(state.leases.get() + 1);
        if !more {
            state.done.set(true);
            self.taken.set(self.taken.get() + 1);
        }
        Lease {
            ring: Rc::clone(self),
            start,
            len,
            id,
        }
    }

    /// A lease of buffer `id` is over.
    fn give_back(&self, id: u16) {
        let state = &self.states[usize::from(id)];
        state.leases.set(state.leases.get() - 1);
        if state.done.get() && state.leases.get() == 0 {
            state.filled.set(0);
            state.done.set(false);
            self.add(id);
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

/// Received bytes, in a buffer that can go back to the kernel when this is dropped.
pub struct Lease {
    ring: Rc<BufferRing>,
    start: u32,
    len: u32,
    id: u16,
}

impl Lease {
    fn start(&self) -> *mut u8 {
        let offset = usize::from(self.id) * self.ring.size as usize + self.start as usize;
        // SAFETY: that the buffer is one of the ring's and has these octets was checked when the lease was made, so the
        // offset is inside the allocation.
        unsafe { self.ring.memory.as_ptr().add(offset) }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: these octets belong to this lease alone until it is dropped: the kernel gave them up by reporting them,
        // reports none twice, and gets them back only through `add`, after the last lease of the buffer. They lie
        // inside it, and the memory was zeroed, so they are initialised.
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
        self.ring.give_back(self.id);
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
        let mut first = ring.lease(2, 5, false);
        first.copy_from_slice(b"hello");
        let second = ring.lease(3, 64, false);
        assert_eq!(ring.taken(), 2);
        assert_eq!((&first[..], second.len()), (&b"hello"[..], 64));
        drop(first);
        drop(second);
        assert_eq!(ring.taken(), 0);
        ring.commit();
    }

    #[test]
    fn a_buffer_that_is_filled_piece_by_piece_is_offered_again_after_the_last_of_them() {
        let ring = Rc::new(BufferRing::new(4, 64).unwrap());
        let mut pieces: Vec<_> = [(b"ab", true), (b"cd", true), (b"ef", false)]
            .into_iter()
            .map(|(text, more)| {
                let mut piece = ring.lease(1, 2, more);
                piece.copy_from_slice(text);
                piece
            })
            .collect();
        assert_eq!(ring.taken(), 1);
        let texts: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        assert_eq!(texts, [b"ab", b"cd", b"ef"]);
        // In whatever order they are dropped.
        pieces.swap(0, 1);
        while let Some(piece) = pieces.pop() {
            assert_eq!(ring.taken(), 1);
            drop(piece);
        }
        assert_eq!(ring.taken(), 0);
        // All dropped before the kernel is done: it goes on.
        drop(ring.lease(1, 3, true));
        assert_eq!(ring.taken(), 0);
        drop(ring.lease(1, 61, false));
        assert_eq!(ring.lease(1, 64, false).len(), 64);
    }

    #[test]
    fn a_count_that_is_no_power_of_two_is_refused_with_the_reason() {
        let error = BufferRing::new(3, 64).err().expect("3 is no power of two");
        assert!(error.to_string().contains("power of two"), "{error}");
    }
}
