//! Frames of which every octet is known: from the specifications, and from peers of the drafts' time.

use tidecast_websocket::{Opcode, Version, encode_fragment, encode_frame};

use crate::support::{KEY, SEGMENTATIONS, Said, client, everywhere, hex, listen, server, text};

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

#[test]
fn a_server_hears_what_clients_of_every_version_said() {
    for (version, segmentation) in everywhere() {
        for (octets, said, answer) in client_vectors() {
            let heard = listen(&mut server(version), &hex(octets), segmentation);
            assert_eq!(heard.error, None, "{version} {segmentation:?} {octets}");
            assert_eq!(heard.said, said, "{version} {segmentation:?} {octets}");
            assert_eq!(heard.out, hex(answer), "{version} {segmentation:?} {octets}");
        }
    }
}

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
    for version in Version::ALL {
        for (opcode, fin, payload, octets) in frames {
            let mut out = Vec::new();
            encode_fragment(version, opcode, fin, payload, Some(KEY), &mut out);
            assert_eq!(out, hex(octets));
        }
    }
}

/// Opcode, FIN and payload.
type Frame = (Opcode, bool, &'static [u8]);

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
    for (version, segmentation) in everywhere() {
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
        for version in Version::ALL {
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
