//! Any messages, in any version, fragmented and cut at will, there and back: the same messages.

use proptest::prelude::*;
use tidecast_websocket::{Opcode, Version, encode_fragment};

use crate::support::{KEY, Said, Segmentation, client, listen, server};

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
    fn encode(&self, version: Version, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
        let (mut opcode, mut rest) = match &self.said {
            Said::Text(text) => (Opcode::Text, text.as_bytes()),
            Said::Binary(octets) => (Opcode::Binary, octets.as_slice()),
            other => panic!("{other:?} is no message"),
        };
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

proptest! {
    #[test]
    fn what_is_sent_is_what_is_heard(
        version in version(),
        messages in proptest::collection::vec(sent(), 0..6),
        segmentation in segmentation(),
    ) {
        let expected: Vec<Said> = messages.iter().flat_map(Sent::heard).collect();
        for (mask, mut listener) in [(Some(KEY), server(version)), (None, client(version))] {
            let mut octets = Vec::new();
            for message in &messages {
                message.encode(version, mask, &mut octets);
            }
            let heard = listen(&mut listener, &octets, segmentation);
            prop_assert_eq!(heard.error, None);
            prop_assert_eq!(&heard.said, &expected);
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
