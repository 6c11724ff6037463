//! WebSocket for server and client without I/O: RFC 6455 (version 13) and the drafts of versions 8, 7 and 6.
//!
//! ```text
//!                    +-------------------------- Connection -------------------------+
//!   octets received  |                                                               |  events
//!  ----------------->| decode_header --> unmask in place --> Event borrowed from the |--------->
//!   Input   |    ^   |      |                                input: whole messages   |  Event
//!           v    |   |      v                                                        |
//!   Stream: inflate, | Assembly: only what a read left incomplete, or fragments, or  |
//!   if all is one    |           what PerMessage inflates                            |
//!   deflated stream  |                                                               |
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
//! the client.
//!
//! # Compression
//! Two extensions compress: deflate-stream, which period clients of versions 6 and 7 offer, and permessage-deflate
//! (RFC 7692), which all current browsers do. A server says what it takes with [`Accept`], a client what it offers
//! with [`Offer`]; what was agreed goes to [`Connection::with_extension`].
//!
//! - *Received*, data is inflated as it comes, and no further than [`Limits`] allow. Many connections share their
//!   inflaters in an [`InflatePool`], given to [`Connection::poll_pooled`].
//! - *Sent*, a message is deflated once for all its receivers: a [`Deflater`] refers to nothing that was sent before,
//!   so what it makes is valid at any point of every connection's stream.
//!
//! ```
//! use tidecast_websocket::{Deflater, Opcode, Version, encode_compressed_header, encode_frame};
//!
//! // Once per message, for all who negotiated permessage-deflate with a window of 15 bits ...
//! let message = "the tide rises, the tide falls, ".repeat(10);
//! let (mut deflater, mut deflated) = (Deflater::default(), Vec::new());
//! if deflater.message(message.as_bytes(), 15, &mut deflated) {
//!     let header = encode_compressed_header(Version::V13, Opcode::Text, true, deflated.len(), None);
//!     let frame = [&*header, &deflated].concat();
//! #   assert!(frame.len() < message.len());
//! }
//! // ... and for all who negotiated deflate-stream, whole frames at a time.
//! let (mut frames, mut block) = (Vec::new(), Vec::new());
//! encode_frame(Version::V7, Opcode::Text, message.as_bytes(), None, &mut frames);
//! deflater.block(&frames, 15, &mut block);
//! ```
//!
//! A connection's own replies are wrapped by itself as its extension asks for.
//!
//! # Long messages
//! Messages are delivered whole, and kept until they are. Who can use them as they come asks for that with
//! [`Connection::with_parts`], and needs no memory for them. Sending, [`encode_fragment`] makes a frame of each part.
//!
//! This crate opens no socket, reads no clock and draws no random number; all three come in as arguments.
//!
//! Start reading at [`Connection::poll_pooled`]; then `assembly` for what happens at the edges of a read, `dialect` for
//! what the versions differ in, `state` for the closing handshake, and `stream`, `permessage` and `deflate` for
//! compression.
#![forbid(unsafe_code)]

mod accept;
mod assembly;
mod client;
mod close;
pub mod code;
mod connection;
mod deflate;
mod dialect;
mod encoder;
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
pub use connection::{Connection, Event, MaskingKey};
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
pub use time::{Millis, TimedOut, Timing};
pub use url::{Url, UrlError};
