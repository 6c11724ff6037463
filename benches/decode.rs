//! A stream of small frames through a whole WebSocket connection: ours, tungstenite's and fastwebsockets'.
//!
//! *decode* is a server that receives masked messages; each read gives it up to 16 KiB, which ends within a frame as
//! reads do. All three pay for the copy that a read is. *encode* is a server that sends messages into memory. What is
//! counted is messages.
//!
//! fastwebsockets is asynchronous; over memory no read or write ever has to wait, so each future is polled once and no
//! runtime takes part.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use fastwebsockets::{Frame, OpCode, Payload};
use tidecast_websocket::{Connection, Event, Input, Limits, Millis, Opcode, Version, encode_frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Message, Utf8Bytes};

/// Octets of payload in a message.
const PAYLOAD: usize = 128;
/// Messages per iteration.
const MESSAGES: usize = 4096;
/// Octets that a read gives at most.
const READ: usize = 16 << 10;

/// What a peer sends, over and over, and room for what it is sent.
struct Memory {
    incoming: Vec<u8>,
    at: usize,
    sent: Vec<u8>,
}

impl Memory {
    fn new(incoming: Vec<u8>) -> Self {
        Self {
            incoming,
            at: 0,
            sent: Vec::new(),
        }
    }

    /// [`MESSAGES`] masked frames of that kind.
    fn of_frames(opcode: Opcode) -> Self {
        let mut frames = Vec::new();
        for i in 0..MESSAGES {
            let payload = [b'a' + (i % 26) as u8; PAYLOAD];
            let key = (i as u32).wrapping_mul(0x9e37_79b9).to_be_bytes();
            encode_frame(Version::V13, opcode, &payload, Some(key), &mut frames);
        }
        Self::new(frames)
    }

    /// The next of the peer's octets: no more than `room`, nor than a read gives.
    fn next(&mut self, room: usize) -> &[u8] {
        if self.at == self.incoming.len() {
            self.at = 0;
        }
        let start = self.at;
        // Reads end where they would in a stream without end, whatever the room.
        let read_end = (start / READ + 1) * READ;
        self.at = read_end.min(start + room).min(self.incoming.len());
        &self.incoming[start..self.at]
    }
}

impl Read for Memory {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let octets = self.next(target.len());
        target[..octets.len()].copy_from_slice(octets);
        Ok(octets.len())
    }
}

impl Write for Memory {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.sent.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Memory {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, target: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let octets = self.next(target.remaining());
        target.put_slice(octets);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(octets))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The result of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("memory is always ready"),
    }
}

fn tungstenite_server(memory: Memory) -> tungstenite::WebSocket<Memory> {
    // Its buffer of 128 KiB is cleared before every read: no larger than the reads, it does better.
    let config = WebSocketConfig::default().read_buffer_size(READ);
    tungstenite::WebSocket::from_raw_socket(memory, tungstenite::protocol::Role::Server, Some(config))
}

fn decode(criterion: &mut Criterion, opcode: Opcode) {
    let mut group = criterion.benchmark_group(format!("decode/{opcode:?}").to_lowercase());
    group.throughput(Throughput::Elements(MESSAGES as u64));

    group.bench_function("tidecast", |bencher| {
        let mut memory = Memory::of_frames(opcode);
        let mut connection = Connection::server(Version::V13, Limits::default(), Millis(0));
        let (mut buffer, mut out) = ([0; READ], Vec::new());
        bencher.iter(|| {
            let mut messages = 0;
            while messages < MESSAGES {
                let length = memory.read(&mut buffer).expect("memory gives octets");
                let mut input = Input::new(&mut buffer[..length]);
                while let Some(event) = connection
                    .poll(&mut input, Millis(1), &mut out)
                    .expect("the frames are right")
                {
                    let payload = match event {
                        Event::Text(text) => text.as_bytes(),
                        Event::Binary(octets) => octets,
                        _ => unreachable!("only messages are sent"),
                    };
                    assert_eq!(black_box(payload).len(), PAYLOAD);
                    messages += 1;
                }
            }
            assert_eq!(messages, MESSAGES);
        });
    });
    group.bench_function("tungstenite", |bencher| {
        let mut socket = tungstenite_server(Memory::of_frames(opcode));
        bencher.iter(|| {
            for _ in 0..MESSAGES {
                let message = socket.read().expect("the frames are right");
                assert_eq!(black_box(&message).len(), PAYLOAD);
            }
        });
    });
    group.bench_function("fastwebsockets", |bencher| {
        let memory = Memory::of_frames(opcode);
        let mut socket = fastwebsockets::WebSocket::after_handshake(memory, fastwebsockets::Role::Server);
        bencher.iter(|| {
            for _ in 0..MESSAGES {
                let frame = now(socket.read_frame()).expect("the frames are right");
                assert_eq!(black_box(&frame).payload.len(), PAYLOAD);
            }
        });
    });
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode/text");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    let text = "a".repeat(PAYLOAD);
    let encoded = MESSAGES * (4 + PAYLOAD);

    group.bench_function("tidecast", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            for _ in 0..MESSAGES {
                encode_frame(Version::V13, Opcode::Text, black_box(&text).as_bytes(), None, &mut out);
            }
            assert_eq!(black_box(&out).len(), encoded);
        });
    });
    group.bench_function("tungstenite", |bencher| {
        let mut socket = tungstenite_server(Memory::new(Vec::new()));
        // Cheap to clone, as a message for many would be held.
        let text = Utf8Bytes::try_from(Bytes::from(text.clone())).expect("text is UTF-8");
        bencher.iter(|| {
            socket.get_mut().sent.clear();
            for _ in 0..MESSAGES {
                socket
                    .write(Message::Text(black_box(&text).clone()))
                    .expect("memory takes octets");
            }
            socket.flush().expect("memory takes octets");
            assert_eq!(black_box(&socket.get_ref().sent).len(), encoded);
        });
    });
    group.bench_function("fastwebsockets", |bencher| {
        // Its stream can be taken back, but not reached: a new one with room for everything, not timed, for each
        // iteration.
        let socket = || {
            let mut memory = Memory::new(Vec::new());
            memory.sent.reserve(encoded);
            fastwebsockets::WebSocket::after_handshake(memory, fastwebsockets::Role::Server)
        };
        let write = |socket: &mut fastwebsockets::WebSocket<Memory>| {
            for _ in 0..MESSAGES {
                let payload = Payload::Borrowed(black_box(&text).as_bytes());
                now(socket.write_frame(Frame::new(true, OpCode::Text, None, payload))).expect("memory takes octets");
            }
        };
        let mut tried = socket();
        write(&mut tried);
        assert_eq!(tried.into_inner().sent.len(), encoded);
        bencher.iter_batched_ref(socket, write, criterion::BatchSize::PerIteration);
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    decode(&mut criterion, Opcode::Binary);
    decode(&mut criterion, Opcode::Text);
    encode(&mut criterion);
    criterion.final_summary();
}
