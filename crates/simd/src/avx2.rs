//! Unmasking 32 octets at a time with AVX2.

#[cfg(target_arch = "x86")]
use std::arch::x86::{__m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256};

use crate::scalar;
use crate::vector::{self, Vector};

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    // SAFETY: this function is compiled for AVX2, and so called only where it is there.
    unsafe { vector::unmask::<__m256i, 32>(data, key, scalar::unmask) }
}

impl Vector<32> for __m256i {
    #[inline(always)]
    unsafe fn repeat(key: i32) -> Self {
        // SAFETY: the caller vouches for AVX2.
        unsafe { _mm256_set1_epi32(key) }
    }

    #[inline(always)]
    unsafe fn load(octets: &[u8; 32]) -> Self {
        // SAFETY: the caller vouches for AVX2; `octets` are 32, and `loadu` asks for no alignment.
        unsafe { _mm256_loadu_si256(octets.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller vouches for AVX2.
        unsafe { _mm256_xor_si256(self, other) }
    }

    #[inline(always)]
    unsafe fn store(self, octets: &mut [u8; 32]) {
        // SAFETY: the caller vouches for AVX2; `octets` are 32, and `storeu` asks for no alignment.
        unsafe { _mm256_storeu_si256(octets.as_mut_ptr().cast(), self) }
    }
}
