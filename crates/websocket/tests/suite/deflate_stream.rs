//! deflate-stream: the streams of period clients and servers octet by octet, and every way a stream can go wrong.

use tidecast_websocket::{
    Connection, Deflater, Error, Extension, InflatePool, Input, Limits, Opcode, State, Version, stored_blocks,
};

use crate::support::{KEY, NOW, SEGMENTATIONS, Said, Segmentation, hex, listen, listen_pooled, masked, plain, text};

fn server(version: Version) -> Connection {
    crate::support::server(version).with_extension(Some(Extension::DeflateStream))
}

fn client(version: Version) -> Connection {
    crate::support::client(version).with_extension(Some(Extension::DeflateStream))
}

fn deflated(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(6, 0).block(octets, 15, &mut out);
    out
}

fn close(code: u16, reason: &str) -> Said {
    Said::Close(Some(code), reason.into())
}

/// Who spoke, in what version, in which writes, and what was said. All but the first row were seen on the wire.
struct Capture {
    name: &'static str,
    version: Version,
    from_client: bool,
    /// One per write, and what it says.
    writes: Vec<(&'static str, Vec<Said>)>,
}

fn captures() -> Vec<Capture> {
    let hello = || vec![text("Hello")];
    let ping = || vec![Said::Ping(b"Hello".into())];
    let pong = || vec![Said::Pong(b"Hello".into())];
    vec![
        Capture {
            name: "zlib 1.2.13, level 6, as a client of version 7",
            version: Version::V7,
            from_client: true,
            writes: vec![
                ("6a6c35ffa5685b3fdf373002000000ffff", hello()),
                ("6a443001000000ffff", hello()),
                ("ea443001000000ffff", ping()),
                ("ea00334d849c5d8200000000ffff", vec![close(1000, "bye")]),
            ],
        },
        Capture {
            name: "pywebsocket as a server of version 7",
            version: Version::V7,
            from_client: false,
            writes: vec![
                ("6a64f548cdc9c907000000ffff", hello()),
                ("6a845000000000ffff", hello()),
                ("ea825000000000ffff", pong()),
                ("ea60627e01000000ffff", vec![close(1000, "")]),
            ],
        },
        Capture {
            name: "libwebsockets as a server of version 7",
            version: Version::V7,
            from_client: false,
            writes: vec![
                ("6a64f548cdc9c90708", hello()),
                ("a046080510", hello()),
                ("405d100a20", pong()),
                ("803a58995f2455a60204000000ffff", vec![close(1000, "bye")]),
            ],
        },
        Capture {
            name: "zlib 1.2.13, level 6, as a client of version 6",
            version: Version::V6,
            from_client: true,
            writes: vec![
                ("32ffa568bbf97f6644f4343f00000000ffff", hello()),
                ("32473001000000ffff", hello()),
                ("0231b7429800000000ffff", ping()),
                ("0231b7fd57ba1adaec02000000ffff", vec![close(1000, "bye")]),
            ],
        },
        Capture {
            name: "pywebsocket as a server of version 6",
            version: Version::V6,
            from_client: false,
            writes: vec![
                ("6a61f548cdc9c907000000ffff", hello()),
                ("6a815000000000ffff", hello()),
                ("6a865000000000ffff", pong()),
                ("6a64627e01000000ffff", vec![close(1000, "")]),
            ],
        },
        Capture {
            name: "libwebsockets as a server of version 6",
            version: Version::V6,
            from_client: false,
            writes: vec![
                ("6a61f548cdc9c90708", hello()),
                ("a016080510", hello()),
                ("40cd100a20", pong()),
                ("801a59995f2455a6020410000000ffff", vec![close(1000, "bye")]),
            ],
        },
        Capture {
            name: "libwebsockets as a client of version 7",
            version: Version::V7,
            from_client: true,
            writes: vec![
                ("6a6c75bc66b7907373d0593d8000", hello()),
                ("6a6ce7e7ab2af4481415cd2d970708", vec![text("Goodbye")]),
                ("a08ea6abaeaea6d7d60204", vec![close(1000, "")]),
                // After the Close, as libwebsockets does.
                ("000000ffff", vec![]),
            ],
        },
        Capture {
            name: "libwebsockets with zlib 1.2.1 as a client of version 6",
            version: Version::V6,
            from_client: true,
            writes: vec![
                ("babafde9e5c04d6bb7edbcdd0510", hello()),
                ("404f3e9de048f8da9fde3d6d55612340", vec![text("Goodbye")]),
                ("000594fb3cb858eacf0110", vec![close(1000, "")]),
                ("4000000000ffff", vec![]),
            ],
        },
    ]
}

impl Capture {
    fn listener(&self) -> Connection {
        if self.from_client {
            server(self.version)
        } else {
            client(self.version)
        }
    }
}

//= draft-ietf-hybi-thewebsocketprotocol-07#section-8.2.1
//= type=test
//# Senders using this extension MUST apply RFC 1951 encodings to all bytes of the data stream following the handshake
//# including both data and control messages.
#[test]
fn what_period_peers_sent_is_heard_write_by_write() {
    for capture in captures() {
        let mut listener = capture.listener();
        for (octets, said) in &capture.writes {
            let heard = listen(&mut listener, &hex(octets), Segmentation::Whole);
            assert_eq!(heard.error, None, "{}", capture.name);
            assert_eq!(&heard.said, said, "{}: {octets}", capture.name);
        }
        assert_eq!(listener.state(), State::Draining);
    }
}

#[test]
fn what_period_peers_sent_is_heard_however_it_is_cut() {
    for capture in captures() {
        let (octets, said): (Vec<_>, Vec<_>) = capture.writes.iter().cloned().unzip();
        let octets = hex(&octets.concat());
        for segmentation in SEGMENTATIONS {
            let heard = listen(&mut capture.listener(), &octets, segmentation);
            assert_eq!(heard.error, None, "{} {segmentation:?}", capture.name);
            assert_eq!(heard.said, said.concat(), "{} {segmentation:?}", capture.name);
        }
    }
}

#[test]
fn the_second_write_means_nothing_without_the_first() {
    for capture in captures().into_iter().filter(|capture| !capture.from_client) {
        let (second, _) = capture.writes[1];
        let heard = listen(&mut capture.listener(), &hex(second), Segmentation::Whole);
        assert_eq!(heard.error, Some(Error::InvalidDeflate), "{}", capture.name);
    }
}

//= draft-ietf-hybi-thewebsocketprotocol-07#section-8.2.1
//= type=test
//# It MUST NOT be wrapped in any of the header formats often associated with RFC 1951 such as "zlib" [RFC1950].
#[test]
fn what_we_answer_is_in_stored_blocks_that_any_stream_can_take() {
    for version in Version::ALL {
        for segmentation in SEGMENTATIONS {
            let dialogue = [
                masked(version, Opcode::Ping, true, b"tide"),
                masked(version, Opcode::Close, true, &1001_u16.to_be_bytes()),
            ]
            .concat();
            let heard = listen(&mut server(version), &deflated(&dialogue), segmentation);
            assert_eq!(heard.said, [Said::Ping(b"tide".into()), close(1001, "")]);
            let pong = plain(version, Opcode::Pong, true, b"tide");
            let mut expected = Vec::new();
            stored_blocks(&pong, &mut expected);
            assert!(heard.out.starts_with(&expected));

            let answered = listen(&mut client(version), &heard.out, segmentation);
            assert_eq!(answered.error, None);
            let said = answered.said.last().cloned();
            assert_eq!(said, Some(close(1001, "")));
        }
    }
}

#[test]
fn a_close_of_ours_and_a_ping_after_silence_are_in_the_stream_too() {
    let timing = tidecast_websocket::Timing::default();
    for version in Version::ALL {
        let mut server = server(version);
        let mut out = Vec::new();
        server.handle_timeout(NOW + timing.ping_interval, &timing, &mut out);
        assert!(server.send(Opcode::Text, b"still there", &mut out));
        server.fail(&Error::InvalidDeflate, NOW, &mut out);
        assert!(!server.send(Opcode::Text, b"after the close", &mut out));
        let heard = listen(&mut client(version), &out, Segmentation::ByOctet);
        assert!(matches!(
            heard.said[..],
            [Said::Ping(_), Said::Text(_), Said::Close(..)]
        ));
    }
}

//= draft-ietf-hybi-thewebsocketprotocol-07#section-8.2.1
//= type=test
//# Senders using this extension MUST apply RFC 1951 encodings to all bytes of the data stream following the handshake
//# including both data and control messages.
#[test]
fn messages_of_one_and_messages_of_many_stand_in_one_stream() {
    // As a server sends them: to this connection alone, compressed for it, and deflated once for all.
    let tide = "the tide rises, the tide falls, ".repeat(4000);
    for version in Version::ALL {
        let mut deflater = Deflater::default();
        let mut speaker = server(version);
        let mut out = Vec::new();
        let mut expected = Vec::new();
        for round in 0..3 {
            assert!(speaker.send(Opcode::Text, b"hello", &mut out));
            assert!(speaker.send(Opcode::Text, tide.as_bytes(), &mut out));
            assert!(speaker.send_deflated(Opcode::Text, tide.as_bytes(), &mut deflater, &mut out));
            assert!(speaker.send_deflated(Opcode::Binary, b"few", &mut deflater, &mut out));
            let turn = [
                plain(version, Opcode::Text, true, b"one"),
                plain(version, Opcode::Ping, true, &[round]),
            ]
            .concat();
            deflater.block(&turn, 15, &mut out);
            expected.extend([text("hello"), text(&tide), text(&tide), Said::Binary(b"few".into())]);
            expected.extend([text("one"), Said::Ping(vec![round])]);
        }
        for segmentation in SEGMENTATIONS {
            let heard = listen(&mut client(version), &out, segmentation);
            assert_eq!(heard.error, None);
            assert!(heard.said == expected, "{version} {segmentation:?}");
        }
    }
}

//= draft-ietf-hybi-thewebsocketprotocol-07#section-8.2.1
//= type=test
//# Senders MUST NOT delay the transmission of any portion of a WebSocket message because the deflate encoding of the
//# message does not end on a byte boundary.
#[test]
fn whatever_is_sent_is_heard_before_anything_follows_it() {
    let tide = "the tide rises, the tide falls, ".repeat(40);
    for version in Version::ALL {
        let (mut speaker, mut listener) = (server(version), client(version));
        let mut deflater = Deflater::default();
        for length in 0..tide.len() {
            let payload = &tide[..length];
            for deflates in [false, true] {
                let mut out = Vec::new();
                if deflates {
                    assert!(speaker.send_deflated(Opcode::Text, payload.as_bytes(), &mut deflater, &mut out));
                } else {
                    assert!(speaker.send(Opcode::Text, payload.as_bytes(), &mut out));
                }
                let heard = listen(&mut listener, &out, Segmentation::Whole);
                assert_eq!(heard.said, [text(payload)], "{version} {length} {deflates}");
            }
        }
    }
}

#[test]
fn a_stream_that_ends_with_a_final_block_begins_anew_with_the_next_octet() {
    let frame = masked(Version::V7, Opcode::Text, true, b"Hello");
    // Stored and final.
    let mut last = vec![1, frame.len() as u8, 0, !(frame.len() as u8), 0xff];
    last.extend_from_slice(&frame);
    let octets = [&last[..], &last, &deflated(&frame), &last].concat();
    for segmentation in SEGMENTATIONS {
        let heard = listen(&mut server(Version::V7), &octets, segmentation);
        assert_eq!(heard.error, None);
        assert_eq!(heard.said, [text("Hello"), text("Hello"), text("Hello"), text("Hello")]);
    }
}

#[test]
fn what_is_not_deflated_is_refused_and_answered_inside_the_stream() {
    for version in Version::ALL {
        for segmentation in SEGMENTATIONS {
            // A block of the reserved type.
            let mut server = server(version);
            let heard = listen(&mut server, &[0x07, 1, 2, 3], segmentation);
            assert_eq!(heard.error, Some(Error::InvalidDeflate));
            assert_eq!(server.state(), State::Draining);
            let code = if version < Version::V8 { 1003 } else { 1007 };
            let answered = listen(&mut client(version), &heard.out, segmentation);
            assert_eq!(answered.said, [close(code, &Error::InvalidDeflate.to_string())]);
        }
    }
}

#[test]
fn a_message_too_big_is_refused_before_it_is_inflated() {
    let limits = Limits {
        max_message: 50_000,
        ..Limits::default()
    };
    // 64 MiB of zeros, deflated by a thousand.
    let zeros = vec![0; 64 << 20];
    let mut frame = masked(Version::V7, Opcode::Binary, true, &[]);
    frame[1] = 0xff;
    frame.splice(2..2, (zeros.len() as u64).to_be_bytes());
    frame.extend_from_slice(&zeros);
    let bomb = deflated(&frame);
    assert!(bomb.len() < 70_000);
    let mut server = Connection::server(Version::V7, limits, NOW).with_extension(Some(Extension::DeflateStream));
    let heard = listen(&mut server, &bomb, Segmentation::Whole);
    assert_eq!(heard.error, Some(Error::MessageTooBig { limit: 50_000 }));
    assert_eq!(heard.said, []);
}

#[test]
fn many_frames_in_few_octets_are_refused_by_their_ratio() {
    let limits = Limits {
        max_inflate_ratio: 20,
        ..Limits::default()
    };
    let frames = masked(Version::V7, Opcode::Text, true, b"").repeat(100_000);
    let mut server = Connection::server(Version::V7, limits, NOW).with_extension(Some(Extension::DeflateStream));
    let heard = listen(&mut server, &deflated(&frames), Segmentation::Whole);
    assert_eq!(heard.error, Some(Error::InflateRatio { limit: 20 }));
    assert!(heard.said.len() < 20_000);
}

#[test]
fn one_may_stop_in_the_middle_of_a_chunk_and_feed_the_rest_later() {
    for version in Version::ALL {
        let frames: Vec<u8> = (0..5000_u32)
            .flat_map(|i| masked(version, Opcode::Binary, true, &i.to_be_bytes()))
            .collect();
        let mut octets = deflated(&frames);
        let mut server = server(version);
        let mut pool = InflatePool::new(1, 1);
        let (mut start, mut count, mut out) = (0, 0_u32, Vec::new());
        loop {
            // A new input for every event, as if each came after a pause.
            let mut input = Input::new(&mut octets[start..]);
            let event = server.poll_pooled(&mut input, NOW, &mut pool, &mut out).unwrap();
            start += input.consumed();
            match event {
                Some(event) => assert_eq!(Said::from(event), Said::Binary(count.to_be_bytes().into())),
                None => break,
            }
            count += 1;
        }
        assert_eq!((count, start), (5000, octets.len()));
    }
}

#[test]
fn a_message_is_heard_as_soon_as_its_last_octet_came_wherever_the_chunks_end() {
    // What is inflated is cut at 16 KiB. Matches are up to 258 octets long, and some are cut.
    for version in Version::ALL {
        for len in (16_384 - 300..16_384 + 300).step_by(7) {
            let message = vec![0; len];
            let mut frame = Vec::new();
            tidecast_websocket::encode_frame(version, Opcode::Binary, &message, Some([0; 4]), &mut frame);
            let flushed = deflated(&frame);
            // All but the flush: the last octet of the message is in the last octet of these.
            let octets = &flushed[..flushed.len() - 4];
            let heard = listen(&mut server(version), octets, Segmentation::Whole);
            assert_eq!(heard.error, None);
            assert!(heard.said == [Said::Binary(message)], "{version} {len}");
        }
    }
}

#[test]
fn a_stream_holds_one_inflater_from_its_first_octet_to_its_end() {
    let frame = deflated(&masked(Version::V7, Opcode::Text, true, b"Hello"));
    let mut pool = InflatePool::new(2, 8);
    let mut servers: Vec<_> = (0..3).map(|_| server(Version::V7)).collect();
    assert_eq!((pool.in_use(), pool.bytes()), (0, 0));
    for server in &mut servers[..2] {
        let heard = listen_pooled(server, &frame, Segmentation::ByOctet, &mut pool);
        assert_eq!(heard.said, [text("Hello")]);
    }
    assert_eq!((pool.in_use(), pool.bytes()), (2, 2 * InflatePool::INFLATER_BYTES));
    let heard = listen_pooled(&mut servers[2], &frame, Segmentation::Whole, &mut pool);
    assert_eq!(heard.error, Some(Error::NoInflater));
    assert_eq!(Error::NoInflater.close_code(), 1013);
    servers[0].handle_end();
    assert_eq!(pool.in_use(), 1, "the end of the transport gives it back");
    servers.clear();
    assert_eq!(pool.in_use(), 0, "so does the end of the connection");
    let heard = listen_pooled(&mut server(Version::V7), &frame, Segmentation::Whole, &mut pool);
    assert_eq!(heard.error, None);
}

#[test]
fn the_key_of_a_frame_of_draft_06_covers_its_header_inside_the_stream() {
    let mut frame = Vec::new();
    tidecast_websocket::encode_frame(Version::V6, Opcode::Text, b"Hello", Some(KEY), &mut frame);
    assert_eq!(frame, hex("37fa213d b3ff69585b964e"));
    for segmentation in SEGMENTATIONS {
        let heard = listen(&mut server(Version::V6), &deflated(&frame), segmentation);
        assert_eq!(heard.said, [text("Hello")]);
    }
}
