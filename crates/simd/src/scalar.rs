//! Unmasking with what every CPU has, and what is short.

use crate::key_from;

/// The most octets that [`short`] takes.
pub(crate) const SHORT: usize = 32;

/// XORs `data` in place with `key` repeated.
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    match data.last_chunk() {
        Some(&last) if data.len() > SHORT => {
            // What does not fill a word at the end is done by one that overlaps those before it, made before they are.
            let last: [u8; 8] = xor(last, key_from(key, data.len()));
            for word in data.as_chunks_mut::<8>().0 {
                *word = xor(*word, key);
            }
            if let Some(place) = data.last_chunk_mut() {
                *place = last;
            }
        }
        _ => short(data, key),
    }
}

/// XORs `data` of at most [`SHORT`] octets in place with `key` repeated.
#[inline]
pub(crate) fn short(data: &mut [u8], key: [u8; 4]) {
    match data.len() {
        0..4 => {
            for (octet, key) in data.iter_mut().zip(key) {
                *octet ^= key;
            }
        }
        4..=8 => from_both_ends::<4>(data, key),
        9..=16 => from_both_ends::<8>(data, key),
        _ => from_both_ends::<16>(data, key),
    }
}

/// Unmasks `data` of `N` to `2 * N` octets: `N` that begin where it begins, and `N` that end where it ends. They may
/// overlap, so both are loaded before one is stored.
#[inline(always)]
fn from_both_ends<const N: usize>(data: &mut [u8], key: [u8; 4]) {
    let (Some(&first), Some(&last)) = (data.first_chunk::<N>(), data.last_chunk::<N>()) else {
        return;
    };
    let first = xor(first, key);
    let last = xor(last, key_from(key, data.len()));
    if let Some(place) = data.first_chunk_mut() {
        *place = first;
    }
    if let Some(place) = data.last_chunk_mut() {
        *place = last;
    }
}

/// `N` is a multiple of 4. The compiler makes of it as few operations as `N` takes.
#[inline(always)]
fn xor<const N: usize>(mut octets: [u8; N], key: [u8; 4]) -> [u8; N] {
    for word in octets.as_chunks_mut().0 {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    octets
}
