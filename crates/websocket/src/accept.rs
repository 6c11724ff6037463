//! `Sec-WebSocket-Accept`: the server's proof that it read the client's key.

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

//= RFC 6455#section-4.2.2
//# the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The bits that the last digit of 16 octets has to spare should be zero, but a client that fills them with what its
/// random source gave has made a good key.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Octets of a SHA-1 in base64.
const LEN: usize = 28;

/// The value of `Sec-WebSocket-Accept`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct AcceptKey([u8; LEN]);

impl AcceptKey {
    /// What a server answers to `key`; none if that is not 16 octets in base64.
    pub(crate) fn of(key: &str) -> Option<Self> {
        // One octet more than a key has, as decoders estimate by whole groups of four digits.
        let mut octets = [0; 18];
        match BASE64.decode_slice(key, &mut octets) {
            Ok(16) => {}
            _ => return None,
        }
        //= RFC 6455#section-4.2.2
        //# taking the SHA-1 hash of this concatenated value to obtain a 20-byte value and base64-encoding (see Section 4
        //# of [RFC4648]) this 20-byte hash.
        let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        let mut accept = [0; LEN];
        BASE64.encode_slice(hash, &mut accept).expect("20 octets are 28 digits");
        Some(Self(accept))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is ASCII")
    }
}

/// A client's key as its header has it.
///
//= RFC 6455#section-4.1
//# The value of this header field MUST be a nonce consisting of a randomly selected 16-byte value that has been
//# base64-encoded (see Section 4 of [RFC4648]).
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//# The value of this header MUST be a nonce consisting of a randomly selected 16-byte value that has been
//# base64-encoded [RFC3548].
pub(crate) fn encode_key(key: [u8; 16]) -> String {
    BASE64.encode(key)
}

impl fmt::Display for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl PartialEq<str> for AcceptKey {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_the_specification_and_of_servers_seen() {
        let seen = [
            ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("fSubVebxSKDmhLv9/jbFSg==", "B4WbEMTlqoCGXRoVXXsbuBkC/aQ="),
            ("3U/RcOW2ywW28mpbCkjgIA==", "LES4r4N5rQImnKVOvl+sZI0Kzkc="),
        ];
        for (key, accept) in seen {
            assert_eq!(AcceptKey::of(key).unwrap().to_string(), accept);
        }
    }

    #[test]
    fn a_key_is_sixteen_octets_in_base64_or_no_key() {
        for length in 0..40 {
            let key = BASE64.encode(vec![0xA5; length]);
            assert_eq!(AcceptKey::of(&key).is_some(), length == 16, "{length}");
        }
        for bad in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZ!=="] {
            assert_eq!(AcceptKey::of(bad), None, "{bad}");
        }
        assert!(AcceptKey::of("dGhlIHNhbXBsZSBub25jZR==").is_some());
    }
}
