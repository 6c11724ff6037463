//! Keys that nobody can predict, from the kernel.

use std::cell::RefCell;

/// Bytes taken from the kernel at a time: one system call for 256 masking keys.
const POOL: usize = 1024;

thread_local! {
    /// Random bytes, of which those from the number on are unused.
    static KEYS: RefCell<([u8; POOL], usize)> = const { RefCell::new(([0; POOL], POOL)) };
}

/// A key for an opening handshake.
///
//= RFC 6455#section-4.1
//# The value of this header field MUST be a nonce consisting of a randomly selected 16-byte value
///
/// # Errors
/// The kernel has no random numbers for this process.
pub fn handshake_key() -> Result<[u8; 16], getrandom::Error> {
    let mut key = [0; 16];
    //= RFC 6455#section-4.1
    //# The nonce MUST be selected randomly for each connection.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
    //# The nonce MUST be selected randomly for each connection.
    getrandom::fill(&mut key)?;
    Ok(key)
}

/// A key for one frame.
///
//= RFC 6455#section-5.3
//# The masking key needs to be unpredictable; thus, the masking key MUST be derived from a strong source of entropy
///
/// # Panics
/// The kernel has no random numbers for this process. It had some for the handshake, and it does not run out.
pub fn masking_key() -> [u8; 4] {
    KEYS.with_borrow_mut(|(bytes, used)| {
        if *used == bytes.len() {
            getrandom::fill(bytes).expect("the kernel gave random numbers for the handshake");
            *used = 0;
        }
        let key = *bytes[*used..].first_chunk().expect("a multiple of four is left");
        *used += key.len();
        key
    })
}

/// Any number, for jitter: [`masking_key`] as a number.
pub(crate) fn random() -> u32 {
    u32::from_ne_bytes(masking_key())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_do_not_repeat_over_several_refills() {
        let keys: HashSet<_> = (0..POOL).map(|_| masking_key()).collect();
        // Of 1,024 values out of 2^32 two are the same with probability 0.0001; three pairs do not happen.
        assert!(keys.len() > POOL - 3);
        assert_ne!(handshake_key().unwrap(), handshake_key().unwrap());
    }
}
