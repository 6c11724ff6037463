//! One thread, one driver: connections, fan-out and delivery.
//!
//! ```text
//!   driver ─▶ tls ─▶ connection ─▶ websocket ─▶ broker ─▶ fanout ─▶ outbox ─▶ tls ─▶ driver
//!                                                 ▲          │
//!                                                 └── mesh ◀─┘  (other workers)
//! ```
//!
//! A [`Worker`] owns its connections from accept to close. Workers share the router (inside
//! [`Shared`](tidecast_broker::Shared)) and meet only in the [`Mesh`], by bounded lock-free mailboxes.
//!
//! # What clients can make it hold
//!
//! Everything that grows with what clients do, and what bounds it:
//!
//! | | bounded by |
//! |---|---|
//! | connections: slot, lane, session | `max_connections`, of all and of one worker |
//! | request heads and PROXY headers that are incomplete | `max_head` and 4 KiB each, `handshake_timeout`; [`Budget`] in all |
//! | messages that are incomplete, inflated as far as they came | `max_message` each, as long as they go on; [`Budget`] in all |
//! | bodies that are incomplete, or whose publication waits | `max_message` each, as long as they go on; [`Budget`] in all |
//! | answers to requests that follow each other | 64 KiB and one more answer each; the next request waits |
//! | what a deflated stream was inflated to and not read | 16 KiB each; [`Budget`] in all |
//! | inflaters | `inflate_memory` of each worker |
//! | a publisher that waits for other workers: its last message, and what it had sent before it was stopped | `max_message` and the receive buffers; counts in [`Budget`] |
//! | queues and backlogs: bytes, and lists of them | `max_pending`, `max_pending_messages` each; [`Budget`] in all |
//! | mailboxes | [`MailboxLimits`] of each worker |
//! | subscriptions: lists, the router | `max_subscriptions` each; `max_all_subscriptions` and [`Budget`] in all |
//! | answers of the router that are kept | 65,536 topics and a million lists of each worker |
//! | who has how many connections | 32 to 64 bytes for each connection there may be, 24 MiB at most; as much again by identity |
//!
//! A budget is looked at when something has grown, so it can be overdrawn by what one read or one turn brings: a message for each
//! worker, and a megabyte of logs. What does not depend on clients comes on top: receive buffers, and the end of each log.
//!
//! What it is not: it knows nothing of configuration files, signals or metrics formats; the server crate does.
//!
//! Start reading at [`Worker::run`].
#![forbid(unsafe_code)]

mod admission;
mod asking;
mod authentication;
mod backlog;
mod budget;
mod census;
mod config;
mod connection;
mod cors;
mod counters;
mod fanout;
mod forwarded;
pub mod fuzzing;
mod gather;
mod histogram;
mod hook;
mod identities;
mod journal;
mod ledger;
mod mesh;
mod meter;
mod name;
mod origin;
mod outbox;
mod posting;
mod proxy;
mod rate;
mod rendition;
mod site;
mod sleep;
mod sync;
mod tally;
mod task;
mod timers;
mod tls;
mod verdicts;
mod worker;

pub use admission::Admission;
pub use budget::Budget;
pub use census::Census;
pub use config::{Carriers, Compression, Config, ListenerConfig, Parts};
pub use counters::{Counter, Counters, Family, Series, Totals};
pub use forwarded::ForwardedHeader;
pub use histogram::{Histogram, Times};
pub use hook::{Asker, Hook, Question};
pub use identities::IdentityLimits;
pub use journal::{Ended, Entry, Journal};
pub use ledger::End;
pub use mesh::{Drain, MailboxLimits, Mesh, Order};
pub use meter::MessageRates;
pub use name::place_of;
pub use origin::{Origin, OriginError, Port};
pub use rate::Rate;
pub use task::{ConnectionDetails, ConnectionPage, ConnectionSummary, Publication, Reply, Stage, Task, Wanted};
pub use tls::{Identify, TlsTerms};
pub use worker::{Worker, WorkerError};
