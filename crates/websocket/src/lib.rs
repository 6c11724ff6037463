//! WebSocket for server and client without I/O: RFC 6455 (version 13) and the drafts of versions 8, 7 and 6.
//!
//! ```text
//!                    +-------------------------- Connection -------------------------+
//!   octets received  |                                                               |  events
//!  ----------------->| decode_header --> unmask in place --> Event borrowed from the |--------->
//!   Input            |      |                                input: whole messages   |  Event
//!                    |      v                                                        |
//!                    | Assembly: only what a read left incomplete, or fragments      |
//!                    |                                                               |
//!   octets to send   | Pong, Close, Ping                                             |  commands, time
//!  <-----------------| encode_frame                                                  |<---------
//!   out: Vec<u8>     +---------------------------------------------------------------+
//! ```
//!
//! The loop that drives it, once per read:
//!
//! ```
//! use tidecast_websocket::{Connection, Event, Input, Limits, Millis, Version};
//!
//! # fn apply(_: &str) {}
//! fn received(connection: &mut Connection, octets: &mut [u8], now: Millis, out: &mut Vec<u8>) {
//!     let mut input = Input::new(octets);
//!     loop {
//!         match connection.poll(&mut input, now, out) {
//!             Ok(Some(Event::Text(text))) => apply(text),
//!             Ok(Some(_)) => {}        // binary messages, pings, pongs, the peer's close
//!             Ok(None) => break,       // all is read
//!             Err(error) => break connection.fail(&error, now, out),
//!         }
//!     }
//!     // Now send `out`, and set a timer for `connection.poll_timeout(timing)`.
//! }
//!
//! let mut connection = Connection::server(Version::V13, Limits::default(), Millis(0));
//! let (mut frame, mut out) = (*b"\x81\x82\0\0\0\0hi", Vec::new());
//! received(&mut connection, &mut frame, Millis(1), &mut out);
//! assert!(out.is_empty());
//! ```
//!
//! Before that comes the opening handshake: [`http::Request`] and [`Upgrade`] on the server, [`ClientHandshake`] on
//! the client. Extensions are not negotiated: an offer is answered by not accepting it.
//!
//! This crate opens no socket, reads no clock and draws no random number; all three come in as arguments.
//!
//! Start reading at [`Connection::poll`]; then `assembly` for what happens at the edges of a read, `dialect` for what
//! the versions differ in, and `state` for the closing handshake.
#![forbid(unsafe_code)]

mod accept;
mod assembly;
mod client;
pub mod code;
mod connection;
mod deflate;
mod dialect;
mod error;
mod extension;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
mod inflate;
mod input;
mod limits;
mod permessage;
mod server;
mod state;
mod stream;
mod time;
mod url;

pub use client::{Accepted, ClientHandshake, ClientHandshakeError};
pub use connection::{Connection, Event, MaskingKey, TimedOut};
pub use deflate::{Deflater, stored_blocks};
pub use dialect::{Version, Versions};
pub use error::Error;
pub use extension::{Accept, Extension, Offer};
pub use frame::{
    HeaderBytes, MAX_CONTROL, MAX_HEADER, Opcode, encode_compressed_header, encode_fragment, encode_frame,
    encode_header,
};
pub use inflate::InflatePool;
pub use input::Input;
pub use limits::Limits;
pub use permessage::{ClientWindow, Params, PerMessageOffer};
pub use server::{Upgrade, UpgradeError};
pub use state::State;
pub use time::{Millis, Timing};
pub use url::{Url, UrlError};
