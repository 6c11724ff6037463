//! Unmasking 32 octets at a time with AVX2.

#[cfg(target_arch = "x86")]
use std::arch::x86::{__m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256};

use crate::scalar;

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    let wide = _mm256_set1_epi32(i32::from_ne_bytes(key));
    // Whole vectors are a multiple of the key's length: the tail begins with `key[0]` again.
    let (vectors, tail) = data.as_chunks_mut::<32>();
    for vector in vectors {
        let place = vector.as_mut_ptr().cast::<__m256i>();
        // SAFETY: `place` points to the 32 octets of `vector`, borrowed mutably here; `loadu` and `storeu` ask
        // for no alignment.
        unsafe { _mm256_storeu_si256(place, _mm256_xor_si256(_mm256_loadu_si256(place), wide)) }
    }
    scalar::unmask(tail, key);
}
