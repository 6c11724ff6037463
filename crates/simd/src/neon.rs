//! Unmasking 16 octets at a time with NEON.

use std::arch::aarch64::{uint8x16_t, veorq_u8, vld1q_u8, vst1q_u8};

use crate::scalar;
use crate::vector::{self, Vector};

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has NEON.
#[target_feature(enable = "neon")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    // SAFETY: this function is compiled for NEON, and so called only where it is there.
    unsafe { vector::unmask::<uint8x16_t, 16>(data, key, scalar::unmask) }
}

impl Vector<16> for uint8x16_t {
    #[inline(always)]
    unsafe fn repeat(key: i32) -> Self {
        // By way of memory, as any order of octets has it; compiled, it is one `dup`.
        let octets = [key.to_ne_bytes(); 4];
        // SAFETY: the caller vouches for NEON; `octets` are 16, and `vld1q` asks for no alignment.
        unsafe { vld1q_u8(octets.as_flattened().as_ptr()) }
    }

    #[inline(always)]
    unsafe fn load(octets: &[u8; 16]) -> Self {
        // SAFETY: the caller vouches for NEON; `octets` are 16, and `vld1q` asks for no alignment.
        unsafe { vld1q_u8(octets.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { veorq_u8(self, other) }
    }

    #[inline(always)]
    unsafe fn store(self, octets: &mut [u8; 16]) {
        // SAFETY: the caller vouches for NEON; `octets` are 16, and `vst1q` asks for no alignment.
        unsafe { vst1q_u8(octets.as_mut_ptr(), self) }
    }
}
