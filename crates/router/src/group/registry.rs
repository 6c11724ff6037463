//! A map that many threads look into and add to, without locks.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::group::tree::Tree;
use crate::lockfree::cells::Versioned;

/// How keys are hashed: keyed at random, save under loom, whose executions must repeat.
#[cfg(not(loom))]
pub(crate) type KeyState = std::hash::RandomState;
#[cfg(loom)]
pub(crate) type KeyState = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// The entries of one hash, nearly always one.
type Entries<K, V> = Arc<[(K, V)]>;

/// Keys and, for each, one value that all who ask for it at the same time agree on.
pub(crate) struct Registry<K: Send + Sync + 'static, V: Send + Sync + 'static> {
    map: Versioned<Tree<Entries<K, V>>>,
    hasher: KeyState,
}

impl<K, V> Registry<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Registry {
            map: Versioned::new(Tree::EMPTY),
            hasher: KeyState::default(),
        }
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let hash = self.hash(key);
        self.map.read(|map| find(map, hash, key).cloned())
    }

    /// The value of `key`, which is that of `make` if there was none.
    pub(crate) fn get_or_insert_with(&self, key: &K, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.get(key) {
            return value;
        }
        let hash = self.hash(key);
        let new = make();
        self.map.update(|map| match find(map, hash, key) {
            Some(value) => Err(value.clone()),
            None => {
                let others = map.get(hash).map_or(&[][..], |entries| entries);
                let entries = others.iter().cloned().chain([(key.clone(), new.clone())]).collect();
                Ok((map.with(hash, entries), new.clone()))
            }
        })
    }

    /// Takes `key` out if its value `is_it`.
    pub(crate) fn remove(&self, key: &K, is_it: impl Fn(&V) -> bool) {
        let hash = self.hash(key);
        self.map.update(|map| {
            if !find(map, hash, key).is_some_and(&is_it) {
                return Err(());
            }
            let entries = map.get(hash).map_or(&[][..], |entries| entries);
            let left: Entries<K, V> = entries.iter().filter(|(other, _)| other != key).cloned().collect();
            let map = if left.is_empty() {
                map.without(hash)
            } else {
                map.with(hash, left)
            };
            Ok((map, ()))
        });
    }

    pub(crate) fn for_each(&self, mut f: impl FnMut(&V)) {
        let map = self.map.read(Tree::clone);
        map.for_each(&mut |entries| entries.iter().for_each(|(_, value)| f(value)));
    }

    fn hash(&self, key: &K) -> u64 {
        let hash = self.hasher.hash_one(key);
        // While checking, keys collide often.
        if cfg!(any(test, loom)) { hash & 3 } else { hash }
    }
}

fn find<'m, K: Eq, V>(map: &'m Tree<Entries<K, V>>, hash: u64, key: &K) -> Option<&'m V> {
    let entries = map.get(hash)?;
    entries.iter().find(|(other, _)| other == key).map(|(_, value)| value)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn all_who_ask_for_a_key_at_once_get_one_value() {
        let registry = Registry::new();
        for key in 0..200_u32 {
            let start = Barrier::new(4);
            let values: Vec<_> = thread::scope(|scope| {
                let ask = |who: u32| {
                    let (registry, start) = (&registry, &start);
                    scope.spawn(move || {
                        start.wait();
                        registry.get_or_insert_with(&key, || who)
                    })
                };
                let askers = [ask(0), ask(1), ask(2), ask(3)];
                askers
                    .into_iter()
                    .map(|asker| asker.join().expect("no panic"))
                    .collect()
            });
            assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
            assert_eq!(registry.get(&key), Some(values[0]));
        }
        let mut count = 0;
        registry.for_each(|_| count += 1);
        assert_eq!(count, 200);
        for key in 0..200 {
            registry.remove(&key, |_| key % 2 == 0);
            assert_eq!(registry.get(&key).is_some(), key % 2 == 1);
        }
    }
}
