//! Boot, configuration and control plane of the tidecast broker.
//!
//! ```text
//!   Config ─▶ Resolved ─▶ listeners, worker threads ─▶ "listening on …" ─▶ a signal ─▶ Order::Drain ─▶ totals
//! ```
//!
//! The control plane is the thread that calls [`run`], with a small tokio runtime. It reaches workers only by orders
//! through the mesh, and they never wait for it.
//!
//! What it is not: nothing on the way of a message is here.
//!
//! Start reading at [`run`].
#![forbid(unsafe_code)]

mod admin;
pub mod config;
mod driver;
#[doc(hidden)]
pub mod fuzzing;
mod handover;
mod heart;
mod hook;
mod http;
mod judge;
mod jwks;
mod local;
mod log;
mod memory;
mod run;
mod scribe;
mod sockets;
mod stop;
mod systemd;
mod tls;

pub use admin::{AdminClient, AdminClientError, metrics_table, openapi};
pub use driver::Driver;
pub use handover::start_successor;
pub use http::{HttpSetupError, Url, UrlError};
pub use local::{LocalError, upgrade_process};
pub use run::{Error, check, run};
pub use sockets::SocketsError;
pub use tidecast_broker::{SlowPolicy, Strategy};
pub use tls::{ClientAuth, IdentityField, TlsError, TlsVersion};
