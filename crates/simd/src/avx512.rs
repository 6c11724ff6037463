//! Unmasking 64 octets at a time with AVX-512.

#[cfg(target_arch = "x86")]
use std::arch::x86::{
    _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_set1_epi32, _mm512_storeu_si512,
    _mm512_xor_si512,
};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_set1_epi32, _mm512_storeu_si512,
    _mm512_xor_si512,
};

use crate::key_from;

/// Whether this CPU has AVX-512 at no cost to what runs beside it. The first CPUs that had it (Skylake, Cascade Lake)
/// lower their clock for milliseconds after every use of a 512-bit vector; those with VBMI do not.
#[inline]
pub(crate) fn is_detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
}

/// XORs `data` in place with `key` repeated. Safe to call only where the CPU has AVX-512F and AVX-512BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    let (data, key) = if data.len() < STRADDLING {
        (data, key)
    } else {
        align(data, key)
    };
    let wide = _mm512_set1_epi32(i32::from_ne_bytes(key));
    // Whole vectors are a multiple of the key's length: the tail begins with `key[0]` again.
    let (vectors, tail) = data.as_chunks_mut::<64>();
    for vector in vectors {
        let place = vector.as_mut_ptr().cast();
        // SAFETY: `place` points to the 64 octets of `vector`, borrowed mutably here; `loadu` and `storeu` ask
        // for no alignment.
        unsafe { _mm512_storeu_si512(place, _mm512_xor_si512(_mm512_loadu_si512(place), wide)) }
    }
    unmask_part(tail, key);
}

/// From this length on, in octets, it pays to begin with what lies before the first cache line, so that no vector lies
/// across two of them.
const STRADDLING: usize = 512;

/// Unmasks what lies before the first cache line. The rest, and the key of its first octet.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn align(data: &mut [u8], key: [u8; 4]) -> (&mut [u8], [u8; 4]) {
    let before = data.as_ptr().align_offset(64).min(data.len());
    let (head, rest) = data.split_at_mut(before);
    unmask_part(head, key);
    (rest, key_from(key, before))
}

/// XORs less than a vector in place with `key` repeated.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn unmask_part(part: &mut [u8], key: [u8; 4]) {
    debug_assert!(part.len() < 64);
    let octets = (1_u64 << part.len()) - 1;
    let wide = _mm512_set1_epi32(i32::from_ne_bytes(key));
    let place = part.as_mut_ptr().cast();
    // SAFETY: `octets` has a bit for each octet of `part`, which is borrowed mutably, and for none beyond it; what has
    // no bit is neither read nor written. No alignment is asked for.
    unsafe {
        let masked = _mm512_maskz_loadu_epi8(octets, place);
        _mm512_mask_storeu_epi8(place, octets, _mm512_xor_si512(masked, wide));
    }
}
