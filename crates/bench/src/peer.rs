//! One connection of the generator.

use std::sync::atomic::{AtomicU64, Ordering};

use tidecast_client::masking_key;
use tidecast_websocket::{
    ClientHandshake, ClientHandshakeError, Connection, Extension, Limits, Millis, Offer, Opcode, Url, Version, code,
};

use crate::plan::Plan;
use crate::probe::Probe;
use crate::protocol::{Framing, Subscribe};
use crate::scenario::{Role, Scenario};
use crate::tls::Session;

/// Where a connection stands.
///
/// ```text
///   Connecting ──▶ Opening ──101──▶ Subscribing ──answers──▶ Open ──our Close──▶ Closing ──end──▶ Gone
///                     │                                       ▲
///                     └──── 101, and nothing to answer ───────┘              any ──lost──▶ Gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// TCP is being connected.
    Connecting,
    /// Its request was sent.
    Opening,
    /// The WebSocket is open; session and subscriptions are not confirmed.
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
    /// With TLS these are what goes out, once the bytes were sealed.
    records: Option<Vec<u8>>,
    /// How many of those that go out did.
    sent: usize,
    /// The socket is full, and the kernel will say when it has room.
    pub(crate) blocked: bool,
    /// It is in the thread's list of connections with something to send.
    pub(crate) listed: bool,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.records.as_ref().is_none_or(Vec::is_empty)
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.records.as_ref().unwrap_or(&self.bytes)[self.sent..]
    }

    /// Nothing more can be sent.
    pub(crate) fn discard(&mut self) {
        self.bytes.clear();
        self.records.as_mut().map(Vec::clear);
        self.sent = 0;
    }

    /// So many more bytes went out.
    pub(crate) fn advance(&mut self, count: usize) {
        let going = self.records.as_mut().unwrap_or(&mut self.bytes);
        self.sent += count;
        debug_assert!(self.sent <= going.len());
        if self.sent == going.len() {
            going.clear();
            self.sent = 0;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) role: Role,
    /// Those who receive, and those who say commands: the number within the thread. Publishers and idle ones: the number
    /// within the run.
    pub(crate) number: usize,
    pub(crate) topic: u32,
    pub(crate) stage: Stage,
    /// The kernel receives for it, or is to do so once there are buffers.
    pub(crate) receiving: bool,
    /// Its slot was given back, and may be another's.
    pub(crate) released: bool,
    /// TLS, if the URL says so.
    pub(crate) session: Option<Session>,
    pub(crate) connection: Connection,
    pub(crate) out: Outgoing,
    /// Frames are compressed, each by itself, and this is the number of the next one in the thread's [`Recall`].
    ///
    /// [`Recall`]: crate::recall::Recall
    pub(crate) recalls: Option<u64>,
    /// By which a publisher without subscribers knows what was taken in.
    pub(crate) probe: Option<Probe>,
    /// Answers to come before it is open.
    pub(crate) awaited: u32,
    /// The beginning of a packet whose end is in a message to come.
    pub(crate) residue: Vec<u8>,
    /// When it was to be opened, in nanoseconds of the clock.
    pub(crate) began: u64,
    /// The key of the handshake, and what came of its answer.
    key: [u8; 16],
    head: Vec<u8>,
}

/// Where messages go.
pub(crate) struct Outlet<'a> {
    /// The connection, if it is one stream of compressed data: messages go through it. Otherwise frames may be written without
    /// it.
    pub(crate) stream: Option<&'a mut Connection>,
    pub(crate) probe: Option<&'a mut Probe>,
    /// Messages go to the end of it.
    pub(crate) out: &'a mut Outgoing,
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

/// What a connection is opened for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    pub(crate) role: Role,
    pub(crate) number: usize,
    pub(crate) topic: u32,
    /// When it was to be opened, in nanoseconds of the clock.
    pub(crate) began: u64,
}

impl Peer {
    /// A connection whose request is in its output.
    pub(crate) fn open(
        purpose: Purpose,
        target: &Target,
        session: Option<Session>,
        key: [u8; 16],
        now: Millis,
    ) -> Result<Peer, ClientHandshakeError> {
        let mut out = Outgoing {
            records: session.as_ref().map(|_| Vec::new()),
            ..Outgoing::default()
        };
        target.handshake(key, &target.headers()).write_request(&mut out.bytes)?;
        let Purpose {
            role,
            number,
            topic,
            began,
        } = purpose;
        // Written to once the kernel says that it is connected.
        out.blocked = true;
        Ok(Peer {
            role,
            number,
            topic,
            stage: Stage::Connecting,
            receiving: false,
            released: false,
            session,
            connection: Connection::client(target.version, limits(), masking_key, now),
            out,
            recalls: None,
            probe: None,
            awaited: 0,
            residue: Vec::new(),
            began,
            key,
            head: Vec::new(),
        })
    }

    /// Whether TLS is not agreed on yet.
    pub(crate) fn is_in_tls_handshake(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_handshaking)
    }

    /// Has TLS, if there is any, turn what is to be sent into records.
    pub(crate) fn seal(&mut self) {
        if let (Some(session), Some(records)) = (&mut self.session, &mut self.out.records) {
            session.seal(&mut self.out.bytes, records);
        }
    }

    /// Takes bytes of the answer to the handshake.
    pub(crate) fn answer(
        &mut self,
        bytes: &[u8],
        target: &Target,
        now: Millis,
    ) -> Result<Answer, ClientHandshakeError> {
        self.head.extend_from_slice(bytes);
        match target.handshake(self.key, &[]).check_response(&self.head)? {
            None => Ok(Answer::Incomplete),
            Some((accepted, _)) if accepted.extension.is_none() && !target.extensions.is_empty() => {
                Ok(Answer::Declined)
            }
            Some((accepted, length)) => {
                let frames = self.head.split_off(length);
                self.head = Vec::new();
                self.recalls = match accepted.extension {
                    // Packets that share messages, or go over their ends, are not known by the frames they come in.
                    Some(Extension::PerMessageDeflate(params))
                        if params.server_no_context_takeover && target.is_single =>
                    {
                        Some(0)
                    }
                    _ => None,
                };
                self.connection =
                    Connection::client(target.version, limits(), masking_key, now).with_extension(accepted.extension);
                Ok(Answer::Open(frames))
            }
        }
    }

    /// The WebSocket is open: begins the session, and subscribes. `run` is part of the name of the session.
    pub(crate) fn begin_session(&mut self, plan: &Plan, run: u32) {
        /// Sessions of this process: two of one name would end each other.
        static SESSIONS: AtomicU64 = AtomicU64::new(0);

        let protocol = plan.protocol;
        let filters: Vec<String> = match (&plan.scenario, self.role) {
            (Scenario::Idle { subscriptions, .. }, Role::Idle) => (0..*subscriptions)
                .map(|filter| format!("{}/{}/{filter}", plan.topic, self.number))
                .collect(),
            (_, role) if role.subscribes() => vec![plan.topic_name(self.topic)],
            _ => Vec::new(),
        };
        let slow = match (&plan.scenario, self.role) {
            (Scenario::Slow { policy, .. }, Role::Stalled) => *policy,
            _ => None,
        };
        let mut command = Vec::new();
        // All brokers take names of up to 23 letters and digits.
        let client = format!("tb{run:08x}{:x}", SESSIONS.fetch_add(1, Ordering::Relaxed));
        self.awaited += protocol.greet(&client, self.role == Role::Churner, &mut command);
        self.say(plan, &mut command);
        if protocol.has_commands() {
            for (number, filter) in (1..).zip(&filters) {
                protocol.subscribe(&Subscribe { filter, number, slow }, &mut command);
                self.awaited += u32::from(protocol.confirms());
                self.say(plan, &mut command);
            }
        }
        self.awaited += protocol.settle(&mut command);
        self.say(plan, &mut command);
        self.stage = Stage::Subscribing;
    }

    /// Has a command sent as a message, and leaves it empty for the next one.
    fn say(&mut self, plan: &Plan, command: &mut Vec<u8>) {
        if !command.is_empty() {
            self.connection
                .send(plan.protocol.opcode(), command, &mut self.out.bytes);
            command.clear();
        }
    }

    pub(crate) fn outlet(&mut self) -> Outlet<'_> {
        let stream = matches!(self.connection.extension(), Some(Extension::DeflateStream));
        Outlet {
            stream: stream.then_some(&mut self.connection),
            probe: self.probe.as_mut(),
            out: &mut self.out,
        }
    }

    /// Starts the closing handshake, behind what the protocol says before it.
    pub(crate) fn close(&mut self, farewell: Option<&[u8]>, now: Millis) {
        if let Some(farewell) = farewell {
            self.connection.send(Opcode::Binary, farewell, &mut self.out.bytes);
        }
        self.connection.close(code::NORMAL, "", now, &mut self.out.bytes);
        self.stage = Stage::Closing;
    }
}

/// Deliveries are as large as the payloads, which are ours; and pongs as many as our pings.
fn limits() -> Limits {
    Limits {
        max_message: u32::MAX,
        max_control_per_second: u16::MAX,
        ..Limits::default()
    }
}

/// Who we are; servers of deflate-stream may want to know whom they trust with it.
const USER_AGENT: (&str, &str) = ("User-Agent", concat!("tidecast-bench/", env!("CARGO_PKG_VERSION")));

/// What a connection asks for.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) url: Url,
    version: Version,
    protocols: &'static [&'static str],
    /// What is offered, and has to be accepted.
    extensions: &'static [Offer],
    /// The value of the Authorization header, if there is one.
    authorization: Option<String>,
    /// A message is one packet.
    is_single: bool,
}

impl Target {
    /// Of a connection of a checked plan.
    pub(crate) fn new(plan: &Plan, role: Role, topic: u32) -> Target {
        Target {
            url: plan.target(role, topic).expect("the plan was checked"),
            version: plan.version,
            protocols: plan.protocol.subprotocols(),
            // What publishers send is masked, which nothing compresses.
            extensions: match role {
                Role::Publisher => &[],
                Role::Subscriber | Role::Echo | Role::Stalled | Role::Churner | Role::Idle | Role::Passing => {
                    plan.compression.offers()
                }
            },
            authorization: plan.token.as_ref().map(|token| format!("Bearer {}", token.0)),
            is_single: matches!(plan.protocol.framing(), Framing::Single),
        }
    }

    /// Header fields of the request, besides those of the handshake.
    fn headers(&self) -> Vec<(&str, &str)> {
        let authorization = self.authorization.as_deref().map(|value| ("Authorization", value));
        [USER_AGENT].into_iter().chain(authorization).collect()
    }

    fn handshake<'a>(&'a self, key: [u8; 16], headers: &'a [(&'a str, &'a str)]) -> ClientHandshake<'a> {
        ClientHandshake {
            url: &self.url,
            version: self.version,
            key,
            protocols: self.protocols,
            extensions: self.extensions,
            origin: None,
            headers,
        }
    }
}
