//! Unmasking 16 octets at a time with SSE2.

#[cfg(target_arch = "x86")]
use std::arch::x86::{__m128i, _mm_loadu_si128, _mm_set1_epi32, _mm_storeu_si128, _mm_xor_si128};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi32, _mm_storeu_si128, _mm_xor_si128};

use crate::scalar;
use crate::vector::{self, Vector};

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has SSE2.
#[target_feature(enable = "sse2")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    // SAFETY: this function is compiled for SSE2, and so called only where it is there.
    unsafe { vector::unmask::<__m128i, 16>(data, key, scalar::unmask) }
}

impl Vector<16> for __m128i {
    #[inline(always)]
    unsafe fn repeat(key: i32) -> Self {
        // SAFETY: the caller vouches for SSE2.
        unsafe { _mm_set1_epi32(key) }
    }

    #[inline(always)]
    unsafe fn load(octets: &[u8; 16]) -> Self {
        // SAFETY: the caller vouches for SSE2; `octets` are 16, and `loadu` asks for no alignment.
        unsafe { _mm_loadu_si128(octets.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller vouches for SSE2.
        unsafe { _mm_xor_si128(self, other) }
    }

    #[inline(always)]
    unsafe fn store(self, octets: &mut [u8; 16]) {
        // SAFETY: the caller vouches for SSE2; `octets` are 16, and `storeu` asks for no alignment.
        unsafe { _mm_storeu_si128(octets.as_mut_ptr().cast(), self) }
    }
}
