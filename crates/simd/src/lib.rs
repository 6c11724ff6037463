//! SIMD kernels for tidecast: WebSocket unmasking.
//!
//! Masking XORs octet `i` of a payload with octet `i mod 4` of a key, so the same function masks and unmasks.
//! There is one file per instruction set (`scalar`, `sse2`, `avx2`); [`unmask`] chooses. This crate knows nothing
//! of frames: which bytes to unmask, and with which key, is `tidecast-websocket`'s business.
//!
//! Start reading at [`unmask`].

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod avx2;
mod scalar;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod sse2;
#[cfg(test)]
mod tests;

/// Inputs shorter than this are unmasked where they are called from: one vector register would not be filled, and
/// asking which instruction set there is would cost more than the work.
const SHORT: usize = 32;

/// XORs `data` in place with `key` repeated, beginning with `key[0]`.
///
//= RFC 6455#section-5.3
//# The same algorithm applies regardless of the direction of the translation
#[inline]
pub fn unmask(data: &mut [u8], key: [u8; 4]) {
    if data.len() < SHORT {
        scalar::unmask(data, key);
    } else {
        dispatch(data, key);
    }
}

/// XORs `data` in place with `key` repeated, beginning with `key[offset % 4]`.
///
/// For a payload that arrives in pieces: `offset` is the number of its octets that came before `data`.
#[inline]
pub fn unmask_from(data: &mut [u8], mut key: [u8; 4], offset: usize) {
    key.rotate_left(offset % 4);
    unmask(data, key);
}

/// Runs the widest implementation this CPU has. Detection is cached by `std`: a load and a bit test.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn dispatch(data: &mut [u8], key: [u8; 4]) {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected in the line above.
        unsafe { avx2::unmask(data, key) }
    } else if is_x86_feature_detected!("sse2") {
        // SAFETY: SSE2 was detected in the line above.
        unsafe { sse2::unmask(data, key) }
    } else {
        scalar::unmask(data, key);
    }
}

/// Elsewhere the compiler's own vectorisation of the scalar loop is what there is.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn dispatch(data: &mut [u8], key: [u8; 4]) {
    scalar::unmask(data, key);
}
