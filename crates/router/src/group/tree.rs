//! A persistent tree: every change makes a new one that shares nearly all of the old.

use std::sync::Arc;

/// Values by 64-bit keys, in the order of the keys, each reached by its rank as well.
///
/// A binary tree by the bits of the key, the highest first, in which a part of one value is a leaf.
/// Keys are meant to be evenly spread (hashes): then each operation takes `O(log n)`, and in any
/// case at most 64 steps. Cheap to clone. What a tree is depends on what is in it alone, not on how
/// it came there.
pub(crate) struct Tree<V>(Option<Arc<Node<V>>>);

enum Node<V> {
    Leaf {
        key: u64,
        value: V,
    },
    /// Of at least two values.
    Branch {
        len: usize,
        /// By the bit that the depth looks at: 0, 1.
        halves: [Tree<V>; 2],
    },
}

impl<V> Clone for Tree<V> {
    fn clone(&self) -> Self {
        Tree(self.0.clone())
    }
}

fn bit(key: u64, depth: u32) -> usize {
    (key >> (u64::BITS - 1 - depth) & 1) as usize
}

impl<V> Tree<V> {
    pub(crate) const EMPTY: Self = Tree(None);

    fn leaf(key: u64, value: V) -> Self {
        Tree(Some(Arc::new(Node::Leaf { key, value })))
    }

    fn branch(halves: [Tree<V>; 2]) -> Self {
        let len = halves[0].len() + halves[1].len();
        Tree(Some(Arc::new(Node::Branch { len, halves })))
    }

    pub(crate) fn len(&self) -> usize {
        match self.0.as_deref() {
            None => 0,
            Some(Node::Leaf { .. }) => 1,
            Some(Node::Branch { len, .. }) => *len,
        }
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        let mut tree = self;
        for depth in 0.. {
            match tree.0.as_deref()? {
                Node::Leaf { key: other, value } => return (*other == key).then_some(value),
                Node::Branch { halves, .. } => tree = &halves[bit(key, depth)],
            }
        }
        None
    }

    /// The value with so many before it.
    pub(crate) fn nth(&self, mut rank: usize) -> Option<&V> {
        let mut tree = self;
        loop {
            match tree.0.as_deref()? {
                Node::Leaf { value, .. } => return (rank == 0).then_some(value),
                Node::Branch { halves, .. } => {
                    let before = halves[0].len();
                    tree = if rank < before {
                        &halves[0]
                    } else {
                        rank -= before;
                        &halves[1]
                    };
                }
            }
        }
    }

    /// The value of the first key that is not below `key`, the very first one if all are.
    pub(crate) fn at_or_after(&self, key: u64) -> Option<&V> {
        self.at_or_after_from(0, key).or_else(|| self.nth(0))
    }

    fn at_or_after_from(&self, depth: u32, key: u64) -> Option<&V> {
        match self.0.as_deref()? {
            Node::Leaf { key: other, value } => (*other >= key).then_some(value),
            Node::Branch { halves, .. } => match bit(key, depth) {
                0 => halves[0].at_or_after_from(depth + 1, key).or_else(|| halves[1].nth(0)),
                _ => halves[1].at_or_after_from(depth + 1, key),
            },
        }
    }

    pub(crate) fn for_each(&self, f: &mut impl FnMut(&V)) {
        match self.0.as_deref() {
            None => {}
            Some(Node::Leaf { value, .. }) => f(value),
            Some(Node::Branch { halves, .. }) => halves.iter().for_each(|half| half.for_each(f)),
        }
    }

    /// This with `value` at `key`, in the place of what was there.
    pub(crate) fn with(&self, key: u64, value: V) -> Self {
        self.with_from(0, key, value)
    }

    fn with_from(&self, depth: u32, key: u64, value: V) -> Self {
        match self.0.as_deref() {
            None => Self::leaf(key, value),
            Some(Node::Leaf { key: other, .. }) if *other == key => Self::leaf(key, value),
            Some(Node::Leaf { key: other, .. }) => {
                // Down to the first bit in which the two differ, and branches on the way back.
                let (bit_old, bit_new) = (bit(*other, depth), bit(key, depth));
                let mut halves = [Self::EMPTY, Self::EMPTY];
                if bit_old == bit_new {
                    halves[bit_new] = self.with_from(depth + 1, key, value);
                } else {
                    halves[bit_old] = self.clone();
                    halves[bit_new] = Self::leaf(key, value);
                }
                Self::branch(halves)
            }
            Some(Node::Branch { halves, .. }) => {
                let mut halves = halves.clone();
                let half = &mut halves[bit(key, depth)];
                *half = half.with_from(depth + 1, key, value);
                Self::branch(halves)
            }
        }
    }

    /// This without `key`.
    pub(crate) fn without(&self, key: u64) -> Self {
        self.without_from(0, key)
    }

    fn without_from(&self, depth: u32, key: u64) -> Self {
        match self.0.as_deref() {
            Some(Node::Leaf { key: other, .. }) if *other == key => Self::EMPTY,
            Some(Node::Branch { halves, .. }) => {
                let mut halves = halves.clone();
                let half = &mut halves[bit(key, depth)];
                *half = half.without_from(depth + 1, key);
                // What is one value now is a leaf.
                match halves.each_ref().map(Tree::len) {
                    [1, 0] => halves[0].clone(),
                    [0, 1] => halves[1].clone(),
                    _ => Self::branch(halves),
                }
            }
            _ => self.clone(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Keys that are alike in high bits, in low bits, and not at all.
    fn key() -> impl Strategy<Value = u64> {
        prop_oneof![0..8_u64, (0..8_u64).prop_map(|key| key << 61), any::<u64>()]
    }

    proptest! {
        #[test]
        fn a_tree_is_a_sorted_map(steps in prop::collection::vec((key(), any::<bool>()), 0..100)) {
            let mut tree = Tree::EMPTY;
            let mut map = BTreeMap::new();
            for (value, (key, adds)) in steps.into_iter().enumerate() {
                let old = tree.clone();
                let before: Vec<_> = map.values().copied().collect();
                if adds {
                    tree = tree.with(key, value);
                    map.insert(key, value);
                } else {
                    tree = tree.without(key);
                    map.remove(&key);
                }
                prop_assert_eq!(tree.get(key), map.get(&key));
                prop_assert_eq!(tree.len(), map.len());
                let mut seen = Vec::new();
                tree.for_each(&mut |value| seen.push(*value));
                prop_assert!(seen.iter().eq(map.values()));
                for (rank, value) in seen.iter().enumerate() {
                    prop_assert_eq!(tree.nth(rank), Some(value));
                }
                prop_assert_eq!(tree.nth(map.len()), None);
                for probe in map.keys().copied().chain([key, key.wrapping_add(1)]) {
                    let next = map.range(probe..).next().or_else(|| map.iter().next());
                    prop_assert_eq!(tree.at_or_after(probe), next.map(|(_, value)| value));
                }
                let mut unchanged = Vec::new();
                old.for_each(&mut |value| unchanged.push(*value));
                prop_assert_eq!(unchanged, before);
            }
        }
    }
}
