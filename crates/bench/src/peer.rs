//! One connection of the generator.

use tidecast_client::masking_key;
use tidecast_websocket::{ClientHandshake, Connection, Extension, Limits, Millis, Offer, Url, Version, code};

use crate::plan::Role;

/// Where a connection stands.
///
/// ```text
///   Opening ──101──▶ Subscribing ──ok──▶ Open ──our Close──▶ Closing ──end──▶ Gone
///      │                │ (JSON subscribers only)              ▲
///      └──── 101 ───────┴──────────────▶ Open                  any ──lost──▶ Gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its request was sent.
    Opening,
    /// The WebSocket is open, the subscription is not confirmed.
    Subscribing,
    /// It can be used.
    Open,
    /// We have sent a Close.
    Closing,
    /// It ended.
    Gone,
}

/// Bytes to be sent, of which some may be.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    sent: usize,
    /// The socket is full, and the kernel will say when it has room.
    pub(crate) blocked: bool,
    /// It is in the thread's list of connections with something to send.
    pub(crate) listed: bool,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So many more bytes went out.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
        debug_assert!(self.sent <= self.bytes.len());
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) role: Role,
    /// Subscribers: the number within the thread. Publishers: the number within the run.
    pub(crate) number: usize,
    pub(crate) stage: Stage,
    pub(crate) connection: Connection,
    pub(crate) out: Outgoing,
    /// Frames are compressed, each by itself, and this is the number of the next one in the thread's [`Recall`].
    ///
    /// [`Recall`]: crate::recall::Recall
    pub(crate) recalls: Option<u64>,
    /// The key of the handshake, and what came of its answer.
    key: [u8; 16],
    head: Vec<u8>,
}

/// What the bytes of an answer to the handshake mean.
pub(crate) enum Answer {
    /// More are needed.
    Incomplete,
    /// The WebSocket is open; these are the first bytes of frames.
    Open(Vec<u8>),
    /// The WebSocket is open, but will not compress.
    Declined,
}

impl Peer {
    /// A connection whose request is in its output.
    pub(crate) fn open(
        role: Role,
        number: usize,
        handshake: &ClientHandshake<'_>,
        now: Millis,
    ) -> Result<Peer, tidecast_websocket::ClientHandshakeError> {
        let mut out = Outgoing::default();
        handshake.write_request(&mut out.bytes)?;
        Ok(Peer {
            role,
            number,
            stage: Stage::Opening,
            connection: Connection::client(handshake.version, limits(), masking_key, now),
            out,
            recalls: None,
            key: handshake.key,
            head: Vec::new(),
        })
    }

    /// Takes bytes of the answer to the handshake.
    pub(crate) fn answer(
        &mut self,
        bytes: &[u8],
        target: &Target<'_>,
        now: Millis,
    ) -> Result<Answer, tidecast_websocket::ClientHandshakeError> {
        self.head.extend_from_slice(bytes);
        match target.handshake(self.key).check_response(&self.head)? {
            None => Ok(Answer::Incomplete),
            Some((accepted, _)) if accepted.extension.is_none() && !target.extensions.is_empty() => {
                Ok(Answer::Declined)
            }
            Some((accepted, length)) => {
                let frames = self.head.split_off(length);
                self.head = Vec::new();
                self.recalls = match accepted.extension {
                    Some(Extension::PerMessageDeflate(params)) if params.server_no_context_takeover => Some(0),
                    _ => None,
                };
                self.connection =
                    Connection::client(target.version, limits(), masking_key, now).with_extension(accepted.extension);
                Ok(Answer::Open(frames))
            }
        }
    }

    /// Starts the closing handshake.
    pub(crate) fn close(&mut self, now: Millis) {
        self.connection.close(code::NORMAL, "", now, &mut self.out.bytes);
        self.stage = Stage::Closing;
    }
}

/// Deliveries are as large as the payloads, which are ours.
fn limits() -> Limits {
    Limits {
        max_message: u32::MAX,
        ..Limits::default()
    }
}

/// Who we are; servers of deflate-stream may want to know whom they trust with it.
const USER_AGENT: &[(&str, &str)] = &[("User-Agent", concat!("tidecast-bench/", env!("CARGO_PKG_VERSION")))];

/// What connections of a role ask for.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) url: Url,
    pub(crate) version: Version,
    pub(crate) protocols: &'a [&'a str],
    /// What is offered, and has to be accepted.
    pub(crate) extensions: &'a [Offer],
}

impl Target<'_> {
    pub(crate) fn handshake(&self, key: [u8; 16]) -> ClientHandshake<'_> {
        ClientHandshake {
            url: &self.url,
            version: self.version,
            key,
            protocols: self.protocols,
            extensions: self.extensions,
            origin: None,
            headers: USER_AGENT,
        }
    }
}
