//! A bounded ring of messages that many publish to and every reader sees whole.
//!
//! ```text
//!             tail: position 6, readers 3
//!   slots  ┌────────┬────────┬────────┬────────┐        readers' own positions: 4, 6, 2
//!          │ 4  ×2  │ 5  ×2  │ 2  ×1  │ 3  ×1  │        ×n: shares not taken yet
//!          └────────┴────────┴────────┴────────┘
//! ```
//!
//! Publishing is one atomic addition to `tail`, which gives the message its position and tells how
//! many readers it is for; the message gets as many shares at once, and the last word written is the
//! slot's, with that number. A reader takes its share by counting the slot down. So what a publish
//! costs does not depend on the readers, a message is freed when the last of them has dropped it, and
//! no reader is ever waited for: a publisher that needs a slot a lap later gives back the shares
//! that are left in it.
//!
//! A publisher waits in one case: when another one, a whole lap earlier, has its position and was
//! interrupted before it wrote the slot.
//!
//! Invariants, for the slot in which position `p` belongs:
//! 1. Its state goes from `(p - slots, n)` down to `(p - slots, m)`, to `BUSY` unless `m = 0`, and then to `(p, n)`.
//! 2. Its message is written only by the owner of `p`, between the last two.
//! 3. The shares given out and neither taken nor released are those the state counts.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crossbeam_utils::{Backoff, CachePadded};

use super::message::Message;
use super::sync::{AtomicPtr, AtomicU64, Ordering};

/// A word: the position above, a flag, and a number of readers below.
const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const FLAG: u64 = 1 << COUNT_BITS;
/// One position further. There are 2^43 of them before they come again: more than a week of a
/// publish every hundred nanoseconds, in which a reader would have had to sleep exactly as long.
const STEP: u64 = FLAG << 1;

const POSITIONS: u64 = u64::MAX / STEP + 1;

/// Of the tail: the last reader has left, and nobody joins any more.
const ENDED: u64 = FLAG;
/// Of a slot: being written.
const BUSY: u64 = FLAG;

/// The most readers of one ring.
const MAX_READERS: u64 = COUNT;

/// The most slots: positions must be far more.
const MAX_SLOTS: usize = 1 << 30;

fn position(word: u64) -> u64 {
    word & !(STEP - 1)
}

/// How many positions `to` is after `from`.
fn distance(from: u64, to: u64) -> u64 {
    position(to).wrapping_sub(position(from)) / STEP
}

struct Slot {
    /// Position, [`BUSY`], shares not taken.
    state: AtomicU64,
    /// What the shares are of.
    share: AtomicPtr<()>,
}

/// The ring. See the module.
pub(crate) struct Ring<T> {
    /// The next position, [`ENDED`], the readers.
    tail: CachePadded<AtomicU64>,
    slots: Box<[Slot]>,
    messages: PhantomData<Message<T>>,
}

/// How a publisher hands a message to the ring.
pub(crate) enum Handover<'m, T> {
    /// It goes elsewhere too.
    Lent(&'m Message<T>),
    /// It is done with it, which saves counting it.
    Given(Message<T>),
}

/// What became of a wish to read.
pub(crate) enum Join<T> {
    /// Reads from here on.
    Reader(Reader<T>),
    /// The last reader has left before; the ring is to be replaced.
    Ended,
    /// There are [`MAX_READERS`].
    Full,
}

impl<T> Ring<T> {
    /// A ring without readers that holds `capacity` messages or somewhat more.
    ///
    /// # Panics
    /// `capacity` is 0 or above 2^30.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!((1..=MAX_SLOTS).contains(&capacity), "a capacity is 1 to {MAX_SLOTS}");
        let slots = capacity.next_power_of_two() as u64;
        Ring {
            tail: CachePadded::new(AtomicU64::new(0)),
            slots: (0..slots)
                .map(|index| Slot {
                    state: AtomicU64::new(index.wrapping_sub(slots).wrapping_mul(STEP)),
                    share: AtomicPtr::new(ptr::null_mut()),
                })
                .collect(),
            messages: PhantomData,
        }
    }

    /// How many messages it holds; a power of two.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Adds a reader of what is published from now on.
    pub(crate) fn join(self: &Arc<Self>, capacity: usize) -> Join<T> {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            if tail & ENDED != 0 {
                return Join::Ended;
            }
            if tail & COUNT == MAX_READERS {
                return Join::Full;
            }
            match self
                .tail
                .compare_exchange_weak(tail, tail + 1, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Join::Reader(Reader {
                        ring: Arc::clone(self),
                        next: position(tail),
                        capacity: (capacity.min(self.slots.len())) as u64,
                    });
                }
                Err(now) => tail = now,
            }
        }
    }

    /// The number of readers.
    pub(crate) fn readers(&self) -> usize {
        (self.tail.load(Ordering::Relaxed) & COUNT) as usize
    }

    /// Publishes to every reader, and says how many there are. `message` is asked for only if there
    /// is one, before anything that others see.
    ///
    /// The last access to the ring is sequentially consistent, so that what is loaded that way
    /// afterwards, such as whether a reader sleeps, is not older.
    pub(crate) fn push<'m>(&self, message: impl FnOnce() -> Handover<'m, T>) -> usize
    where
        T: 'm,
    {
        // Whoever has joined before this call is seen: the load is not older than what it follows.
        if self.readers() == 0 {
            return 0;
        }
        let message = message();
        let tail = self.tail.fetch_add(STEP, Ordering::AcqRel);
        let (at, readers) = (position(tail), tail & COUNT);
        let slot = self.slot(at);
        let before = at.wrapping_sub(self.slots.len() as u64 * STEP);
        let backoff = Backoff::new();
        let mut state = slot.state.load(Ordering::Acquire);
        loop {
            if state == before {
                // No share is left, so that nobody else writes this slot.
                break;
            }
            if position(state) != before || state & BUSY != 0 {
                // Its owner of a lap ago is not done.
                backoff.snooze();
                state = slot.state.load(Ordering::Acquire);
                continue;
            }
            // Who lags does not get it any more.
            match slot
                .state
                .compare_exchange_weak(state, before | BUSY, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    Self::release(slot, state & COUNT);
                    break;
                }
                Err(now) => state = now,
            }
        }
        // All readers may have left since.
        if readers > 0 {
            let share = match message {
                Handover::Lent(message) => message.share(readers as usize),
                Handover::Given(message) => message.into_share(readers as usize),
            };
            // Relaxed: the state publishes it.
            slot.share.store(share.as_ptr(), Ordering::Relaxed);
        }
        slot.state.swap(at | readers, Ordering::SeqCst);
        readers as usize
    }

    fn slot(&self, position: u64) -> &Slot {
        &self.slots[(position / STEP) as usize & (self.slots.len() - 1)]
    }

    /// Gives back `shares` of the slot's message.
    fn release(slot: &Slot, shares: u64) {
        if let Some(share) = NonNull::new(slot.share.load(Ordering::Relaxed))
            && shares > 0
        {
            // SAFETY: invariant 3: the caller has just taken so many from the state of this slot, or
            // owns the ring, and the message was the one they are of.
            unsafe { Message::<T>::release(share, shares as usize) };
        }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        for slot in &self.slots {
            // Never busy: a publisher has a reference to the ring.
            Self::release(slot, slot.state.load(Ordering::Acquire) & COUNT);
        }
    }
}

/// One who reads a ring, from where it joined.
pub(crate) struct Reader<T> {
    ring: Arc<Ring<T>>,
    /// The position of the next message.
    next: u64,
    /// How far the tail may be ahead; at most as many as there are slots.
    capacity: u64,
}

/// What a reader finds.
pub(crate) enum Taken<T> {
    Message(Message<T>),
    /// So many messages were overtaken.
    Lagged(u64),
    /// Nothing yet.
    Empty,
}

impl<T> Reader<T> {
    /// The next message, if there is one.
    pub(crate) fn take(&mut self) -> Taken<T> {
        loop {
            let tail = self.ring.tail.load(Ordering::Acquire);
            let behind = distance(self.next, tail);
            if behind == 0 {
                return Taken::Empty;
            }
            if behind > self.capacity {
                let lagged = behind - self.capacity;
                self.skip(lagged);
                return Taken::Lagged(lagged);
            }
            match self.take_share() {
                Share::Message(message) => {
                    self.next = self.next.wrapping_add(STEP);
                    return Taken::Message(message);
                }
                Share::Unwritten => return Taken::Empty,
                // The tail is a lap ahead by now.
                Share::Gone => {}
            }
        }
    }

    /// Leaves; says whether this was the last reader, after whom nobody joins. Done once, by the
    /// owner, who does not take any more.
    pub(crate) fn leave(&mut self) -> bool {
        let mut tail = self.ring.tail.load(Ordering::Relaxed);
        let last = loop {
            let last = tail & COUNT == 1;
            let left = if last { position(tail) | ENDED } else { tail - 1 };
            match self
                .ring
                .tail
                .compare_exchange_weak(tail, left, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => break last,
                Err(now) => tail = now,
            }
        };
        self.skip(distance(self.next, tail));
        last
    }

    /// Goes past `count` messages and gives back its shares of those that are still there.
    ///
    /// A share of one that is not written yet, or being overwritten, is left to whoever overwrites
    /// it, or to the end of the ring.
    fn skip(&mut self, count: u64) {
        let slots = self.ring.slots.len() as u64;
        let end = self.next.wrapping_add(count.wrapping_mul(STEP));
        let there = count.min(slots);
        self.next = end.wrapping_sub(there * STEP);
        for _ in 0..there {
            drop(self.take_share());
            self.next = self.next.wrapping_add(STEP);
        }
    }

    /// Takes this reader's share of the message at `next`.
    fn take_share(&self) -> Share<T> {
        let slot = self.ring.slot(self.next);
        let mut state = slot.state.load(Ordering::Acquire);
        loop {
            if position(state) != self.next {
                // Laps before or laps after: positions go round, and half of them are far away.
                return if distance(state, self.next) < POSITIONS / 2 {
                    Share::Unwritten
                } else {
                    Share::Gone
                };
            }
            if state & BUSY != 0 {
                return Share::Gone;
            }
            let share = slot.share.load(Ordering::Relaxed);
            // Release: the load above comes before whatever a publisher writes who sees this.
            match slot
                .state
                .compare_exchange_weak(state, state - 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    let share = NonNull::new(share).expect("a slot that counts shares has a message");
                    // SAFETY: invariants 2 and 3: from the load to the exchange the state was that
                    // of `next`, so the message was its message, and one share of it is this
                    // reader's: it is one of those who were counted when it was published, and takes
                    // at each position once.
                    return Share::Message(unsafe { Message::from_share(share) });
                }
                Err(now) => state = now,
            }
        }
    }
}

enum Share<T> {
    Message(Message<T>),
    Unwritten,
    Gone,
}

// SAFETY: what a ring holds are shares of messages, which it gives out as handles to any thread.
unsafe impl<T: Send + Sync> Send for Ring<T> {}
// SAFETY: the same.
unsafe impl<T: Send + Sync> Sync for Ring<T> {}
