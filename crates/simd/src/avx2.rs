//! Unmasking 32 octets at a time with AVX2.

#[cfg(target_arch = "x86")]
use std::arch::x86::{__m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256};

use crate::{key_from, scalar};

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    let Some(last) = data.last_chunk::<32>() else {
        return scalar::unmask(data, key);
    };
    // What does not fill a vector at the end is done by one that overlaps those before it, made before they are.
    // SAFETY: `last` is 32 octets long; `loadu` asks for no alignment.
    let last = unsafe { _mm256_loadu_si256(last.as_ptr().cast()) };
    let last = _mm256_xor_si256(last, repeated(key_from(key, data.len())));
    let wide = repeated(key);
    for vector in data.as_chunks_mut::<32>().0 {
        let place = vector.as_mut_ptr().cast::<__m256i>();
        // SAFETY: `place` points to the 32 octets of `vector`, borrowed mutably here; `loadu` and `storeu` ask
        // for no alignment.
        unsafe { _mm256_storeu_si256(place, _mm256_xor_si256(_mm256_loadu_si256(place), wide)) }
    }
    if let Some(place) = data.last_chunk_mut::<32>() {
        // SAFETY: `place` is 32 octets long and borrowed mutably here; `storeu` asks for no alignment.
        unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), last) }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn repeated(key: [u8; 4]) -> __m256i {
    _mm256_set1_epi32(i32::from_ne_bytes(key))
}
