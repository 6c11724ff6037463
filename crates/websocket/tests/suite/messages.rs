//! Messages as they should be: whole, in fragments, in pieces, with control frames in between.

use tidecast_websocket::{Event, Input, Opcode, Version};

use crate::support::{NOW, SEGMENTATIONS, Said, Segmentation, client, everywhere, listen, masked, plain, server, text};

#[test]
fn a_masked_frame_split_at_every_octet_is_one_message() {
    for version in Version::ALL {
        for length in [0, 1, 5, 125, 126, 300] {
            let payload = vec![b'x'; length];
            let frame = masked(version, Opcode::Text, true, &payload);
            for split in 0..=frame.len() {
                let mut server = server(version);
                let mut said = Vec::new();
                for read in [&frame[..split], &frame[split..]] {
                    said.extend(listen(&mut server, read, Segmentation::Whole).said);
                }
                assert_eq!(said, [Said::Text("x".repeat(length))], "{length} at {split}");
            }
        }
    }
}

#[test]
fn a_frame_that_lies_whole_in_the_input_is_borrowed_from_it() {
    let mut octets = masked(Version::V13, Opcode::Text, true, "Grüße".as_bytes());
    octets.extend(masked(Version::V13, Opcode::Ping, true, b"ping"));
    let range = octets.as_ptr_range();
    let mut server = server(Version::V13);
    let mut input = Input::new(&mut octets);
    let mut out = Vec::new();
    let Some(Event::Text(text)) = server.poll(&mut input, NOW, &mut out).unwrap() else {
        panic!("no text");
    };
    assert_eq!(text, "Grüße");
    assert!(range.contains(&text.as_ptr()), "the text was copied");
    let Some(Event::Ping(body)) = server.poll(&mut input, NOW, &mut out).unwrap() else {
        panic!("no ping");
    };
    assert_eq!(body, b"ping");
    assert!(range.contains(&body.as_ptr()), "the body was copied");
}

//= RFC 6455#section-5.4
//= type=test
//# Control frames (see Section 5.5) MAY be injected in the middle of a fragmented message.
//= RFC 6455#section-5.4
//= type=test
//# An endpoint MUST be capable of handling control frames in the middle of a fragmented message.
//= RFC 6455#section-6.2
//= type=test
//# If a control frame (Section 5.5) is received, the frame MUST be handled as defined by Section 5.5.
//= RFC 6455#section-6.2
//= type=test
//# the endpoint MUST note the /type/ of the data as defined by the opcode (frame-opcode) from Section 5.2.
//= RFC 6455#section-6.2
//= type=test
//# Subsequent data frames MUST be interpreted as belonging to a new WebSocket message.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
//= type=test
//# An endpoint MUST be capable of handling control frames in the middle of a fragmented message.
//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.4
//= type=test
//# an endpoint MUST be capable of handling control frames in the middle of a fragmented message.
#[test]
fn control_frames_between_fragments_leave_the_message_whole() {
    for (version, segmentation) in everywhere() {
        let octets = [
            masked(version, Opcode::Text, false, "Gr\u{fc}".as_bytes()),
            masked(version, Opcode::Ping, true, b"one"),
            masked(version, Opcode::Continuation, false, b""),
            masked(version, Opcode::Pong, true, b""),
            masked(version, Opcode::Continuation, false, "\u{df}".as_bytes()),
            masked(version, Opcode::Ping, true, b"two"),
            masked(version, Opcode::Continuation, true, b"e"),
            masked(version, Opcode::Binary, true, &[0xff]),
        ]
        .concat();
        let heard = listen(&mut server(version), &octets, segmentation);
        let said = [
            Said::Ping(b"one".into()),
            Said::Pong(vec![]),
            Said::Ping(b"two".into()),
            text("Grüße"),
            Said::Binary(vec![0xff]),
        ];
        assert_eq!(heard.said, said, "{version} {segmentation:?}");
        let last_pong = plain(version, Opcode::Pong, true, b"two");
        assert!(heard.out.ends_with(&last_pong));
    }
}

//= RFC 6455#section-5.4
//= type=test
//# Message fragments MUST be delivered to the recipient in the order sent by the sender.
//= RFC 6455#section-5.6
//= type=test
//# the whole message MUST contain valid UTF-8.
#[test]
fn a_character_may_be_split_over_fragments_and_reads() {
    let message = "κόσμε €uro 🌊 end";
    for (version, segmentation) in everywhere() {
        for size in 1..6 {
            let mut octets = masked(version, Opcode::Text, false, b"");
            for fragment in message.as_bytes().chunks(size) {
                octets.extend(masked(version, Opcode::Continuation, false, fragment));
            }
            octets.extend(masked(version, Opcode::Continuation, true, b""));
            let heard = listen(&mut server(version), &octets, segmentation);
            assert_eq!(heard.error, None);
            assert_eq!(heard.said, [text(message)]);
        }
    }
}

//= RFC 6455#section-5.5.3
//= type=test
//# the endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.3
//= type=test
//# In the case multiple Pings have been received, a Pong MUST be issued only in response to the most recent Ping.
#[test]
fn of_several_pings_in_a_row_the_latest_is_answered_before_what_follows_them() {
    for version in Version::ALL {
        let octets = [
            masked(version, Opcode::Ping, true, b"first"),
            masked(version, Opcode::Ping, true, b"second"),
            masked(version, Opcode::Text, true, b"between"),
            masked(version, Opcode::Ping, true, b"latest"),
        ]
        .concat();
        let mut server = server(version);
        let heard = listen(&mut server, &octets, Segmentation::Whole);
        assert_eq!(heard.said.len(), 4);
        let pongs = [b"second", b"latest"].map(|body| plain(version, Opcode::Pong, true, body));
        assert_eq!(heard.out, pongs.concat());
        let after = listen(&mut server, &[], Segmentation::Whole);
        assert_eq!(after.out, [], "a ping is answered once");
    }
}

//= RFC 6455#section-5.5.2
//= type=test
//# Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it already received a Close
//# frame.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.2
//= type=test
//# Upon receipt of a Ping message, an endpoint MUST send a Pong message in response.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.2
//= type=test
//# The message bodies (i.e. both the Extension data (if any) and the Application data) of the Ping and Pong MUST be the
//# same.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.3
//= type=test
//# Upon receipt of a Ping message, an endpoint MUST send a Pong message in response.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.3
//= type=test
//# The message bodies (i.e. both the Extension data (if any) and the Application data) of the Ping and Pong MUST be the
//# same.
#[test]
fn a_client_masks_its_pong() {
    let ping = plain(Version::V13, Opcode::Ping, true, b"tide");
    let heard = listen(&mut client(Version::V13), &ping, Segmentation::Whole);
    assert_eq!(heard.out, masked(Version::V13, Opcode::Pong, true, b"tide"));
}

#[test]
fn one_may_stop_between_events_and_feed_the_rest_later() {
    for version in Version::ALL {
        let frames = [
            masked(version, Opcode::Text, true, b"one"),
            masked(version, Opcode::Text, false, b"tw"),
            masked(version, Opcode::Continuation, true, b"o"),
            masked(version, Opcode::Binary, true, b"three"),
            masked(version, Opcode::Ping, true, b"four"),
        ];
        let mut octets = frames.concat();
        let mut server = server(version);
        let mut out = Vec::new();
        let mut said = Vec::new();
        let mut start = 0;
        while start < octets.len() {
            // A new input for every event, as if each came after a pause.
            let mut input = Input::new(&mut octets[start..]);
            let event = server.poll(&mut input, NOW, &mut out).unwrap();
            said.push(Said::from(event.expect("an event is left")));
            start += input.consumed();
        }
        let expected = [
            text("one"),
            text("two"),
            Said::Binary(b"three".into()),
            Said::Ping(b"four".into()),
        ];
        assert_eq!(said, expected);
        assert_eq!(out, [], "the pong waits for the poll that finds nothing");
        let heard = listen(&mut server, &[], Segmentation::Whole);
        assert_eq!(heard.out, plain(version, Opcode::Pong, true, b"four"));
    }
}

#[test]
fn a_message_as_large_as_the_limit_is_delivered() {
    use tidecast_websocket::{Connection, Limits};
    let limits = Limits {
        max_message: 70_000,
        max_fragments: 3,
        ..Limits::default()
    };
    for (version, segmentation) in SEGMENTATIONS.map(|s| (Version::V13, s)) {
        let octets = [
            masked(version, Opcode::Binary, true, &[7; 70_000]),
            masked(version, Opcode::Binary, false, &[7; 69_000]),
            masked(version, Opcode::Continuation, false, &[7; 1_000]),
            masked(version, Opcode::Continuation, true, &[]),
        ]
        .concat();
        let mut server = Connection::server(version, limits, NOW);
        let heard = listen(&mut server, &octets, segmentation);
        assert_eq!(heard.error, None);
        let message = Said::Binary(vec![7; 70_000]);
        assert!(heard.said == [message.clone(), message]);
    }
}

//= draft-ietf-hybi-thewebsocketprotocol-07#section-6.1
//= type=test
//# any bytes or sequences of bytes that are not valid UTF-8 sequences MUST be interpreted as a U+FFFD REPLACEMENT
//# CHARACTER.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-6.1
//= type=test
//# When a client is to interpret a byte stream as UTF-8 but finds that the byte stream is not in fact a valid UTF-8
//# stream, then any bytes or sequences of bytes that are not valid UTF-8 sequences MUST be interpreted as a U+FFFD
//# REPLACEMENT CHARACTER.
#[test]
fn text_that_is_not_utf_8_is_delivered_with_replacement_characters_if_that_is_asked_for() {
    use tidecast_websocket::{Deflater, Extension};
    let cases: [(&[&[u8]], &str); 5] = [
        (&[b"fine"], "fine"),
        (&[b"Gr\xfc\xdfe"], "Gr\u{fffd}\u{fffd}e"),
        (&[b"\xe2\x82"], "\u{fffd}"),
        (&[b"\xe2", b"\x82", b"\xac"], "€"),
        (&[b"\xe2", b"\x82", b"a\xff"], "\u{fffd}a\u{fffd}"),
    ];
    for (version, segmentation) in everywhere() {
        for (fragments, expected) in cases {
            let mut octets = Vec::new();
            for (i, fragment) in fragments.iter().enumerate() {
                let opcode = if i == 0 { Opcode::Text } else { Opcode::Continuation };
                octets.extend(plain(version, opcode, i + 1 == fragments.len(), fragment));
            }
            octets.extend(plain(version, Opcode::Binary, true, b"\xff"));
            let said = [text(expected), Said::Binary(vec![0xff])];
            let heard = listen(&mut client(version).with_replaced_text(), &octets, segmentation);
            assert_eq!(
                (heard.error, &heard.said[..]),
                (None, &said[..]),
                "{version} {segmentation:?}"
            );

            let mut stream = Vec::new();
            Deflater::default().block(&octets, 15, &mut stream);
            let client = client(version).with_extension(Some(Extension::DeflateStream));
            let heard = listen(&mut client.with_replaced_text(), &stream, segmentation);
            assert_eq!(
                (heard.error, &heard.said[..]),
                (None, &said[..]),
                "{version} {segmentation:?}"
            );
        }
    }
}
