//! Unmasking eight octets at a time in a general register; what is shorter than a vector too.

use crate::key_from;

/// XORs `data` in place with `key` repeated.
#[inline]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    // What does not fill a word at the end is done by one that overlaps those before it, made before they are.
    if let Some(&last) = data.last_chunk::<8>() {
        let last = xor(last, key_from(key, data.len()));
        for word in data.as_chunks_mut::<8>().0 {
            *word = xor(*word, key);
        }
        if let Some(place) = data.last_chunk_mut() {
            *place = last;
        }
    } else {
        for octets in data.chunks_mut(4) {
            for (octet, key) in octets.iter_mut().zip(key) {
                *octet ^= key;
            }
        }
    }
}

#[inline]
fn xor(word: [u8; 8], [a, b, c, d]: [u8; 4]) -> [u8; 8] {
    (u64::from_ne_bytes(word) ^ u64::from_ne_bytes([a, b, c, d, a, b, c, d])).to_ne_bytes()
}
