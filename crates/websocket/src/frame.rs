//! Frames: the header on the wire, both ways.
//!
//! ```text
//!  octet 0          octet 1         0, 2 or 8 octets   0 or 4 octets   n octets
//! +-+-+-+-+-------+ +-+-----------+ +----------------+ +-------------+ +---------+
//! |F|R|R|R|opcode | |M|  length   | | longer length  | | masking key | | payload |
//! |I|S|S|S|       | |A| or 126    | |  16 bits       | |             | |         |
//! |N|V|V|V|       | |S| or 127    | |  63 bits       | |             | |         |
//! | |1|2|3|       | |K|           | |                | |             | |         |
//! +-+-+-+-+-------+ +-+-----------+ +----------------+ +-------------+ +---------+
//! ```
//!
//! In draft 06 a client's masking key comes first instead and covers all that follows it, so that the length of the
//! header is known only after unmasking its beginning. MASK is a fourth reserved bit there.

use std::ops::Deref;

use crate::dialect::{Dialect, Masking, Version};
use crate::error::Error;

/// What a frame is. The numbers on the wire are the dialect's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The closing handshake.
    Close,
    /// To be answered by a Pong.
    Ping,
    /// The answer to a Ping, or an unsolicited heartbeat.
    Pong,
}

impl Opcode {
    pub(crate) const ALL: [Opcode; 6] = [
        Opcode::Continuation,
        Opcode::Text,
        Opcode::Binary,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ];

    /// Whether this is a control frame, which may stand between the fragments of a message.
    #[inline]
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// The longest header: two octets, a 64-bit length and a masking key.
pub const MAX_HEADER: usize = 14;

/// The longest payload of a control frame, in octets.
///
//= RFC 6455#section-5.5
//# All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
pub const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const RSV1: u8 = 0x40;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7F;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// An encoded frame header, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct HeaderBytes {
    octets: [u8; MAX_HEADER],
    len: u8,
    payload_key: Option<[u8; 4]>,
}

impl HeaderBytes {
    fn push(&mut self, octets: &[u8]) {
        let start = usize::from(self.len);
        self.octets[start..start + octets.len()].copy_from_slice(octets);
        self.len += octets.len() as u8;
    }

    /// What the payload is to be masked with, from its first octet on; nothing on a server.
    #[must_use]
    pub fn payload_key(&self) -> Option<[u8; 4]> {
        self.payload_key
    }
}

impl Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

/// Encodes the header of a frame with `payload_len` octets of payload. `fin` is false for every fragment but the last.
/// With the masking key `mask`, as every frame from a client must have, the payload that follows has to be masked with
/// [`HeaderBytes::payload_key`].
#[must_use]
pub fn encode_header(
    version: Version,
    opcode: Opcode,
    fin: bool,
    payload_len: usize,
    mask: Option<[u8; 4]>,
) -> HeaderBytes {
    //= RFC 6455#section-6.1
    //# The FIN bit (frame-fin) of the last frame containing the data MUST be set to 1 as defined in Section 5.2.
    header_bytes(version, opcode, if fin { FIN } else { 0 }, payload_len, mask)
}

/// The same for the first frame of a message of which permessage-deflate compressed the payload, to `payload_len`
/// octets. Its other fragments, if it has any, have headers like any other.
///
//= RFC 7692#section-6
//# This document allocates the RSV1 bit of the WebSocket header for PMCEs and calls the bit the "Per-Message
//# Compressed" bit.
#[must_use]
pub fn encode_compressed_header(
    version: Version,
    opcode: Opcode,
    fin: bool,
    payload_len: usize,
    mask: Option<[u8; 4]>,
) -> HeaderBytes {
    debug_assert!(matches!(opcode, Opcode::Text | Opcode::Binary));
    header_bytes(version, opcode, RSV1 | if fin { FIN } else { 0 }, payload_len, mask)
}

fn header_bytes(version: Version, opcode: Opcode, bits: u8, payload_len: usize, mask: Option<[u8; 4]>) -> HeaderBytes {
    let mut header = HeaderBytes {
        octets: [0; MAX_HEADER],
        len: 0,
        payload_key: mask,
    };
    let masking = version.dialect().masking;
    if let (Masking::Frame, Some(key)) = (masking, mask) {
        header.push(&key);
    }
    let start = usize::from(header.len);
    //= RFC 6455#section-5.2
    //# MUST be 0 unless an extension is negotiated that defines meanings for non-zero values.
    //= draft-ietf-hybi-thewebsocketprotocol-06#section-4.1
    //# In the absence of extensions negotiated during the opening handshake (Section 5), all reserved bits MUST be 0
    //# and reserved opcode values MUST NOT be used.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.1
    //# in the absence of extensions negotiated during the opening handshake (Section 5), all reserved bits MUST be 0
    //# and reserved opcode values MUST NOT be used.
    //= RFC 6455#section-6.1
    //# The opcode (frame-opcode) of the first frame containing the data MUST be set to the appropriate value from
    //# Section 5.2 for data that is to be interpreted by the recipient as text or binary data.
    let first = version.dialect().wire_opcode(opcode) | bits;
    let mask_bit = match masking {
        //= RFC 6455#section-5.3
        //# A masked frame MUST have the field frame-masked set to 1, as defined in Section 5.2.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.3
        //# A masked frame MUST have the field frame-masked set to 1, as defined in Section 4.2.
        Masking::Payload if mask.is_some() => MASK,
        _ => 0,
    };
    //= RFC 6455#section-5.2
    //# in all cases, the minimal number of bytes MUST be used to encode the length
    if payload_len < usize::from(LENGTH_16) {
        header.push(&[first, mask_bit | payload_len as u8]);
    } else if let Ok(length) = u16::try_from(payload_len) {
        header.push(&[first, mask_bit | LENGTH_16]);
        header.push(&length.to_be_bytes());
    } else {
        header.push(&[first, mask_bit | LENGTH_64]);
        header.push(&(payload_len as u64).to_be_bytes());
    }
    match (masking, mask) {
        //= RFC 6455#section-5.1
        //# A server MUST NOT mask any frames that it sends to the client.
        (_, None) => {}
        (Masking::Payload, Some(key)) => header.push(&key),
        //= draft-ietf-hybi-thewebsocketprotocol-06#section-4.2
        //# The client MUST mask all frames sent to the server.
        (Masking::Frame, Some(mut key)) => {
            let clear = &mut header.octets[start..usize::from(header.len)];
            tidecast_simd::unmask(clear, key);
            key.rotate_left(clear.len() % 4);
            header.payload_key = Some(key);
        }
    }
    header
}

/// Appends one whole frame to `out`: a message in a single frame, or a control frame.
///
/// A client gives the masking key, which must be fresh and unpredictable for every frame; a server gives none.
pub fn encode_frame(version: Version, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    //= RFC 7692#section-6.1
    //# An endpoint MUST use the following algorithm to send a message in the form of an uncompressed message.
    encode_fragment(version, opcode, true, payload, mask, out);
}

/// Appends one frame to `out`, which is a fragment unless `fin` is set and `opcode` is not a continuation.
pub fn encode_fragment(
    version: Version,
    opcode: Opcode,
    fin: bool,
    payload: &[u8],
    mask: Option<[u8; 4]>,
    out: &mut Vec<u8>,
) {
    debug_assert!(!opcode.is_control() || (fin && payload.len() <= MAX_CONTROL));
    //= RFC 6455#section-6.1
    //# An endpoint MUST encapsulate the /data/ in a WebSocket frame as defined in Section 5.2.
    append(encode_header(version, opcode, fin, payload.len(), mask), payload, out);
}

/// Appends to `out` a message that was deflated to `payload`, in a single frame.
pub(crate) fn encode_compressed(
    version: Version,
    opcode: Opcode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
    out: &mut Vec<u8>,
) {
    //= RFC 7692#section-6.1
    //# An endpoint MUST use the following algorithm to send a message in the form of a compressed message.
    let header = encode_compressed_header(version, opcode, true, payload.len(), mask);
    append(header, payload, out);
}

fn append(header: HeaderBytes, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(header.len() + payload.len());
    out.extend_from_slice(&header);
    let start = out.len();
    out.extend_from_slice(payload);
    //= RFC 6455#section-6.1
    //# If the data is being sent by the client, the frame(s) MUST be masked as defined in Section 5.3.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.3
    //# The client MUST mask all frames sent to the server.
    if let Some(key) = header.payload_key {
        tidecast_simd::unmask(&mut out[start..], key);
    }
}

/// A header as received, checked by itself: what it says fits the dialect, but not yet the frames before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    /// This begins a compressed message.
    pub(crate) compressed: bool,
    pub(crate) opcode: Opcode,
    /// The key of the first octet of payload; zero, which changes nothing, where the payload is not masked.
    pub(crate) key: [u8; 4],
    /// Octets of payload.
    pub(crate) payload: u64,
    /// Octets of header.
    pub(crate) len: usize,
}

/// What the first octets of a frame tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    Header(Header),
    /// The header cannot be told before there are that many octets; once there are, it may turn out to need more.
    Needs(usize),
}

/// Reads the header at the start of `octets`. `masked` says which side we listen to: a client's frames are masked;
/// `compression`, whether permessage-deflate gives RSV1 a meaning.
///
/// # Errors
/// What the header by itself makes a protocol error.
#[inline]
pub(crate) fn decode_header(
    dialect: &Dialect,
    masked: bool,
    compression: bool,
    octets: &[u8],
) -> Result<Decoded, Error> {
    //= RFC 6455#section-6.2
    //# Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2.
    //= RFC 6455#section-10.7
    //# Incoming data MUST always be validated by both clients and servers.
    match dialect.masking {
        Masking::Payload => {
            let mut decoded = decode_clear(dialect, masked, compression, octets)?;
            if let (true, Decoded::Header(header)) = (masked, &mut decoded) {
                let Some(key) = octets[header.len..].first_chunk() else {
                    return Ok(Decoded::Needs(header.len + 4));
                };
                header.key = *key;
                header.len += 4;
            }
            Ok(decoded)
        }
        Masking::Frame if masked => decode_masked(dialect, compression, octets),
        Masking::Frame => decode_clear(dialect, false, compression, octets),
    }
}

/// Reads the header at the start of `octets` if it is whole, right, and that of most frames: a message of less than
/// 64 KiB in a single frame, not compressed, in a dialect that masks the payload alone. It says what [`decode_header`]
/// says of it.
#[inline]
pub(crate) fn decode_message(dialect: &Dialect, masked: bool, octets: &[u8]) -> Option<Header> {
    let &[first, second, ref rest @ ..] = octets else {
        return None;
    };
    let opcode = dialect.opcode(first)?;
    if first & (FIN | RSV) != FIN
        || !matches!(opcode, Opcode::Text | Opcode::Binary)
        || masked != (second & MASK != 0)
        || dialect.masking != Masking::Payload
    {
        return None;
    }
    let (payload, len) = match second & LENGTH {
        LENGTH_64 => return None,
        LENGTH_16 => match u16::from_be_bytes(*rest.first_chunk()?) {
            0..=125 => return None,
            length => (u64::from(length), 4),
        },
        length => (u64::from(length), 2),
    };
    let (key, len) = if masked {
        (*octets[len..].first_chunk()?, len + 4)
    } else {
        ([0; 4], len)
    };
    Some(Header {
        fin: true,
        compressed: false,
        opcode,
        key,
        payload,
        len,
    })
}

/// Reads a header that is masked as a whole.
#[inline(never)]
fn decode_masked(dialect: &Dialect, compression: bool, octets: &[u8]) -> Result<Decoded, Error> {
    //= draft-ietf-hybi-thewebsocketprotocol-06#section-4.2
    //# Each masked frame consists of a 32-bit masking-key followed by masked-data
    let Some((key, rest)) = octets.split_first_chunk() else {
        return Ok(Decoded::Needs(6));
    };
    let mut clear = [0; MAX_HEADER - 4];
    let len = rest.len().min(clear.len());
    let clear = &mut clear[..len];
    clear.copy_from_slice(&rest[..len]);
    tidecast_simd::unmask(clear, *key);
    Ok(match decode_clear(dialect, false, compression, clear)? {
        Decoded::Needs(needs) => Decoded::Needs(4 + needs),
        Decoded::Header(mut header) => {
            header.key = *key;
            header.key.rotate_left(header.len % 4);
            header.len += 4;
            Decoded::Header(header)
        }
    })
}

/// Reads a header without its key. `masked` says what the MASK bit has to be.
#[inline]
fn decode_clear(dialect: &Dialect, masked: bool, compression: bool, octets: &[u8]) -> Result<Decoded, Error> {
    let &[first, second, ref rest @ ..] = octets else {
        return Ok(Decoded::Needs(2));
    };
    //= RFC 6455#section-5.2
    //# If a nonzero value is received and none of the negotiated extensions defines the meaning of such a nonzero
    //# value, the receiving endpoint MUST _Fail the WebSocket Connection_.
    //= RFC 6455#section-5.2
    //# 1 bit in length, MUST be 0 unless negotiated otherwise
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.2
    //# frame-rsv1 = %x0 ; 1 bit, MUST be 0
    //# frame-rsv2 = %x0 ; 1 bit, MUST be 0
    //# frame-rsv3 = %x0 ; 1 bit, MUST be 0
    let reserved = first & RSV;
    if reserved != 0 && !(compression && reserved == RSV1) {
        return Err(Error::ReservedBits);
    }
    //= RFC 6455#section-5.2
    //# If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_.
    let Some(opcode) = dialect.opcode(first) else {
        return Err(Error::ReservedOpcode(first & 0x0F));
    };
    //= RFC 7692#section-6.1
    //# An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first fragments of a data
    //# message. An endpoint receiving such a frame MUST _Fail the WebSocket Connection_.
    let compressed = reserved != 0;
    if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(Error::ReservedBits);
    }
    //= RFC 6455#section-5.1
    //# The server MUST close the connection upon receiving a frame that is not masked.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.3
    //# A server MUST close the connection upon receiving a frame with the MASK bit set to 0.
    //= RFC 6455#section-5.1
    //# A client MUST close a connection if it detects a masked frame.
    if masked != (second & MASK != 0) {
        return Err(match dialect.masking {
            Masking::Frame => Error::ReservedBits,
            Masking::Payload if masked => Error::NotMasked,
            Masking::Payload => Error::Masked,
        });
    }
    let fin = first & FIN != 0;
    let short = second & LENGTH;
    if opcode.is_control() {
        //= RFC 6455#section-5.4
        //# Control frames themselves MUST NOT be fragmented.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
        //# Control frames themselves MUST NOT be fragmented.
        if !fin {
            return Err(Error::FragmentedControl);
        }
        //= RFC 6455#section-5.5
        //# All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5
        //# All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
        //= draft-ietf-hybi-thewebsocketprotocol-06#section-4.5
        //# All control frames MUST be 125 bytes or less in length and MUST NOT be fragmented.
        if usize::from(short) > MAX_CONTROL {
            return Err(Error::LongControl);
        }
    }
    let (payload, len) = match short {
        LENGTH_16 => {
            let Some(length) = rest.first_chunk() else {
                return Ok(Decoded::Needs(4));
            };
            let length = u64::from(u16::from_be_bytes(*length));
            if dialect.minimal_length && length < u64::from(LENGTH_16) {
                return Err(Error::LongLengthForm);
            }
            (length, 4)
        }
        LENGTH_64 => {
            let Some(length) = rest.first_chunk() else {
                return Ok(Decoded::Needs(10));
            };
            let length = u64::from_be_bytes(*length);
            //= RFC 6455#section-5.2
            //# (the most significant bit MUST be 0)
            //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.2
            //# (the most significant bit MUST be 0)
            if length > i64::MAX as u64 {
                return Err(Error::LengthSign);
            }
            if dialect.minimal_length && length <= u64::from(u16::MAX) {
                return Err(Error::LongLengthForm);
            }
            (length, 10)
        }
        short => (u64::from(short), 2),
    };
    Ok(Decoded::Header(Header {
        fin,
        compressed,
        opcode,
        key: [0; 4],
        payload,
        len,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn a_header_read_back_is_the_header_written_whatever_is_missing_is_asked_for() {
        for version in Version::ALL {
            for mask in [None, Some(KEY)] {
                for payload in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40] {
                    for fin in [false, true] {
                        let written = encode_header(version, Opcode::Binary, fin, payload, mask);
                        let expected = Header {
                            fin,
                            compressed: false,
                            opcode: Opcode::Binary,
                            key: written.payload_key().unwrap_or_default(),
                            payload: payload as u64,
                            len: written.len(),
                        };
                        let read =
                            |octets: &[u8]| decode_header(version.dialect(), mask.is_some(), false, octets).unwrap();
                        assert_eq!(read(&written), Decoded::Header(expected));
                        for cut in 0..written.len() {
                            let Decoded::Needs(needs) = read(&written[..cut]) else {
                                panic!("{cut} octets of {written:?} were enough");
                            };
                            assert!(cut < needs && needs <= written.len());
                        }
                    }
                }
            }
        }
    }

    //= RFC 6455#section-5.2
    //= type=test
    //# in all cases, the minimal number of bytes MUST be used to encode the length
    #[test]
    fn the_header_takes_the_shortest_form_of_the_length() {
        let sizes = [(125, 2), (126, 4), (65_535, 4), (65_536, 10)];
        for (payload, size) in sizes {
            let header = encode_header(Version::V13, Opcode::Text, true, payload, None);
            assert_eq!(header.len(), size);
            let header = encode_header(Version::V13, Opcode::Text, true, payload, Some(KEY));
            assert_eq!(header.len(), size + 4);
        }
    }
    //= RFC 6455#section-5.2
    //= type=test
    //# in all cases, the minimal number of bytes MUST be used to encode the length
    #[test]
    fn the_longest_length_that_fits_a_shorter_form_is_refused_by_the_rfc_alone() {
        let headers: [&[u8]; 2] = [b"\x82\x7e\0\x7d", b"\x82\x7f\0\0\0\0\0\0\xff\xff"];
        for header in headers {
            for version in [Version::V7, Version::V8] {
                let decoded = decode_header(version.dialect(), false, false, header);
                assert!(matches!(decoded, Ok(Decoded::Header(_))), "{version}");
            }
            let decoded = decode_header(Version::V13.dialect(), false, false, header);
            assert_eq!(decoded, Err(Error::LongLengthForm));
        }
    }

    #[test]
    fn the_fast_decoder_says_what_the_full_one_says_or_nothing() {
        let lengths: [&[u8]; 8] = [
            &[0],
            &[5],
            &[125],
            &[126, 0, 125],
            &[126, 0, 126],
            &[126, 255, 255],
            &[127, 0, 0, 0, 0, 0, 1, 0, 0],
            &[126, 0],
        ];
        let mut taken = 0;
        for version in Version::ALL {
            for first in 0..=u8::MAX {
                for (length, mask) in lengths.into_iter().flat_map(|length| [(length, 0), (length, MASK)]) {
                    let octets = [&[first, length[0] | mask], &length[1..], &KEY].concat();
                    for masked in [false, true] {
                        for cut in 0..=octets.len() {
                            let octets = &octets[..cut];
                            let Some(header) = decode_message(version.dialect(), masked, octets) else {
                                continue;
                            };
                            taken += 1;
                            let full = decode_header(version.dialect(), masked, false, octets);
                            assert_eq!(full, Ok(Decoded::Header(header)), "{octets:02x?}");
                            assert!(header.fin && !header.opcode.is_control());
                        }
                    }
                }
            }
        }
        // Three versions, two opcodes, five lengths that are in their shortest form and short; masked, and not.
        assert!(taken >= 3 * 2 * 5 * 2, "{taken}");
    }
}
