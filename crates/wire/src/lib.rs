//! The tidecast client protocol: what a client says to the broker once the WebSocket is open, and what the broker
//! answers.
//!
//! ```text
//! text of one WebSocket message ──► json::parse ──► Command   (broker's side)
//!                                              └──► Error     ──► json::err
//! Vec<u8> of one WebSocket message ◄── json::message, hello, ok, err, lag, bye, pong
//!
//! Command ──► json::command ──► Vec<u8>                        (client's side)
//! text ──► json::parse_reply ──► Reply
//! ```
//!
//! [`binary`] has the same functions for packets, of which a message may hold several; [`events`] has what a server-sent event
//! is made of.
//!
//! This crate knows the grammar and nothing else: no I/O, no sessions, no rights. Topics and filters are passed on as the
//! strings they are; the router judges them. Start reading at [`Command`], then [`json`]; the protocol itself is described
//! in `PROTOCOL.md` beside this crate.
#![forbid(unsafe_code)]

pub mod binary;
pub mod close;
mod command;
mod error;
pub mod events;
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
mod reply;

pub use command::{Command, Kind, Payload, Reference, Since, SlowPolicy, Verb};
pub use error::{Code, Error};
pub use reply::{Details, Reply};
