//! permessage-deflate: the examples of RFC 7692, what is compressed here, and every way it can go wrong.

use tidecast_websocket::http::Request;
use tidecast_websocket::{
    Accept, ClientHandshake, ClientHandshakeError, ClientWindow, Connection, Deflater, Error, Extension, Limits, Offer,
    Opcode, Params, PerMessageOffer, Upgrade, Url, Version, Versions, encode_compressed_header, encode_fragment,
};

use crate::oracle;
use crate::support::{KEY, NOW, SEGMENTATIONS, Said, Segmentation, hex, listen, masked, plain, plain_close, text};

const VERSIONS: [Version; 2] = [Version::V8, Version::V13];

/// What goes with nothing said.
pub(crate) const TAKEOVER: Params = Params {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: None,
    client_max_window_bits: None,
};

pub(crate) const NO_TAKEOVER: Params = Params {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    ..TAKEOVER
};

pub(crate) fn server_with(version: Version, params: Params, limits: Limits) -> Connection {
    let extension = Extension::PerMessageDeflate(params);
    Connection::server(version, limits, NOW).with_extension(Some(extension))
}

pub(crate) fn server(version: Version, params: Params) -> Connection {
    server_with(version, params, Limits::default())
}

fn client(version: Version, params: Params) -> Connection {
    let extension = Extension::PerMessageDeflate(params);
    crate::support::client(version).with_extension(Some(extension))
}

/// The first frame of a compressed message, as a client sends it if there is a key.
pub(crate) fn compressed(
    version: Version,
    opcode: Opcode,
    fin: bool,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> Vec<u8> {
    let header = encode_compressed_header(version, opcode, fin, payload.len(), mask);
    let mut frame = Vec::new();
    encode_fragment(version, opcode, fin, payload, mask, &mut frame);
    frame[..header.len()].copy_from_slice(&header);
    frame
}

pub(crate) fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(Deflater::new(6, 0).message(payload, 15, &mut out));
    out
}

pub(crate) fn everywhere() -> impl Iterator<Item = (Version, Segmentation)> {
    VERSIONS
        .into_iter()
        .flat_map(|version| SEGMENTATIONS.map(|segmentation| (version, segmentation)))
}

//= RFC 7692#section-7.2.3.1
//= type=test
//# 0xc1 0x07 0xf2 0x48 0xcd 0xc9 0xc9 0x07 0x00
//= RFC 7692#section-6.2
//= type=test
//# An endpoint MUST use the following algorithm to receive a message in the form of a compressed message.
#[test]
fn the_examples_of_the_specification_are_heard() {
    // The payloads of the frames of one message.
    let examples: [(&[&str], &str); 8] = [
        (&["f248cdc9c90700"], "Hello"),
        (&["f248cd", "c9c90700"], "Hello"),
        (&["000500faff48656c6c6f00"], "Hello"),
        (&["f348cdc9c9070000"], "Hello"),
        (&["f248050000 00ffff cac9c90700"], "Hello"),
        (&["00"], ""),
        // A final block that is not followed by the octet that should follow it, and an empty message that was not
        // compressed at all: seen of some libraries, and of one meaning only.
        (&["f348cdc9c90700"], "Hello"),
        (&[""], ""),
    ];
    for (version, segmentation) in everywhere() {
        for params in [TAKEOVER, NO_TAKEOVER] {
            for (mask, mut listener) in [(Some(KEY), server(version, params)), (None, client(version, params))] {
                for (payloads, message) in examples {
                    let mut octets = Vec::new();
                    for (i, payload) in payloads.iter().enumerate() {
                        let (payload, fin) = (hex(payload), i + 1 == payloads.len());
                        if i == 0 {
                            octets.extend(compressed(version, Opcode::Text, fin, &payload, mask));
                        } else {
                            encode_fragment(version, Opcode::Continuation, fin, &payload, mask, &mut octets);
                        }
                    }
                    let heard = listen(&mut listener, &octets.repeat(3), segmentation);
                    assert_eq!(heard.error, None, "{version} {segmentation:?} {payloads:?}");
                    assert_eq!(
                        heard.said,
                        vec![text(message); 3],
                        "{version} {segmentation:?} {payloads:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_frame_of_the_first_example_is_written_octet_by_octet() {
    let frame = compressed(Version::V13, Opcode::Text, true, &hex("f248cdc9c90700"), None);
    assert_eq!(frame, hex("c107f248cdc9c90700"));
    let first = compressed(Version::V13, Opcode::Text, false, &hex("f248cd"), None);
    assert_eq!(first, hex("4103f248cd"));
}

//= RFC 7692#section-7.2.2
//= type=test
//# Otherwise, the client MUST decompress each new message using the LZ77 sliding window used to process the last
//# compressed message.
//= RFC 7692#section-7.2.2
//= type=test
//# Otherwise, the server MUST decompress each new message using the LZ77 sliding window used to process the last
//# compressed message.
#[test]
fn a_message_may_refer_to_the_last_one_only_where_that_was_agreed() {
    let frames = |mask| {
        [
            compressed(Version::V13, Opcode::Text, true, &hex("f248cdc9c90700"), mask),
            compressed(Version::V13, Opcode::Text, true, &hex("f200110000"), mask),
        ]
        .concat()
    };
    for segmentation in SEGMENTATIONS {
        for (mask, mut listener) in [
            (Some(KEY), server(Version::V13, TAKEOVER)),
            (None, client(Version::V13, TAKEOVER)),
        ] {
            let heard = listen(&mut listener, &frames(mask), segmentation);
            assert_eq!(heard.said, [text("Hello"), text("Hello")]);
        }
        for (mask, mut listener) in [
            (Some(KEY), server(Version::V13, NO_TAKEOVER)),
            (None, client(Version::V13, NO_TAKEOVER)),
        ] {
            let heard = listen(&mut listener, &frames(mask), segmentation);
            assert_eq!(heard.said, [text("Hello")]);
            assert_eq!(heard.error, Some(Error::InvalidDeflate));
        }
    }
}

//= RFC 7692#section-6.1
//= type=test
//# An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first fragments of a data
//# message. An endpoint receiving such a frame MUST _Fail the WebSocket Connection_.
#[test]
fn the_bit_is_refused_where_it_means_nothing() {
    let cases = [
        "c985 00000000 48656c6c6f",
        "c882 00000000 03e8",
        "4187 00000000 f248cdc9c90700 c080 00000000",
        "a181 00000000 61",
        "e181 00000000 61",
        "d181 00000000 61",
    ];
    for (version, segmentation) in everywhere() {
        for octets in cases {
            let heard = listen(&mut server(version, TAKEOVER), &hex(octets), segmentation);
            assert_eq!(heard.error, Some(Error::ReservedBits), "{octets}");
            let close = plain_close(version, 1002, &Error::ReservedBits.to_string());
            assert_eq!(heard.out, close);
        }
        let frame = compressed(version, Opcode::Text, true, &hex("f248cdc9c90700"), Some(KEY));
        let without = listen(&mut crate::support::server(version), &frame, segmentation);
        assert_eq!(without.error, Some(Error::ReservedBits));
    }
}

//= RFC 7692#section-6.2
//= type=test
//# An endpoint MUST use the following algorithm to receive a message in the form of an uncompressed message.
#[test]
fn control_frames_and_plain_messages_mix_with_compressed_ones() {
    let tide = "the tide rises, the tide falls, ".repeat(100);
    let payload = deflated(tide.as_bytes());
    for (version, segmentation) in everywhere() {
        for params in [TAKEOVER, NO_TAKEOVER] {
            let mut octets = masked(version, Opcode::Text, true, b"plain");
            octets.extend(compressed(version, Opcode::Text, false, b"", Some(KEY)));
            for fragment in payload.chunks(7) {
                octets.extend(masked(version, Opcode::Ping, true, fragment));
                octets.extend(masked(version, Opcode::Continuation, false, fragment));
            }
            octets.extend(masked(version, Opcode::Pong, true, b""));
            octets.extend(masked(version, Opcode::Continuation, true, b""));
            octets.extend(masked(version, Opcode::Binary, true, b"plain too"));
            octets.extend(compressed(version, Opcode::Text, true, &payload, Some(KEY)));

            let mut said = vec![text("plain")];
            said.extend(payload.chunks(7).map(|fragment| Said::Ping(fragment.into())));
            said.extend([
                Said::Pong(vec![]),
                text(&tide),
                Said::Binary(b"plain too".into()),
                text(&tide),
            ]);
            let heard = listen(&mut server(version, params), &octets, segmentation);
            assert_eq!(heard.error, None);
            assert_eq!(heard.said, said, "{version} {segmentation:?}");
            let pong = plain(version, Opcode::Pong, true, payload.chunks(7).next_back().unwrap());
            assert!(heard.out.ends_with(&pong));
        }
    }
}

#[test]
fn what_cannot_be_inflated_closes_with_1007() {
    let whole = deflated("the tide rises, the tide falls".repeat(3).as_bytes());
    let mut cases = vec![
        hex("07"),
        hex("ff"),
        // A stored block that is shorter than it says, and one whose lengths do not agree.
        hex("000500faff4865"),
        hex("000500fbff48656c6c6f00"),
        // A stored block that lacks just as much as the end of a flush would fill.
        hex("000400fbff"),
        hex("010400fbff"),
        // A final block that lacks its end, which zeros would be.
        hex("f348cdc9c9"),
        // A match that reaches back before the message.
        hex("f200110000"),
        // One octet more than a sync flush leaves.
        hex("f248cdc9c9070000"),
    ];
    // Every message that breaks off, a longer one as well.
    cases.extend((1..whole.len()).map(|len| whole[..len].to_vec()));
    let long = deflated(&prose(2000));
    assert!(long.len() > 600);
    cases.extend((250..long.len()).step_by(7).map(|len| long[..len].to_vec()));
    for (version, segmentation) in everywhere() {
        for payload in &cases {
            let frame = compressed(version, Opcode::Binary, true, payload, Some(KEY));
            let heard = listen(&mut server(version, NO_TAKEOVER), &frame, segmentation);
            assert_eq!(heard.said, [], "{payload:02x?}");
            assert_eq!(heard.error, Some(Error::InvalidDeflate), "{payload:02x?}");
            let close = plain_close(version, 1007, &Error::InvalidDeflate.to_string());
            assert_eq!(heard.out, close);
        }
    }
}

#[test]
fn text_is_checked_after_inflating() {
    for (version, segmentation) in everywhere() {
        for bad in [&b"abc\xff"[..], b"\xed\xa0\x80", b"\xe2\x82"] {
            let mut stored = vec![0, bad.len() as u8, 0, !(bad.len() as u8), 0xff];
            stored.extend_from_slice(bad);
            stored.push(0);
            let frame = compressed(version, Opcode::Text, true, &stored, Some(KEY));
            let heard = listen(&mut server(version, NO_TAKEOVER), &frame, segmentation);
            assert_eq!(heard.error, Some(Error::InvalidText), "{bad:02x?}");
            let frame = compressed(version, Opcode::Binary, true, &stored, Some(KEY));
            let heard = listen(&mut server(version, NO_TAKEOVER), &frame, segmentation);
            assert_eq!(heard.said, [Said::Binary(bad.into())]);
        }
        let message = "κόσμε €uro 🌊 end ".repeat(20);
        let mut octets = compressed(version, Opcode::Text, false, b"", Some(KEY));
        for octet in deflated(message.as_bytes()) {
            octets.extend(masked(version, Opcode::Continuation, false, &[octet]));
        }
        octets.extend(masked(version, Opcode::Continuation, true, b""));
        let heard = listen(&mut server(version, NO_TAKEOVER), &octets, segmentation);
        assert_eq!(heard.said, [text(&message)]);
    }
}

#[test]
fn a_message_is_refused_when_it_inflates_beyond_a_limit_and_not_before() {
    let limits = Limits {
        max_message: 100_000,
        ..Limits::default()
    };
    let ratio = Limits {
        max_inflate_ratio: 50,
        ..Limits::default()
    };
    let too_big = Error::MessageTooBig { limit: 100_000 };
    let too_much = Error::InflateRatio { limit: 50 };
    let cases = [
        (limits, 100_000, None),
        (limits, 100_001, Some(too_big)),
        (limits, 64 << 20, Some(too_big)),
        (ratio, 64 << 10, None),
        (ratio, 100_000, Some(too_much)),
    ];
    for (limits, length, error) in cases {
        let payload = deflated(&vec![0; length]);
        assert!(payload.len() < length / 500);
        let frame = compressed(Version::V13, Opcode::Binary, true, &payload, Some(KEY));
        for segmentation in [Segmentation::Whole, Segmentation::Random(1)] {
            let mut server = server_with(Version::V13, NO_TAKEOVER, limits);
            let heard = listen(&mut server, &frame, segmentation);
            assert_eq!(heard.error, error, "{length}");
            assert_eq!(heard.said.len(), usize::from(error.is_none()), "{length}");
        }
    }
    assert_eq!((too_big.close_code(), too_much.close_code()), (1009, 1008));
}

#[test]
fn a_header_that_announces_far_more_than_the_limit_is_enough_to_refuse_a_message() {
    let limits = Limits {
        max_message: 1000,
        ..Limits::default()
    };
    let header = encode_compressed_header(Version::V13, Opcode::Binary, true, 4000, Some(KEY));
    let mut server = server_with(Version::V13, NO_TAKEOVER, limits);
    let heard = listen(&mut server, &header, Segmentation::Whole);
    assert_eq!(heard.error, Some(Error::MessageTooBig { limit: 1000 }));
}

/// Text with matches near and far, and stretches without any.
pub(crate) fn prose(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut octets = Vec::new();
    while octets.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (state >> 33) as usize;
        let back = 1 + random % 40_000;
        if octets.len() > back && random & 3 != 0 {
            let start = octets.len() - back;
            octets.extend_from_within(start..(start + 20 + random % 300).min(octets.len()));
        } else {
            octets.extend(state.to_le_bytes());
        }
    }
    octets.truncate(len);
    octets
}

//= RFC 7692#section-7.2.1
//= type=test
//# If the "agreed parameters" contain the "client_max_window_bits" extension parameter with a value of w, the client
//# MUST NOT use an LZ77 sliding window longer than the w-th power of 2 bytes to compress messages to send.
//= RFC 7692#section-7.2.1
//= type=test
//# If the "agreed parameters" contain the "server_max_window_bits" extension parameter with a value of w, the server
//# MUST NOT use an LZ77 sliding window longer than the w-th power of 2 bytes to compress messages to send.
//= RFC 7692#section-7.2.1
//= type=test
//# An endpoint MUST NOT use an LZ77 sliding window longer than 32,768 bytes to compress messages to send.
#[test]
fn what_is_deflated_for_many_stays_within_the_window_and_is_what_it_was() {
    for level in 1..=9 {
        let mut deflater = Deflater::new(level, 1);
        for window_bits in 8..=15 {
            for payload in [prose(100_000), vec![b'a'; 3000], b"tide tide tide tide".to_vec()] {
                let mut out = b"before".to_vec();
                assert!(
                    deflater.message(&payload, window_bits, &mut out),
                    "{level} {window_bits}"
                );
                let mut message = out.split_off(6);
                assert!(message.len() < payload.len());
                message.extend([0, 0, 0xff, 0xff]);
                let (inflated, farthest) = oracle::inflate(&message);
                assert!(inflated == payload, "{level} {window_bits}");
                assert!(farthest <= 1 << window_bits, "{level} {window_bits}: {farthest}");
            }
        }
    }
}

//= RFC 7692#section-6.1
//= type=test
//# An endpoint MUST use the following algorithm to send a message in the form of an uncompressed message.
#[test]
fn a_message_that_deflating_does_not_make_smaller_is_sent_as_it_is() {
    let mut deflater = Deflater::new(6, 32);
    let noise: Vec<u8> = (0..200_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut out = Vec::new();
    for payload in [&b""[..], &[b'x'; 31], &noise] {
        assert!(!deflater.message(payload, 15, &mut out));
        assert!(out.is_empty());
        let mut speaker = server(Version::V13, TAKEOVER);
        assert!(speaker.send_deflated(Opcode::Binary, payload, &mut deflater, &mut out));
        assert_eq!(out, plain(Version::V13, Opcode::Binary, true, payload));
        out.clear();
    }
    assert!(deflater.message(&[b'x'; 32], 15, &mut out));
}

//= RFC 7692#section-7.2.1
//= type=test
//# If the "agreed parameters" contain the "server_no_context_takeover" extension parameter, the server MUST start
//# compressing each new message with an empty LZ77 sliding window.
//= RFC 7692#section-6.1
//= type=test
//# An endpoint MUST use the following algorithm to send a message in the form of a compressed message.
#[test]
fn one_deflated_message_is_heard_by_every_listener_at_any_point_of_its_stream() {
    let tide = "the tide rises, the tide falls, ".repeat(50);
    for params in [TAKEOVER, NO_TAKEOVER] {
        let mut shared = Vec::new();
        assert!(Deflater::default().message(tide.as_bytes(), params.server_window_bits(), &mut shared));
        let shared = compressed(Version::V13, Opcode::Text, true, &shared, None);
        let mut listener = client(Version::V13, params);
        let mut speaker = server(Version::V13, params);
        for _ in 0..3 {
            let mut octets = Vec::new();
            assert!(speaker.send_deflated(Opcode::Text, tide.as_bytes(), &mut Deflater::default(), &mut octets));
            assert_eq!(octets, shared);
            octets.extend(plain(Version::V13, Opcode::Text, true, b"plain"));
            octets.extend_from_slice(&shared);
            let heard = listen(&mut listener, &octets, Segmentation::ByOctet);
            assert_eq!(heard.said, [text(&tide), text("plain"), text(&tide)]);
        }
    }
}

//= RFC 7692#section-6.1
//= type=test
//# An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first fragments of a data
//# message.
//= RFC 7692#section-7.2.1
//= type=test
//# If the "agreed parameters" contain the "client_no_context_takeover" extension parameter, the client MUST start
//# compressing each new message with an empty LZ77 sliding window.
//= RFC 7692#section-7.2.1
//= type=test
//# If the "agreed parameters" contain the "server_no_context_takeover" extension parameter, the server MUST start
//# compressing each new message with an empty LZ77 sliding window.
#[test]
fn a_window_of_its_own_makes_repeated_messages_small_where_takeover_is_allowed() {
    let limited = Params {
        client_max_window_bits: Some(8),
        server_max_window_bits: Some(9),
        ..TAKEOVER
    };
    for params in [TAKEOVER, limited] {
        for (mut speaker, mut listener) in [
            (client(Version::V13, params), server(Version::V13, params)),
            (server(Version::V13, params), client(Version::V13, params)),
        ] {
            assert!(speaker.open_window(6, 8));
            let message = "{\"tide\":\"rising\",\"metres\":4.21}";
            // Compressed with the same window, though it could be compressed without.
            let tide = "the tide rises, the tide falls, ".repeat(4);
            let mut sizes = Vec::new();
            for _ in 0..5 {
                let mut octets = Vec::new();
                assert!(speaker.send(Opcode::Text, message.as_bytes(), &mut octets));
                assert!(speaker.send_deflated(Opcode::Text, tide.as_bytes(), &mut Deflater::default(), &mut octets));
                assert!(speaker.send(Opcode::Ping, b"still there?", &mut octets));
                sizes.push(octets.len());
                let heard = listen(&mut listener, &octets, Segmentation::ByOctet);
                let ping = Said::Ping(b"still there?".into());
                assert_eq!(heard.said, [text(message), text(&tide), ping]);
            }
            assert!(sizes[4] + 15 < sizes[0], "{sizes:?}");
        }
    }
    for mut speaker in [server(Version::V13, NO_TAKEOVER), client(Version::V13, NO_TAKEOVER)] {
        assert!(!speaker.open_window(6, 8));
    }
    assert!(!crate::support::server(Version::V13).open_window(6, 8));
}

/// What a client that offers `offers` says, what a server of policy `accept` answers, and what each of them then uses: the
/// client, and the server.
fn negotiate(
    offers: &[Offer],
    accept: &Accept,
) -> (
    String,
    String,
    Result<Option<Extension>, ClientHandshakeError>,
    Option<Extension>,
) {
    let mut request = Vec::new();
    let url = Url::parse("ws://h/").unwrap();
    let handshake = handshake(&url, offers);
    handshake.write_request(&mut request).unwrap();
    let (parsed, _) = Request::parse(&request, 4096).unwrap().unwrap();
    let upgrade = Upgrade::from_request(&parsed, Versions::ALL).unwrap();
    let at_server = upgrade.negotiate(accept).unwrap();
    let mut response = Vec::new();
    upgrade.write_response_with(None, at_server, &mut response);
    let at_client = handshake
        .check_response(&response)
        .map(|complete| complete.unwrap().0.extension);
    let [request, response] = [request, response].map(|octets| String::from_utf8(octets).unwrap());
    (request, response, at_client, at_server)
}

fn handshake<'a>(url: &'a Url, offers: &'a [Offer]) -> ClientHandshake<'a> {
    ClientHandshake {
        url,
        version: Version::V13,
        key: [7; 16],
        protocols: &[],
        extensions: offers,
        origin: None,
        headers: &[],
    }
}

//= RFC 7692#section-5
//= type=test
//# To offer use of a PMCE, a client MUST include the extension name of the PMCE in the "Sec-WebSocket-Extensions"
//# header field of its opening handshake of the WebSocket connection.
//= RFC 7692#section-5
//= type=test
//# In a PMCE negotiation offer, the client MUST inform the server of its LZ77 window size so that the server uses an
//# LZ77 window size that is not greater than the LZ77 window size of the client.
//= RFC 7692#section-5
//= type=test
//# To accept the use of an offered PMCE, a server MUST include the extension name of the PMCE in the
//# "Sec-WebSocket-Extensions" header field of its opening handshake of the WebSocket connection.
//= RFC 7692#section-5
//= type=test
//# A server declining all offered PMCEs MUST NOT include any element with PMCE names.
//= RFC 7692#section-7.1.2.1
//= type=test
//# This parameter has a decimal integer value without leading zeroes between 8 to 15, inclusive, indicating the base-2
//# logarithm of the LZ77 sliding window size, and MUST conform to the ABNF below.
//= RFC 7692#section-7.1.2.1
//= type=test
//# The "server_max_window_bits" extension parameter in an extension negotiation response has a decimal integer value
//# without leading zeroes between 8 to 15, inclusive, indicating the base-2 logarithm of the LZ77 sliding window size,
//# and MUST conform to the ABNF below.
//= RFC 7692#section-7.1.2.2
//= type=test
//# If a value is specified for this parameter, the value MUST conform to the ABNF below.
//= RFC 7692#section-7.1.2.2
//= type=test
//# The "client_max_window_bits" extension parameter in an extension negotiation response has a decimal integer value
//# without leading zeroes between 8 to 15 inclusive indicating the base-2 logarithm of the LZ77 sliding window size and
//# MUST conform to the ABNF below.
#[test]
fn an_offer_and_its_answer_name_the_extension_and_its_windows_and_a_refusal_names_nothing() {
    for bits in 8..=15 {
        let offers = [Offer::PerMessageDeflate(PerMessageOffer {
            server_max_window_bits: Some(bits),
            client_max_window_bits: ClientWindow::AtMost(bits),
            ..PerMessageOffer::default()
        })];
        let windows = format!("; server_max_window_bits={bits}; client_max_window_bits={bits}\r\n");
        let (request, response, at_client, at_server) = negotiate(&offers, &Accept::default());
        for head in [request, response] {
            let (_, extensions) = head.split_once("\r\nSec-WebSocket-Extensions: ").unwrap();
            assert!(extensions.starts_with("permessage-deflate;"), "{head}");
            assert!(extensions.contains(&windows), "{head}");
        }
        let Some(Extension::PerMessageDeflate(params)) = at_server else {
            panic!("{bits} bits were declined");
        };
        assert_eq!((params.server_window_bits(), params.client_window_bits()), (bits, bits));
        assert_eq!(at_client, Ok(at_server));

        let (_, response, at_client, at_server) = negotiate(&offers, &Accept::NONE);
        assert!(!response.contains("permessage-deflate"), "{response}");
        assert_eq!((at_client, at_server), (Ok(None), None));
    }
}

//= RFC 7692#section-5
//= type=test
//# A server MUST NOT accept a PMCE extension negotiation offer together with another extension if the PMCE will
//# conflict with the extension on their use of the RSV1 bit.
//= RFC 7692#section-5
//= type=test
//# A client that received a response accepting a PMCE extension negotiation offer together with such an extension MUST
//# _Fail the WebSocket Connection_.
//= RFC 7692#section-5
//= type=test
//# A server MUST NOT accept a PMCE extension negotiation offer together with another extension if the PMCE will be
//# applied to the output of the extension and any of the following conditions applies to the extension
//= RFC 7692#section-5
//= type=test
//# A client that receives a response accepting a PMCE extension negotiation offer together with such an extension MUST
//# _Fail the WebSocket Connection_.
//= RFC 7692#section-5
//= type=test
//# If a server gives an invalid response, such as accepting a PMCE that the client did not offer, the client MUST _Fail
//# the WebSocket Connection_.
#[test]
fn two_extensions_are_never_used_together_and_none_that_was_not_offered() {
    let stream = Offer::DeflateStream;
    let messages = Offer::PerMessageDeflate(PerMessageOffer::default());
    let accept = Accept {
        deflate_stream: Versions::ALL,
        ..Accept::default()
    };
    let url = Url::parse("ws://h/").unwrap();
    for offers in [[stream, messages], [messages, stream], [messages, messages]] {
        let (_, response, at_client, at_server) = negotiate(&offers, &accept);
        let (head, answer) = response.split_once("\r\nSec-WebSocket-Extensions: ").unwrap();
        let answer = answer.trim_end();
        assert!(!answer.contains([',', '\r']), "{answer}");
        assert!(at_server.is_some() && at_client == Ok(at_server), "{answer}");

        // A server that answers both, in one field or in two.
        let [first, second] = offers.map(|offer| offer.to_string());
        for both in [
            format!("{first}, {second}"),
            format!("{first}\r\nSec-WebSocket-Extensions: {second}"),
        ] {
            let response = format!("{head}\r\nSec-WebSocket-Extensions: {both}\r\n\r\n");
            let refused = handshake(&url, &offers).check_response(response.as_bytes());
            assert_eq!(
                refused,
                Err(ClientHandshakeError::UnfitExtension(second.clone())),
                "{both}"
            );
        }
        // One that answers what was not offered.
        let refused = handshake(&url, &[]).check_response(response.as_bytes());
        assert_eq!(refused, Err(ClientHandshakeError::ExtensionNotOffered(answer.into())));
    }
}

//= RFC 7692#section-5
//= type=test
//# The element MUST represent a PMCE that is fully supported by the server.
//= RFC 7692#section-5
//= type=test
//# both endpoints MUST use the algorithm described in Section 6 and the message payload transformation (compressing and
//# decompressing) procedure of the PMCE configured with the "agreed parameters" returned by the server to exchange
//# messages.
//= RFC 7692#section-7.1.1.2
//= type=test
//# A client MUST support the "client_no_context_takeover" extension parameter in an extension negotiation response.
#[test]
fn whatever_is_agreed_on_is_what_both_ends_use() {
    let tide = "the tide rises, the tide falls, ".repeat(50);
    let windows = [ClientWindow::Fixed, ClientWindow::Limitable, ClientWindow::AtMost(9)];
    for (window, server_bits, flags) in windows
        .into_iter()
        .flat_map(|window| [None, Some(8), Some(15)].map(|bits| (window, bits)))
        .flat_map(|(window, bits)| (0..8).map(move |flags| (window, bits, flags)))
    {
        let offer = PerMessageOffer {
            server_no_context_takeover: flags & 1 != 0,
            client_no_context_takeover: flags & 2 != 0,
            server_max_window_bits: server_bits,
            client_max_window_bits: window,
        };
        let accept = Accept {
            client_context_takeover: flags & 4 != 0,
            ..Accept::default()
        };
        let (_, response, at_client, at_server) = negotiate(&[Offer::PerMessageDeflate(offer)], &accept);
        let Ok(Some(Extension::PerMessageDeflate(params))) = at_client else {
            panic!("{response}");
        };
        assert_eq!(Ok(at_server), at_client);
        let (mut client, mut server) = (client(Version::V13, params), self::server(Version::V13, params));
        assert_eq!(
            client.open_window(6, 0),
            !params.client_no_context_takeover,
            "{response}"
        );
        assert_eq!(
            server.open_window(6, 0),
            !params.server_no_context_takeover,
            "{response}"
        );
        let (mut speaker, mut listener) = (&mut client, &mut server);
        for _ in 0..2 {
            for _ in 0..3 {
                let mut octets = Vec::new();
                speaker.send_deflated(Opcode::Text, tide.as_bytes(), &mut Deflater::default(), &mut octets);
                assert!(octets.len() < tide.len() / 2, "it was compressed");
                // Too short to be compressed for many, so it goes with the speaker's own window, or as it is.
                speaker.send(Opcode::Binary, b"tide", &mut octets);
                let heard = listen(listener, &octets, Segmentation::Random(1));
                assert_eq!(heard.said, [text(&tide), Said::Binary(b"tide".into())], "{response}");
            }
            (speaker, listener) = (listener, speaker);
        }
    }
}

//= RFC 7692#section-7.2.1
//= type=test
//# An endpoint MUST NOT use an LZ77 sliding window longer than 32,768 bytes to compress messages to send.
//= RFC 7692#section-7.2.1
//= type=test
//# If the "agreed parameters" contain the "client_max_window_bits" extension parameter with a value of w, the client
//# MUST NOT use an LZ77 sliding window longer than the w-th power of 2 bytes to compress messages to send.
//= RFC 7692#section-7.2.1
//= type=test
//# If the "agreed parameters" contain the "server_max_window_bits" extension parameter with a value of w, the server
//# MUST NOT use an LZ77 sliding window longer than the w-th power of 2 bytes to compress messages to send.
//= RFC 7692#section-7.2.2
//= type=test
//# the client MUST use an LZ77 sliding window of a size that conforms the "agreed parameters" to compress messages to
//# send.
#[test]
fn a_window_of_its_own_reaches_back_no_farther_than_agreed() {
    let messages = prose(90_000);
    for bits in 8..=15 {
        let params = Params {
            client_max_window_bits: Some(bits),
            server_max_window_bits: Some(bits),
            ..TAKEOVER
        };
        // The key of zeros leaves the payload as it is.
        let extension = Extension::PerMessageDeflate(params);
        let client = Connection::client(Version::V13, Limits::default(), || [0; 4], NOW);
        for (mut speaker, header) in [
            (client.with_extension(Some(extension)), 8),
            (server(Version::V13, params), 4),
        ] {
            assert!(speaker.open_window(6, 0));
            let mut stream = Vec::new();
            for message in messages.chunks(30_000) {
                let mut frame = Vec::new();
                assert!(speaker.send(Opcode::Binary, message, &mut frame));
                assert_eq!(
                    (frame[0], frame[1] & 0x7f),
                    (0xc2, 126),
                    "compressed, with a length of 16 bits"
                );
                stream.extend_from_slice(&frame[header..]);
                stream.extend([0, 0, 0xff, 0xff]);
            }
            let (inflated, farthest) = oracle::inflate(&stream);
            assert!(inflated == messages, "{bits}");
            assert!(farthest <= 1 << bits, "{bits}: {farthest}");
            assert!(
                bits < 15 || farthest > 1 << 14,
                "no message refers to one before it: {farthest}"
            );
        }
    }
}

//= RFC 7692#section-7.2.2
//= type=test
//# Otherwise, the client MUST use a 32,768-byte LZ77 sliding window to decompress received messages.
//= RFC 7692#section-7.2.2
//= type=test
//# Otherwise, the server MUST use a 32,768-byte LZ77 sliding window to decompress received messages.
#[test]
fn a_match_may_reach_back_by_all_of_the_largest_window() {
    const LEN: u16 = 1 << 15;
    let first: Vec<u8> = prose(usize::from(LEN));
    // A stored block; a block of one match, 258 octets from 32,768 back; and what is left of two sync flushes.
    let stored = [&[0][..], &LEN.to_le_bytes(), &(!LEN).to_le_bytes(), &first].concat();
    let far = hex("1abdff1f00");
    let copied = &first[..258];
    let (_, farthest) = oracle::inflate(&[&stored[..], &far, &[0, 0, 0xff, 0xff]].concat());
    assert_eq!(farthest, usize::from(LEN));
    let message = |payload: &[u8], mask| compressed(Version::V13, Opcode::Binary, true, payload, mask);
    for segmentation in SEGMENTATIONS {
        for (mask, params) in [
            (Some(KEY), TAKEOVER),
            (Some(KEY), NO_TAKEOVER),
            (None, TAKEOVER),
            (None, NO_TAKEOVER),
        ] {
            let mut listener = match mask {
                Some(_) => server(Version::V13, params),
                None => client(Version::V13, params),
            };
            let heard = listen(
                &mut listener,
                &message(&[&stored[..], &far].concat(), mask),
                segmentation,
            );
            assert_eq!(heard.error, None);
            assert!(heard.said == [Said::Binary([&first[..], copied].concat())]);
            if params == TAKEOVER {
                let octets = [message(&[&stored[..], &[0]].concat(), mask), message(&far, mask)].concat();
                let heard = listen(&mut listener, &octets, segmentation);
                assert_eq!(heard.error, None);
                assert!(heard.said == [Said::Binary(first.clone()), Said::Binary(copied.into())]);
            }
        }
    }
}
