//! permessage-deflate with every combination of its parameters, against zlib's own inflating and deflating.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::frame::{Frame, Opcode};
use crate::support::{Broker, Peer, upgrade};

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Every offer: both takeovers, and windows left open, named without a size, or of a size.
pub(crate) fn offers() -> Vec<String> {
    let mut offers = Vec::new();
    for server_takeover in ["", "; server_no_context_takeover"] {
        for client_takeover in ["", "; client_no_context_takeover"] {
            for server_window in [
                "",
                "; server_max_window_bits=8",
                "; server_max_window_bits=\"9\"",
                "; server_max_window_bits=11",
                "; server_max_window_bits=15",
            ] {
                for client_window in [
                    "",
                    "; client_max_window_bits",
                    "; client_max_window_bits=9",
                    "; client_max_window_bits=15",
                ] {
                    offers.push(format!(
                        "permessage-deflate{server_takeover}{client_takeover}{server_window}{client_window}"
                    ));
                }
            }
        }
    }
    offers
}

/// One end of what was agreed on.
struct Codec {
    deflate: Compress,
    inflate: Decompress,
    /// We must not refer to earlier messages.
    forget: bool,
    /// The server does not.
    forgets: bool,
}

impl Codec {
    fn of(answer: &str) -> Result<Codec, String> {
        let mut parameters = answer.split(';').map(str::trim);
        if parameters.next() != Some("permessage-deflate") {
            return Err(format!("the answer is {answer:?}"));
        }
        let parameters: Vec<_> = parameters.collect();
        let bits = |name: &str| {
            let value = parameters
                .iter()
                .find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='));
            // zlib has no window of 8 bits, and reads what needs 8 with 9.
            value
                .map_or(Ok(15), |value| {
                    value.parse::<u8>().map_err(|error| format!("{answer}: {error}"))
                })
                .map(|bits| bits.max(9))
        };
        Ok(Codec {
            deflate: Compress::new_with_window_bits(Compression::default(), false, bits("client_max_window_bits")?),
            inflate: Decompress::new_with_window_bits(false, bits("server_max_window_bits")?),
            forget: parameters.contains(&"client_no_context_takeover"),
            forgets: parameters.contains(&"server_no_context_takeover"),
        })
    }

    fn deflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if self.forget {
            self.deflate.reset();
        }
        let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
        self.deflate
            .compress_vec(payload, &mut out, FlushCompress::Sync)
            .expect("it compresses");
        assert!(out.ends_with(&TAIL), "there was room for all");
        out.truncate(out.len() - TAIL.len());
        out
    }

    fn inflate(&mut self, payload: &[u8], len: usize) -> Result<Vec<u8>, String> {
        if self.forgets {
            self.inflate.reset(false);
        }
        let mut out = Vec::with_capacity(len + 64);
        for part in [payload, &TAIL] {
            self.inflate
                .decompress_vec(part, &mut out, FlushDecompress::Sync)
                .map_err(|error| format!("what came does not inflate: {error}"))?;
        }
        Ok(out)
    }
}

/// Echoes messages that compress well, badly and not at all, whole and in fragments, through one connection.
pub(crate) fn run(broker: &Broker, offer: &str, number: usize) -> Result<(), String> {
    let mut peer = Peer::connect(broker);
    let headers = format!("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: {offer}\r\n");
    peer.say(upgrade(&format!("/t/deflated%2F{number}"), &headers).as_bytes());
    let head = peer.head();
    let answer = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
        .ok_or_else(|| format!("the offer is declined: {head}"))?;
    if offer.contains("server_no_context_takeover") && !answer.contains("server_no_context_takeover") {
        return Err(format!("the server was asked to forget, and answers {answer}"));
    }
    let mut codec = Codec::of(answer)?;
    let text = |count: usize| "the tide comes in, the tide goes out; ".repeat(count).into_bytes();
    let chance: Vec<u8> = (0..20_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let messages = [
        text(0),
        text(1),
        text(10),
        text(10),
        chance.clone(),
        text(3000),
        text(3000),
        vec![7; 1 << 20],
        b"x".to_vec(),
        chance,
        text(10),
    ];
    let mut compressed = 0;
    for (i, message) in messages.iter().enumerate() {
        let mut fragments: Vec<Frame> = match i % 3 {
            0 => vec![Frame::new(Opcode::Binary, codec.deflate(message))],
            // The bit stands on the first fragment only; an empty one and a ping come between.
            1 => {
                let deflated = codec.deflate(message);
                let (one, two) = deflated.split_at(deflated.len() / 2);
                vec![
                    Frame::new(Opcode::Binary, one).unfinished(),
                    Frame::new(Opcode::Continuation, "").unfinished(),
                    Frame::new(Opcode::Ping, "between"),
                    Frame::new(Opcode::Continuation, two),
                ]
            }
            // A message may be sent as it is at any time, and is no part of the window then.
            _ => vec![Frame::new(Opcode::Binary, &**message)],
        };
        if i % 3 != 2 {
            fragments[0].rsv = 4;
        }
        fragments.iter().for_each(|frame| peer.say(&frame.encode(13)));
        if i % 3 == 1 {
            peer.hears(b"\x8a\x07between");
        }
        let (first, payload) = peer.frame();
        let echoed = match first {
            0xc2 => {
                compressed += 1;
                if payload.len() >= message.len() {
                    return Err(format!(
                        "message {i} was deflated from {} to {} bytes",
                        message.len(),
                        payload.len()
                    ));
                }
                codec.inflate(&payload, message.len())?
            }
            0x82 => payload,
            _ => return Err(format!("message {i} came in a frame that begins with {first:02x}")),
        };
        if echoed != *message {
            return Err(format!(
                "message {i} of {} bytes came back as {} others",
                message.len(),
                echoed.len()
            ));
        }
    }
    // What shrinks is worth compressing: all but the short, the random and the empty.
    if compressed < 5 {
        return Err(format!("only {compressed} messages were compressed"));
    }
    peer.say(&Frame::new(Opcode::Close, 1000u16.to_be_bytes()).encode(13));
    peer.hears(b"\x88\x02\x03\xe8");
    Ok(())
}

/// Offers that have to be passed over.
pub(crate) const DECLINED: [&str; 9] = [
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=09",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; client_max_window_bits=0",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; unheard_of",
    "x-webkit-deflate-frame",
];

/// The extension that is agreed on for `offer`, if any.
pub(crate) fn agreed(broker: &Broker, offer: &str) -> Option<String> {
    let mut peer = Peer::connect(broker);
    let headers = format!("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: {offer}\r\n");
    peer.say(upgrade("/t/offers", &headers).as_bytes());
    let head = peer.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{offer}: {head}");
    head.lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
        .map(str::to_owned)
}
