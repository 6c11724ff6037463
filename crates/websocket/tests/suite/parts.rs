//! Long messages in parts, as they come.

use tidecast_websocket::{
    Connection, Deflater, Error, Event, Extension, InflatePool, Input, Limits, Opcode, Params, Version,
    encode_compressed_header,
};

use crate::support::{
    KEY, NOW, SEGMENTATIONS, Said, Segmentation, everywhere, joined, listen, masked, segmented, server, text,
};

fn in_parts(version: Version) -> Connection {
    server(version).with_parts()
}

#[test]
fn a_message_in_one_frame_in_one_read_is_whole() {
    for version in Version::ALL {
        let octets = masked(version, Opcode::Text, true, b"whole");
        let heard = listen(&mut in_parts(version), &octets, Segmentation::Whole);
        assert_eq!(heard.said, [text("whole")]);
    }
}

#[test]
fn the_parts_of_a_message_are_what_came_of_it_in_each_read() {
    for version in Version::ALL {
        let octets = masked(version, Opcode::Binary, true, &[7; 1000]);
        let mut server = in_parts(version);
        let mut said = Vec::new();
        for read in [&octets[..8 + 100], &octets[8 + 100..8 + 101], &octets[8 + 101..]] {
            said.extend(listen(&mut server, read, Segmentation::Whole).said);
        }
        let part = |len, last| Said::BinaryPart(vec![7; len], last);
        assert_eq!(said, [part(100, false), part(1, false), part(899, true)]);
    }
}

#[test]
fn an_empty_fragment_is_no_part_unless_it_is_the_last() {
    let octets = [
        masked(Version::V13, Opcode::Binary, false, b""),
        masked(Version::V13, Opcode::Continuation, false, b"some"),
        masked(Version::V13, Opcode::Continuation, false, b""),
        masked(Version::V13, Opcode::Continuation, true, b""),
    ];
    let heard = listen(&mut in_parts(Version::V13), &octets.concat(), Segmentation::Whole);
    let [some, last] = [(&b"some"[..], false), (b"", true)].map(|(part, last)| Said::BinaryPart(part.into(), last));
    assert_eq!(heard.said, [some, last]);
}

//= RFC 6455#section-5.4
//= type=test
//# Message fragments MUST be delivered to the recipient in the order sent by the sender.
//= RFC 6455#section-5.4
//= type=test
//# An endpoint MUST be capable of handling control frames in the middle of a fragmented message.
#[test]
fn no_character_is_cut_and_none_is_lost() {
    let said = "Grüße, 世界, 🌊! ".repeat(3);
    let is_ping = |said: &Said| *said == Said::Ping(b"?".into());
    for (version, segmentation) in everywhere() {
        for fragment in [1, 2, 3, 5, 7, 64] {
            let mut octets = Vec::new();
            let chunks = said.as_bytes().chunks(fragment);
            let count = chunks.len();
            for (i, chunk) in chunks.enumerate() {
                let opcode = if i == 0 { Opcode::Text } else { Opcode::Continuation };
                octets.extend(masked(version, opcode, i + 1 == count, chunk));
                octets.extend(masked(version, Opcode::Ping, true, b"?"));
            }
            let heard = listen(&mut in_parts(version), &octets, segmentation);
            assert_eq!(heard.error, None);
            let mut joined = joined(heard.said);
            joined.retain(|said| !is_ping(said));
            assert_eq!(joined, [text(&said)], "{segmentation:?} by {fragment}");
        }
    }
}

//= RFC 6455#section-8.1
//= type=test
//# When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in fact, a valid
//# UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_.
#[test]
fn text_that_is_not_utf_8_is_refused_where_it_comes() {
    let sequences: [&[u8]; 4] = [b"\xed\xa0\x80", b"\xff", b"\xc3x", b"\xf4\x90\x80\x80"];
    for segmentation in SEGMENTATIONS {
        for bad in sequences {
            let octets = [
                masked(Version::V13, Opcode::Text, false, b"good"),
                masked(Version::V13, Opcode::Continuation, false, bad),
            ];
            let heard = listen(&mut in_parts(Version::V13), &octets.concat(), segmentation);
            assert_eq!(heard.error, Some(Error::InvalidText), "{bad:x?}");
            let mut good = String::new();
            for said in heard.said {
                match said {
                    Said::TextPart(part, false) => good += &part,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(good, "good");
        }
        let octets = masked(Version::V13, Opcode::Text, true, b"broken off \xe4\xb8");
        let heard = listen(&mut in_parts(Version::V13), &octets, segmentation);
        assert_eq!(heard.error, Some(Error::InvalidText));
    }
}

#[test]
fn what_is_not_utf_8_is_replaced_in_parts_as_in_the_whole() {
    let wrong = b"gr\xfc\xdfe \xe4\xb8\x96 \xe4\xb8 \xf0\x9f\x8c";
    for (version, segmentation) in everywhere() {
        let octets = [
            masked(version, Opcode::Text, false, &wrong[..8]),
            masked(version, Opcode::Continuation, true, &wrong[8..]),
        ];
        let heard = listen(
            &mut in_parts(version).with_replaced_text(),
            &octets.concat(),
            segmentation,
        );
        assert_eq!(joined(heard.said), [text(&String::from_utf8_lossy(wrong))]);
    }
}

#[test]
fn a_part_is_borrowed_from_the_input_where_it_lies_there() {
    let mut octets = [
        masked(Version::V13, Opcode::Text, false, "Grüße".as_bytes()),
        masked(Version::V13, Opcode::Continuation, false, b" von Bord"),
    ]
    .concat();
    let range = octets.as_ptr_range();
    let mut server = in_parts(Version::V13);
    let mut input = Input::new(&mut octets);
    for expected in ["Grüße", " von Bord"] {
        let Some(Event::TextPart { text, last: false }) = server.poll(&mut input, NOW, &mut Vec::new()).unwrap() else {
            panic!("no part");
        };
        assert_eq!(text, expected);
        assert!(range.contains(&text.as_ptr()), "the text was copied");
    }
}

//= RFC 6455#section-10.4
//= type=test
//# Implementations that have implementation- and/or platform-specific limitations regarding the frame size or total
//# message size after reassembly from multiple frames MUST protect themselves against exceeding those limits.
#[test]
fn the_limits_of_a_message_hold_for_all_its_parts() {
    let limits = Limits {
        max_message: 10,
        max_fragments: 3,
        ..Limits::default()
    };
    let server = || Connection::server(Version::V13, limits, NOW).with_parts();
    let fragments = |payloads: &[&[u8]]| {
        let opcodes = std::iter::once(Opcode::Binary).chain(std::iter::repeat(Opcode::Continuation));
        let frames = opcodes
            .zip(payloads)
            .flat_map(|(opcode, payload)| masked(Version::V13, opcode, false, payload));
        frames.collect::<Vec<u8>>()
    };
    for segmentation in SEGMENTATIONS {
        let long = listen(&mut server(), &fragments(&[b"12345678", b"9ab"]), segmentation);
        assert_eq!(long.error, Some(Error::MessageTooBig { limit: 10 }));
        let many = listen(&mut server(), &fragments(&[b"1", b"2", b"3", b"4"]), segmentation);
        assert_eq!(many.error, Some(Error::TooManyFragments { limit: 3 }));
    }
}

#[test]
fn sixty_four_mebibytes_of_zeros_come_in_parts_of_sixty_four_kibibytes() {
    const SIZE: usize = 64 << 20;
    let mut deflated = Vec::new();
    Deflater::default().message(&vec![0; SIZE], 15, &mut deflated);
    let limits = Limits {
        max_message: u32::MAX,
        ..Limits::default()
    };
    for (takeover, split) in [(true, deflated.len()), (false, 1000)] {
        let extension = Extension::PerMessageDeflate(Params {
            client_no_context_takeover: !takeover,
            ..Params::default()
        });
        let mut server = Connection::server(Version::V13, limits, NOW)
            .with_extension(Some(extension))
            .with_parts();
        let mut pool = InflatePool::new(1, 1);
        let mut came = 0;
        // Twice, for nothing of the first may be left to the second.
        for _ in 0..2 {
            let mut ended = false;
            let header = encode_compressed_header(Version::V13, Opcode::Binary, true, deflated.len(), Some([0; 4]));
            for read in [&header[..], &deflated[..split], &deflated[split..]] {
                let mut read = read.to_vec();
                let mut input = Input::new(&mut read);
                while let Some(event) = server.poll_pooled(&mut input, NOW, &mut pool, &mut Vec::new()).unwrap() {
                    let Event::BinaryPart { payload, last } = event else {
                        panic!("{event:?}");
                    };
                    assert!(payload.len() <= 64 << 10 && !ended);
                    came += payload.len();
                    ended = last;
                }
                assert!(input.is_empty());
            }
            assert!(ended);
        }
        assert_eq!(came, 2 * SIZE);
    }
}

//= RFC 7692#section-6.2
//= type=test
//# An endpoint MUST use the following algorithm to receive a message in the form of a compressed message.
#[test]
fn compressed_parts_are_the_message_in_every_segmentation() {
    let said = "die Flut steigt, 世界 🌊, die Flut fällt; ".repeat(5000);
    let mut deflated = Vec::new();
    assert!(Deflater::default().message(said.as_bytes(), 15, &mut deflated));
    let (first, second) = deflated.split_at(deflated.len() / 3);
    for (version, segmentation) in segmented(&[Version::V8, Version::V13]) {
        let mut octets = encode_compressed_header(version, Opcode::Text, false, first.len(), Some(KEY)).to_vec();
        let start = octets.len();
        octets.extend(first);
        tidecast_simd::unmask(&mut octets[start..], KEY);
        octets.extend(masked(version, Opcode::Ping, true, b"between"));
        octets.extend(masked(version, Opcode::Continuation, true, second));
        let mut server = in_parts(version).with_extension(Some(Extension::PerMessageDeflate(Params::default())));
        let heard = listen(&mut server, &octets, segmentation);
        assert_eq!(heard.error, None);
        assert!(heard.said.len() > 2, "it came in parts");
        assert!(joined(heard.said) == [Said::Ping(b"between".into()), text(&said)]);
    }
}
