//! TLS between the ring and everything else, sans-I/O: one stage of the pipeline.
//!
//! ```text
//!   ring ── records ──▶ Records ──▶ Session::receive ── octets, where they lie ──▶ request head, frames
//!
//!   ring ◀── arena ◀── Stage::seal ◀── what a lane has to send, where it lies in the outbox
//!                          ▲
//!                          └── Session::waiting: what TLS says itself, and what a socket did not take
//! ```
//!
//! The handshake is all rustls'. Once it is over rustls hands out the keys, and is asked again only when a peer changes
//! them; records are then opened and sealed here ([`Opening`](record::Opening), [`Sealing`](record::Sealing)). The reasons
//! are three: rustls' own record layer returns what it opens in a `Vec` for each record, and seals into another, which is
//! then copied; here what is received is opened in the buffer that it was received in, and what is sent is sealed from the
//! outbox, where all subscribers share it, into one arena that is used again in each turn. And an idle connection keeps its
//! keys and nothing else.
//!
//! Start reading at [`Session`].

mod handshake;
mod record;
mod session;
mod stage;
mod terms;

pub(crate) use session::{Fault, Received, Session, speaks_http};
pub(crate) use stage::Stage;
pub use terms::{Identify, TlsTerms};

/// What every client begins with that speaks TLS: the type of a handshake record. No HTTP begins with it.
pub(crate) const TLS_HANDSHAKE: u8 = 22;

#[cfg(test)]
mod tests;
