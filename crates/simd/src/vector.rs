//! How vectors unmask, however wide they are.

use crate::{Unmask, key_from};

/// A vector register of `N` octets, a power of two, and at least the length of a key.
///
/// # Safety
/// The functions may be called only where the CPU has the instruction set that the register is of.
pub(crate) trait Vector<const N: usize>: Copy {
    /// The key, repeated.
    unsafe fn repeat(key: i32) -> Self;
    unsafe fn load(octets: &[u8; N]) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn store(self, octets: &mut [u8; N]);
}

/// XORs `data` in place with `key` repeated; by means of `shorter` if it does not fill a vector.
///
/// The first vector and the last lie where `data` begins and ends, those between where memory has boundaries of
/// vectors: a vector that lies across two cache lines takes twice the time. They overlap, so the first and the last are
/// loaded before the others are stored. Masked stores, which AVX-512 has for this, would do without; but a load that
/// comes near one (that of the next frame's header does) waits until it has reached the cache.
///
/// # Safety
/// The CPU has the instruction set of `V`.
// Only as a part of a function with that instruction set is it compiled to it.
#[inline(always)]
pub(crate) unsafe fn unmask<V: Vector<N>, const N: usize>(data: &mut [u8], key: [u8; 4], shorter: Unmask) {
    let (Some(first), Some(last)) = (data.first_chunk::<N>(), data.last_chunk::<N>()) else {
        return shorter(data, key);
    };
    // At least one octet of the first vector comes before the others, so that they never begin beyond it.
    let begin = N - data.as_ptr().addr() % N;
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let first = V::load(first).xor(repeat(key));
        let last = V::load(last).xor(repeat(key_from(key, data.len())));
        let wide: V = repeat(key_from(key, begin));
        for place in data[begin..].as_chunks_mut().0 {
            V::load(place).xor(wide).store(place);
        }
        if let Some(place) = data.first_chunk_mut() {
            first.store(place);
        }
        if let Some(place) = data.last_chunk_mut() {
            last.store(place);
        }
    }
}

/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn repeat<V: Vector<N>, const N: usize>(key: [u8; 4]) -> V {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { V::repeat(i32::from_ne_bytes(key)) }
}
