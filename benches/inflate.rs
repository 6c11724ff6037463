//! What receiving costs beside the one thing in it that takes time: inflating, or checking UTF-8.
//!
//! - *inflate* is binary messages of permessage-deflate, all in one read, with and without context takeover.
//!   `zlib-rs` inflates the same octets into a buffer that is large enough, with one inflater, reset where no context is
//!   taken over; their end, which is not sent, is there already. And the same messages in a stream of deflate-stream.
//! - *text* is text messages that are not compressed, in ASCII and in Japanese. `simdutf8` unmasks the same payloads and
//!   checks them.
//!
//! The frames are masked with a key of zeros, which takes as long as any other and lets them be received again and again.

mod turns;

use std::hint::black_box;

use flate2::{Decompress, FlushDecompress};
use tidecast_websocket::{
    Connection, Deflater, Event, Extension, InflatePool, Input, Limits, Millis, Opcode, Params, Version,
    encode_compressed_header, encode_frame,
};
use turns::{Contender, compare};

const KEY: [u8; 4] = [0; 4];

/// Octets of message.
const SIZES: [usize; 3] = [128, 1 << 10, 64 << 10];

/// Octets of messages in a read: as much as one may get, and one message at least.
const READ: usize = 16 << 10;

/// Where a sync flush ends, without what goes on the wire.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A message of `size` octets, as applications send them: names that recur, numbers that do not.
fn message(size: usize, seed: u32) -> String {
    let mut message = String::from("[");
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    while message.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (id, price) = (state >> 12, state >> 20);
        message.push_str(&format!(
            r#"{{"id":{id},"symbol":"TIDE","price":{price},"side":"buy"}},"#
        ));
    }
    message.truncate(size);
    message
}

fn inflate(size: usize, takeover: bool) {
    let count = (READ / size).max(1);
    let mut deflater = Deflater::default();
    let (mut frames, mut deflated) = (Vec::new(), Vec::new());
    for seed in 0..count as u32 {
        let mut payload = Vec::new();
        assert!(deflater.message(message(size, seed).as_bytes(), 15, &mut payload));
        let header = encode_compressed_header(Version::V13, Opcode::Binary, true, payload.len(), Some(KEY));
        frames.extend_from_slice(&header);
        frames.extend_from_slice(&payload);
        payload.extend_from_slice(&TAIL);
        deflated.push(payload);
    }

    let mut decompress = Decompress::new(false);
    // Its fast path stops a few hundred octets before the end of the room it has.
    let mut inflated = Vec::with_capacity(size + 512);
    let alone = Contender::new("zlib-rs", move |()| {
        for payload in &deflated {
            if !takeover {
                decompress.reset(false);
            }
            inflated.clear();
            decompress
                .decompress_vec(payload, &mut inflated, FlushDecompress::None)
                .expect("it was deflated");
            assert_eq!(black_box(&inflated).len(), size);
        }
    });

    let params = Params {
        client_no_context_takeover: !takeover,
        ..Params::default()
    };
    let mut connection = Connection::server(Version::V13, Limits::default(), Millis(0))
        .with_extension(Some(Extension::PerMessageDeflate(params)));
    let (mut pool, mut out) = (InflatePool::new(1, 1), Vec::new());
    let tidecast = Contender::new("tidecast", move |()| {
        let mut received = 0;
        let mut input = Input::new(&mut frames);
        while let Some(event) = connection
            .poll_pooled(&mut input, Millis(1), &mut pool, &mut out)
            .expect("the frames are right")
        {
            let Event::Binary(octets) = event else {
                unreachable!("only binary messages are sent");
            };
            assert_eq!(black_box(octets).len(), size);
            received += 1;
        }
        assert_eq!(received, count);
    });

    let window = if takeover { "takeover" } else { "no-takeover" };
    compare(
        &format!("inflate/{size}/{window}"),
        count,
        vec![alone],
        vec![tidecast],
        &mut (),
    );
}

/// The same frames, not compressed one by one, but in a stream: a block each.
fn stream(size: usize) {
    let count = (READ / size).max(1);
    let mut deflater = Deflater::default();
    let mut deflated = Vec::new();
    let mut len = 0;
    for seed in 0..count as u32 {
        let mut frame = Vec::new();
        let payload = message(size, seed);
        encode_frame(Version::V13, Opcode::Binary, payload.as_bytes(), Some(KEY), &mut frame);
        deflater.block(&frame, 15, &mut deflated);
        len += frame.len();
    }

    let mut decompress = Decompress::new(false);
    let mut inflated = Vec::with_capacity(len + 512);
    let octets = deflated.clone();
    let alone = Contender::new("zlib-rs", move |()| {
        inflated.clear();
        decompress
            .decompress_vec(&octets, &mut inflated, FlushDecompress::None)
            .expect("it was deflated");
        assert_eq!(black_box(&inflated).len(), len);
    });

    let mut connection =
        Connection::server(Version::V13, Limits::default(), Millis(0)).with_extension(Some(Extension::DeflateStream));
    let (mut pool, mut out) = (InflatePool::new(1, 1), Vec::new());
    let tidecast = Contender::new("tidecast", move |()| {
        let mut received = 0;
        let mut input = Input::new(&mut deflated);
        while let Some(event) = connection
            .poll_pooled(&mut input, Millis(1), &mut pool, &mut out)
            .expect("the stream is right")
        {
            let Event::Binary(octets) = event else {
                unreachable!("only binary messages are sent");
            };
            assert_eq!(black_box(octets).len(), size);
            received += 1;
        }
        assert_eq!(received, count);
    });

    compare(
        &format!("inflate/{size}/stream"),
        count,
        vec![alone],
        vec![tidecast],
        &mut (),
    );
}

fn text(size: usize, name: &str, letters: &str) {
    let count = (READ / size).max(1);
    let mut text = letters.repeat(size / letters.len());
    text.push_str(&"a".repeat(size - text.len()));
    let mut frames = Vec::new();
    for _ in 0..count {
        encode_frame(Version::V13, Opcode::Text, text.as_bytes(), Some(KEY), &mut frames);
    }

    // Payloads lie as they do in frames, so that no cache line ends elsewhere.
    let mut payloads = frames.clone();
    let frame = frames.len() / count;
    let alone = Contender::new("simdutf8", move |()| {
        for frame in payloads.chunks_exact_mut(frame) {
            let (_, payload) = frame.split_at_mut(frame.len() - size);
            tidecast_simd::unmask(payload, black_box(KEY));
            let text = simdutf8::basic::from_utf8(payload).expect("the text is UTF-8");
            assert_eq!(black_box(text).len(), size);
        }
    });

    let mut connection = Connection::server(Version::V13, Limits::default(), Millis(0));
    let mut out = Vec::new();
    let tidecast = Contender::new("tidecast", move |()| {
        let mut received = 0;
        let mut input = Input::new(&mut frames);
        while let Some(event) = connection
            .poll(&mut input, Millis(1), &mut out)
            .expect("the frames are right")
        {
            let Event::Text(text) = event else {
                unreachable!("only text messages are sent");
            };
            assert_eq!(black_box(text).len(), size);
            received += 1;
        }
        assert_eq!(received, count);
    });

    compare(
        &format!("text/{size}/{name}"),
        count,
        vec![alone],
        vec![tidecast],
        &mut (),
    );
}

fn main() {
    for size in SIZES {
        inflate(size, true);
        inflate(size, false);
        stream(size);
        text(size, "ascii", "the tide rises, the tide falls; ");
        text(size, "japanese", "潮は満ち、潮は引く。");
    }
}
