//! Unmasking 16 octets at a time with SSE2.

#[cfg(target_arch = "x86")]
use std::arch::x86::{__m128i, _mm_loadu_si128, _mm_set1_epi32, _mm_storeu_si128, _mm_xor_si128};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi32, _mm_storeu_si128, _mm_xor_si128};

use crate::{key_from, scalar};

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has SSE2.
#[target_feature(enable = "sse2")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    let Some(last) = data.last_chunk::<16>() else {
        return scalar::unmask(data, key);
    };
    // What does not fill a vector at the end is done by one that overlaps those before it, made before they are.
    // SAFETY: `last` is 16 octets long; `loadu` asks for no alignment.
    let last = unsafe { _mm_loadu_si128(last.as_ptr().cast()) };
    let last = _mm_xor_si128(last, repeated(key_from(key, data.len())));
    let wide = repeated(key);
    for vector in data.as_chunks_mut::<16>().0 {
        let place = vector.as_mut_ptr().cast::<__m128i>();
        // SAFETY: `place` points to the 16 octets of `vector`, borrowed mutably here; `loadu` and `storeu` ask
        // for no alignment.
        unsafe { _mm_storeu_si128(place, _mm_xor_si128(_mm_loadu_si128(place), wide)) }
    }
    if let Some(place) = data.last_chunk_mut::<16>() {
        // SAFETY: `place` is 16 octets long and borrowed mutably here; `storeu` asks for no alignment.
        unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), last) }
    }
}

#[target_feature(enable = "sse2")]
#[inline]
fn repeated(key: [u8; 4]) -> __m128i {
    _mm_set1_epi32(i32::from_ne_bytes(key))
}
