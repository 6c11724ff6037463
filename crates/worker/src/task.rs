//! What the control plane has a worker do and tell: the worker's side of an operator's requests.
//!
//! ```text
//!   control plane ── Task ──▶ Mesh::give ──▶ worker, a few in a turn ── Reply ──▶ control plane
//! ```
//!
//! A task is small: what takes longer, like looking through all connections, is asked for in parts.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidecast_broker::{Encoding, FilterPage, Refusal, Subscription, Tap, TopicCount, wire};
use tidecast_websocket::Version;

/// Where the answer to a task goes. It is given from a worker's thread and must not block.
pub struct Reply<T>(Arc<dyn Fn(T) + Send + Sync>);

impl<T> Reply<T> {
    /// `answer` is called with it.
    pub fn new(answer: impl Fn(T) + Send + Sync + 'static) -> Reply<T> {
        Reply(Arc::new(answer))
    }

    pub(crate) fn give(&self, answer: T) {
        (self.0)(answer);
    }
}

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Reply<T> {
        Reply(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// What a worker is to do.
#[derive(Clone, Debug)]
pub enum Task {
    /// Tell connections from slot `from` on: those of the next [`Task::SLOTS`] that `wanted` is about.
    Connections {
        /// The first slot to look at.
        from: u32,
        /// Which connections are told.
        wanted: Wanted,
        /// Where they go.
        reply: Reply<ConnectionPage>,
    },
    /// Tell all of one connection; nothing, if there is none of that name.
    Connection {
        /// Its name.
        name: Arc<str>,
        /// Where it goes.
        reply: Reply<Option<Box<ConnectionDetails>>>,
    },
    /// Close a connection; tells whether there was one.
    Close {
        /// Its name.
        name: Arc<str>,
        /// The code of the Close, one that may be sent.
        code: u16,
        /// Its reason, at most 123 bytes.
        reason: Arc<str>,
        /// Where the answer goes.
        reply: Reply<bool>,
    },
    /// End a subscription of a connection.
    Unsubscribe {
        /// The connection's name.
        name: Arc<str>,
        /// What is subscribed to.
        filter: Arc<str>,
        /// Where the answer goes.
        reply: Reply<Result<(), Refusal>>,
    },
    /// Publish messages, in their order. Each is answered for. They go out over as many turns as they take.
    Publish {
        /// The messages.
        messages: Arc<[Publication]>,
        /// Where the answers go, once all other workers have been handed what is for them.
        reply: Reply<Vec<Result<(), Refusal>>>,
    },
    /// Tell filters from a place on: see [`Broker::filters`](tidecast_broker::Broker::filters).
    Filters {
        /// Where to begin: 0, or what the last answer said.
        from: u64,
        /// Where they go.
        reply: Reply<FilterPage>,
    },
    /// Show what is published on this worker, until [`Task::Untap`]; tells whether that is possible.
    Tap {
        /// To whom.
        tap: Tap,
        /// Where the answer goes.
        reply: Reply<bool>,
    },
    /// Do so no more.
    Untap {
        /// The tap's name.
        id: u64,
    },
    /// Tell what was published most to since this was asked last.
    TopTopics {
        /// Where it goes.
        reply: Reply<Vec<TopicCount>>,
    },
}

impl Task {
    /// Slots that [`Task::Connections`] looks at, and places that [`Task::Filters`] does.
    pub const SLOTS: u32 = 2048;
}

/// A message that an operator publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The topic.
    pub topic: String,
    /// The payload; of [`Kind::Json`](wire::Kind::Json) one JSON value, of [`Kind::Text`](wire::Kind::Text) UTF-8.
    pub payload: Arc<[u8]>,
    /// What it is.
    pub kind: wire::Kind,
    /// What it is the latest state of, beside its topic.
    pub key: Option<Arc<str>>,
}

/// Which connections are told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those whose name, identity or address contains this; all, if there is none.
    pub text: Option<Arc<str>>,
    /// Those with so many bytes that wait for them.
    pub waiting: usize,
}

impl Wanted {
    /// Whether a connection is wanted, for what it is called.
    pub(crate) fn is(&self, summary: &ConnectionSummary) -> bool {
        let contains = |text: &str| {
            summary.name.contains(text)
                || summary
                    .identity
                    .as_deref()
                    .is_some_and(|identity| identity.contains(text))
                || summary.peer.to_string().contains(text)
        };
        self.text.as_deref().is_none_or(contains)
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being opened: TLS, or a request; or it may ask for more.
    Opening,
    /// A WebSocket, or a stream of events.
    Open,
    /// It is being closed, or sent a page.
    Closing,
}

/// A connection in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSummary {
    /// Its name, as in `hello`.
    pub name: String,
    /// Where its client is. The port is 0 if only a proxy knows it.
    pub peer: SocketAddr,
    /// Whose it is, if that is known.
    pub identity: Option<Arc<str>>,
    /// Where it stands.
    pub stage: Stage,
    /// How its client is spoken to, if it is open.
    pub encoding: Option<Encoding>,
    /// The version of WebSocket, if it is open.
    pub version: Option<Version>,
    /// The extension that compresses, as in the handshake; empty without one.
    pub compression: &'static str,
    /// Whether it goes through TLS.
    pub tls: bool,
    /// How long ago it was accepted.
    pub age: Duration,
    /// Subscriptions that it has.
    pub subscriptions: usize,
    /// Bytes that were received.
    pub bytes_in: u64,
    /// Bytes that were sent.
    pub bytes_out: u64,
    /// Messages that came from it.
    pub messages_in: u64,
    /// Messages that were delivered to it.
    pub messages_out: u64,
    /// Bytes that wait because it does not read.
    pub waiting: usize,
}

/// Connections of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPage {
    /// Those that were wanted.
    pub connections: Vec<ConnectionSummary>,
    /// Where to go on; there is no more, if there is none.
    pub next: Option<u32>,
}

/// All there is to say of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionDetails {
    /// What there is to say in short.
    pub summary: ConnectionSummary,
    /// The topic that a raw connection publishes to.
    pub publishes_to: Option<String>,
    /// What it subscribes to, as far as it was asked for.
    pub subscriptions: Vec<Subscription>,
    /// Topics that it may publish to; all, if there is none.
    pub may_publish: Option<Vec<String>>,
    /// Topics that it may subscribe to; all, if there is none.
    pub may_subscribe: Option<Vec<String>>,
    /// When its credentials are over, in seconds since 1970.
    pub expires: Option<u64>,
}
