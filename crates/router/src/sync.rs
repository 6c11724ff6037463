//! What the loom tests swap: atomics, and the one source of chance.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::AtomicU64;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::AtomicU64;
pub(crate) use std::sync::atomic::Ordering;

/// How names are hashed: keyed at random, save under loom, whose executions must repeat.
#[cfg(not(loom))]
pub(crate) type NameState = std::hash::RandomState;
#[cfg(loom)]
pub(crate) type NameState = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;
