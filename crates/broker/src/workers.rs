//! Sets of workers.

/// A set of workers by number, as a bitmap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSet([u64; WorkerSet::WORDS]);

impl WorkerSet {
    const WORDS: usize = 4;
    /// The most workers a process can have: more cores than one machine's sockets offer to one ring each today, in a
    /// set that is still copied in registers.
    pub const MAX: usize = Self::WORDS * 64;

    /// No worker.
    pub const EMPTY: WorkerSet = WorkerSet([0; Self::WORDS]);

    /// Whether no worker is in the set.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; Self::WORDS]
    }

    /// Adds `worker`, a number below [`WorkerSet::MAX`].
    pub fn insert(&mut self, worker: u16) {
        self.0[usize::from(worker) / 64] |= 1 << (worker % 64);
    }

    /// Takes `worker` out.
    pub fn remove(&mut self, worker: u16) {
        self.0[usize::from(worker) / 64] &= !(1 << (worker % 64));
    }

    /// Whether `worker` is in the set.
    pub fn contains(&self, worker: u16) -> bool {
        self.0[usize::from(worker) / 64] >> (worker % 64) & 1 == 1
    }

    /// The set without `worker`.
    #[must_use]
    pub fn without(mut self, worker: u16) -> WorkerSet {
        self.remove(worker);
        self
    }

    /// The workers of both sets.
    #[must_use]
    pub fn union(mut self, other: WorkerSet) -> WorkerSet {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
        self
    }

    /// The workers in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (0..Self::WORDS).flat_map(move |word| {
            let mut bits = self.0[word];
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as u16)?;
                bits &= bits - 1;
                Some(word as u16 * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_inserted_and_not_removed() {
        let mut set = WorkerSet::EMPTY;
        for worker in [255, 0, 63, 64, 65, 200] {
            set.insert(worker);
        }
        set.remove(65);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 200, 255]);
        assert!(set.contains(63) && !set.contains(65) && !set.contains(1));
        let one = set.without(0).without(63).without(64).without(200);
        assert!(!one.is_empty() && one.without(255).is_empty());
        let both = one.union(WorkerSet::EMPTY.union(set));
        assert_eq!(both, set);
        assert_eq!(one.union(set.without(255)), set);
    }
}
