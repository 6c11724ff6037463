//! SIMD kernels for tidecast: WebSocket unmasking.
//!
//! Masking XORs octet `i` of a payload with octet `i mod 4` of a key, so the same function masks and unmasks.
//! There is one file per instruction set (`scalar`, `sse2`, `avx2`, `avx512`, `neon`), and `vector` for what those of
//! vectors share; [`unmask`] chooses. Other architectures have what the compiler makes of `scalar`.
//! This crate knows nothing of frames: which bytes to unmask, and with which key, is `tidecast-websocket`'s business.
//!
//! Every test runs every implementation that the CPU has. Those of NEON were run under an emulator, QEMU 7.2, which
//! `aarch64.sh` repeats; how fast it is on a CPU that has it was not measured.
//!
//! Start reading at [`unmask`].

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod avx2;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod avx512;
#[doc(hidden)]
pub mod limit;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod sse2;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "aarch64", target_arch = "x86", target_arch = "x86_64"))]
mod vector;

use std::mem;
use std::sync::atomic::{AtomicPtr, Ordering};

/// XORs `data` in place with `key` repeated, beginning with `key[0]`.
///
//= RFC 6455#section-5.3
//# The same algorithm applies regardless of the direction of the translation
#[inline]
pub fn unmask(data: &mut [u8], key: [u8; 4]) {
    // Done here, as asking for the instruction set would cost more than the work.
    if data.len() <= scalar::SHORT {
        scalar::short(data, key);
    } else {
        // SAFETY: nothing but pointers to functions of this type is ever stored.
        let widest = unsafe { mem::transmute::<*mut (), Unmask>(WIDEST.load(Ordering::Relaxed)) };
        widest(data, key);
    }
}

/// XORs `data` in place with `key` repeated, beginning with `key[offset % 4]`.
///
/// For a payload that arrives in pieces: `offset` is the number of its octets that came before `data`.
#[inline]
pub fn unmask_from(data: &mut [u8], key: [u8; 4], offset: usize) {
    unmask(data, key_from(key, offset));
}

/// The key of what is `offset` octets further on.
#[inline]
fn key_from(key: [u8; 4], offset: usize) -> [u8; 4] {
    u32::from_be_bytes(key)
        .rotate_left(8 * (offset % 4) as u32)
        .to_be_bytes()
}

/// The widest implementation this CPU has, a function of type [`Unmask`]; to begin with, what looks for it. A load and a
/// call are all that it costs to choose, where a lock would have to be looked at too.
static WIDEST: AtomicPtr<()> = AtomicPtr::new(unmask_first as *mut ());

/// Unmasks, and sees to it that from now on [`WIDEST`] does.
#[cold]
fn unmask_first(data: &mut [u8], key: [u8; 4]) {
    let widest = implementations()
        .last()
        .map_or(scalar::unmask as Unmask, |&(_, widest)| widest);
    // Code is there for every thread: nothing has to be visible before the pointer is.
    WIDEST.store(widest as *mut (), Ordering::Relaxed);
    widest(data, key);
}

/// What [`unmask`] is, and what it chooses from.
pub type Unmask = fn(&mut [u8], [u8; 4]);

/// The implementations of [`unmask`] that this CPU can run, the widest last, each with the name of its file: for
/// tests and benchmarks that compare them.
#[must_use]
pub fn implementations() -> Vec<(&'static str, Unmask)> {
    let mut found: Vec<(_, Unmask)> = vec![("scalar", scalar::unmask)];
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if is_x86_feature_detected!("sse2") {
            // SAFETY: SSE2 was detected in the line above.
            found.push(("sse2", unsafe { detected(sse2::unmask) }));
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: AVX2 was detected in the line above.
            found.push(("avx2", unsafe { detected(avx2::unmask) }));
        }
        if avx512::is_detected() {
            // SAFETY: AVX-512F was detected in the line above.
            found.push(("avx512", unsafe { detected(avx512::unmask) }));
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        // SAFETY: NEON was detected in the line above.
        found.push(("neon", unsafe { detected(neon::unmask) }));
    }
    found
}

/// `unmask` as a function that may be called from anywhere, without one around it that would only jump there.
///
/// # Safety
/// This CPU has the instruction set that `unmask` is compiled for: nothing else makes it unsafe.
#[cfg(any(target_arch = "aarch64", target_arch = "x86", target_arch = "x86_64"))]
unsafe fn detected(unmask: unsafe fn(&mut [u8], [u8; 4])) -> Unmask {
    // SAFETY: the two types differ in who has to know of the instruction set, and the caller vouches for it.
    unsafe { mem::transmute(unmask) }
}
