//! What the loom tests swap: atomics, and the one source of chance.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};

/// A number of the system's randomness; always the same under loom, whose executions must repeat.
#[cfg(not(loom))]
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The hash of nothing under a key of 128 random bits: what std gives access to.
    RandomState::new().build_hasher().finish()
}
#[cfg(loom)]
pub(crate) fn random_seed() -> u64 {
    0x243f_6a88_85a3_08d3
}
