//! A stream of small frames through a whole WebSocket connection: ours, tungstenite's, fastwebsockets' and
//! websocket-sans-io's.
//!
//! *decode* is a server that receives masked messages; each read gives it up to 16 KiB, which ends within a frame as
//! reads do. All of them pay for the copy that a read is. *encode* is a server that sends messages into memory. What is
//! counted is messages; ours are shown as a multiple of the fastest rival's in each round. `copy` appends frames that were
//! encoded before: nobody can be faster.
//!
//! - fastwebsockets is asynchronous; over memory no read or write ever has to wait, so each future is polled once and no
//!   runtime takes part.
//! - websocket-sans-io knows frames only, and checks nothing. What makes messages of them is written here with as little
//!   as it takes: a payload that comes in one piece is used where it lies, one in two is put together, and text is
//!   checked with the same simdutf8 that we use. Limits, the order of fragments, and pings it leaves out.

mod turns;

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use fastwebsockets::{Frame, OpCode, Payload};
use tidecast_websocket::{Connection, Event, Input, Limits, Millis, Opcode, Version, encode_frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Message, Utf8Bytes};
use turns::{Contender, compare};
use websocket_sans_io::{
    FrameInfo, Opcode as SansIoOpcode, WebsocketFrameDecoder, WebsocketFrameEncoder, WebsocketFrameEvent,
};

/// Octets of payload in a message.
const PAYLOAD: usize = 128;
/// Messages per run.
const MESSAGES: usize = 4096;
/// Octets that they take as a server sends them.
const ENCODED: usize = MESSAGES * (4 + PAYLOAD);
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
        // As long as it takes to send a run of messages; then from the start again, whoever writes.
        if self.sent.len() >= ENCODED {
            self.sent.clear();
        }
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

/// Messages received by [`WebsocketFrameDecoder`].
struct SansIo {
    memory: Memory,
    decoder: WebsocketFrameDecoder,
    buffer: Box<[u8; READ]>,
    /// A payload that came in pieces, so far.
    message: Vec<u8>,
}

impl SansIo {
    fn new(memory: Memory) -> Self {
        Self {
            memory,
            decoder: WebsocketFrameDecoder::new(),
            buffer: Box::new([0; READ]),
            message: Vec::new(),
        }
    }

    /// Reads on until `messages` were given to `receive`, or more, if the last read has more.
    fn receive(&mut self, messages: usize, mut receive: impl FnMut(SansIoOpcode, &[u8])) {
        let mut received = 0;
        while received < messages {
            let length = self.memory.read(&mut *self.buffer).expect("memory gives octets");
            let mut at = 0;
            loop {
                let rest = &mut self.buffer[at..length];
                let step = self.decoder.add_data(rest).expect("no octets are wrong");
                at += step.consumed_bytes;
                match step.event {
                    Some(WebsocketFrameEvent::PayloadChunk { original_opcode }) => {
                        let chunk = &rest[..step.consumed_bytes];
                        if chunk.len() == PAYLOAD {
                            receive(original_opcode, chunk);
                            received += 1;
                        } else {
                            self.message.extend_from_slice(chunk);
                            if self.message.len() == PAYLOAD {
                                receive(original_opcode, &self.message);
                                received += 1;
                                self.message.clear();
                            }
                        }
                    }
                    Some(_) => {}
                    None if step.consumed_bytes == 0 => break,
                    None => {}
                }
            }
        }
    }
}

fn decode(opcode: Opcode) {
    let mut memory = Memory::of_frames(opcode);
    let mut connection = Connection::server(Version::V13, Limits::default(), Millis(0));
    let (mut buffer, mut out) = ([0; READ], Vec::new());
    let tidecast = Contender::new("tidecast", move |()| {
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

    let mut socket = tungstenite_server(Memory::of_frames(opcode));
    let tungstenite = Contender::new("tungstenite", move |()| {
        for _ in 0..MESSAGES {
            let message = socket.read().expect("the frames are right");
            assert_eq!(black_box(&message).len(), PAYLOAD);
        }
    });

    let memory = Memory::of_frames(opcode);
    let mut socket = fastwebsockets::WebSocket::after_handshake(memory, fastwebsockets::Role::Server);
    let fastwebsockets = Contender::new("fastwebsockets", move |()| {
        for _ in 0..MESSAGES {
            let frame = now(socket.read_frame()).expect("the frames are right");
            assert_eq!(black_box(&frame).payload.len(), PAYLOAD);
        }
    });

    let mut sans_io = SansIo::new(Memory::of_frames(opcode));
    let sans_io = Contender::new("websocket-sans-io", move |()| {
        let mut messages = 0;
        sans_io.receive(MESSAGES, |opcode, payload| {
            if opcode == SansIoOpcode::Text {
                black_box(simdutf8::basic::from_utf8(payload).expect("the text is UTF-8"));
            }
            assert_eq!(black_box(payload).len(), PAYLOAD);
            messages += 1;
        });
        assert_eq!(messages, MESSAGES);
    });

    compare(
        &format!("decode/{opcode:?}").to_lowercase(),
        MESSAGES,
        vec![tungstenite, fastwebsockets, sans_io],
        vec![tidecast],
        &mut (),
    );
}

fn encode() {
    let text = "a".repeat(PAYLOAD);

    let mut out = Vec::new();
    let tidecast = Contender::new("tidecast", |()| {
        out.clear();
        for _ in 0..MESSAGES {
            encode_frame(Version::V13, Opcode::Text, black_box(&text).as_bytes(), None, &mut out);
        }
        assert_eq!(black_box(&out).len(), ENCODED);
    });

    let mut socket = tungstenite_server(Memory::new(Vec::new()));
    // Cheap to clone, as a message for many would be held.
    let shared = Utf8Bytes::try_from(Bytes::from(text.clone())).expect("text is UTF-8");
    let tungstenite = Contender::new("tungstenite", move |()| {
        for _ in 0..MESSAGES {
            socket
                .write(Message::Text(black_box(&shared).clone()))
                .expect("memory takes octets");
        }
        socket.flush().expect("memory takes octets");
        assert_eq!(black_box(&socket.get_ref().sent).len(), ENCODED);
    });

    let write = |socket: &mut fastwebsockets::WebSocket<Memory>| {
        for _ in 0..MESSAGES {
            let payload = Payload::Borrowed(black_box(&text).as_bytes());
            now(socket.write_frame(Frame::new(true, OpCode::Text, None, payload))).expect("memory takes octets");
        }
    };
    let server = || fastwebsockets::WebSocket::after_handshake(Memory::new(Vec::new()), fastwebsockets::Role::Server);
    // Its stream can be taken back, but not reached: what it writes is looked at before.
    let mut tried = server();
    write(&mut tried);
    assert_eq!(tried.into_inner().sent.len(), ENCODED);
    let mut socket = server();
    let fastwebsockets = Contender::new("fastwebsockets", move |()| write(&mut socket));

    let (mut encoder, mut out) = (WebsocketFrameEncoder::new(), Vec::new());
    let sans_io = Contender::new("websocket-sans-io", |()| {
        out.clear();
        for _ in 0..MESSAGES {
            let payload = black_box(&text).as_bytes();
            let header = encoder.start_frame(&FrameInfo {
                opcode: SansIoOpcode::Text,
                payload_length: payload.len() as u64,
                mask: None,
                fin: true,
                reserved: 0,
            });
            out.extend_from_slice(&header);
            out.extend_from_slice(payload);
        }
        assert_eq!(black_box(&out).len(), ENCODED);
    });

    let mut frame = Vec::new();
    encode_frame(Version::V13, Opcode::Text, text.as_bytes(), None, &mut frame);
    let mut out = Vec::new();
    let copy = Contender::new("copy", |()| {
        out.clear();
        for _ in 0..MESSAGES {
            out.extend_from_slice(black_box(&frame));
        }
        assert_eq!(black_box(&out).len(), ENCODED);
    });

    compare(
        "encode/text",
        MESSAGES,
        vec![tungstenite, fastwebsockets, sans_io],
        vec![tidecast, copy],
        &mut (),
    );
}

fn main() {
    decode(Opcode::Binary);
    decode(Opcode::Text);
    encode();
}
