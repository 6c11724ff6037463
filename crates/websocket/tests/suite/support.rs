//! A small harness: octets in pieces in, what was said out.

use tidecast_websocket::{
    Connection, Error, Event, InflatePool, Input, Limits, Millis, Opcode, Version, encode_fragment,
};

/// The masking key of the specifications' examples.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A moment like any other.
pub(crate) const NOW: Millis = Millis(1_000_000);

/// An event that owns what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Text(String),
    Binary(Vec<u8>),
    TextPart(String, bool),
    BinaryPart(Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Said {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Said::Text(text.into()),
            Event::Binary(octets) => Said::Binary(octets.into()),
            Event::TextPart { text, last } => Said::TextPart(text.into(), last),
            Event::BinaryPart { payload, last } => Said::BinaryPart(payload.into(), last),
            Event::Ping(body) => Said::Ping(body.into()),
            Event::Pong(body) => Said::Pong(body.into()),
            Event::Close { code, reason } => Said::Close(code, reason.into()),
        }
    }
}

pub(crate) fn text(text: &str) -> Said {
    Said::Text(text.into())
}

/// How a stream of octets is cut into reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Segmentation {
    Whole,
    ByOctet,
    Random(u64),
}

/// The ways every table is run through.
pub(crate) const SEGMENTATIONS: [Segmentation; 6] = [
    Segmentation::Whole,
    Segmentation::ByOctet,
    Segmentation::Random(1),
    Segmentation::Random(2),
    Segmentation::Random(3),
    Segmentation::Random(4),
];

impl Segmentation {
    /// Cuts `octets` into reads.
    pub(crate) fn cut(self, octets: &[u8]) -> Vec<Vec<u8>> {
        let mut state = match self {
            Segmentation::Whole => return vec![octets.to_vec()],
            Segmentation::ByOctet => return octets.chunks(1).map(<[u8]>::to_vec).collect(),
            Segmentation::Random(seed) => seed,
        };
        let mut reads = Vec::new();
        let mut rest = octets;
        while !rest.is_empty() {
            // A linear congruence is random enough to cut with; small and large pieces are equally likely.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let magnitude = 1 << (state >> 60);
            let (read, after) = rest.split_at(rest.len().min(1 + (state >> 32) as usize % magnitude));
            reads.push(read.to_vec());
            rest = after;
        }
        reads
    }
}

/// The versions whose frames look like RFC 6455's.
pub(crate) const RFC_FRAMES: [Version; 3] = [Version::V7, Version::V8, Version::V13];

/// `versions` with every segmentation.
pub(crate) fn segmented(versions: &[Version]) -> impl Iterator<Item = (Version, Segmentation)> {
    versions
        .iter()
        .flat_map(|&version| SEGMENTATIONS.map(|segmentation| (version, segmentation)))
}

/// Every version with every segmentation.
pub(crate) fn everywhere() -> impl Iterator<Item = (Version, Segmentation)> {
    segmented(&Version::ALL)
}

pub(crate) fn server(version: Version) -> Connection {
    Connection::server(version, Limits::default(), NOW)
}

pub(crate) fn client(version: Version) -> Connection {
    Connection::client(version, Limits::default(), || KEY, NOW)
}

/// What came of feeding octets to a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub said: Vec<Said>,
    pub error: Option<Error>,
    /// What the connection sent.
    pub out: Vec<u8>,
}

/// Feeds `octets` and listens, until the end or the first error, which is answered.
pub(crate) fn listen(connection: &mut Connection, octets: &[u8], segmentation: Segmentation) -> Heard {
    listen_pooled(connection, octets, segmentation, &mut InflatePool::new(1, 1))
}

/// The same, with inflaters from `pool`.
pub(crate) fn listen_pooled(
    connection: &mut Connection,
    octets: &[u8],
    segmentation: Segmentation,
    pool: &mut InflatePool,
) -> Heard {
    let mut heard = Heard::default();
    for mut read in segmentation.cut(octets) {
        let mut input = Input::new(&mut read);
        loop {
            match connection.poll_pooled(&mut input, NOW, pool, &mut heard.out) {
                Ok(Some(event)) => heard.said.push(event.into()),
                Ok(None) => break assert!(input.is_empty(), "octets were left behind"),
                Err(error) => {
                    connection.fail(&error, NOW, &mut heard.out);
                    heard.error = Some(error);
                    return heard;
                }
            }
        }
    }
    heard
}

/// What was said, with the parts of each message put together where the last one came.
pub(crate) fn joined(said: Vec<Said>) -> Vec<Said> {
    let (mut text, mut octets) = (String::new(), Vec::new());
    let mut whole = Vec::new();
    for said in said {
        whole.push(match said {
            Said::TextPart(part, last) => {
                text += &part;
                if !last {
                    continue;
                }
                Said::Text(std::mem::take(&mut text))
            }
            Said::BinaryPart(part, last) => {
                octets.extend(part);
                if !last {
                    continue;
                }
                Said::Binary(std::mem::take(&mut octets))
            }
            said => said,
        });
    }
    assert!(text.is_empty() && octets.is_empty(), "a message has no last part");
    whole
}

/// A frame as a client sends it.
pub(crate) fn masked(version: Version, opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_fragment(version, opcode, fin, payload, Some(KEY), &mut frame);
    frame
}

/// A frame as a server sends it.
pub(crate) fn plain(version: Version, opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_fragment(version, opcode, fin, payload, None, &mut frame);
    frame
}

/// A Close as a server sends it.
pub(crate) fn plain_close(version: Version, code: u16, reason: &str) -> Vec<u8> {
    let body = [&code.to_be_bytes(), reason.as_bytes()].concat();
    plain(version, Opcode::Close, true, &body)
}

/// Octets from hexadecimal digits; white space is for the eye.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    let (octets, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "half an octet");
    octets.iter().map(|[high, low]| high << 4 | low).collect()
}
