//! What is said, and what has to be heard.

use crate::frame::{Frame, Opcode};

/// What the server has to say.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    /// Pongs with some of these bodies, in order; the last one among them.
    Pongs(Vec<Vec<u8>>),
    /// A Close with this code, and then the end.
    Close(u16),
    /// A Close with whatever code, and then the end.
    CloseAny,
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) versions: &'static [u8],
    pub(crate) said: Vec<Frame>,
    pub(crate) heard: Vec<Heard>,
}

/// The versions that the broker serves.
const ALL: &[u8] = &[6, 7, 8, 13];
const RFC: &[u8] = &[13];
const DRAFTS: &[u8] = &[6, 7, 8];
/// Those that mark a frame as masked.
const MARKED: &[u8] = &[7, 8, 13];

const PROTOCOL_ERROR: u16 = 1002;

fn case(name: impl Into<String>, versions: &'static [u8], said: Vec<Frame>, heard: Vec<Heard>) -> Case {
    Case {
        name: name.into(),
        versions,
        said,
        heard,
    }
}

fn text(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(Opcode::Text, payload)
}

fn binary(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(Opcode::Binary, payload)
}

fn more(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(Opcode::Continuation, payload)
}

fn ping(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(Opcode::Ping, payload)
}

fn pong(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(Opcode::Pong, payload)
}

fn close(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(Opcode::Close, payload)
}

fn close_with(code: u16, reason: impl AsRef<[u8]>) -> Frame {
    close([&code.to_be_bytes(), reason.as_ref()].concat())
}

fn letters(count: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(count).collect()
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 31 + i / 256) as u8).collect()
}

/// Fails with a protocol error, after `heard`.
fn broken(name: impl Into<String>, said: Vec<Frame>, mut heard: Vec<Heard>) -> Case {
    heard.push(Heard::Close(PROTOCOL_ERROR));
    case(name, ALL, said, heard)
}

pub(crate) fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [
        0, 1, 124, 125, 126, 127, 128, 129, 255, 256, 257, 4095, 4096, 16_383, 16_384, 16_385, 65_534, 65_535, 65_536,
        65_537, 131_072,
    ] {
        let (letters, bytes) = (letters(len), bytes(len));
        cases.push(case(
            format!("text of {len}"),
            ALL,
            vec![text(&*letters)],
            vec![Heard::Text(letters)],
        ));
        cases.push(case(
            format!("binary of {len}"),
            ALL,
            vec![binary(&*bytes)],
            vec![Heard::Binary(bytes)],
        ));
    }
    for (len, extended) in [(0, 2), (125, 2), (125, 8), (126, 8), (65_535, 8)] {
        let frame = Frame {
            extended: Some(extended),
            ..binary(bytes(len))
        };
        let heard = vec![Heard::Close(PROTOCOL_ERROR)];
        cases.push(case(
            format!("{len} written in {extended} bytes"),
            RFC,
            vec![frame],
            heard,
        ));
    }
    cases.push(case(
        "an unmasked frame",
        MARKED,
        vec![Frame {
            masked: false,
            ..text("x")
        }],
        vec![Heard::Close(PROTOCOL_ERROR)],
    ));
    let many: Vec<_> = (0..200).map(|i| text(format!("message {i}"))).collect();
    let heard = (0..200).map(|i| Heard::Text(format!("message {i}").into())).collect();
    cases.push(case("200 messages in a row", ALL, many, heard));
    cases
}

pub(crate) fn pings() -> Vec<Case> {
    let mut cases = Vec::new();
    for body in [
        vec![],
        b"hello".to_vec(),
        vec![0, 0xff, 0xfe, 0xfd, 0xfc, 0xfb],
        bytes(124),
        bytes(125),
    ] {
        let name = format!("a ping of {}", body.len());
        cases.push(case(name, ALL, vec![ping(&*body)], vec![Heard::Pongs(vec![body])]));
    }
    for len in [126, 127, 70_000] {
        cases.push(broken(format!("a ping of {len}"), vec![ping(bytes(len))], vec![]));
        cases.push(broken(format!("a pong of {len}"), vec![pong(bytes(len))], vec![]));
    }
    for body in [vec![], b"unsolicited".to_vec()] {
        let said = vec![pong(&*body), ping("solicited"), pong(body)];
        cases.push(case(
            "pongs nobody asked for",
            ALL,
            said,
            vec![Heard::Pongs(vec![b"solicited".to_vec()])],
        ));
    }
    let ten: Vec<Vec<u8>> = (0..10).map(|i| format!("ping {i}").into_bytes()).collect();
    let said = ten.iter().map(|body| ping(&**body)).collect();
    cases.push(case("ten pings", ALL, said, vec![Heard::Pongs(ten)]));
    let said = vec![text("a"), ping("p"), text("b")];
    let heard = vec![
        Heard::Text(b"a".into()),
        Heard::Pongs(vec![b"p".into()]),
        Heard::Text(b"b".into()),
    ];
    cases.push(case("a ping between messages", ALL, said, heard));
    cases
}

pub(crate) fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for rsv in 1..=7 {
        for frame in [
            text("x"),
            binary("x"),
            ping("x"),
            pong("x"),
            close_with(1000, ""),
            text("").unfinished(),
        ] {
            let name = format!("RSV {rsv:03b} on {:?}", frame.opcode);
            let frame = Frame { rsv, ..frame };
            cases.push(broken(&name, vec![frame.clone()], vec![]));
            let said = vec![text("before"), frame, text("after")];
            cases.push(broken(
                format!("{name} after a message"),
                said,
                vec![Heard::Text(b"before".into())],
            ));
        }
    }
    for number in 3..=15 {
        let versions: &[u8] = match number {
            // Opcodes that version 6 uses, and those that the others do.
            3..=5 => MARKED,
            8..=10 => &[6],
            6..=15 => ALL,
            _ => unreachable!("3 to 15"),
        };
        for payload in [&b""[..], b"reserved"] {
            let frame = Frame::new(Opcode::Reserved(number), payload);
            let name = format!("opcode {number} of {} bytes", payload.len());
            let heard = vec![Heard::Close(PROTOCOL_ERROR)];
            cases.push(case(&name, versions, vec![frame.clone(), ping("")], heard));
            let said = vec![text("before"), frame, ping("")];
            let heard = vec![Heard::Text(b"before".into()), Heard::Close(PROTOCOL_ERROR)];
            cases.push(case(format!("{name} after a message"), versions, said, heard));
        }
    }
    cases
}

pub(crate) fn fragments() -> Vec<Case> {
    let whole = |payload: &str| vec![Heard::Text(payload.into())];
    let between = || {
        vec![
            Heard::Pongs(vec![b"between".into()]),
            Heard::Text(b"fragment1fragment2".into()),
        ]
    };
    let first = || text("fragment1").unfinished();
    let mut cases = vec![
        broken("a fragmented ping", vec![ping("a").unfinished(), more("b")], vec![]),
        broken("a fragmented pong", vec![pong("a").unfinished(), more("b")], vec![]),
        broken("a fragmented close", vec![close_with(1000, "").unfinished()], vec![]),
        case(
            "two fragments",
            ALL,
            vec![first(), more("fragment2")],
            whole("fragment1fragment2"),
        ),
        case(
            "a ping between",
            ALL,
            vec![first(), ping("between"), more("fragment2")],
            between(),
        ),
        case(
            "a pong between",
            ALL,
            vec![first(), pong("between"), more("fragment2")],
            whole("fragment1fragment2"),
        ),
        case(
            "pings between many fragments",
            ALL,
            vec![
                text("f1").unfinished(),
                more("f2").unfinished(),
                ping("p1"),
                more("f3").unfinished(),
                more("f4").unfinished(),
                ping("p2"),
                more("f5"),
            ],
            vec![
                Heard::Pongs(vec![b"p1".into(), b"p2".into()]),
                Heard::Text(b"f1f2f3f4f5".into()),
            ],
        ),
        case(
            "empty fragments",
            ALL,
            vec![text("").unfinished(), more("").unfinished(), more("")],
            vec![Heard::Text(vec![])],
        ),
        case(
            "an empty first and last fragment",
            ALL,
            vec![text("").unfinished(), more("middle").unfinished(), more("")],
            whole("middle"),
        ),
        broken("a last continuation of nothing", vec![more("x"), text("y")], vec![]),
        broken(
            "a continuation of nothing",
            vec![more("x").unfinished(), text("y")],
            vec![],
        ),
        broken(
            "a continuation after a whole message",
            vec![text("whole"), more("x")],
            vec![Heard::Text(b"whole".into())],
        ),
        broken("text within text", vec![first(), text("y")], vec![]),
        broken("binary within text", vec![first(), binary("y")], vec![]),
        broken(
            "text within binary",
            vec![binary("x").unfinished(), text("y").unfinished()],
            vec![],
        ),
        case(
            "a close between fragments",
            ALL,
            vec![first(), close_with(1000, "bye")],
            vec![Heard::Close(1000)],
        ),
        case(
            "two fragmented messages in a row",
            ALL,
            vec![text("a").unfinished(), more("b"), binary("c").unfinished(), more("d")],
            vec![Heard::Text(b"ab".into()), Heard::Binary(b"cd".into())],
        ),
    ];
    let payload = letters(300);
    for size in [1, 2, 3, 7, 64, 125, 126, 127, 299] {
        let mut said: Vec<_> = payload.chunks(size).map(|chunk| more(chunk).unfinished()).collect();
        said[0].opcode = Opcode::Binary;
        said.last_mut().expect("there are some").fin = true;
        cases.push(case(
            format!("300 bytes by {size}"),
            ALL,
            said,
            vec![Heard::Binary(payload.clone())],
        ));
    }
    cases
}

/// Sequences that are valid, from the edges of every range.
const VALID: &[&str] = &[
    "κόσμε",
    "\0",
    "\u{7f}",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10000}",
    "\u{10ffff}",
    "\u{1fffe}",
    "\u{10fffe}",
    "Hello-µ@ßöäüàá-UTF-8!!",
    "日本語 текст ελληνικά 🦀🌊",
];

/// Sequences that are not, by what is wrong with them.
const INVALID: &[(&str, &[u8])] = &[
    ("a lone continuation", b"\x80"),
    ("the last continuation", b"\xbf"),
    ("several continuations", b"\x80\xbf\x80\xbf"),
    ("a lone start of two", b"\xc2 "),
    ("a lone start of three", b"\xe0 "),
    ("a lone start of four", b"\xf0 "),
    ("a start of five", b"\xf8\x88\x80\x80\x80"),
    ("a start of six", b"\xfc\x84\x80\x80\x80\x80"),
    ("two of three", b"\xe2\x82"),
    ("three of four", b"\xf0\x9f\xa6"),
    ("FE", b"\xfe"),
    ("FF", b"\xff"),
    ("an overlong slash of two", b"\xc0\xaf"),
    ("an overlong slash of three", b"\xe0\x80\xaf"),
    ("an overlong slash of four", b"\xf0\x80\x80\xaf"),
    ("the largest overlong of two", b"\xc1\xbf"),
    ("the largest overlong of three", b"\xe0\x9f\xbf"),
    ("the largest overlong of four", b"\xf0\x8f\xbf\xbf"),
    ("an overlong NUL", b"\xc0\x80"),
    ("the first surrogate", b"\xed\xa0\x80"),
    ("the last surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\x81\xed\xb0\x80"),
    ("beyond 10FFFF", b"\xf4\x90\x80\x80"),
    ("a start beyond F4", b"\xf5\x80\x80\x80"),
];

pub(crate) fn utf8() -> Vec<Case> {
    let mut cases = Vec::new();
    for valid in VALID {
        let heard = || vec![Heard::Text(valid.as_bytes().into())];
        cases.push(case(format!("{valid:?}"), ALL, vec![text(*valid)], heard()));
        for at in 1..valid.len() {
            let (one, two) = valid.as_bytes().split_at(at);
            let said = vec![text(one).unfinished(), more(two)];
            cases.push(case(format!("{valid:?} fragmented at {at}"), ALL, said, heard()));
        }
    }
    for (what, invalid) in INVALID {
        for (versions, code) in [(&[8u8, 13][..], 1007), (&[6, 7][..], 1003)] {
            let heard = || vec![Heard::Close(code)];
            let around = [b"valid ", *invalid, b" valid"].concat();
            cases.push(case(*what, versions, vec![text(*invalid)], heard()));
            cases.push(case(
                format!("{what}, amid text"),
                versions,
                vec![text(&*around)],
                heard(),
            ));
            for at in 1..around.len() {
                let (one, two) = around.split_at(at);
                let said = vec![text(one).unfinished(), more(two)];
                cases.push(case(
                    format!("{what}, amid text fragmented at {at}"),
                    versions,
                    said,
                    heard(),
                ));
            }
        }
        // Bytes are bytes.
        let heard = vec![Heard::Binary(invalid.to_vec())];
        cases.push(case(format!("{what}, binary"), ALL, vec![binary(*invalid)], heard));
    }
    // At once, though the message goes on: nothing else will come.
    let said = vec![text(&b"valid\xff"[..]).unfinished()];
    cases.push(case(
        "an unfinished message that is bad already",
        &[8, 13],
        said,
        vec![Heard::Close(1007)],
    ));
    cases
}

pub(crate) fn closing() -> Vec<Case> {
    let mut cases = vec![
        case("a close without a code", ALL, vec![close("")], vec![Heard::Close(1000)]),
        case(
            "text before a close",
            ALL,
            vec![text("x"), close_with(1000, "")],
            vec![Heard::Text(b"x".into()), Heard::Close(1000)],
        ),
        case(
            "text after a close",
            ALL,
            vec![close_with(1000, ""), text("x")],
            vec![Heard::Close(1000)],
        ),
        case(
            "a ping after a close",
            ALL,
            vec![close_with(1000, ""), ping("x")],
            vec![Heard::Close(1000)],
        ),
        case(
            "two closes",
            ALL,
            vec![close_with(1000, ""), close_with(1001, "")],
            vec![Heard::Close(1000)],
        ),
        case(
            "a reason",
            ALL,
            vec![close_with(1000, "goodbye")],
            vec![Heard::Close(1000)],
        ),
        case(
            "the longest reason",
            ALL,
            vec![close_with(1000, letters(123))],
            vec![Heard::Close(1000)],
        ),
        broken("a reason too long", vec![close_with(1000, letters(124))], vec![]),
        broken("half a code", vec![close("x")], vec![]),
        case(
            "a reason that is not UTF-8",
            &[8, 13],
            vec![close_with(1000, b"\xce\xba\xff")],
            vec![Heard::Close(1007)],
        ),
        case(
            "junk after a close",
            ALL,
            vec![close_with(1000, ""), binary(bytes(100_000))],
            vec![Heard::Close(1000)],
        ),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
    ] {
        cases.push(case(
            format!("code {code}"),
            RFC,
            vec![close_with(code, "")],
            vec![Heard::Close(code)],
        ));
        cases.push(case(
            format!("code {code}"),
            DRAFTS,
            vec![close_with(code, "why")],
            vec![Heard::CloseAny],
        ));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 62_964, 65_535,
    ] {
        cases.push(case(
            format!("code {code}"),
            RFC,
            vec![close_with(code, "")],
            vec![Heard::Close(PROTOCOL_ERROR)],
        ));
        // Period clients send garbage here, and end in order all the same.
        cases.push(case(
            format!("code {code}"),
            DRAFTS,
            vec![close_with(code, "")],
            vec![Heard::CloseAny],
        ));
    }
    cases
}

pub(crate) fn large() -> Vec<Case> {
    let mut cases = Vec::new();
    for shift in [18, 20, 22, 24] {
        let payload = bytes(1 << shift);
        let name = format!("binary of {} KiB", payload.len() >> 10);
        let heard = || vec![Heard::Binary(payload.clone())];
        cases.push(case(&name, ALL, vec![binary(&*payload)], heard()));
        let (first, rest) = (64.max(payload.len() >> 16), 4096);
        for size in [first, rest, payload.len() / 4] {
            let mut said: Vec<_> = payload.chunks(size).map(|chunk| more(chunk).unfinished()).collect();
            said[0].opcode = Opcode::Binary;
            said.last_mut().expect("there are some").fin = true;
            cases.push(case(format!("{name} in fragments of {size}"), RFC, said, heard()));
        }
    }
    let text_payload = "日本語🌊".repeat(1 << 15).into_bytes();
    cases.push(case(
        "text of many scripts",
        ALL,
        vec![text(&*text_payload)],
        vec![Heard::Text(text_payload)],
    ));
    let too_large = || vec![binary(vec![0; (16 << 20) + 1])];
    cases.push(case("a byte too many", RFC, too_large(), vec![Heard::Close(1009)]));
    cases.push(case("a byte too many", DRAFTS, too_large(), vec![Heard::Close(1004)]));
    cases
}
