//! Any messages, in any version, with any extension, fragmented and cut at will, there and back: the same messages.

use proptest::prelude::*;
use tidecast_websocket::{
    Connection, Deflater, Extension, Opcode, Params, Version, encode_compressed_header, encode_fragment, stored_blocks,
};

use crate::support::{KEY, Said, Segmentation, client, joined, listen, server};

/// A message, the sizes of the fragments it goes out in, and a Ping to stand between the first two.
#[derive(Debug, Clone)]
struct Sent {
    said: Said,
    fragments: Vec<usize>,
    ping: Option<Vec<u8>>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let said = prop_oneof![
        ".{0,200}".prop_map(Said::Text),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Said::Binary),
        (0..70_000_usize, any::<u8>()).prop_map(|(len, octet)| Said::Binary(vec![octet; len])),
    ];
    let fragments = proptest::collection::vec(0..150_usize, 0..6);
    let ping = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..=125));
    (said, fragments, ping).prop_map(|(said, fragments, ping)| Sent { said, fragments, ping })
}

impl Sent {
    fn message(&self) -> (Opcode, &[u8]) {
        match &self.said {
            Said::Text(text) => (Opcode::Text, text.as_bytes()),
            Said::Binary(octets) => (Opcode::Binary, octets.as_slice()),
            other => panic!("{other:?} is no message"),
        }
    }

    fn encode(&self, version: Version, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
        let (opcode, payload) = self.message();
        self.encode_as(version, opcode, payload, mask, out);
    }

    /// Compressed, if that makes the message smaller.
    fn encode_compressed(
        &self,
        version: Version,
        deflater: &mut Deflater,
        window_bits: u8,
        mask: Option<[u8; 4]>,
        out: &mut Vec<u8>,
    ) {
        let (opcode, payload) = self.message();
        let mut deflated = Vec::new();
        if !deflater.message(payload, window_bits, &mut deflated) {
            return self.encode_as(version, opcode, payload, mask, out);
        }
        let start = out.len();
        self.encode_as(version, opcode, &deflated, mask, out);
        // Only the first header differs, and that by a bit.
        let first = self
            .fragments
            .first()
            .map_or(deflated.len(), |&size| size.min(deflated.len()));
        let header = encode_compressed_header(version, opcode, self.fragments.is_empty(), first, mask);
        out[start..start + header.len()].copy_from_slice(&header);
    }

    fn encode_as(
        &self,
        version: Version,
        mut opcode: Opcode,
        mut rest: &[u8],
        mask: Option<[u8; 4]>,
        out: &mut Vec<u8>,
    ) {
        for (i, &size) in self.fragments.iter().enumerate() {
            let (fragment, after) = rest.split_at(size.min(rest.len()));
            encode_fragment(version, opcode, false, fragment, mask, out);
            if let (0, Some(ping)) = (i, &self.ping) {
                encode_fragment(version, Opcode::Ping, true, ping, mask, out);
            }
            (opcode, rest) = (Opcode::Continuation, after);
        }
        encode_fragment(version, opcode, true, rest, mask, out);
    }

    /// What the other side should hear.
    fn heard(&self) -> Vec<Said> {
        let ping = self.ping.clone().filter(|_| !self.fragments.is_empty());
        ping.map(Said::Ping).into_iter().chain([self.said.clone()]).collect()
    }
}

fn version() -> impl Strategy<Value = Version> {
    proptest::sample::select(Version::ALL.as_slice())
}

fn segmentation() -> impl Strategy<Value = Segmentation> {
    prop_oneof![
        Just(Segmentation::Whole),
        Just(Segmentation::ByOctet),
        any::<u64>().prop_map(Segmentation::Random),
    ]
}

fn extension() -> impl Strategy<Value = Option<Extension>> {
    let bits = || proptest::option::of(8..=15_u8);
    let params =
        (any::<bool>(), any::<bool>(), bits(), bits()).prop_map(|(server, client, server_bits, client_bits)| Params {
            server_no_context_takeover: server,
            client_no_context_takeover: client,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
        });
    prop_oneof![
        1 => Just(None),
        2 => Just(Some(Extension::DeflateStream)),
        4 => params.prop_map(|params| Some(Extension::PerMessageDeflate(params))),
    ]
}

/// How a side that has an extension sends.
#[derive(Debug, Clone, Copy)]
enum Sender {
    /// Encoded without a connection, fragmented, in pieces of a stream that end anywhere.
    ByHand,
    /// [`Connection::send_deflated`].
    Shared,
    /// [`Connection::send`], with a window of its own where it may have one.
    Own,
}

/// What `speaker` sends to say `messages`, and what should be heard.
fn speak(
    speaker: &mut Connection,
    sender: Sender,
    messages: &[Sent],
    mask: Option<[u8; 4]>,
    level: u8,
) -> (Vec<u8>, Vec<Said>) {
    let (version, extension) = (speaker.version(), speaker.extension());
    let (mut out, mut said) = (Vec::new(), Vec::new());
    let mut deflater = Deflater::new(level, 20);
    if matches!(sender, Sender::Own) {
        speaker.open_window(level, 20);
    }
    for (i, message) in messages.iter().enumerate() {
        let (opcode, payload) = message.message();
        match (sender, extension) {
            (Sender::ByHand, None) => message.encode(version, mask, &mut out),
            (Sender::ByHand, Some(Extension::DeflateStream)) => {
                let mut frames = Vec::new();
                message.encode(version, mask, &mut frames);
                let (start, end) = frames.split_at(frames.len() / (i + 1));
                deflater.block(start, 15, &mut out);
                stored_blocks(end, &mut out);
            }
            (Sender::ByHand, Some(Extension::PerMessageDeflate(params))) => {
                let bits = if mask.is_some() {
                    params.client_window_bits()
                } else {
                    params.server_window_bits()
                };
                message.encode_compressed(version, &mut deflater, bits, mask, &mut out);
            }
            (Sender::Shared, _) => assert!(speaker.send_deflated(opcode, payload, &mut deflater, &mut out)),
            (Sender::Own, _) => assert!(speaker.send(opcode, payload, &mut out)),
        }
        match sender {
            Sender::ByHand => said.extend(message.heard()),
            Sender::Shared | Sender::Own => said.push(message.said.clone()),
        }
    }
    (out, said)
}

proptest! {
    #[test]
    fn what_is_sent_with_an_extension_is_what_is_heard(
        version in version(),
        extension in extension(),
        messages in proptest::collection::vec(sent(), 0..6),
        sender in proptest::sample::select(vec![Sender::ByHand, Sender::Shared, Sender::Own]),
        level in 1..=9_u8,
        segmentation in segmentation(),
    ) {
        let ends = || [client(version), server(version)].map(|end| end.with_extension(extension));
        for (speaker, listener, mask) in [(0, 1, Some(KEY)), (1, 0, None)] {
            let (octets, expected) = speak(&mut ends()[speaker], sender, &messages, mask, level);
            let heard = listen(&mut ends()[listener], &octets, segmentation);
            prop_assert_eq!(heard.error, None);
            prop_assert!(heard.said == expected);
            let in_parts = listen(&mut ends().map(Connection::with_parts)[listener], &octets, segmentation);
            prop_assert_eq!(in_parts.error, None);
            prop_assert!(joined(in_parts.said) == expected);
        }
    }

    #[test]
    fn what_is_said_to_garbage_with_an_extension_does_not_depend_on_how_it_is_cut(
        version in version(),
        extension in extension(),
        start in proptest::sample::select(vec![vec![], vec![0xc1, 0xfe, 0x01, 0x00, 0, 0, 0, 0], vec![0x41, 0x85, 0, 0, 0, 0]]),
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        seed in any::<u64>(),
    ) {
        let octets = [start, garbage].concat();
        let server = || server(version).with_extension(extension);
        let whole = listen(&mut server(), &octets, Segmentation::Whole);
        for segmentation in [Segmentation::ByOctet, Segmentation::Random(seed)] {
            let cut = listen(&mut server(), &octets, segmentation);
            prop_assert_eq!(&cut.said, &whole.said);
            prop_assert_eq!(cut.error, whole.error);
        }
    }

    #[test]
    fn what_is_sent_is_what_is_heard(
        version in version(),
        messages in proptest::collection::vec(sent(), 0..6),
        segmentation in segmentation(),
    ) {
        let expected: Vec<Said> = messages.iter().flat_map(Sent::heard).collect();
        let ends: [(_, &dyn Fn() -> Connection); 2] = [(Some(KEY), &|| server(version)), (None, &|| client(version))];
        for (mask, fresh) in ends {
            let mut octets = Vec::new();
            for message in &messages {
                message.encode(version, mask, &mut octets);
            }
            let heard = listen(&mut fresh(), &octets, segmentation);
            prop_assert_eq!(heard.error, None);
            prop_assert_eq!(&heard.said, &expected);
            let in_parts = listen(&mut fresh().with_parts(), &octets, segmentation);
            prop_assert_eq!(in_parts.error, None);
            prop_assert_eq!(&joined(in_parts.said), &expected);
        }
    }

    #[test]
    fn what_is_said_to_garbage_does_not_depend_on_how_it_is_cut(
        version in version(),
        garbage in proptest::collection::vec(any::<u8>(), 0..64),
        start in proptest::sample::select(vec![0x81_u8, 0x01, 0x82, 0x02, 0x88, 0x89]),
        seed in any::<u64>(),
    ) {
        let octets = [&[start], garbage.as_slice()].concat();
        let whole = listen(&mut server(version), &octets, Segmentation::Whole);
        for segmentation in [Segmentation::ByOctet, Segmentation::Random(seed)] {
            let cut = listen(&mut server(version), &octets, segmentation);
            prop_assert_eq!(&cut.said, &whole.said);
            // Whole input may end inside a frame whose text is already wrong either way: errors are the same too.
            prop_assert_eq!(cut.error, whole.error);
        }
    }
}
