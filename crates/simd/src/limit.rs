//! What memory allows, for the benchmark: an XOR in place of whole cache lines with a key that never turns.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256i, __m512i};

#[cfg(target_arch = "x86_64")]
use crate::vector::Vector;

/// A cache line.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

impl Line {
    /// A line of nothing in particular.
    pub const FILLED: Self = Self([0x5a; 64]);
}

/// XORs payloads of so many lines each.
pub type Limit = fn(&mut [Line], usize, [u8; 4]);

/// By the instruction sets that this CPU has.
#[must_use]
pub fn implementations() -> Vec<(&'static str, Limit)> {
    let mut found: Vec<(_, Limit)> = vec![("words", words)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: AVX2 was detected in the line above.
            found.push(("avx2", |lines, each, key| unsafe { avx2(lines, each, key) }));
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: AVX-512F was detected in the line above.
            found.push(("avx512", |lines, each, key| unsafe { avx512(lines, each, key) }));
        }
    }
    found
}

/// What the compiler makes of words with what every CPU has.
fn words(lines: &mut [Line], each: usize, [a, b, c, d]: [u8; 4]) {
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    for line in lines.chunks_exact_mut(each).flatten() {
        for word in line.0.as_chunks_mut().0 {
            *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(lines: &mut [Line], each: usize, key: [u8; 4]) {
    // SAFETY: this function is compiled for AVX2, and so called only where it is there.
    unsafe { vectors::<__m256i, 32>(lines, each, key) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(lines: &mut [Line], each: usize, key: [u8; 4]) {
    // SAFETY: this function is compiled for AVX-512F, and so called only where it is there.
    unsafe { vectors::<__m512i, 64>(lines, each, key) }
}

/// # Safety
/// The CPU has the instruction set of `V`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn vectors<V: Vector<N>, const N: usize>(lines: &mut [Line], each: usize, key: [u8; 4]) {
    // SAFETY: the caller vouches for the instruction set.
    let wide = unsafe { V::repeat(i32::from_ne_bytes(key)) };
    for payload in lines.chunks_exact_mut(each) {
        for line in payload {
            for place in line.0.as_chunks_mut().0 {
                // SAFETY: as above.
                unsafe { V::load(place).xor(wide).store(place) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_an_xor_of_everything() {
        for (name, limit) in implementations() {
            let mut lines = vec![Line::FILLED; 6];
            limit(&mut lines, 3, [1, 2, 3, 4]);
            let expected = [0x5b, 0x58, 0x59, 0x5e].repeat(16);
            assert!(lines.iter().all(|line| line.0[..] == expected), "{name}");
        }
    }
}
