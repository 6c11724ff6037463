//! Every way a peer can break the protocol, what it is called, and the close code that goes back.

use tidecast_websocket::{Connection, Error, Input, Limits, Millis, Opcode, State, Version};

use crate::support::{
    NOW, RFC_FRAMES, SEGMENTATIONS, Segmentation, client, hex, listen, masked, plain, plain_close, segmented, server,
};

const LIMITS: Limits = Limits {
    max_message: 1000,
    max_fragments: 4,
    max_control_per_second: 100,
    max_inflate_ratio: 1032,
};

/// What a client sends, why it is refused, and the close codes that versions 7, 8 and 13 have for that. None where
/// the version does not mind.
type BadInput = (&'static str, Error, [Option<u16>; 3]);

fn everyone(code: u16) -> [Option<u16>; 3] {
    [Some(code); 3]
}

fn only_13(code: u16) -> [Option<u16>; 3] {
    [None, None, Some(code)]
}

/// From the client: the key is zero, so that payloads can be read.
fn bad_inputs() -> Vec<BadInput> {
    vec![
        // Headers.
        ("8105 48656c6c6f", Error::NotMasked, everyone(1002)),
        ("8100", Error::NotMasked, everyone(1002)),
        ("c185 00000000 48656c6c6f", Error::ReservedBits, everyone(1002)),
        ("a180 00000000", Error::ReservedBits, everyone(1002)),
        ("9180 00000000", Error::ReservedBits, everyone(1002)),
        ("f180 00000000", Error::ReservedBits, everyone(1002)),
        ("8380 00000000", Error::ReservedOpcode(3), everyone(1002)),
        ("8780 00000000", Error::ReservedOpcode(7), everyone(1002)),
        ("8b80 00000000", Error::ReservedOpcode(11), everyone(1002)),
        ("8f80 00000000", Error::ReservedOpcode(15), everyone(1002)),
        ("0980 00000000", Error::FragmentedControl, everyone(1002)),
        ("0880 00000000", Error::FragmentedControl, everyone(1002)),
        ("89fe 007e 00000000", Error::LongControl, everyone(1002)),
        ("88fe 007e 00000000", Error::LongControl, everyone(1002)),
        ("8aff 0000000000000001 00000000", Error::LongControl, everyone(1002)),
        ("82fe 0002 00000000 0102", Error::LongLengthForm, only_13(1002)),
        (
            "82ff 0000000000000002 00000000 0102",
            Error::LongLengthForm,
            only_13(1002),
        ),
        ("82ff 8000000000000000 00000000", Error::LengthSign, everyone(1002)),
        // Fragments.
        ("8080 00000000", Error::NothingToContinue, everyone(1002)),
        ("8180 00000000 8080 00000000", Error::NothingToContinue, everyone(1002)),
        (
            "0181 00000000 61 8181 00000000 62",
            Error::UnfinishedMessage,
            everyone(1002),
        ),
        (
            "0281 00000000 61 0281 00000000 62",
            Error::UnfinishedMessage,
            everyone(1002),
        ),
        (
            "0280 00000000 0080 00000000 0080 00000000 0080 00000000 8080 00000000",
            Error::TooManyFragments { limit: 4 },
            [Some(1003), Some(1003), Some(1008)],
        ),
        // Sizes: the header is enough.
        (
            "82fe 03e9 00000000",
            Error::MessageTooBig { limit: 1000 },
            [Some(1004), Some(1004), Some(1009)],
        ),
        (
            "82ff 7fffffffffffffff 00000000",
            Error::MessageTooBig { limit: 1000 },
            [Some(1004), Some(1004), Some(1009)],
        ),
        (
            "0281 00000000 61 80fe 03e8 00000000",
            Error::MessageTooBig { limit: 1000 },
            [Some(1004), Some(1004), Some(1009)],
        ),
        // Text.
        (
            "8181 00000000 ff",
            Error::InvalidText,
            [Some(1003), Some(1007), Some(1007)],
        ),
        (
            "8182 00000000 c080",
            Error::InvalidText,
            [Some(1003), Some(1007), Some(1007)],
        ),
        (
            "8183 00000000 eda080",
            Error::InvalidText,
            [Some(1003), Some(1007), Some(1007)],
        ),
        (
            "8184 00000000 f4908080",
            Error::InvalidText,
            [Some(1003), Some(1007), Some(1007)],
        ),
        (
            "8182 00000000 e282",
            Error::InvalidText,
            [Some(1003), Some(1007), Some(1007)],
        ),
        (
            "0182 00000000 e282 8081 00000000 61",
            Error::InvalidText,
            [Some(1003), Some(1007), Some(1007)],
        ),
        (
            "0182 00000000 e282 8080 00000000",
            Error::InvalidText,
            [Some(1003), Some(1007), Some(1007)],
        ),
        // Close.
        ("8881 00000000 03", Error::ShortClose, everyone(1002)),
        (
            "8884 00000000 03e8 c080",
            Error::InvalidReason,
            [Some(1003), Some(1007), Some(1007)],
        ),
        ("8882 00000000 0000", Error::InvalidCloseCode(0), only_13(1002)),
        ("8882 00000000 03e7", Error::InvalidCloseCode(999), only_13(1002)),
        ("8882 00000000 03ec", Error::InvalidCloseCode(1004), only_13(1002)),
        ("8882 00000000 03ed", Error::InvalidCloseCode(1005), only_13(1002)),
        ("8882 00000000 03ee", Error::InvalidCloseCode(1006), only_13(1002)),
        ("8882 00000000 03f7", Error::InvalidCloseCode(1015), only_13(1002)),
        ("8882 00000000 07d0", Error::InvalidCloseCode(2000), only_13(1002)),
        ("8882 00000000 0bb7", Error::InvalidCloseCode(2999), only_13(1002)),
        ("8882 00000000 1388", Error::InvalidCloseCode(5000), only_13(1002)),
        ("8882 00000000 ffff", Error::InvalidCloseCode(65535), only_13(1002)),
    ]
}

/// The same of draft 06, where the key comes first.
fn bad_inputs_06() -> Vec<(&'static str, Error, u16)> {
    vec![
        ("00000000 8481 61", Error::ReservedBits, 1002),
        ("00000000 c401 61", Error::ReservedBits, 1002),
        ("00000000 8600", Error::ReservedOpcode(6), 1002),
        ("00000000 8f00", Error::ReservedOpcode(15), 1002),
        ("00000000 0200", Error::FragmentedControl, 1002),
        ("00000000 827e 007e", Error::LongControl, 1002),
        ("00000000 857f 8000000000000000", Error::LengthSign, 1002),
        ("00000000 8000", Error::NothingToContinue, 1002),
        ("00000000 0401 61 00000000 8401 62", Error::UnfinishedMessage, 1002),
        ("00000000 857e 03e9", Error::MessageTooBig { limit: 1000 }, 1004),
        ("00000000 8401 ff", Error::InvalidText, 1003),
        ("00000000 8101 03", Error::ShortClose, 1002),
        ("00000000 8104 03e8 c080", Error::InvalidReason, 1003),
    ]
}

//= RFC 6455#section-5.1
//= type=test
//# The server MUST close the connection upon receiving a frame that is not masked.
//= RFC 6455#section-5.2
//= type=test
//# If a nonzero value is received and none of the negotiated extensions defines the meaning of such a nonzero value,
//# the receiving endpoint MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-5.2
//= type=test
//# If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-5.2
//= type=test
//# (the most significant bit MUST be 0)
//= RFC 6455#section-5.4
//= type=test
//# Control frames themselves MUST NOT be fragmented.
//= RFC 6455#section-5.4
//= type=test
//# The fragments of one message MUST NOT be interleaved between the fragments of another message unless an extension
//# has been negotiated that can interpret the interleaving.
//= RFC 6455#section-5.4
//= type=test
//# the type for all fragments in a message MUST be either text, binary, or one of the reserved opcodes.
//= RFC 6455#section-5.5
//= type=test
//# All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
//= RFC 6455#section-5.5.1
//= type=test
//# If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer (in network byte order)
//# representing a status code with value /code/ defined in Section 7.4.
//= RFC 6455#section-5.6
//= type=test
//# the whole message MUST contain valid UTF-8.
//= RFC 6455#section-7.1.7
//= type=test
//# An endpoint MUST NOT continue to attempt to process data (including a responding Close frame) from the remote
//# endpoint after being instructed to _Fail the WebSocket Connection_.
//= RFC 6455#section-8.1
//= type=test
//# When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in fact, a valid
//# UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-10.4
//= type=test
//# Implementations that have implementation- and/or platform-specific limitations regarding the frame size or total
//# message size after reassembly from multiple frames MUST protect themselves against exceeding those limits.
//= RFC 6455#section-10.7
//= type=test
//# Incoming data MUST always be validated by both clients and servers.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.2
//= type=test
//# (the most significant bit MUST be 0)
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.2
//= type=test
//# frame-rsv1 = %x0 ; 1 bit, MUST be 0
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.2
//= type=test
//# frame-rsv2 = %x0 ; 1 bit, MUST be 0
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.2
//= type=test
//# frame-rsv3 = %x0 ; 1 bit, MUST be 0
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.3
//= type=test
//# A server MUST close the connection upon receiving a frame with the MASK bit set to 0.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
//= type=test
//# Control frames themselves MUST NOT be fragmented.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
//= type=test
//# the type for all fragments in a message MUST be either text or binary, or one of the reserved opcodes.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5
//= type=test
//# All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.1
//= type=test
//# If there is a body, the first two bytes of the body MUST be a 2-byte integer (in network byte order) representing a
//# status code defined in Section 7.4.
//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.1
//= type=test
//# In the absence of extensions negotiated during the opening handshake (Section 5), all reserved bits MUST be 0 and
//# reserved opcode values MUST NOT be used.
//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.5
//= type=test
//# All control frames MUST be 125 bytes or less in length and MUST NOT be fragmented.
//= RFC 6455#section-5.2
//= type=test
//# 1 bit in length, MUST be 0 unless negotiated otherwise
#[test]
fn every_bad_frame_has_its_name_and_its_close_code_however_it_is_cut() {
    for (version, segmentation) in segmented(&RFC_FRAMES) {
        let column = RFC_FRAMES.iter().position(|&v| v == version).unwrap();
        for (octets, error, codes) in bad_inputs() {
            refuses(version, segmentation, octets, error, codes[column]);
        }
    }
    for segmentation in SEGMENTATIONS {
        for (octets, error, code) in bad_inputs_06() {
            refuses(Version::V6, segmentation, octets, error, Some(code));
        }
    }
}

/// A server refuses `octets` for `error` and sends `code`, or does not mind.
fn refuses(version: Version, segmentation: Segmentation, octets: &str, error: Error, code: Option<u16>) {
    let context = format!("version {version}, {segmentation:?}: {octets}");
    let mut server = Connection::server(version, LIMITS, NOW);
    let heard = listen(&mut server, &hex(octets), segmentation);
    let Some(code) = code else {
        assert_eq!(heard.error, None, "{context}");
        return;
    };
    assert_eq!(heard.error, Some(error), "{context}");
    let close = plain_close(version, code, &error.to_string());
    assert_eq!(heard.out, close, "{context}");
    assert_eq!(server.state(), State::Draining, "{context}");
    let after = masked(version, Opcode::Text, true, b"too late");
    let heard = listen(&mut server, &after, segmentation);
    assert!(heard.said.is_empty() && heard.out.is_empty(), "{context}");
}

//= RFC 6455#section-5.1
//= type=test
//# A client MUST close a connection if it detects a masked frame.
#[test]
fn a_client_refuses_a_masked_frame_and_masks_its_close() {
    for (version, segmentation) in segmented(&RFC_FRAMES) {
        let octets = masked(version, Opcode::Text, true, b"Hello");
        let heard = listen(&mut client(version), &octets, segmentation);
        assert_eq!(heard.error, Some(Error::Masked));
        let reason = Error::Masked.to_string();
        let body = [&1002_u16.to_be_bytes(), reason.as_bytes()].concat();
        assert_eq!(heard.out, masked(version, Opcode::Close, true, &body));
    }
}

//= RFC 6455#section-8.1
//= type=test
//# When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in fact, a valid
//# UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_.
#[test]
fn text_is_refused_at_its_first_bad_octet_long_before_the_frame_is_complete() {
    for version in Version::ALL {
        let frame = masked(
            version,
            Opcode::Text,
            true,
            &[b"abc\xffde".as_slice(), &[b'f'; 100]].concat(),
        );
        // Header, key and the four octets up to the bad one.
        let heard = listen(&mut server(version), &frame[..6 + 4], Segmentation::Whole);
        assert_eq!(heard.error, Some(Error::InvalidText));
        let incomplete = listen(&mut server(version), &frame[..6 + 3], Segmentation::Whole);
        assert_eq!(incomplete.error, None);
    }
}

#[test]
fn what_came_before_the_bad_frame_is_heard_and_its_ping_answered() {
    for version in RFC_FRAMES {
        let octets = [
            masked(version, Opcode::Text, true, b"fine"),
            masked(version, Opcode::Ping, true, b"alive?"),
            plain(version, Opcode::Text, true, b"not masked"),
        ]
        .concat();
        for segmentation in SEGMENTATIONS {
            let heard = listen(&mut server(version), &octets, segmentation);
            assert_eq!(heard.said.len(), 2);
            assert_eq!(heard.error, Some(Error::NotMasked));
            let close = plain_close(version, 1002, &Error::NotMasked.to_string());
            assert!(heard.out.ends_with(&close));
        }
    }
}

#[test]
fn the_reason_of_every_error_fits_a_close() {
    let errors = bad_inputs().into_iter().map(|(_, error, _)| error);
    for error in errors {
        assert!(error.to_string().len() <= 123, "{error}");
    }
}

#[test]
fn a_flood_of_control_frames_is_refused_and_a_steady_drip_is_not() {
    let limit = LIMITS.max_control_per_second;
    let error = Error::TooManyControlFrames { limit };
    for version in Version::ALL {
        let pings = masked(version, Opcode::Ping, true, b"?").repeat(usize::from(limit));
        for segmentation in SEGMENTATIONS {
            let mut server = Connection::server(version, LIMITS, NOW);
            let heard = listen(&mut server, &pings, segmentation);
            assert_eq!((heard.error, heard.said.len()), (None, usize::from(limit)));
            let message = masked(version, Opcode::Text, true, b"messages are not counted");
            assert_eq!(listen(&mut server, &message, segmentation).error, None);
            let one_more = masked(version, Opcode::Pong, true, b"");
            let heard = listen(&mut server, &one_more, segmentation);
            assert_eq!(heard.error, Some(error));
            let code = if version == Version::V13 { 1008 } else { 1003 };
            assert_eq!(heard.out, plain_close(version, code, &error.to_string()));
        }
        let mut server = Connection::server(version, LIMITS, NOW);
        for second in 0..3 {
            let now = NOW + Millis::from_secs(second);
            let mut pings = pings.clone();
            let mut input = Input::new(&mut pings);
            while server.poll(&mut input, now, &mut Vec::new()).unwrap().is_some() {}
        }
    }
}

//= RFC 6455#section-10.4
//= type=test
//# Implementations that have implementation- and/or platform-specific limitations regarding the frame size or total
//# message size after reassembly from multiple frames MUST protect themselves against exceeding those limits.
#[test]
fn a_message_beyond_the_limit_is_refused_also_when_it_is_all_there() {
    for (version, segmentation) in segmented(&Version::ALL) {
        for (length, error) in [(1000, None), (1001, Some(Error::MessageTooBig { limit: 1000 }))] {
            let message = masked(version, Opcode::Binary, true, &vec![7; length]);
            let mut server = Connection::server(version, LIMITS, NOW);
            assert_eq!(
                listen(&mut server, &message, segmentation).error,
                error,
                "{version} {segmentation:?}"
            );
        }
    }
}
