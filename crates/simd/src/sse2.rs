//! Unmasking 16 octets at a time with SSE2.

#[cfg(target_arch = "x86")]
use std::arch::x86::{__m128i, _mm_loadu_si128, _mm_set1_epi32, _mm_storeu_si128, _mm_xor_si128};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi32, _mm_storeu_si128, _mm_xor_si128};

use crate::scalar;

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has SSE2.
#[target_feature(enable = "sse2")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    let wide = _mm_set1_epi32(i32::from_ne_bytes(key));
    // Whole vectors are a multiple of the key's length: the tail begins with `key[0]` again.
    let (vectors, tail) = data.as_chunks_mut::<16>();
    for vector in vectors {
        let place = vector.as_mut_ptr().cast::<__m128i>();
        // SAFETY: `place` points to the 16 octets of `vector`, borrowed mutably here; `loadu` and `storeu` ask
        // for no alignment.
        unsafe { _mm_storeu_si128(place, _mm_xor_si128(_mm_loadu_si128(place), wide)) }
    }
    scalar::unmask(tail, key);
}
