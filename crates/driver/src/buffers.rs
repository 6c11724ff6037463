//! Receive buffers: one ring of equal buffers, which the kernel fills with what it receives.
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
//!
//! Without io_uring the kernel does not know the ring: a [`Filler`] takes its part, and fills piece by piece.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

const PAGE: usize = 4096;
/// Buffers that are filled piece by piece are so many times fewer, and larger: half the memory holds as much, for none of
/// it is left empty behind a small message.
const FEWER: u16 = 16;
const LARGER: u32 = 8;
const MIN_BUFFERS: u16 = 4;

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

    /// Buffers that are filled piece by piece, in place of `count` of `size` bytes that are not.
    pub(crate) fn in_pieces(count: u16, size: u32) -> io::Result<BufferRing> {
        Self::check(count, size)?;
        BufferRing::new((count / FEWER).max(MIN_BUFFERS), size * LARGER)
    }

    /// Whether there can be so many buffers of that size.
    fn check(count: u16, size: u32) -> io::Result<()> {
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

    /// The buffer in the ring's entry number `head`, counted from the first ever, unless nothing was added there yet.
    fn offered(&self, head: u16) -> Option<u16> {
        if head == self.tail.get() {
            return None;
        }
        let index = usize::from(head & (self.count - 1));
        // SAFETY: `index < count`, so the entry lies inside its allocation; it was written by `add`, on this thread.
        Some(unsafe { (*self.entries.as_ptr().add(index)).bid() })
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

/// Fills the buffers of a ring that the kernel does not know, one after the other in the order in which they come home.
pub(crate) struct Filler {
    ring: Rc<BufferRing>,
    /// The number of the ring's entry with the buffer that is being filled.
    head: u16,
    /// A buffer with less room than this is done.
    least: u32,
}

impl Filler {
    /// Fills as many buffers as io_uring has for [`BufferRing::in_pieces`]; each receive has room for at least `size` bytes.
    pub(crate) fn new(count: u16, size: u32) -> io::Result<Filler> {
        Ok(Filler {
            ring: Rc::new(BufferRing::in_pieces(count, size)?),
            head: 0,
            least: size,
        })
    }

    pub(crate) fn ring(&self) -> &BufferRing {
        &self.ring
    }

    /// Where the next bytes go; nowhere, if all buffers are filled.
    pub(crate) fn room(&mut self) -> Option<&mut [MaybeUninit<u8>]> {
        let id = self.ring.offered(self.head)?;
        let filled = self.ring.states[usize::from(id)].filled.get();
        let offset = usize::from(id) * self.ring.size as usize + filled as usize;
        let room = (self.ring.size - filled) as usize;
        // SAFETY: the octets of an offered buffer behind `filled` lie inside the allocation and belong to no lease. No kernel knows this ring, and `&mut self` makes this the only way to them.
        Some(unsafe { std::slice::from_raw_parts_mut(self.ring.memory.as_ptr().add(offset).cast(), room) })
    }

    /// The lease of the first `len` octets of the room, which have been written.
    pub(crate) fn fill(&mut self, len: usize) -> Lease {
        let id = self.ring.offered(self.head).expect("there was room");
        let filled = self.ring.states[usize::from(id)].filled.get();
        let more = self.ring.size - filled >= len as u32 + self.least;
        if !more {
            self.head = self.head.wrapping_add(1);
        }
        self.ring.lease(id, len as u32, more)
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: both were allocated in `new` with these very layouts. No lease is left (each holds an Rc of this),
        // and the io_uring instance that knew the ring was dropped before (see the field order of `Uring`).
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
    fn a_filler_goes_on_in_a_buffer_until_there_is_little_room_and_stops_when_all_are_out() {
        let mut filler = Filler::new(4, 16).unwrap();
        let (count, size) = (filler.ring().count(), 16 * LARGER as usize);
        let mut leases = Vec::new();
        for buffer in 0..count {
            // The second piece leaves room for less than 16 octets.
            for (len, room) in [(size - 20, size), (5, 20)] {
                let octets = filler.room().unwrap();
                assert_eq!(octets.len(), room, "buffer {buffer}");
                octets[..len].fill(MaybeUninit::new(buffer as u8 + len as u8));
                leases.push(filler.fill(len));
            }
        }
        assert!(filler.room().is_none(), "all {count} are out");
        for (number, lease) in leases.iter().enumerate() {
            let len = [size - 20, 5][number % 2];
            assert_eq!(&lease[..], vec![(number / 2) as u8 + len as u8; len]);
        }
        // They are filled again in the order in which they come home, whole.
        leases.rotate_left(2);
        drop(leases);
        for _ in 0..2 * count {
            assert_eq!(filler.room().unwrap().len(), size);
            drop(filler.fill(size));
        }
        assert_eq!(filler.ring().taken(), 0);
    }

    #[test]
    fn a_count_that_is_no_power_of_two_is_refused_with_the_reason() {
        let error = BufferRing::new(3, 64).err().expect("3 is no power of two");
        assert!(error.to_string().contains("power of two"), "{error}");
    }
}
