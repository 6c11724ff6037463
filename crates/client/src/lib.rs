//! Rust client for tidecast: a session with a broker, over a WebSocket on a blocking TCP stream, or on tokio's.
//!
//! # Connect, subscribe, publish
//!
//! ```
//! # mod double { include!("../tests/double/mod.rs"); }
//! use tidecast_client::{Event, Options, Session, wire::Kind};
//!
//! # fn main() -> Result<(), tidecast_client::Error> {
//! # let broker = double::Double::start();
//! # let url = broker.url();
//! // "ws://127.0.0.1:8080/ws" for a broker as it comes.
//! let mut session = Session::connect(&url, &Options::default(), None)?;
//! session.subscribe("weather/+")?;
//!
//! // Waits until the broker has it ...
//! session.publish_confirmed("weather/kiel", br#"{"wind": 7}"#, Kind::Json)?;
//! // ... or goes out together with others, by `flush` or by the next call that waits.
//! for wind in ["5", "6"] {
//!     session.publish("weather/sylt", wind.as_bytes(), Kind::Text)?;
//! }
//! session.flush()?;
//!
//! for _ in 0..3 {
//!     if let Some(Event::Message(message)) = session.receive(None)? {
//!         println!("{}: {} bytes", message.topic, message.payload.bytes.len());
//!     }
//! }
//! session.close()
//! # }
//! ```
//!
//! # Come back after a loss
//!
//! With [`Reconnect`] a session comes back, with exponential back-off and jitter, and subscribes again to what it was
//! subscribed to. It tells of both, for what was published in between was missed:
//!
//! ```
//! # mod double { include!("../tests/double/mod.rs"); }
//! use std::time::Duration;
//! use tidecast_client::{Event, Options, Reconnect, Session, wire::Kind};
//!
//! # fn main() -> Result<(), tidecast_client::Error> {
//! # let broker = double::Double::start();
//! # let url = broker.url();
//! let reconnect = Reconnect {
//!     first: Duration::from_millis(100),
//!     ..Reconnect::default()
//! };
//! let mut session = Session::connect(&url, &Options::default(), Some(reconnect))?;
//! session.subscribe("weather/+")?;
//! # session.publish(double::Double::DROP, b"0", Kind::Json)?;
//! loop {
//!     match session.receive(None)? {
//!         Some(Event::Message(message)) => println!("{}", message.topic),
//!         Some(Event::Lost { error, retry_at }) => eprintln!("{error}; next attempt at {retry_at:?}"),
//!         Some(Event::Reconnected) => {
//!             eprintln!("back, subscribed to {:?}", session.subscriptions());
//! #           break;
//!         }
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Session::connect`] itself tries once. A program that may start before its broker tries again for as long as
//! [`Error::is_temporary`] says that this can help:
//!
//! ```
//! # mod double { include!("../tests/double/mod.rs"); }
//! # use std::time::Duration;
//! # use tidecast_client::{Options, Reconnect, Session};
//! # fn main() -> Result<(), tidecast_client::Error> {
//! # let broker = double::Double::start();
//! # let url = broker.url();
//! let session = loop {
//!     match Session::connect(&url, &Options::default(), Some(Reconnect::default())) {
//!         Err(error) if error.is_temporary() => eprintln!("{error}"),
//!         connected => break connected?,
//!     }
//!     std::thread::sleep(Duration::from_secs(1));
//! };
//! # session.close()
//! # }
//! ```
//!
//! # What there is
//!
//! - [`Session`] speaks `tidecast.json.v1`: it subscribes, publishes and receives, and comes back after a loss.
//! - [`Client`] is the WebSocket alone, for `/t/<topic>`, for whoever speaks [`wire`] by himself, and for other servers: it
//!   sends and receives messages, answers pings by itself and closes in order.
//! - [`Options`] are for both: credentials, compression, a proxy, time limits, an older version of WebSocket.
//! - With the feature `tls` both take `wss://` URLs, if [`Options`] have a `TlsConnector`.
//! - With the feature `tokio` there are `asynchronous::Session` and `asynchronous::Client`, with the same methods as
//!   `async fn`; they do not take `wss://` URLs.
//!
//! ```text
//!   Session ---> Conversation: commands, answers, back-off       without I/O
//!      |
//!   Client ----> Opening, then Link: handshake, then messages    without I/O
//!      |
//!   Stream: TCP, or TLS over it
//! ```
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
mod stream;
#[cfg(feature = "tls")]
mod tls;
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
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsConnector, TlsError, TlsVersion, Trust, explain as explain_tls};
