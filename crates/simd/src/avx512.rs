//! Unmasking 64 octets at a time with AVX-512.

#[cfg(target_arch = "x86")]
use std::arch::x86::{__m512i, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_storeu_si512, _mm512_xor_si512};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m512i, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_storeu_si512, _mm512_xor_si512};

use crate::vector::{self, Vector};
use crate::{Unmask, avx2};

/// Whether this CPU has AVX-512 at no cost to what runs beside it. The first CPUs that had it (Skylake, Cascade Lake)
/// lower their clock for milliseconds after each use of a 512-bit vector; they do not have VBMI.
pub(crate) fn is_detected() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vbmi")
}

/// Octets that the first-level cache holds, where it is large. What comes from beyond it comes as fast to vectors of 32
/// octets, and goes back a little faster: by 4 % on Sapphire Rapids.
const FIRST_LEVEL_CACHE: usize = 48 << 10;

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    // Where there is AVX-512F, there is AVX2.
    if data.len() > FIRST_LEVEL_CACHE {
        return avx2::unmask(data, key);
    }
    let shorter: Unmask = |data, key| avx2::unmask(data, key);
    // SAFETY: this function is compiled for AVX-512F, and so called only where it is there.
    unsafe { vector::unmask::<__m512i, 64>(data, key, shorter) }
}

impl Vector<64> for __m512i {
    #[inline(always)]
    unsafe fn repeat(key: i32) -> Self {
        // SAFETY: the caller vouches for AVX-512F.
        unsafe { _mm512_set1_epi32(key) }
    }

    #[inline(always)]
    unsafe fn load(octets: &[u8; 64]) -> Self {
        // SAFETY: the caller vouches for AVX-512F; `octets` are 64, and `loadu` asks for no alignment.
        unsafe { _mm512_loadu_si512(octets.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller vouches for AVX-512F.
        unsafe { _mm512_xor_si512(self, other) }
    }

    #[inline(always)]
    unsafe fn store(self, octets: &mut [u8; 64]) {
        // SAFETY: the caller vouches for AVX-512F; `octets` are 64, and `storeu` asks for no alignment.
        unsafe { _mm512_storeu_si512(octets.as_mut_ptr().cast(), self) }
    }
}
