//! Provided buffers: memory that the kernel picks from.

use std::io;
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

const PAGE: usize = 4096;

/// Rings of provided buffers, one behind the other. Never freed: the kernel may know them as long as the process lives.
pub(crate) struct Groups {
    /// The first entry of the first ring; every ring starts on a page.
    memory: NonNull<u8>,
    /// Entries of each, a power of two.
    entries: u16,
    tails: Vec<u16>,
}

impl Groups {
    /// Makes `count` rings, and tells `uring` of them as groups 0 and up.
    pub(crate) fn register(uring: &IoUring, count: usize, entries: u16, flags: u16) -> io::Result<Groups> {
        let groups = Groups {
            memory: pages(count * Groups::stride(entries)),
            entries,
            tails: vec![0; count],
        };
        for group in 0..count {
            // SAFETY: the ring's memory starts on a page, is long enough for its entries, all zeroes, and never freed.
            unsafe {
                uring.submitter().register_buf_ring_with_flags(
                    groups.ring(group).as_ptr() as u64,
                    entries,
                    group as u16,
                    flags,
                )
            }?;
        }
        Ok(groups)
    }

    /// Octets from one ring to the next.
    fn stride(entries: u16) -> usize {
        (usize::from(entries) * size_of::<BufRingEntry>()).next_multiple_of(PAGE)
    }

    fn ring(&self, group: usize) -> NonNull<BufRingEntry> {
        assert!(group < self.tails.len());
        // SAFETY: the allocation holds as many rings as there are tails.
        unsafe { self.memory.add(group * Groups::stride(self.entries)) }.cast()
    }

    /// Offers `buffer`, of `len` octets, as the next of its group, under the name `id`. A group never has more than its
    /// entries on offer.
    pub(crate) fn offer(&mut self, group: usize, id: u16, buffer: *const u8, len: usize) {
        let (ring, tail) = (self.ring(group), &mut self.tails[group]);
        // SAFETY: the index is below `entries`; the kernel reads no entry between the tail and the head, and only this
        // thread writes them. The tail is two octets in the first entry that are shared by atomic access alone.
        let shared = unsafe {
            let entry = ring.add(usize::from(*tail & (self.entries - 1))).as_mut();
            entry.set_addr(buffer as u64);
            entry.set_len(len as u32);
            entry.set_bid(id);
            AtomicU16::from_ptr(BufRingEntry::tail(ring.as_ptr()).cast_mut())
        };
        *tail = tail.wrapping_add(1);
        shared.store(*tail, Ordering::Release);
    }
}

/// Zeroed memory that starts on a page and is never freed.
pub(crate) fn pages(octets: usize) -> NonNull<u8> {
    let layout = std::alloc::Layout::from_size_align(octets, PAGE).expect("below the size of the memory");
    // SAFETY: nobody asks for no memory at all: counts of rings and of buffers are at least one.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
}
