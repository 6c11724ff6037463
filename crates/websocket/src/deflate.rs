//! Deflating without memory of what was sent before: made once, valid for every receiver.
//!
//! A block that refers to nothing before it can be read at any point of any stream at which an octet begins. So what
//! goes to many is deflated once, ended by a sync flush, and the same octets go to all of them, whatever each was sent
//! before and whether or not it negotiated context takeover.

use flate2::{Compress, Compression, FlushCompress};

use crate::permessage::TAIL;

/// The smallest window that the compressor has, in bits. Of its 512 octets it uses the last 250 at most, so that what
/// it makes can be read with a window of 8 bits as well.
pub(crate) const MIN_WINDOW_BITS: u8 = 9;
//= RFC 7692#section-7.2.1
//# An endpoint MUST NOT use an LZ77 sliding window longer than 32,768 bytes to compress messages to send.
const MAX_WINDOW_BITS: u8 = 15;
const WINDOWS: usize = (MAX_WINDOW_BITS - MIN_WINDOW_BITS + 1) as usize;

/// The longest stored block.
const MAX_STORED: usize = u16::MAX as usize;

/// A compressor for what is sent to many. One per thread will do: it keeps nothing from one call to the next but its
/// memory, of 250 to 380 KB for every size of window that was asked for.
///
/// 1 KiB of JSON takes it about 13 µs at level 4 and 6 µs at level 1, of which 4 µs are spent on forgetting the last one.
/// Level 1 does not fit its codes to the data: it leaves a quarter to a third more octets, and what has no repetitions
/// as long as it was.
#[derive(Debug)]
pub struct Deflater {
    level: Compression,
    min_payload: usize,
    compressors: [Option<Box<Compress>>; WINDOWS],
}

impl Deflater {
    /// `level` is 1 (fast) to 9 (small). Messages of fewer than `min_payload` octets are sent as they are: the header
    /// of a deflated block and the work for it cost more than they save.
    #[must_use]
    pub fn new(level: u8, min_payload: usize) -> Self {
        Self {
            level: Compression::new(u32::from(level.clamp(1, 9))),
            min_payload,
            compressors: [const { None }; WINDOWS],
        }
    }

    /// Appends the deflated `payload` of a message of permessage-deflate, for a frame with
    /// [`encode_compressed_header`]. No match reaches back further than `window_bits` (8 to 15).
    ///
    /// Gives false, and appends nothing, where the message is better sent as it is: below the threshold, or where
    /// deflating does not make it smaller.
    ///
    /// [`encode_compressed_header`]: crate::encode_compressed_header
    pub fn message(&mut self, payload: &[u8], window_bits: u8, out: &mut Vec<u8>) -> bool {
        if payload.is_empty() || payload.len() < self.min_payload {
            return false;
        }
        let start = out.len();
        self.flushed(payload, window_bits, out);
        debug_assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        let smaller = out.len() - start < payload.len();
        if !smaller {
            out.truncate(start);
        }
        smaller
    }

    /// Appends `octets`, whole frames, deflated for connections with deflate-stream. A window of 15 bits can be read
    /// by all of them but libwebsockets before May 2011, which has 8.
    pub fn block(&mut self, octets: &[u8], window_bits: u8, out: &mut Vec<u8>) {
        if !octets.is_empty() {
            self.flushed(octets, window_bits, out);
        }
    }

    /// Appends `frame` for connections with deflate-stream: deflated, or in stored blocks below the threshold.
    pub fn stream(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        if frame.len() < self.min_payload {
            stored_blocks(frame, out);
        } else {
            self.block(frame, MAX_WINDOW_BITS, out);
        }
    }

    fn flushed(&mut self, octets: &[u8], window_bits: u8, out: &mut Vec<u8>) {
        let bits = window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        let level = self.level;
        let compress = match &mut self.compressors[usize::from(bits - MIN_WINDOW_BITS)] {
            Some(compress) => {
                compress.reset();
                compress
            }
            //= draft-ietf-hybi-thewebsocketprotocol-07#section-8.2.1
            //# It MUST NOT be wrapped in any of the header formats often associated with RFC 1951 such as "zlib"
            //# [RFC1950].
            empty => empty.insert(Box::new(Compress::new_with_window_bits(level, false, bits))),
        };
        deflate_into(compress, octets, out);
    }
}

impl Default for Deflater {
    /// Level 6 is zlib's own compromise. Around 100 octets a text begins to shrink by more than the few octets that
    /// a block costs.
    fn default() -> Self {
        Self::new(6, 100)
    }
}

/// Appends `octets` deflated and sync flushed.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-8.2.1
//# Senders MUST NOT delay the transmission of any portion of a WebSocket message because the deflate encoding of the
//# message does not end on a byte boundary.
pub(crate) fn deflate_into(compress: &mut Compress, octets: &[u8], out: &mut Vec<u8>) {
    // Enough for almost everything: blocks are stored where that is shorter.
    out.reserve(octets.len() + octets.len() / 8 + 64);
    let start = compress.total_in();
    loop {
        let consumed = (compress.total_in() - start) as usize;
        compress
            .compress_vec(&octets[consumed..], out, FlushCompress::Sync)
            .expect("a compressor takes any octets");
        // With room left over the flush is complete.
        if out.len() < out.capacity() {
            return;
        }
        out.reserve(octets.len() / 8 + 64);
    }
}

/// Appends `octets` for a connection with deflate-stream as they are, in stored blocks: 5 octets more for every
/// 65,535. For what is sent once, and for what is masked, which no compressor makes smaller.
pub fn stored_blocks(octets: &[u8], out: &mut Vec<u8>) {
    out.reserve(octets.len() + 5 * octets.len().div_ceil(MAX_STORED));
    for block in octets.chunks(MAX_STORED) {
        let length = block.len() as u16;
        // Not final, stored, and no bits to fill up: each block begins at an octet, as all we send does.
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}
