//! A value that many threads read while others replace it.

use crossbeam_epoch::{self as epoch, Atomic, Owned};
use crossbeam_utils::Backoff;

use super::sync::Ordering;

/// One atomic pointer to a version that never changes.
///
/// Invariants: the pointer is never null; a version is retired by the exchange that replaced it, and
/// by no other.
pub(crate) struct Versioned<T: Send + Sync + 'static>(Atomic<T>);

impl<T: Send + Sync + 'static> Versioned<T> {
    pub(crate) fn new(value: T) -> Self {
        Versioned(Atomic::new(value))
    }

    /// Shows `f` the current version. What it holds up, until it returns, is the freeing of memory.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let guard = epoch::pin();
        let current = self.0.load(Ordering::Acquire, &guard);
        // SAFETY: never null; published with Release and read with Acquire; retired only after it
        // was replaced, so it outlives the guard.
        f(unsafe { current.deref() })
    }

    /// Replaces the current version by what `change` makes of it, from the start again while others
    /// are faster; leaves it where `change` says `Err`.
    pub(crate) fn update<R>(&self, mut change: impl FnMut(&T) -> Result<(T, R), R>) -> R {
        let guard = epoch::pin();
        let backoff = Backoff::new();
        loop {
            let old = self.0.load(Ordering::Acquire, &guard);
            // SAFETY: as in `read`.
            let (new, result) = match change(unsafe { old.deref() }) {
                Ok(changed) => changed,
                Err(result) => return result,
            };
            let exchange = self
                .0
                .compare_exchange(old, Owned::new(new), Ordering::AcqRel, Ordering::Relaxed, &guard);
            if exchange.is_ok() {
                // SAFETY: no longer reachable, and winning the exchange makes this the only one to
                // retire it. `T: Send + 'static`, so any thread may drop it at any time.
                unsafe { guard.defer_destroy(old) };
                return result;
            }
            backoff.spin();
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Versioned<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody else can load the pointer, and no reader's borrow of the last
        // version is left, for it borrows `self`.
        drop(unsafe { std::mem::take(&mut self.0).into_owned() });
    }
}
