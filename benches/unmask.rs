//! Unmasking: every implementation this CPU can run, beside what is as fast as it gets and beside the rivals'.
//!
//! - `copy` is the limit: `memcpy` to a second buffer moves as many octets into the core and out of it as unmasking
//!   has to, and does nothing with them. (Beyond the cache it is not: it has to fetch two buffers, not one.)
//! - `words` XORs a slice of `u64` in place: what the compiler makes of the plainest loop there is.
//! - `tidecast` is [`tidecast_simd::unmask`]; `scalar`, `sse2` and so on are what it chooses from.
//! - `fastwebsockets` is that crate's `unmask`. tungstenite keeps its own private, but fastwebsockets took it from
//!   there line by line: one figure speaks for both. The bench `decode` has each of them in use.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Octets of payload: short messages, long ones, and what fills the first-level cache.
const SIZES: [usize; 5] = [64, 125, 128, 1 << 10, 64 << 10];

/// Where payloads begin, in octets after the start of a cache line: there, after the header of a frame of medium
/// length, and where no word is aligned.
const ALIGNMENTS: [usize; 3] = [0, 8, 33];

const CACHE_LINE: usize = 64;

/// Octets that an iteration goes through: as many payloads as lie in one read. So none is loaded just after it was
/// stored, which no server does, and which would be timed instead.
const READ: usize = 16 << 10;

fn unmask(criterion: &mut Criterion) {
    let mut contenders = tidecast_simd::implementations();
    contenders.push(("tidecast", tidecast_simd::unmask));
    contenders.push(("fastwebsockets", fastwebsockets::unmask));
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("unmask/{size}"));
        let stride = size.next_multiple_of(CACHE_LINE);
        let payloads = (READ / stride).max(1);
        group.throughput(Throughput::Bytes((payloads * size) as u64));

        let mut words = vec![0x5a5a_5a5a_5a5a_5a5a_u64; payloads * stride / 8];
        group.bench_function("words/0", |bencher| {
            let [a, b, c, d] = KEY;
            let wide = black_box(u64::from_ne_bytes([a, b, c, d, a, b, c, d]));
            bencher.iter(|| {
                for payload in words.chunks_exact_mut(stride / 8) {
                    for word in &mut black_box(payload)[..size.div_ceil(8)] {
                        *word ^= wide;
                    }
                }
            });
        });
        for alignment in ALIGNMENTS {
            let mut buffers = [(); 2].map(|()| vec![0x5a; 2 * CACHE_LINE + payloads * stride]);
            let [buffer, target] = buffers.each_mut().map(|buffer| {
                let start = buffer.as_ptr().align_offset(CACHE_LINE) + alignment;
                &mut buffer[start..][..payloads * stride]
            });
            group.bench_function(BenchmarkId::new("copy", alignment), |bencher| {
                bencher.iter(|| {
                    for (source, target) in buffer.chunks_exact(stride).zip(target.chunks_exact_mut(stride)) {
                        black_box(target)[..size].copy_from_slice(&black_box(source)[..size]);
                    }
                });
            });
            for &(name, unmask) in &contenders {
                group.bench_function(BenchmarkId::new(name, alignment), |bencher| {
                    bencher.iter(|| {
                        for payload in buffer.chunks_exact_mut(stride) {
                            unmask(&mut black_box(payload)[..size], black_box(KEY));
                        }
                    });
                });
            }
        }
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(30)
        .configure_from_args();
    unmask(&mut criterion);
    criterion.final_summary();
}
