//! What a connection itself has to say, in frames.

use crate::connection::MaskingKey;
use crate::deflate::stored_blocks;
use crate::dialect::Version;
use crate::frame::{MAX_CONTROL, Opcode, encode_compressed, encode_frame};

/// How this end writes frames.
#[derive(Clone, Copy)]
pub(crate) struct Encoder {
    pub(crate) version: Version,
    pub(crate) masking_key: Option<MaskingKey>,
    /// Into a deflated stream.
    pub(crate) stream: bool,
}

impl Encoder {
    pub(crate) fn encode(self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        if self.stream {
            let mut frame = Vec::new();
            self.clear(opcode, payload, &mut frame);
            stored_blocks(&frame, out);
        } else {
            self.clear(opcode, payload, out);
        }
    }

    /// Leaves to the caller what an extension asks for.
    pub(crate) fn clear(self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        //= RFC 6455#section-5.1
        //# a client MUST mask all frames that it sends to the server
        //= RFC 6455#section-10.3
        //# Clients MUST choose a new masking key for each frame
        //= RFC 6455#section-5.3
        //# the client MUST pick a fresh masking key from the set of allowed 32-bit values.
        let mask = self.masking_key.map(|key| key());
        encode_frame(self.version, opcode, payload, mask, out);
    }

    /// A message that was deflated to `payload`.
    pub(crate) fn compressed(self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        let mask = self.masking_key.map(|key| key());
        encode_compressed(self.version, opcode, payload, mask, out);
    }

    /// A Close always has a code: clients of 2011 stall on an empty one.
    pub(crate) fn close(self, code: u16, reason: &str, out: &mut Vec<u8>) {
        let mut body = [0; MAX_CONTROL];
        let (head, tail) = body.split_at_mut(2);
        head.copy_from_slice(&code.to_be_bytes());
        let mut len = reason.len().min(tail.len());
        while !reason.is_char_boundary(len) {
            len -= 1;
        }
        tail[..len].copy_from_slice(&reason.as_bytes()[..len]);
        self.encode(Opcode::Close, &body[..2 + len], out);
    }
}
