//! The one entry in the tree of something that several may enter at once.

use crate::sync::{AtomicU64, Ordering};

/// Which entry of the tree counts.
///
/// Those who found a group (or a feed) together agree on the object, but each may have to enter it
/// into the tree, for none waits for another. So each does, under an id of its own; the first that
/// is chosen counts, visitors pass over the others, and their makers take them out at once. Whoever
/// enters, or finds a chosen entry that is not announced yet, raises the generation, then announces.
pub(crate) struct Place {
    /// The id of the entry; 0 before it is chosen.
    entry: AtomicU64,
    /// 1 once the generation has counted it.
    announced: AtomicU64,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place {
            entry: AtomicU64::new(0),
            announced: AtomicU64::new(0),
        }
    }

    /// The id of the entry that counts, or 0.
    pub(crate) fn entry(&self) -> u64 {
        self.entry.load(Ordering::Acquire)
    }

    /// Chooses an entry, unless one was chosen before.
    pub(crate) fn choose(&self, id: u64) -> bool {
        let chosen = self.entry.compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire);
        chosen.is_ok()
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire) != 0
    }

    pub(crate) fn set_announced(&self) {
        self.announced.store(1, Ordering::Release);
    }
}
