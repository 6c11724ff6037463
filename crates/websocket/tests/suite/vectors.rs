//! Frames of which every octet is known: from the specifications, and from peers of the drafts' time.

use tidecast_websocket::{Opcode, Version, encode_fragment, encode_frame};

use crate::support::{KEY, RFC_FRAMES, SEGMENTATIONS, Said, client, hex, listen, segmented, server, text};

fn alphabet(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

/// What a client sends (with [`KEY`]), what the server hears, and what it answers.
fn client_vectors() -> Vec<(&'static str, Vec<Said>, &'static str)> {
    vec![
        ("8185 37fa213d 7f9f4d5158", vec![text("Hello")], ""),
        ("0183 37fa213d 7f9f4d 8082 37fa213d 5b95", vec![text("Hello")], ""),
        ("8283 37fa213d 37fb23", vec![Said::Binary(vec![0, 1, 2])], ""),
        (
            "8985 37fa213d 7f9f4d5158",
            vec![Said::Ping(b"Hello".into())],
            "8a0548656c6c6f",
        ),
        ("8a85 37fa213d 7f9f4d5158", vec![Said::Pong(b"Hello".into())], ""),
        (
            "8882 37fa213d 3412",
            vec![Said::Close(Some(1000), String::new())],
            "880203e8",
        ),
        (
            "8885 37fa213d 3412434452",
            vec![Said::Close(Some(1000), "bye".into())],
            "880203e8",
        ),
        ("8880 37fa213d", vec![Said::Close(None, String::new())], "880203e8"),
        ("8180 37fa213d", vec![text("")], ""),
        ("8185 00000000 48656c6c6f", vec![text("Hello")], ""),
    ]
}

//= RFC 6455#section-5.4
//= type=test
//# Clients and servers MUST support receiving both fragmented and unfragmented messages.
//= RFC 6455#section-5.5.2
//= type=test
//# Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it already received a Close
//# frame.
//= RFC 6455#section-6.2
//= type=test
//# Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2.
//= RFC 6455#section-6.2
//= type=test
//# If a control frame (Section 5.5) is received, the frame MUST be handled as defined by Section 5.5.
//= RFC 6455#section-6.2
//= type=test
//# A server MUST remove masking for data frames received from a client as described in Section 5.3.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
//= type=test
//# Clients and servers MUST support receiving both fragmented and unfragmented messages.
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
fn a_server_hears_what_clients_said_since_draft_07() {
    for (version, segmentation) in segmented(&RFC_FRAMES) {
        for (octets, said, answer) in client_vectors() {
            let heard = listen(&mut server(version), &hex(octets), segmentation);
            assert_eq!(heard.error, None, "{version} {segmentation:?} {octets}");
            assert_eq!(heard.said, said, "{version} {segmentation:?} {octets}");
            assert_eq!(heard.out, hex(answer), "{version} {segmentation:?} {octets}");
        }
    }
}

//= RFC 6455#section-5.2
//= type=test
//# MUST be 0 unless an extension is negotiated that defines meanings for non-zero values.
//= RFC 6455#section-5.3
//= type=test
//# A masked frame MUST have the field frame-masked set to 1, as defined in Section 5.2.
//= RFC 6455#section-6.1
//= type=test
//# An endpoint MUST encapsulate the /data/ in a WebSocket frame as defined in Section 5.2.
//= RFC 6455#section-6.1
//= type=test
//# The opcode (frame-opcode) of the first frame containing the data MUST be set to the appropriate value from Section
//# 5.2 for data that is to be interpreted by the recipient as text or binary data.
//= RFC 6455#section-6.1
//= type=test
//# The FIN bit (frame-fin) of the last frame containing the data MUST be set to 1 as defined in Section 5.2.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.1
//= type=test
//# in the absence of extensions negotiated during the opening handshake (Section 5), all reserved bits MUST be 0 and
//# reserved opcode values MUST NOT be used.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.3
//= type=test
//# A masked frame MUST have the field frame-masked set to 1, as defined in Section 4.2.
#[test]
fn a_client_writes_the_octets_that_period_clients_wrote() {
    let frames: [(Opcode, bool, &[u8], &str); 7] = [
        (Opcode::Text, true, b"Hello", "8185 37fa213d 7f9f4d5158"),
        (Opcode::Text, false, b"Hel", "0183 37fa213d 7f9f4d"),
        (Opcode::Continuation, true, b"lo", "8082 37fa213d 5b95"),
        (Opcode::Binary, true, &[0, 1, 2], "8283 37fa213d 37fb23"),
        (Opcode::Ping, true, b"Hello", "8985 37fa213d 7f9f4d5158"),
        (Opcode::Pong, true, b"Hello", "8a85 37fa213d 7f9f4d5158"),
        (Opcode::Close, true, b"\x03\xe8bye", "8885 37fa213d 3412434452"),
    ];
    for version in RFC_FRAMES {
        for (opcode, fin, payload, octets) in frames {
            let mut out = Vec::new();
            encode_fragment(version, opcode, fin, payload, Some(KEY), &mut out);
            assert_eq!(out, hex(octets));
        }
    }
}

/// Opcode, FIN and payload.
type Frame = (Opcode, bool, &'static [u8]);

//= RFC 6455#section-5.2
//= type=test
//# MUST be 0 unless an extension is negotiated that defines meanings for non-zero values.
//= RFC 6455#section-5.4
//= type=test
//# Clients and servers MUST support receiving both fragmented and unfragmented messages.
//= RFC 6455#section-6.1
//= type=test
//# An endpoint MUST encapsulate the /data/ in a WebSocket frame as defined in Section 5.2.
//= RFC 6455#section-6.1
//= type=test
//# The opcode (frame-opcode) of the first frame containing the data MUST be set to the appropriate value from Section
//# 5.2 for data that is to be interpreted by the recipient as text or binary data.
//= RFC 6455#section-6.1
//= type=test
//# The FIN bit (frame-fin) of the last frame containing the data MUST be set to 1 as defined in Section 5.2.
//= RFC 6455#section-6.2
//= type=test
//# Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.1
//= type=test
//# in the absence of extensions negotiated during the opening handshake (Section 5), all reserved bits MUST be 0 and
//# reserved opcode values MUST NOT be used.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
//= type=test
//# Clients and servers MUST support receiving both fragmented and unfragmented messages.
#[test]
fn a_server_writes_the_octets_that_period_servers_wrote_and_a_client_hears_them() {
    let vectors: [(&[Frame], &str, Said); 6] = [
        (&[(Opcode::Text, true, b"Hello")], "810548656c6c6f", text("Hello")),
        (
            &[(Opcode::Text, false, b"Hel"), (Opcode::Continuation, true, b"lo")],
            "010348656c 80026c6f",
            text("Hello"),
        ),
        (&[(Opcode::Binary, true, &[0, 1])], "82020001", Said::Binary(vec![0, 1])),
        (
            &[(Opcode::Ping, true, b"Hello")],
            "890548656c6c6f",
            Said::Ping(b"Hello".into()),
        ),
        (
            &[(Opcode::Pong, true, b"Hello")],
            "8a0548656c6c6f",
            Said::Pong(b"Hello".into()),
        ),
        (
            &[(Opcode::Close, true, b"\x03\xe8")],
            "880203e8",
            Said::Close(Some(1000), String::new()),
        ),
    ];
    for (version, segmentation) in segmented(&RFC_FRAMES) {
        for (frames, octets, said) in &vectors {
            let mut out = Vec::new();
            for &(opcode, fin, payload) in *frames {
                encode_fragment(version, opcode, fin, payload, None, &mut out);
            }
            assert_eq!(out, hex(octets));
            let heard = listen(&mut client(version), &out, segmentation);
            assert_eq!(heard.said, std::slice::from_ref(said));
        }
    }
}

#[test]
fn each_form_of_the_length_begins_with_the_octets_seen() {
    let vectors = [
        (125, "81fd 37fa213d 5698"),
        (126, "81fe007e 37fa213d 5698"),
        (300, "81fe012c 37fa213d 5698"),
        (65_535, "81feffff 37fa213d 5698"),
        (65_536, "81ff0000000000010000 37fa213d 5698"),
    ];
    for (length, start) in vectors {
        let (payload, start) = (alphabet(length), hex(start));
        let said = [Said::Text(String::from_utf8(payload.clone()).unwrap())];
        for version in RFC_FRAMES {
            let mut out = Vec::new();
            encode_frame(version, Opcode::Text, &payload, Some(KEY), &mut out);
            assert_eq!(out.len(), start.len() - 2 + length);
            assert!(out.starts_with(&start));
            for segmentation in SEGMENTATIONS {
                let heard = listen(&mut server(version), &out, segmentation);
                assert_eq!(heard.said, said);
            }
        }
    }
}

/// The same for draft 06: what a client sends with [`KEY`], its frames, and what the server hears and answers.
fn client_vectors_06() -> Vec<(&'static str, &'static [Frame], Said, &'static str)> {
    vec![
        (
            "37fa213d b3ff69585b964e",
            &[(Opcode::Text, true, b"Hello")],
            text("Hello"),
            "",
        ),
        (
            "37fa213d 33f969585b 37fa213d b7f84d52",
            &[(Opcode::Text, false, b"Hel"), (Opcode::Continuation, true, b"lo")],
            text("Hello"),
            "",
        ),
        (
            "37fa213d b2f9213c35",
            &[(Opcode::Binary, true, &[0, 1, 2])],
            Said::Binary(vec![0, 1, 2]),
            "",
        ),
        (
            "37fa213d b5ff69585b964e",
            &[(Opcode::Ping, true, b"Hello")],
            Said::Ping(b"Hello".into()),
            "830548656c6c6f",
        ),
        (
            "37fa213d b4ff69585b964e",
            &[(Opcode::Pong, true, b"Hello")],
            Said::Pong(b"Hello".into()),
            "",
        ),
        (
            "37fa213d b6f822d5",
            &[(Opcode::Close, true, b"\x03\xe8")],
            Said::Close(Some(1000), String::new()),
            "810203e8",
        ),
        (
            "37fa213d b6ff22d5558344",
            &[(Opcode::Close, true, b"\x03\xe8bye")],
            Said::Close(Some(1000), "bye".into()),
            "810203e8",
        ),
        (
            "37fa213d b6fa",
            &[(Opcode::Close, true, b"")],
            Said::Close(None, String::new()),
            "810203e8",
        ),
        ("37fa213d b3fa", &[(Opcode::Text, true, b"")], text(""), ""),
    ]
}

//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.2
//= type=test
//# The client MUST mask all frames sent to the server.
//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.5.2
//= type=test
//# The message bodies of the Ping and Pong MUST be the same.
//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.5.3
//= type=test
//# The message bodies of the Ping and Pong MUST be the same.
#[test]
fn draft_06_masks_the_header_too_and_is_written_and_heard_as_period_clients_did() {
    for (octets, frames, said, answer) in client_vectors_06() {
        let octets = hex(octets);
        let mut out = Vec::new();
        for &(opcode, fin, payload) in frames {
            encode_fragment(Version::V6, opcode, fin, payload, Some(KEY), &mut out);
        }
        assert_eq!(out, octets);
        for segmentation in SEGMENTATIONS {
            let heard = listen(&mut server(Version::V6), &octets, segmentation);
            assert_eq!(heard.error, None);
            assert_eq!(heard.said, std::slice::from_ref(&said));
            assert_eq!(heard.out, hex(answer));
        }
    }
    let zero_key = hex("00000000 840548656c6c6f");
    for segmentation in SEGMENTATIONS {
        let heard = listen(&mut server(Version::V6), &zero_key, segmentation);
        assert_eq!(heard.said, [text("Hello")]);
    }
}

//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.1
//= type=test
//# In the absence of extensions negotiated during the opening handshake (Section 5), all reserved bits MUST be 0 and
//# reserved opcode values MUST NOT be used.
#[test]
fn draft_06_servers_write_plain_frames_with_its_opcodes() {
    let vectors: [(Frame, &str); 6] = [
        ((Opcode::Text, true, b"Hello"), "840548656c6c6f"),
        ((Opcode::Text, false, b"Hel"), "040348656c"),
        ((Opcode::Continuation, true, b"lo"), "80026c6f"),
        ((Opcode::Ping, true, b"Hello"), "820548656c6c6f"),
        ((Opcode::Pong, true, b"Hello"), "830548656c6c6f"),
        ((Opcode::Close, true, b"\x03\xe8"), "810203e8"),
    ];
    let mut stream = Vec::new();
    for ((opcode, fin, payload), octets) in vectors {
        let start = stream.len();
        encode_fragment(Version::V6, opcode, fin, payload, None, &mut stream);
        assert_eq!(stream[start..], hex(octets));
    }
    for segmentation in SEGMENTATIONS {
        let heard = listen(&mut client(Version::V6), &stream, segmentation);
        let said = [
            text("Hello"),
            text("Hello"),
            Said::Ping(b"Hello".into()),
            Said::Pong(b"Hello".into()),
            Said::Close(Some(1000), String::new()),
        ];
        assert_eq!(heard.said, said);
    }
}

#[test]
fn each_form_of_the_length_begins_with_the_octets_seen_in_draft_06() {
    let vectors = [
        (126, 134, "37fa213d b3842143 5698"),
        (300, 308, "37fa213d b3842011 5698"),
        (65_536, 65_550, "37fa213d b385213d37fa213c37fa 405f"),
    ];
    for (length, size, start) in vectors {
        let payload = alphabet(length);
        let mut out = Vec::new();
        encode_frame(Version::V6, Opcode::Text, &payload, Some(KEY), &mut out);
        assert_eq!(out.len(), size);
        assert!(out.starts_with(&hex(start)));
        let said = [Said::Text(String::from_utf8(payload).unwrap())];
        for segmentation in SEGMENTATIONS {
            let heard = listen(&mut server(Version::V6), &out, segmentation);
            assert_eq!(heard.said, said);
        }
    }
}
