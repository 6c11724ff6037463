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

/// In octets. A vector that lies across two of them takes twice the time.
const CACHE_LINE: usize = 64;

/// XORs `data` in place with `key` repeated; by means of `shorter` if it does not fill a vector.
///
/// # Safety
/// The CPU has the instruction set of `V`.
// Only as a part of a function with that instruction set is it compiled to it.
#[inline(always)]
pub(crate) unsafe fn unmask<V: Vector<N>, const N: usize>(data: &mut [u8], key: [u8; 4], shorter: Unmask) {
    // Most messages are short: up to four vectors there is no loop, whose set-up would cost more than the work.
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        if data.len() < N {
            shorter(data, key);
        } else if data.len() <= 2 * N {
            from_both_ends::<V, N, 1>(data, key);
        } else if data.len() <= 4 * N {
            from_both_ends::<V, N, 2>(data, key);
        } else if data.len() <= 8 * N && N < CACHE_LINE {
            from_both_ends::<V, N, 4>(data, key);
        } else {
            along_boundaries::<V, N>(data, key);
        }
    }
}

/// Unmasks `data` of `K * N` to `2 * K * N` octets with `K` vectors that begin where it begins and `K` that end where it
/// ends. They may overlap, so all are loaded before one is stored.
///
/// Masked stores, which AVX-512 has for what does not fill a vector, would do without overlapping; but a load that comes
/// near one (that of the next frame's header does) waits until it has reached the cache.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn from_both_ends<V: Vector<N>, const N: usize, const K: usize>(data: &mut [u8], key: [u8; 4]) {
    let end = data.len() - K * N;
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let wide: V = repeat(key);
        let mut first = [wide; K];
        for (vector, place) in first.iter_mut().zip(data.as_chunks().0) {
            *vector = vector.xor(V::load(place));
        }
        let wide: V = repeat(key_from(key, data.len()));
        let mut last = [wide; K];
        for (vector, place) in last.iter_mut().zip(data[end..].as_chunks().0) {
            *vector = vector.xor(V::load(place));
        }
        for (vector, place) in first.into_iter().zip(data.as_chunks_mut().0) {
            vector.store(place);
        }
        for (vector, place) in last.into_iter().zip(data[end..].as_chunks_mut().0) {
            vector.store(place);
        }
    }
}

/// Unmasks `data` of at least `2 * N` octets with one vector at either end, and those between them where memory has
/// boundaries of vectors: a vector that lies across two cache lines takes twice the time. They overlap those at the ends,
/// so these are loaded before the others are stored.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn along_boundaries<V: Vector<N>, const N: usize>(data: &mut [u8], key: [u8; 4]) {
    let (Some(first), Some(last)) = (data.first_chunk::<N>(), data.last_chunk::<N>()) else {
        return;
    };
    // At least one octet comes before those between, so that they never begin beyond the first vector, and one after
    // them: a vector more than the last would be one for nothing.
    let begin = N - data.as_ptr().addr() % N;
    let end = data.len() - 1;
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let first = V::load(first).xor(repeat(key));
        let last = V::load(last).xor(repeat(key_from(key, data.len())));
        let wide: V = repeat(key_from(key, begin));
        let (fours, rest) = data[begin..end].as_chunks_mut::<N>().0.as_chunks_mut::<4>();
        for four in fours {
            for place in four {
                V::load(place).xor(wide).store(place);
            }
        }
        // They are three at most. Said here, it spares the compiler a loop of its own for more.
        for place in rest.iter_mut().take(3) {
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
