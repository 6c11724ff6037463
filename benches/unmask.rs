//! Unmasking: what this crate does beside what is as fast as it gets, and beside the rivals.
//!
//! - `limit` is what memory allows: an XOR in place of the cache lines that the payload touches, whole and aligned, with a
//!   key that never turns, all payloads in one call, by the instruction set that is in its name. In each round the fastest one is what the
//!   others are multiples of.
//! - `copy` is `memcpy` to a second buffer: it loads and stores as many octets as unmasking has to, but has to hold two
//!   buffers in the cache.
//! - `tidecast` is [`tidecast_simd::unmask`]; `scalar`, `sse2` and so on are what it chooses from.
//! - `fastwebsockets` is that crate's `unmask`. tungstenite keeps its own private, but fastwebsockets took it from
//!   there line by line: one figure speaks for both. The bench `decode` has each of them in use.

mod turns;

use std::hint::black_box;

use tidecast_simd::limit;
use turns::{Contender, compare};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Octets of payload: what fits a few registers, short messages, long ones, and more than the first-level cache holds.
const SIZES: [usize; 7] = [7, 20, 64, 125, 128, 1 << 10, 64 << 10];

/// Where payloads begin, in octets after the start of a cache line: there, after the header of a frame of medium
/// length, and where no word is aligned.
const ALIGNMENTS: [usize; 3] = [0, 8, 33];

const CACHE_LINE: usize = 64;

/// Octets that a run goes through: as many payloads as lie in one read. So none is loaded just after it was stored, which
/// no server does, and which would be timed instead.
const READ: usize = 16 << 10;

/// Payloads of one size, each `stride` octets after the one before it, twice.
struct Payloads {
    buffers: [Vec<u8>; 2],
    alignment: usize,
    size: usize,
    stride: usize,
    count: usize,
}

impl Payloads {
    fn new(size: usize, alignment: usize) -> Self {
        let stride = size.next_multiple_of(CACHE_LINE);
        let count = (READ / stride).max(1);
        Self {
            buffers: [(); 2].map(|()| vec![0x5a; 2 * CACHE_LINE + count * stride]),
            alignment,
            size,
            stride,
            count,
        }
    }

    /// Both buffers, from where their payloads begin to where they end.
    fn both(&mut self) -> [&mut [u8]; 2] {
        self.buffers.each_mut().map(|buffer| {
            let start = buffer.as_ptr().align_offset(CACHE_LINE) + self.alignment;
            &mut buffer[start..][..self.count * self.stride]
        })
    }

    /// How many cache lines each payload touches.
    fn lines(&self) -> usize {
        (self.alignment + self.size).div_ceil(CACHE_LINE)
    }

    /// Gives `unmask` each payload. Inlined, as it is in a server: what it inlines counts.
    #[inline(always)]
    fn unmask(&mut self, unmask: impl Fn(&mut [u8], [u8; 4])) {
        let (size, stride) = (self.size, self.stride);
        let [buffer, _] = self.both();
        let key = black_box(KEY);
        for payload in black_box(buffer).chunks_exact_mut(stride) {
            unmask(&mut payload[..size], key);
        }
    }

    fn copy(&mut self) {
        let (size, stride) = (self.size, self.stride);
        let [source, target] = black_box(self.both());
        for (source, target) in source.chunks_exact(stride).zip(target.chunks_exact_mut(stride)) {
            target[..size].copy_from_slice(&source[..size]);
        }
    }
}

/// The limits of this CPU, over as many cache lines as the payloads touch.
fn limits(payloads: &Payloads) -> Vec<Contender<'static, Payloads>> {
    let each = payloads.lines();
    let contender = |(name, limit): (_, limit::Limit)| {
        let mut lines = vec![limit::Line::FILLED; payloads.count * each];
        Contender::new(format!("limit/{name}"), move |_: &mut Payloads| {
            limit(black_box(&mut lines), each, black_box(KEY));
        })
    };
    limit::implementations().into_iter().map(contender).collect()
}

fn main() {
    for size in SIZES {
        for alignment in ALIGNMENTS {
            let mut payloads = Payloads::new(size, alignment);
            let mut contenders = vec![
                Contender::new("tidecast", |payloads: &mut Payloads| {
                    payloads.unmask(tidecast_simd::unmask);
                }),
                Contender::new("fastwebsockets", |payloads: &mut Payloads| {
                    payloads.unmask(fastwebsockets::unmask);
                }),
                Contender::new("copy", Payloads::copy),
            ];
            for (name, implementation) in tidecast_simd::implementations() {
                contenders.push(Contender::new(name, move |payloads: &mut Payloads| {
                    payloads.unmask(implementation);
                }));
            }
            compare(
                &format!("unmask/{size}/{alignment}"),
                payloads.count,
                limits(&payloads),
                contenders,
                &mut payloads,
            );
        }
    }
}
