//! Who frees what, and when: the updates, in portions, once no reader can see it.
//!
//! crossbeam-epoch knows when all who were pinned have unpinned, and tells it to whichever thread
//! pins next: often a reader, which then frees what the updates of others left. Freeing is most of
//! what an update costs, and would cost the readers most of their rate. So the readers are only
//! told; and so that they are not told often, updates are waited for together:
//!
//! ```text
//! update ──► limbo ──(all at once, when the last ones have passed)──► waiting for the epoch
//!                                                                         │ told to any thread
//!            freed by updates, a few each ◄── ready ◄─────────────────────┘
//! ```
//!
//! When updates pause, nothing is left in limbo, and the thread that is told frees all there is.

use std::ptr;
use std::sync::{Arc, Weak};

use crossbeam_epoch::{self as epoch, Guard};

use super::cells::sync::SegQueue;
use super::txn::{Bag, Garbage};
use crate::sync::{AtomicBool, AtomicPtr, Ordering};

/// How many updates' garbage an update frees at most: more than it makes, so that updates catch up.
const PORTION: usize = 4;

/// The garbage of one router.
pub(super) struct Reclaimer<S: 'static> {
    /// Unreachable since, or before, an update that was not yet waited for.
    limbo: AtomicPtr<Bag<S>>,
    /// Whether the epoch is waited for; whoever is told looks into limbo again.
    ///
    /// Who adds to a list looks here after, and who stops waiting looks there after. Both exchange
    /// this, also to look: so one comes before the other, and the second sees what the first did
    /// before.
    waiting: AtomicBool,
    /// Seen by nobody any more.
    ready: SegQueue<Chain<S>>,
}

/// A list of bags, owned.
struct Chain<S: 'static>(*mut Bag<S>);

// SAFETY: the bags are owned; garbage of `S: Send` is `Send`.
unsafe impl<S: Send + 'static> Send for Chain<S> {}

impl<S: 'static> Chain<S> {
    fn pop(&mut self) -> Option<Garbage<S>> {
        if self.0.is_null() {
            return None;
        }
        let bag = self.0;
        // SAFETY: made from garbage by `Reclaimer::retire`; owned by this list alone, which lists it no more.
        unsafe {
            self.0 = (*bag).next;
            Some(Garbage::from_raw(bag))
        }
    }
}

impl<S: 'static> Drop for Chain<S> {
    fn drop(&mut self) {
        while let Some(garbage) = self.pop() {
            drop(garbage);
        }
    }
}

impl<S: Send + 'static> Reclaimer<S> {
    pub(super) fn new() -> Self {
        Reclaimer {
            limbo: AtomicPtr::new(ptr::null_mut()),
            waiting: AtomicBool::new(false),
            ready: SegQueue::new(),
        }
    }

    /// Frees the garbage when all who are pinned have unpinned, and a portion of what is ready.
    ///
    /// # Safety
    /// Who is not pinned now cannot reach the garbage.
    pub(super) unsafe fn retire(self: &Arc<Self>, garbage: Garbage<S>, guard: &Guard) {
        let bag = garbage.into_raw();
        let mut next = self.limbo.load(Ordering::Relaxed);
        loop {
            // SAFETY: not yet in the list, so nobody else has it.
            unsafe { (*bag).next = next };
            match self
                .limbo
                .compare_exchange(next, bag, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(other) => next = other,
            }
        }
        if !self.waiting.swap(true, Ordering::AcqRel) {
            self.wait(guard);
        }
        self.free_portion();
    }

    /// Waits for the epoch with what is in limbo, or, if that is nothing, stops waiting.
    fn wait(self: &Arc<Self>, guard: &Guard) {
        loop {
            let chain = Chain(self.limbo.swap(ptr::null_mut(), Ordering::Acquire));
            if !chain.0.is_null() {
                let this = Arc::downgrade(self);
                // SAFETY: what is in limbo is unreachable, as `retire` was promised, for all who
                // are not pinned by now. It is `Send + 'static`.
                unsafe { guard.defer_unchecked(move || Self::passed(&this, chain)) };
                // One function at a time would never fill the bag that is passed on.
                guard.flush();
                return;
            }
            self.waiting.swap(false, Ordering::AcqRel);
            let left = !self.limbo.load(Ordering::Acquire).is_null();
            if !left || self.waiting.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    /// Nobody sees the bags any more.
    fn passed(this: &Weak<Self>, chain: Chain<S>) {
        // Without its router there is nothing to wait for.
        let Some(this) = this.upgrade() else { return };
        if this.limbo.load(Ordering::Relaxed).is_null() {
            drop(chain);
        } else {
            this.ready.push(chain);
        }
        this.wait(&epoch::pin());
        this.free_if_idle();
    }

    fn free_portion(&self) {
        let Some(mut chain) = self.ready.pop() else { return };
        for _ in 0..PORTION {
            drop(chain.pop());
        }
        if !chain.0.is_null() {
            self.ready.push(chain);
            self.free_if_idle();
        }
    }

    /// Nobody will be told any more: frees what is ready.
    fn free_if_idle(&self) {
        if !self.waiting.fetch_or(false, Ordering::AcqRel) {
            while let Some(chain) = self.ready.pop() {
                drop(chain);
            }
        }
    }
}

impl<S: 'static> Drop for Reclaimer<S> {
    fn drop(&mut self) {
        // The router is gone, and with it all who could reach what is in limbo.
        drop(Chain(self.limbo.load(Ordering::Relaxed)));
    }
}
