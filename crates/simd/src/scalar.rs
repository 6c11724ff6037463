//! Unmasking eight octets at a time in a general register; the tail of the vector versions too.

/// XORs `data` in place with `key` repeated.
#[inline]
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // Whole words are a multiple of the key's length: the tail begins with `key[0]` again.
    let (words, tail) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (octet, key) in tail.iter_mut().zip(wide.to_ne_bytes()) {
        *octet ^= key;
    }
}
