//! Every setting there is: documentation, name, kind, default and range.
//!
//! This is the only place that names them: flags, variables of the environment, keys of the file, the help, the example
//! file and the errors are all made of it.
#![allow(
    rustdoc::bare_urls,
    reason = "the documentation is the help too, where nobody can follow a link"
)]

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidecast_broker::auth::Event;
use tidecast_broker::{Access, SlowPolicy, Strategy};
use tidecast_worker::ForwardedHeader;
use utoipa::ToSchema;

use super::field::{Fields, Meta, fields};
use super::kind::{Bytes, Choice, Choose, File, List, Maybe, Number, Parsed, Secret, Switch, Text, Time};
use super::listen::{AdminListen, Listen, Origin};
use super::network::Network;
use crate::driver::Driver;
use crate::http::Url;
use crate::tls::{ClientAuth, IdentityField, TlsVersion};

/// The largest message that can be allowed. As a JSON string it is up to six times as long, if all of it has to be
/// escaped, and that fits with [`MOST_PENDING`] into the 32 bits in which queues count.
const MOST_MESSAGE: usize = 1 << 28;
/// The most that can be allowed to wait for a subscriber.
const MOST_PENDING: usize = 1 << 30;
const _: () = assert!(MOST_PENDING + 7 * MOST_MESSAGE < u32::MAX as usize);
/// The most messages a mailbox can hold: its 16 MiB of slots are allocated at the start.
const MOST_MAIL: usize = 1 << 20;
/// The longest that output may be held back.
const MOST_DELAY: Duration = Duration::from_millis(20);
/// The smallest request head limit: less does not hold a browser's handshake.
const LEAST_HEAD: usize = 1024;
/// The least memory for clients: a turn of a worker can need as much.
const LEAST_MEMORY: usize = 8 << 20;
/// The shortest patience, and the longest time of any kind: a year.
const INSTANT: Duration = Duration::from_millis(1);
const EVER: Duration = Duration::from_secs(366 * 86_400);

/// The longest that the system can be told to wait, in 31 bits of milliseconds.
const MOST_UNACKNOWLEDGED: Duration = Duration::from_secs(24 * 86_400);

fields! {
    /// `[server]`: where the broker listens, and what it is made of.
    pub struct Server {
        /// Listen on this address; give it again for more. A scheme says how: ws://ADDR is plain, as is ADDR alone, and
        /// wss://ADDR is with TLS
        listen: List<Parsed<Listen>> = vec![Listen::plain(SocketAddr::from(([127, 0, 0, 1], 8080)))];
        /// Worker threads [default: one for each core the process may use]
        workers: Maybe<Number<usize>> = None, 1 => tidecast_broker::WorkerSet::MAX;
        /// How sockets are driven. Where io_uring cannot be used, `auto` serves with epoll, which takes more of the processor and
        /// a descriptor for each connection, and says why; only where asking for it ends the process has it to be `epoll`
        driver: Choice<Driver> = Driver::Auto;
        /// Bind each worker to a core of its own
        pin: Switch = true;
        /// Pages that may connect, by their Origin: `https://example.com`, `https://*.example.com`, `same` (the host that
        /// the request names; where only this machine can connect, that has to be an address), `localhost` (any port), `null`
        /// (pages from files and sandboxes), or * for all. Clients that send no Origin are no browsers, and always pass
        [live] origins: List<Parsed<Origin>> = vec![Origin::Same, Origin::Localhost];
        /// Proxies (addresses and networks) that are believed about whom they speak for, and are not limited themselves
        [live] trusted_proxies: List<Parsed<Network>> = vec![];
        /// Where these say it in a request
        [live] forwarded_header: Choice<ForwardedHeader> = ForwardedHeader::XForwardedFor;
        /// Which member of a shared subscription ($share/GROUP/FILTER) gets a message
        share_strategy: Choice<Strategy> = Strategy::RoundRobin;
        /// Messages that may wait for a worker that is behind, before publishers on other workers are slowed down
        mailbox_messages: Number<usize> = 4096, 1 => MOST_MAIL;
        /// The same in bytes of payload; one message is always taken
        mailbox_bytes: Bytes = 64 << 20;
        /// After messages went out to connections, how long the next ones wait for more to go out with them: less work
        /// for the system when many follow each other, and as much more latency; one that comes alone never waits
        flush_delay: Time = Duration::ZERO, Duration::ZERO => MOST_DELAY;
    }
}

fields! {
    /// `[tls]`: what listeners with TLS show, and ask for.
    pub struct TlsTable {
        /// A certificate in PEM, the server's own first, then those of the authorities between it and one that clients
        /// know; give it again, with its key, for other names. Clients that ask for no name that is there get the first
        [live] tls_cert: List<File> = Vec::new();
        /// The private key of the certificate, in PEM; may be the same file
        [live] tls_key: List<File> = Vec::new();
        /// The oldest version of TLS that is spoken
        [live] tls_min_version: Choice<TlsVersion> = TlsVersion::V12;
        /// Ask clients for a certificate of an authority in this file, in PEM
        [live] tls_client_ca: Maybe<File> = None;
        /// What becomes of clients without one
        [live] tls_client_auth: Choice<ClientAuth> = ClientAuth::Required;
        /// Which part of a client's certificate is its identity
        [live] tls_identity: Choice<IdentityField> = IdentityField::CommonName;
    }
}

fields! {
    /// `[websocket]`: what is negotiated with clients.
    pub struct WebSocket {
        /// The versions of WebSocket that are accepted
        [live] versions: List<Number<u8>> = vec![13, 8, 7, 6];
        // 1 KiB of JSON takes level 1 six microseconds and becomes 358 bytes; 2 to 9 take 13 and make it 273, which
        // pays from a few subscribers on. Level 1 does not fit its codes to the data.
        /// Compression of messages for clients that offer it, once for all of them: 1 (fast) to 9 (small), 0 for none
        compression: Number<u8> = 4, 0 => 9;
        // Around 100 bytes a text begins to shrink by more than a deflated block costs.
        /// Messages of fewer bytes are not compressed
        compress_min: Bytes = 100;
        /// Let clients compress with references to their earlier messages; each that does takes 48 KiB of
        /// --inflate-memory for as long as it is connected
        client_context_takeover: Switch = false;
    }
}

fields! {
    /// `[limits]`: what clients may use.
    pub struct Limits {
        /// The largest message accepted from a client
        [live] max_message: Bytes = 1 << 20, 1 => MOST_MESSAGE;
        /// Bytes that may wait for a slow subscriber before it is closed with 4000
        [live] max_pending: Bytes = 4 << 20, 1 => MOST_PENDING;
        /// Messages that may wait for it, if its slow policy drops messages
        [live] max_pending_messages: Number<usize> = 10_000;
        /// What is done when a subscriber reads too slowly and did not say what it wants
        [live] slow: Choice<SlowPolicy> = SlowPolicy::Close;
        /// Connections in all; one more is closed at once [default: what the workers can hold]
        [live] max_connections: Maybe<Number<u32>> = None, 1 => u32::MAX;
        /// Connections of one worker, among which the system spreads them by chance; one more waits until another ends. The
        /// last few are kept for one listener each [default: what the descriptor limit allows]
        max_connections_per_worker: Maybe<Number<u32>> = None, 1 => u32::MAX;
        /// Connections of one address; one more is closed at once, or answered with 429 if a proxy names it. 0 is any number
        [live] max_connections_per_ip: Number<u32> = 1000;
        /// Connections of one identity, whatever addresses they come from; one more is answered with 429. 0 is any number
        [live] max_connections_per_identity: Number<u32> = 0;
        /// Connections that one address may open in a second, on average; 0 is any number
        [live] connection_rate: Number<u32> = 100;
        /// Connections that it may open at once after a pause
        [live] connection_burst: Number<u32> = 1000;
        // A core does some ten thousand handshakes in a second, one to two thousand with TLS.
        /// How many clients a second are to come back after a stop: the more there are, the longer the time over which
        /// bye and Retry-After spread them, from one second on to six at least. 0 is any number, in these five seconds
        [live] return_rate: Number<u32> = 5000;
        /// Bits of an IPv6 address that count as one: as many as all addresses of one customer have in common
        [live] ipv6_prefix: Number<u8> = 64, 16 => 128;
        /// Networks whose addresses are not limited
        [live] exempt: List<Parsed<Network>> = Network::LOOPBACK.to_vec();
        /// Commands (messages, on a raw connection) that a connection may send in a second, on average. Those beyond are
        /// refused, and a client that goes on is closed with 4002. 0 is any number
        [live] message_rate: Number<u32> = 0;
        /// Commands that it may send at once after a pause; at least those of a second
        [live] message_burst: Number<u32> = 0;
        /// Bytes of commands, likewise
        [live] byte_rate: Bytes = 0, 0 => u32::MAX as usize;
        /// Bytes that it may send at once after a pause; a larger command may be sent after a longer one
        [live] byte_burst: Bytes = 0, 0 => u32::MAX as usize;
        /// Commands that all connections of one identity may send in a second, likewise
        [live] identity_message_rate: Number<u32> = 0;
        /// Commands that they may send at once after a pause; at least those of a second
        [live] identity_message_burst: Number<u32> = 0;
        /// Bytes of commands, likewise
        [live] identity_byte_rate: Bytes = 0, 0 => u32::MAX as usize;
        /// Bytes that they may send at once after a pause
        [live] identity_byte_burst: Bytes = 0, 0 => u32::MAX as usize;
        /// Memory for what comes in parts, for subscriptions, and for what waits for slow subscribers, over all workers: when
        /// it is used up, whoever needs more is refused, or closed with 4003. The first two may take three eighths each, and
        /// one message a quarter [default: half of the machine's]
        [live] memory: Maybe<Bytes> = None, LEAST_MEMORY => usize::MAX;
        /// Subscriptions of one connection
        [live] max_subscriptions: Number<u32> = 1000;
        /// Subscriptions in all
        [live] max_all_subscriptions: Number<usize> = 1_000_000;
        /// The longest topic or filter
        max_topic: Number<u16> = 255, 1 => u16::MAX;
        /// The most levels of a topic or filter
        max_levels: Number<u8> = 16, 1 => u8::MAX;
        /// The longest HTTP request head
        [live] max_head: Bytes = 16 << 10, LEAST_HEAD => 1 << 24;
        /// Memory of a worker for inflating what clients compress; one that finds none left is closed
        inflate_memory: Bytes = 64 << 20;
    }
}

fields! {
    /// `[timeouts]`: how long things may take.
    pub struct Timeouts {
        /// How long a request head may take to arrive, from when its connection was opened, or the request before was answered
        [live] handshake_timeout: Time = Duration::from_secs(10), INSTANT => EVER;
        /// Silence of a client after which it is pinged; 0 never pings
        [live] ping_interval: Time = Duration::from_secs(25), Duration::ZERO => EVER;
        /// How long after a ping a client has to be heard
        [live] pong_timeout: Time = Duration::from_secs(10), INSTANT => EVER;
        /// How long the closing handshake of a connection may take
        [live] close_timeout: Time = Duration::from_secs(5), INSTANT => EVER;
        /// How long a client may stay without sending a message, whatever it receives, before it is closed with 1001; 0
        /// is for ever
        [live] idle_timeout: Time = Duration::ZERO, Duration::ZERO => EVER;
        /// How long a client may take for each 64 KiB of a message, or for the end of it, before it is closed with 1008; 0 is
        /// for ever
        [live] message_timeout: Time = Duration::from_secs(60), Duration::ZERO => EVER;
        // Whoever is gone is found out sooner, by pings. This is for those who are heard and do not read: a page that is
        // suspended or debugged may have its minutes, above all where messages are dropped for it meanwhile.
        /// How long a client may go without taking any of what it is sent, before the system gives the connection up; for
        /// those who come from now on. 0 leaves it to the system, which waits for ever for those who answer
        [live] unacknowledged_timeout: Time = Duration::from_secs(300), Duration::ZERO => MOST_UNACKNOWLEDGED;
        /// How long a client may stay, give or take a tenth, before it is closed with 1001 and comes back; 0 is for ever
        [live] max_age: Time = Duration::ZERO, Duration::ZERO => EVER;
        /// Over how long goodbyes are spread when the broker stops or is replaced, if there are many clients, so that they do not
        /// all come back at one moment; 0 says all at once
        [live] drain_spread: Time = Duration::from_secs(2), Duration::ZERO => EVER;
        /// How long after the last goodbye a stop waits for clients to take what waits for them, and to answer the close
        [live] drain_timeout: Time = Duration::from_secs(5), Duration::ZERO => EVER;
        /// How long a new process may take to come up, when the broker is replaced by one, before it is given up
        [live] upgrade_timeout: Time = Duration::from_secs(60), INSTANT => EVER;
    }
}

fields! {
    /// `[auth]`: who is let in, and what they may do.
    pub struct Auth {
        /// Let clients without credentials in. If this is off they are only where nothing says who may do what, and only
        /// on loopback addresses
        [live] allow_anonymous: Switch = false;
        /// What clients without credentials may publish to
        [live] anonymous_publish: List<Text> = vec!["#".to_owned()];
        /// What clients without credentials may subscribe to
        [live] anonymous_subscribe: List<Text> = vec!["#".to_owned()];
        /// How long a client that came without credentials, where they are needed, has to send them with auth
        [live] auth_timeout: Time = Duration::from_secs(10), INSTANT => EVER;
        /// A file with the secret of HS256 tokens, at least 32 bytes; a line break at its end is not part of it
        [live] jwt_secret_file: Maybe<File> = None;
        /// The secret itself; better in the environment than in a file, and never on the command line
        [live] jwt_secret: Maybe<Secret> = None;
        /// Files with public keys in PEM, for RS256, ES256 and EdDSA: what kind of key it is decides
        [live] jwt_keys: List<File> = Vec::new();
        /// A file with a JSON Web Key Set
        [live] jwt_key_set: Maybe<File> = None;
        /// Where a JSON Web Key Set is fetched; with http:// whoever can change the answer can make tokens
        jwt_key_set_url: Maybe<Parsed<Url>> = None;
        /// How often it is fetched
        jwt_key_set_refresh: Time = Duration::from_secs(15 * 60), INSTANT => EVER;
        /// How often at most it is fetched, because a token names a key that is not in it, or because it failed
        jwt_key_set_min_interval: Time = Duration::from_secs(10), Duration::from_secs(1) => EVER;
        /// How long that may take
        jwt_key_set_timeout: Time = Duration::from_secs(5), INSTANT => Duration::from_secs(60);
        /// Audiences, one of which a token has to name (aud); with none, only tokens that name none are taken
        [live] jwt_audience: List<Text> = Vec::new();
        /// Issuers, one of which a token has to be from (iss); any, if there is none
        [live] jwt_issuer: List<Text> = Vec::new();
        /// Take tokens without an end (exp)
        [live] jwt_allow_endless: Switch = false;
        /// How much the clocks of issuers and this machine may differ
        [live] jwt_leeway: Time = Duration::from_secs(30), Duration::ZERO => Duration::from_secs(3600);
        /// The claim that says who it is
        [live] jwt_identity_claim: Text = "sub".to_owned();
        /// The claim that says what may be published to: a pattern or a list of them; a.b is the b in the object a
        [live] jwt_publish_claim: Text = "publish".to_owned();
        /// The claim that says what may be subscribed to
        [live] jwt_subscribe_claim: Text = "subscribe".to_owned();
        /// What tokens without that claim may publish to; {sub} is the identity
        [live] jwt_publish: List<Text> = Vec::new();
        /// What tokens without that claim may subscribe to; {sub} is the identity
        [live] jwt_subscribe: List<Text> = Vec::new();
        /// A cookie that may carry the token
        [live] cookie: Maybe<Text> = None;
        /// A parameter of the query that may carry the token, as in ?token=...; others read addresses in logs and histories
        [live] query_parameter: Maybe<Text> = None;
        /// The longest token
        [live] max_token: Bytes = 8 << 10, 64 => 1 << 20;
    }
}

fields! {
    /// `[hook]`: a service that is asked who may do what, besides what credentials permit.
    pub struct Hook {
        /// Where questions are sent, as POST requests with JSON
        [live] hook_url: Maybe<Parsed<Url>> = None;
        /// A file with a secret that is sent along, as Authorization: Bearer
        [live] hook_secret_file: Maybe<File> = None;
        /// A file with the certificates of the authorities that vouch for it, in PEM, where those of the system do not
        [live] hook_ca: Maybe<File> = None;
        /// What it is asked about
        [live] hook_events: List<Choice<Event>> = vec![Event::Connect, Event::Subscribe, Event::Publish];
        /// How long a client waits for an answer
        [live] hook_timeout: Time = Duration::from_secs(2), INSTANT => Duration::from_secs(60);
        /// Whether what is not answered in time is permitted
        [live] hook_on_failure: Choice<OnFailure> = OnFailure::Deny;
        /// Questions that are asked at a time
        hook_concurrency: Number<usize> = 64, 1 => 4096;
        /// Questions that may wait to be asked; more are not answered
        hook_queue: Number<usize> = 1024, 1 => 1 << 16;
        /// How long answers are kept that do not say so themselves; they are good for all connections of an identity, or
        /// for the one connection if it has none
        [live] hook_cache: Time = Duration::ZERO, Duration::ZERO => EVER;
        /// How many answers each worker keeps
        [live] hook_cache_entries: Number<usize> = 10_000, 0 => 1 << 24;
    }
}

fields! {
    /// `[admin]`: the control plane, for operators and for what watches the broker.
    pub struct Admin {
        /// Where the console, metrics and the API of the control plane are, over HTTP; none for no control plane
        admin: Parsed<AdminListen> = AdminListen::DEFAULT;
        /// Hashes of tokens for it, as `tidecast token random` prints them: whoever comes has to bring one of these tokens, as
        /// Authorization: Bearer. Where other machines can reach it, there has to be one
        [live] admin_tokens: List<Text> = Vec::new();
        /// Names under which browsers may address it, besides addresses and localhost
        [live] admin_hosts: List<Text> = Vec::new();
    }
}

fields! {
    /// `[log]`: what is told of what happens, on standard error.
    pub struct LogTable {
        /// How important something has to be
        [live] log_level: Choice<LogLevel> = LogLevel::Info;
        /// Who reads it
        log_format: Choice<LogFormat> = LogFormat::Human;
        /// Write a line for each WebSocket that ends, at the level info: what ended it, how long it was open, what was sent
        [live] log_connections: Switch = true;
        /// Lines of a kind in a second; the others are counted
        [live] log_rate: Number<u32> = 20, 1 => 100_000;
    }
}

fields! {
    /// `[[tokens]]`: a token that was handed out.
    pub struct TokenTable {
        /// The hash of the token, as `tidecast token random` prints it
        [live] [required] hash: Text = String::new();
        /// Whose it is
        [live] identity: Maybe<Text> = None;
        /// What its bearer may publish to; {sub} is the identity
        [live] publish: List<Text> = Vec::new();
        /// What its bearer may subscribe to
        [live] subscribe: List<Text> = Vec::new();
        /// When it ends: seconds since 1970, in UTC
        [live] expires: Maybe<Number<u64>> = None;
    }
}

fields! {
    /// `[[clients]]`: what the holders of client certificates may do.
    pub struct ClientTable {
        /// Their names; one * stands for any characters. The first table that fits counts
        [live] [required] name: Text = String::new();
        /// What they may publish to; {sub} is the name
        [live] publish: List<Text> = Vec::new();
        /// What they may subscribe to
        [live] subscribe: List<Text> = Vec::new();
    }
}

fields! {
    /// `[[topics]]`: what holds for topics of a pattern.
    pub struct TopicTable {
        /// The topics, as a filter: + is one level, # is the rest
        [live] [required] pattern: Text = String::new();
        /// Who may publish
        [live] publish: Choice<Access> = Access::Granted;
        /// Who may subscribe; a subscription that reaches topics of several tables needs the permission of each
        [live] subscribe: Choice<Access> = Access::Granted;
        /// The largest payload
        [live] max_payload: Maybe<Bytes> = None;
        /// What is done when a subscriber reads too slowly and did not say what it wants; holds for subscriptions that lie
        /// wholly within the pattern, and so do the next two
        [live] slow: Maybe<Choice<SlowPolicy>> = None;
        /// Bytes that may wait for such a subscriber
        [live] max_pending: Maybe<Bytes> = None, 1 => MOST_PENDING;
        /// Messages that may wait for it, if its slow policy drops messages
        [live] max_pending_messages: Maybe<Number<usize>> = None;
        /// Compress messages for clients that offer it
        [live] compress: Switch = true;
    }
}

impl Choose for Driver {
    const NAME: &'static str = "DRIVER";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("auto", "io_uring where it can be used, else epoll"),
        ("io_uring", "io_uring; without it the broker does not start"),
        ("epoll", "epoll, which every Linux has"),
    ];
    const VALUES: &'static [Driver] = &[Driver::Auto, Driver::IoUring, Driver::Epoll];
}

impl Choose for Event {
    const NAME: &'static str = "EVENT";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        (
            "connect",
            "A client has come; the answer may change who it is and what it may do",
        ),
        ("subscribe", "A client subscribes"),
        ("publish", "A client publishes"),
        ("disconnect", "A client has gone; that is only told"),
    ];
    const VALUES: &'static [Event] = &[Event::Connect, Event::Subscribe, Event::Publish, Event::Disconnect];
}

/// What is done when the hook does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is not permitted.
    Deny,
    /// It is permitted.
    Allow,
}

impl Choose for OnFailure {
    const NAME: &'static str = "WHAT";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("deny", "It is not permitted"),
        ("allow", "It is, if the credentials permit it"),
    ];
    const VALUES: &'static [OnFailure] = &[OnFailure::Deny, OnFailure::Allow];
}

/// How important something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something may be wrong.
    Warn,
    /// Something happened.
    Info,
    /// More than most want to know.
    Debug,
}

impl Choose for LogLevel {
    const NAME: &'static str = "LEVEL";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("error", "What failed"),
        ("warn", "And what may be wrong: limits that bite"),
        ("info", "And what happens"),
        ("debug", "And what the control plane is asked"),
    ];
    const VALUES: &'static [LogLevel] = &[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];
}

/// Who reads the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// People.
    Human,
    /// Programs.
    Json,
}

impl Choose for LogFormat {
    const NAME: &'static str = "FORMAT";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("human", "People"),
        (
            "json",
            "Programs: each line is an object of JSON, and so is what is otherwise printed when the broker starts and stops",
        ),
    ];
    const VALUES: &'static [LogFormat] = &[LogFormat::Human, LogFormat::Json];
}

impl Choose for Access {
    const NAME: &'static str = "WHO";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("granted", "Whose credentials permit it"),
        ("anyone", "Everybody who may connect"),
        ("nobody", "Nobody"),
    ];
    const VALUES: &'static [Access] = &[Access::Granted, Access::Anyone, Access::Nobody];
}

impl Choose for Strategy {
    const NAME: &'static str = "STRATEGY";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("round-robin", "One member after the other"),
        ("random", "Any member, all equally likely"),
        ("sticky", "For a topic always the same member, as long as it is there"),
    ];
    const VALUES: &'static [Strategy] = &[Strategy::RoundRobin, Strategy::Random, Strategy::Sticky];
}

impl Choose for ForwardedHeader {
    const NAME: &'static str = "HEADER";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        (
            "x-forwarded-for",
            "X-Forwarded-For, of which the rightmost address that is no trusted proxy counts",
        ),
        ("forwarded", "Forwarded of RFC 7239, likewise"),
        ("none", "Nowhere"),
    ];
    const VALUES: &'static [ForwardedHeader] = &[
        ForwardedHeader::XForwardedFor,
        ForwardedHeader::Forwarded,
        ForwardedHeader::None,
    ];
}

impl Choose for TlsVersion {
    const NAME: &'static str = "VERSION";
    const CHOICES: &'static [(&'static str, &'static str)] = &[("1.2", "RFC 5246"), ("1.3", "RFC 8446")];
    const VALUES: &'static [TlsVersion] = &[TlsVersion::V12, TlsVersion::V13];
}

impl Choose for ClientAuth {
    const NAME: &'static str = "WHETHER";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("required", "They are refused"),
        ("optional", "They are let in without an identity"),
    ];
    const VALUES: &'static [ClientAuth] = &[ClientAuth::Required, ClientAuth::Optional];
}

impl Choose for IdentityField {
    const NAME: &'static str = "FIELD";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("common-name", "The common name (CN) of the subject"),
        ("dns", "The first DNS name among the subject's alternative names"),
        ("uri", "The first URI there, as a SPIFFE ID is"),
        ("email", "The first e-mail address there"),
    ];
    const VALUES: &'static [IdentityField] = &[
        IdentityField::CommonName,
        IdentityField::Dns,
        IdentityField::Uri,
        IdentityField::Email,
    ];
}

impl Choose for SlowPolicy {
    const NAME: &'static str = "POLICY";
    const CHOICES: &'static [(&'static str, &'static str)] = &[
        ("close", "It is closed with 4000"),
        ("drop-new", "Messages that do not fit are dropped"),
        ("drop-old", "The oldest messages that wait are dropped"),
        (
            "latest",
            "Of messages with the same topic and key only the latest waits; besides, the oldest are dropped",
        ),
    ];
    const VALUES: &'static [SlowPolicy] = &[
        SlowPolicy::Close,
        SlowPolicy::DropNew,
        SlowPolicy::DropOld,
        SlowPolicy::Latest,
    ];
}

/// Defines the whole configuration: its sections, and its lists of tables.
macro_rules! config {
    (
        sections { $($section:ident: $record:ident = $about:literal;)+ }
        lists { $($list:ident: $item:ident = $item_about:literal;)* }
    ) => {
        /// Settings of the broker as they are written.
        #[derive(Clone, Debug, Default)]
        pub struct Config {
            $(#[doc = concat!("`[", stringify!($section), "]`")] pub $section: $record,)+
            $(#[doc = concat!("`[[", stringify!($list), "]]`")] pub $list: Vec<$item>,)*
        }

        /// The sections: name, what they are about, and what is in them.
        pub const SECTIONS: &[Section] = &[
            $(Section { name: stringify!($section), about: $about, metas: $record::METAS },)+
        ];

        /// The lists of tables, likewise.
        pub const LISTS: &[Section] = &[
            $(Section { name: stringify!($list), about: $item_about, metas: $item::METAS },)*
        ];

        impl Config {
            /// The settings of section number `section`.
            pub(super) fn section_mut(&mut self, section: usize) -> &mut dyn Fields {
                let sections: [&mut dyn Fields; SECTIONS.len()] = [$(&mut self.$section),+];
                sections.into_iter().nth(section).expect("a section's number")
            }

            /// The same, to be read.
            pub(super) fn section(&self, section: usize) -> &dyn Fields {
                let sections: [&dyn Fields; SECTIONS.len()] = [$(&self.$section),+];
                sections[section]
            }

            /// Keeps what `old` has where a running broker cannot take a change over; gives the names of what changed
            /// there.
            pub(crate) fn keep_fixed(&mut self, old: &Config) -> Vec<&'static str> {
                let mut kept = Vec::new();
                if !same_addresses(&self.listeners, &old.listeners) {
                    self.listeners.clone_from(&old.listeners);
                    kept.push("listeners");
                }
                $(
                    for (index, meta) in $record::METAS.iter().enumerate() {
                        if !meta.is_live && !self.$section.is_same(index, &old.$section) {
                            self.$section.keep(index, &old.$section);
                            kept.push(meta.name);
                        }
                    }
                )+
                kept
            }

            /// Adds a table with its defaults to list number `list`.
            pub(super) fn add(&mut self, list: usize) -> &mut dyn Fields {
                let mut at = 0;
                $(
                    if list == at {
                        self.$list.push($item::default());
                        return self.$list.last_mut().expect("it was just added");
                    }
                    at += 1;
                )*
                unreachable!("list {list} of {at}")
            }

            /// The tables of list number `list`.
            pub(super) fn tables(&self, list: usize) -> Vec<&dyn Fields> {
                let lists: [Vec<&dyn Fields>; LISTS.len()] =
                    [$(self.$list.iter().map(|table| table as &dyn Fields).collect()),*];
                lists.into_iter().nth(list).unwrap_or_default()
            }
        }
    };
}

/// Whether both are of the same addresses, one by one.
fn same_addresses(one: &[ListenerTable], other: &[ListenerTable]) -> bool {
    one.iter()
        .map(|table| table.address)
        .eq(other.iter().map(|table| table.address))
}

/// A group of settings.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What is in it.
    pub metas: &'static [Meta],
}

fields! {
    /// `[[listeners]]`: an address with settings of its own.
    pub struct ListenerTable {
        /// The address, as in `listen`
        [required] address: Maybe<Parsed<Listen>> = None;
        /// Pages that may connect here, instead of those in `origins` of `[server]`
        [live] origins: Maybe<List<Parsed<Origin>>> = None;
        /// Every connection here begins with a PROXY header (version 1 or 2), and comes from one of trusted_proxies; others
        /// are closed
        [live] proxy: Switch = false;
        /// Let clients without credentials in here, instead of what `[auth]` says
        [live] allow_anonymous: Maybe<Switch> = None;
    }
}

config! {
    sections {
        server: Server = "Where the broker listens, and what it is made of";
        limits: Limits = "What clients may use";
        timeouts: Timeouts = "How long things may take";
        websocket: WebSocket = "What is negotiated with clients";
        tls: TlsTable = "What listeners with TLS show, and ask for";
        auth: Auth = "Who is let in, and what they may do: topics are given as filters, + for one level and # for the rest";
        hook: Hook = "A service that is asked who may do what, besides what credentials permit";
        log: LogTable = "What is told of what happens, on standard error";
        admin: Admin = "The control plane, for operators and for what watches the broker";
    }
    lists {
        listeners: ListenerTable = "Addresses with settings of their own, besides those of `listen`";
        tokens: TokenTable = "Tokens that were handed out";
        clients: ClientTable = "What holders of client certificates may do";
        topics: TopicTable = "What holds for some topics: of the tables whose pattern matches, the first counts, and no other";
    }
}
