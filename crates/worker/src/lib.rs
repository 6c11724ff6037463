//! One thread, one ring: connections, fan-out and delivery.
//!
//! ```text
//!   ring ─▶ tls ─▶ connection ─▶ websocket ─▶ broker ─▶ fanout ─▶ outbox ─▶ tls ─▶ ring
//!                                               ▲          │
//!                                               └── mesh ◀─┘  (other workers)
//! ```
//!
//! A [`Worker`] owns its connections from accept to close. Workers share the router (inside
//! [`Shared`](tidecast_broker::Shared)) and meet only in the [`Mesh`], by bounded lock-free mailboxes.
//!
//! What it is not: it knows nothing of configuration files, signals or metrics formats; the server crate does.
//!
//! Start reading at [`Worker::run`].
#![forbid(unsafe_code)]

mod admission;
mod authentication;
mod backlog;
mod budget;
mod census;
mod config;
mod connection;
mod counters;
mod fanout;
mod forwarded;
pub mod fuzzing;
mod gather;
mod mesh;
mod meter;
mod origin;
mod outbox;
mod proxy;
mod rate;
mod rendition;
mod site;
mod sleep;
mod sync;
mod timers;
mod tls;
mod worker;

pub use admission::Admission;
pub use budget::Budget;
pub use census::Census;
pub use config::{Carriers, Compression, Config, ListenerConfig, Parts};
pub use counters::{Counter, Counters, Totals};
pub use forwarded::ForwardedHeader;
pub use mesh::{MailboxLimits, Mesh, Order};
pub use meter::MessageRates;
pub use origin::{Origin, OriginError, Port};
pub use rate::Rate;
pub use tls::{Identify, TlsTerms};
pub use worker::{Worker, WorkerError};
