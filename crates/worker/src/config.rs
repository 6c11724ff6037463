//! What a worker is given: settings, and its share of the process.

use std::sync::Arc;
use std::time::Duration;

use tidecast_broker::auth::{Authenticator, Grant};
use tidecast_broker::{Rules, Shared, SlowPolicy, TopicLimits};
use tidecast_driver::{Kind, Listener};
use tidecast_websocket::{Limits, Timing, Versions};

use crate::admission::Admission;
use crate::backlog::Bounds;
use crate::budget::Budget;
use crate::census::Census;
use crate::counters::Counters;
use crate::hook::Hook;
use crate::identities::IdentityLimits;
use crate::journal::Journal;
use crate::mesh::Mesh;
use crate::meter::MessageRates;
use crate::origin::Origin;
use crate::tls::TlsTerms;

/// Settings of a worker.
///
/// [`Order::Configure`](crate::Order::Configure) changes them while it runs, but for those with "fixed" in their
/// documentation. What was agreed on with a connection when it was opened stays as it is; what it may do does not.
#[derive(Clone, Debug)]
pub struct Config {
    /// What holds on each listener, in their order; their number is fixed.
    pub listeners: Vec<ListenerConfig>,
    /// Who may connect.
    pub admission: Admission,
    /// How much a connection may say.
    pub rates: MessageRates,
    /// What one identity may do, over all its connections.
    pub identity: IdentityLimits,
    /// How long a WebSocket may be open, give or take a tenth; for ever, if there is none.
    pub max_age: Option<Duration>,
    /// How long a client may go without taking any of what it is sent; without it, the system decides. For clients that
    /// come from now on; at the start it is for whoever makes the listeners to set.
    pub unacknowledged_timeout: Option<Duration>,
    /// The largest message accepted, in bytes.
    pub max_message: u32,
    /// Bytes that may wait for a connection that does not read, before it is closed or messages are dropped.
    pub max_pending: usize,
    /// Messages that may wait for it, where messages are dropped.
    pub max_pending_messages: usize,
    /// What is done with messages for a subscription that is behind and did not say.
    pub slow: SlowPolicy,
    /// The most connections at a time; fixed.
    pub max_connections: u32,
    /// The most subscriptions of one connection.
    pub max_subscriptions: u32,
    /// The most subscriptions of all connections, over all workers.
    pub max_all_subscriptions: usize,
    /// What holds for some topics.
    pub rules: Arc<Rules>,
    /// Judges credentials.
    pub authenticator: Arc<Authenticator>,
    /// Where requests may carry tokens, besides the Authorization header and subprotocols.
    pub carriers: Carriers,
    /// Who is asked about connections and commands; nobody, if there is none.
    pub hook: Option<Arc<dyn Hook>>,
    /// How long a client that came without credentials, where they are needed, has to send them.
    pub auth_timeout: Duration,
    /// What topics and filters may be; fixed.
    pub topics: TopicLimits,
    /// The longest request head, in bytes.
    pub max_head: usize,
    /// How long a request head may take to arrive.
    pub handshake_timeout: Duration,
    /// The versions of WebSocket that are accepted.
    pub versions: Versions,
    /// Compression; none, if there is none. Fixed.
    pub compression: Option<Compression>,
    /// Pings and patience of open WebSockets.
    pub timing: Timing,
    /// How long after a flush the next one waits for more to be sent with it; zero never waits. Fixed.
    pub flush_delay: Duration,
    /// What the system is asked by. Fixed.
    pub driver: Kind,
    /// The core to run on; any, if there is none. Fixed.
    pub core: Option<usize>,
    /// The page at `/`; fixed.
    pub page: &'static str,
}

impl Config {
    /// What the broker is told of it.
    pub(crate) fn broker_limits(&self) -> tidecast_broker::Limits {
        tidecast_broker::Limits {
            topics: self.topics,
            subscriptions: self.max_subscriptions,
            all_subscriptions: self.max_all_subscriptions,
            slow: self.slow,
            message: self.max_message as usize,
            ping_ms: self.timing.ping_interval.0,
            rules: Arc::clone(&self.rules),
        }
    }

    /// How far behind a connection may be: as a rule, then by the rules of topics.
    pub(crate) fn bounds(&self) -> Vec<Bounds> {
        let usual = Bounds {
            bytes: self.max_pending,
            messages: self.max_pending_messages,
        };
        let by_rule = self.rules.all().iter().map(|rule| Bounds {
            bytes: rule.max_pending.unwrap_or(usual.bytes),
            messages: rule.max_pending_messages.unwrap_or(usual.messages),
        });
        std::iter::once(usual).chain(by_rule).collect()
    }

    /// What a connection may send.
    pub(crate) fn message_limits(&self) -> Limits {
        Limits {
            max_message: self.max_message,
            ..Limits::default()
        }
    }
}

/// Where requests may carry tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carriers {
    /// A cookie of this name.
    pub cookie: Option<Arc<str>>,
    /// A parameter of the query of this name.
    pub query_parameter: Option<Arc<str>>,
}

/// What holds on one listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The pages that may connect.
    pub origins: Arc<[Origin]>,
    /// What clients without credentials may do, which [rests](tidecast_broker::auth::Ground::Door) on the number of this listener;
    /// without it they are not let in.
    pub anonymous: Option<Arc<Grant>>,
    /// Every connection begins with a PROXY header, and comes from a proxy that is trusted; fixed.
    pub proxy: bool,
    /// What TLS handshakes are held with; without it, HTTP and WebSocket are spoken in the clear. Whether there is any is fixed.
    pub tls: Option<TlsTerms>,
}

/// Settings of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// Messages of fewer bytes are sent as they are.
    pub min_message: usize,
    /// Whether clients may refer to their earlier messages, and hold an inflater for as long as they are connected.
    pub client_context_takeover: bool,
    /// The memory that may be in use for inflating what clients compress, in bytes.
    pub inflate_memory: usize,
}

/// What a worker is made of, besides its settings.
pub struct Parts {
    /// Its number, from 0.
    pub number: u16,
    /// Its share of the listening sockets, each with the number of its settings in [`Config::listeners`].
    pub listeners: Vec<(u16, Listener)>,
    /// The way to the other workers.
    pub mesh: Arc<Mesh>,
    /// What all workers know.
    pub shared: Arc<Shared>,
    /// Where all workers count who has how many connections.
    pub census: Arc<Census>,
    /// The memory that all workers may hold for clients.
    pub budget: Arc<Budget>,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// Where it writes down what happens.
    pub journal: Arc<Journal>,
}
