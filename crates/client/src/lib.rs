//! Rust client for tidecast: a session with a broker, over a WebSocket on a blocking TCP stream.
//!
//! ```no_run
//! use tidecast_client::{Event, Options, Reconnect, Session};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut session = Session::connect("ws://127.0.0.1:8080/ws", &Options::default(), Some(Reconnect::default()))?;
//! session.subscribe("weather/+")?;
//! while let Some(event) = session.receive(None)? {
//!     if let Event::Message(message) = event {
//!         println!("{}: {} bytes", message.topic, message.payload.bytes.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it is:
//! - [`Session`] speaks `tidecast.json.v1`: it subscribes, publishes and receives, and comes back after a loss.
//! - [`Client`] is the WebSocket alone, for `/t/<topic>` and for whoever speaks [`wire`] by himself: it sends and receives
//!   messages, answers pings by itself and closes in order.
//!
//! ```text
//!   Session ---> Conversation: commands, answers, back-off       without I/O
//!      |
//!   Client ----> Opening, then Link: handshake, then messages    without I/O
//!      |
//!   TcpStream
//! ```
//!
//! With the feature `tokio` there are both once more as `asynchronous`, with the same methods as `async fn`.
//!
//! What it is not: a runtime. Nothing happens between calls, so a program that waits for something else has to call
//! `receive` once in a while to answer the broker's pings.
//!
//! Start reading at [`Session::connect`].
#![forbid(unsafe_code)]

#[cfg(feature = "tokio")]
pub mod asynchronous;
mod backoff;
mod client;
mod connect;
mod conversation;
mod error;
mod event;
mod link;
mod opening;
mod options;
mod random;
mod session;
mod turn;

pub use backoff::Reconnect;
pub use client::Client;
pub use error::{Error, Refusal};
pub use event::{Delivery, Event, Hello, Publish};
pub use link::Message;
pub use options::{Compression, Options, Proxy};
pub use random::{handshake_key, masking_key};
pub use session::Session;
pub use tidecast_websocket::{Version, code};
pub use tidecast_wire as wire;
