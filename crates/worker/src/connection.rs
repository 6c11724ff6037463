//! A connection and the phases of its life.
//!
//! ```text
//!   Proxy      its header names the client
//!     │
//!     ▼      head complete                 both Closes exchanged, all sent
//!   Head ──────┬──────────▶ Open ─────────────────────────────┐
//!    ▲ ▲       ├──────────▶ Events                            │
//!    │ │       ├─▶ Body ─┐    │ it ends                       │
//!    │ │       │         ▼    ▼                               ▼
//!    │ │       └────▶ an answer ─▶ Finishing ───────────▶ Lingering       FIN sent: the peer's last bytes are read
//!    │ └───────────────┘ │                  all sent          │           and dropped, so that it sees no reset
//!    └─── Answering ◀────┘ more requests came than answers may wait
//!   any phase ── broken, silent, or the peer closed ──▶ Dying ◀┘
//!                                                         │ nothing is in flight any more
//!                                                         ▼
//!                                                        Free
//! ```

use std::net::IpAddr;

use tidecast_websocket::{Connection, Millis};

use crate::asking::{Command, Waiting};
use crate::fanout::Stalled;
use crate::posting::Posting;
use crate::timers::Due;

/// Where a connection stands.
#[derive(Debug, Default)]
pub(crate) enum Phase {
    /// The slot is not in use.
    #[default]
    Free,
    /// A PROXY header is coming in.
    Proxy {
        bytes: Vec<u8>,
        deadline: Millis,
        /// The number of the listener that it came by.
        listener: u16,
        peer: IpAddr,
    },
    /// The request head is coming in.
    Head {
        bytes: Vec<u8>,
        deadline: Millis,
        listener: u16,
        /// Who it is from; a proxy that is trusted may name another one in it.
        peer: IpAddr,
        /// Others were answered before.
        again: bool,
    },
    /// The body of a request is coming in, which is to be published.
    Body(Box<Posting>),
    /// Answers go out; what came behind their requests waits for that.
    Answering {
        bytes: Vec<u8>,
        deadline: Millis,
        listener: u16,
        peer: IpAddr,
    },
    /// A stream of server-sent events.
    Events {
        /// When to say something, so that nobody takes it for dead.
        ping: Millis,
    },
    /// A WebSocket.
    Open(Connection),
    /// An HTTP response goes out, then the connection is closed.
    Finishing { deadline: Millis },
    /// Everything is said; what still comes in is dropped until the peer closes too.
    Lingering { deadline: Millis },
    /// Operations in flight are being cancelled.
    Dying,
}

/// A client that is not listened to: a publisher that waits for room in other workers' mailboxes, or somebody about whom
/// or about whose command the hook is asked, or both.
#[derive(Debug)]
pub(crate) struct Paused {
    pub(crate) stalled: Stalled,
    pub(crate) waiting: Option<Waiting>,
    /// What was received and not looked at.
    pub(crate) rest: Vec<u8>,
}

impl Paused {
    fn memory(&self) -> usize {
        let waiting = self.waiting.as_ref().map_or(0, Waiting::memory);
        self.stalled.bytes() + self.rest.capacity() + waiting
    }

    /// Whether it waits to be let in.
    pub(crate) fn asks_to_come_in(&self) -> bool {
        matches!(&self.waiting, Some(waiting) if matches!(waiting.command, Command::Head))
    }
}

/// A slot of the driver, and the connection in it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) phase: Phase,
    pub(crate) paused: Option<Box<Paused>>,
    pub(crate) due: Due,
    /// Octets that it holds of what has come in part, as they were counted last.
    pub(crate) held: u32,
    /// Counts the connections that had this slot.
    pub(crate) generation: u32,
    /// A receive is in flight.
    pub(crate) receiving: bool,
    /// A poll for writability is in flight.
    pub(crate) polling: bool,
    /// A shutdown is in flight.
    pub(crate) shutting: bool,
    /// The peer has closed its side, or is gone.
    pub(crate) ended: bool,
}

// With its lane and its session, what an idle connection costs.
const _: () = assert!(size_of::<Slot>() <= 104);

impl Default for Slot {
    fn default() -> Slot {
        Slot {
            phase: Phase::Free,
            paused: None,
            due: Due::NONE,
            held: 0,
            generation: 0,
            receiving: false,
            polling: false,
            shutting: false,
            ended: false,
        }
    }
}

impl Slot {
    /// Octets that it holds of what has come in part.
    pub(crate) fn memory(&self) -> usize {
        let coming = match &self.phase {
            Phase::Proxy { bytes, .. } | Phase::Head { bytes, .. } | Phase::Answering { bytes, .. } => bytes.capacity(),
            Phase::Body(posting) => posting.memory(),
            Phase::Open(connection) => connection.memory(),
            Phase::Free | Phase::Events { .. } | Phase::Finishing { .. } | Phase::Lingering { .. } | Phase::Dying => 0,
        };
        coming + self.paused.as_deref().map_or(0, Paused::memory)
    }

    /// Whether the peer's bytes are wanted.
    pub(crate) fn reads(&self) -> bool {
        let is_wanted = !matches!(self.phase, Phase::Free | Phase::Answering { .. } | Phase::Dying);
        self.paused.is_none() && !self.ended && is_wanted
    }

    /// Whether it has a session.
    pub(crate) fn has_session(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::Events { .. })
    }
}
