//! deflate-stream, as clients of 2011 speak it: the bytes are theirs.

mod support;

use std::io::Read;

use flate2::{Decompress, FlushDecompress};
use support::*;

/// A connection below whose framing everything is deflated.
struct Stream {
    peer: Peer,
    inflater: Decompress,
    inflated: Vec<u8>,
}

impl Stream {
    fn open(broker: &Broker, version: u8, topic: &str) -> Stream {
        let mut peer = Peer::connect(broker);
        let headers = format!(
            "Sec-WebSocket-Origin: http://example.com\r\nSec-WebSocket-Protocol: lws-mirror-protocol\r\n\
             Sec-WebSocket-Extensions: deflate-stream\r\nSec-WebSocket-Version: {version}\r\n"
        );
        peer.say(upgrade(&format!("/t/{topic}"), &headers).as_bytes());
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        // Firefox takes nothing but exactly this.
        assert!(
            head.contains("\r\nSec-WebSocket-Extensions: deflate-stream\r\n"),
            "{head}"
        );
        Stream {
            peer,
            inflater: Decompress::new(false),
            inflated: Vec::new(),
        }
    }

    /// Reads until so many bytes have come out of one inflater for the whole connection.
    fn hears(&mut self, expected: &[u8]) {
        let mut read = [0; 4096];
        while self.inflated.len() < expected.len() {
            let count = self.peer.0.read(&mut read).unwrap();
            assert_ne!(
                count, 0,
                "closed after {:02x?} instead of {expected:02x?}",
                self.inflated
            );
            let mut rest = &read[..count];
            while !rest.is_empty() {
                self.inflated.reserve(65_536);
                let before = self.inflater.total_in();
                self.inflater
                    .decompress_vec(rest, &mut self.inflated, FlushDecompress::Sync)
                    .expect("the stream inflates");
                rest = &rest[(self.inflater.total_in() - before) as usize..];
            }
        }
        let rest = self.inflated.split_off(expected.len());
        assert_eq!(self.inflated, expected, "{:02x?} is not {expected:02x?}", self.inflated);
        self.inflated = rest;
    }
}

const HELLO_7: &str = "810548656c6c6f";
const HELLO_6: &str = "840548656c6c6f";

#[test]
fn streams_of_period_clients_are_inflated_and_answered_in_kind() {
    /// What is said, in one write or byte by byte, and what has to be heard.
    type Dialogue = &'static [(&'static str, &'static str)];
    let dialogues: [(&str, u8, Dialogue); 4] = [
        (
            "version 7 by zlib",
            7,
            &[
                ("6a6c35ffa5685b3fdf373002000000ffff", HELLO_7),
                ("6a443001000000ffff", HELLO_7),
                ("ea443001000000ffff", "8a0548656c6c6f"),
                ("ea00334d849c5d8200000000ffff", "880203e8"),
            ],
        ),
        (
            "version 7 by libwebsockets, with partial flushes and bytes after its Close",
            7,
            &[
                ("6a6c75bc66b7907373d0593d8000", HELLO_7),
                ("6a6ce7e7ab2af4481415cd2d970708", "8107476f6f64627965"),
                ("a08ea6abaeaea6d7d60204000000ffff", "880203e8"),
            ],
        ),
        (
            "version 6 by zlib",
            6,
            &[
                ("32ffa568bbf97f6644f4343f00000000ffff", HELLO_6),
                ("32473001000000ffff", HELLO_6),
                ("0231b7429800000000ffff", "830548656c6c6f"),
                ("0231b7fd57ba1adaec02000000ffff", "810203e8"),
            ],
        ),
        (
            "version 6 by libwebsockets of 8 bits",
            6,
            &[
                ("babafde9e5c04d6bb7edbcdd0510", HELLO_6),
                ("404f3e9de048f8da9fde3d6d55612340", "8407476f6f64627965"),
                ("000594fb3cb858eacf01104000000000ffff", "810203e8"),
            ],
        ),
    ];
    let broker = Broker::start(&["--origins", "*"]);
    for (number, (what, version, dialogue)) in dialogues.into_iter().enumerate() {
        for by_byte in [false, true] {
            let mut stream = Stream::open(&broker, version, &format!("period%2F{number}"));
            for (said, heard) in dialogue {
                eprintln!("{what}: {said}");
                let said = hex(said);
                said.chunks(if by_byte { 1 } else { said.len() })
                    .for_each(|piece| stream.peer.say(piece));
                stream.hears(&hex(heard));
            }
            assert_eq!(stream.peer.rest(), b"", "{what}: nothing follows the Close");
        }
    }
}

#[test]
fn all_who_have_the_extension_and_all_who_have_not_get_the_same_messages() {
    let broker = Broker::start(&["--origins", "*"]);
    let mut streams: Vec<_> = (0..16).map(|i| Stream::open(&broker, 6 + i % 3, "mixed")).collect();
    let mut plain: Vec<_> = (0..8).map(|_| client(&broker.ws("/t/mixed?mode=sub"))).collect();
    let mut json = json_client(&broker);
    assert_eq!(ask(&mut json, r#"["sub","mixed",{"ref":1}]"#), r#"["ok",1,{}]"#);
    let mut publisher = client(&broker.ws("/t/mixed?mode=pub"));
    // Enough to run through the window of 32 KiB several times, with repeats that a careless compressor would refer to.
    for i in 0..300 {
        let message = format!("{} {i} {}", "the tide is high".repeat(i % 40), "and low".repeat(7));
        publisher.send_text(&message).unwrap();
        for stream in &mut streams {
            let first = if stream_version(stream) == 6 { 0x84 } else { 0x81 };
            let mut frame = vec![first];
            if message.len() < 126 {
                frame.push(message.len() as u8);
            } else {
                frame.push(126);
                frame.extend((message.len() as u16).to_be_bytes());
            }
            frame.extend(message.as_bytes());
            stream.hears(&frame);
        }
        for subscriber in &mut plain {
            assert_eq!(text(subscriber), message);
        }
        assert_eq!(text(&mut json), format!(r#"["msg","mixed","{message}"]"#));
    }
}

/// Known by the opcodes it uses: the first frame that comes tells.
fn stream_version(stream: &mut Stream) -> u8 {
    let mut read = [0; 4096];
    while stream.inflated.is_empty() {
        let count = stream.peer.0.read(&mut read).unwrap();
        stream.inflated.reserve(65_536);
        stream
            .inflater
            .decompress_vec(&read[..count], &mut stream.inflated, FlushDecompress::Sync)
            .expect("the stream inflates");
    }
    if stream.inflated[0] == 0x84 { 6 } else { 7 }
}

#[test]
fn what_inflates_without_end_is_refused_and_costs_no_memory() {
    let broker = Broker::start(&["--max-message", "64K", "--origins", "*"]);
    let mut stream = Stream::open(&broker, 7, "bomb");
    // A frame that announces 1 TiB of zeros.
    let mut frame = hex("82ff0000010000000000 00000000");
    frame.resize(1 << 20, 0);
    let mut deflated = Vec::with_capacity(1 << 20);
    flate2::Compress::new(flate2::Compression::best(), false)
        .compress_vec(&frame, &mut deflated, flate2::FlushCompress::Sync)
        .unwrap();
    stream.peer.say(&deflated);
    // Too large was 1004 then.
    let mut head = vec![0x88];
    stream_version(&mut stream);
    head.push(stream.inflated[1]);
    head.extend(1004u16.to_be_bytes());
    stream.hears(&head);
}

#[test]
fn a_client_that_may_not_mean_it_is_not_taken_by_its_word() {
    // Without a subprotocol libwebsockets offers the extension and does not switch it on.
    let broker = Broker::start(&["--origins", "*"]);
    let mut peer = Peer::connect(&broker);
    let headers = "Sec-WebSocket-Extensions: deflate-stream\r\nSec-WebSocket-Version: 7\r\n";
    peer.say(upgrade("/t/echo", headers).as_bytes());
    assert!(!peer.head().contains("Sec-WebSocket-Extensions"));
    peer.say(&hex("8185 37fa213d 7f9f4d5158"));
    peer.hears(&hex("810548656c6c6f"));
}
