//! Rust client for tidecast: a WebSocket over a blocking TCP stream.
//!
//! ```no_run
//! use tidecast_client::{Client, Message, Options, wire};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options { protocols: vec![wire::json::SUBPROTOCOL.into()], ..Options::default() };
//! let mut client = Client::connect("ws://127.0.0.1:8080/ws", &options)?;
//! client.send_text(r#"["sub","weather/+"]"#)?;
//! while let Some(Message::Text(text)) = client.receive(None)? {
//!     println!("{text}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it is: [`Client`], which opens a connection, sends and receives messages, answers pings by itself and closes in
//! order. What the messages say is the business of [`wire`]; on `/t/<topic>` they are the payloads themselves.
//!
//! What it is not: a runtime. Nothing happens between calls, so a program that waits for something else has to call
//! [`Client::receive`] once in a while to answer the broker's pings.
//!
//! Start reading at [`Client::connect`].
#![forbid(unsafe_code)]

mod client;
mod connect;
mod error;
mod link;
mod opening;
mod options;
mod random;
mod turn;

pub use client::Client;
pub use error::{Error, Refusal};
pub use link::Message;
pub use options::{Compression, Options, Proxy};
pub use random::{handshake_key, masking_key};
pub use tidecast_websocket::{Version, code};
pub use tidecast_wire as wire;
