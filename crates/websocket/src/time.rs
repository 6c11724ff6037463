//! Time as an argument: this crate reads no clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use crate::code;

/// Milliseconds: since an epoch of the caller's choice where it is a moment, else a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment that does not come; as a span, the one that does not end.
    pub const NEVER: Self = Self(u64::MAX);

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }
}

impl From<Duration> for Millis {
    /// Cut to whole milliseconds; a span too long to be counted is [`Millis::NEVER`].
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add for Millis {
    type Output = Self;

    /// Saturates: anything later than the last moment is [`Millis::NEVER`].
    fn add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Millis {
    type Output = Self;

    /// Saturates: a moment that has not come yet was no time ago.
    fn sub(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// The spans that decide when a connection pings, and when it has waited long enough. One for all the connections
/// of a kind: it is passed to the calls that need it, not kept by each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Silence of the peer after which it is sent a Ping; [`Millis::NEVER`] sends none.
    pub ping_interval: Millis,
    /// How long after that Ping the peer must have sent something, whatever it is.
    pub pong_timeout: Millis,
    /// How long after our Close the transport may stay open for the peer's.
    pub close_timeout: Millis,
    /// How long the peer may stay without sending a message, however well it answers Pings, to the second, and nine hours
    /// at most; [`Millis::NEVER`] asks for none.
    pub idle_timeout: Millis,
    /// How long the peer has for each [`Timing::MESSAGE_PIECE`] of a message that does not come at once, or for what is left
    /// of it. So a message may take as long as its size asks for, and what has come of it is not kept for a peer that
    /// does not go on; [`Millis::NEVER`] keeps it for ever.
    pub message_timeout: Millis,
}

impl Timing {
    /// Octets of a message that are to come within each [`Timing::message_timeout`], as they come, compressed or not.
    ///
    /// In a minute that is 9 kbit/s, which the slowest of mobile links carry.
    pub const MESSAGE_PIECE: usize = 64 * 1024;
}

impl Default for Timing {
    /// 25 s of silence keep a connection below the 30 s at which impatient proxies cut it; a mobile radio that wakes
    /// up needs a few seconds to answer, so it has 20; a Close is answered by the peer's library in one round trip,
    /// and 5 s are many of those. Who only listens is not idle. A message may take its time.
    fn default() -> Self {
        Self {
            ping_interval: Millis::from_secs(25),
            pong_timeout: Millis::from_secs(20),
            close_timeout: Millis::from_secs(5),
            idle_timeout: Millis::NEVER,
            message_timeout: Millis::NEVER,
        }
    }
}

/// What [`Connection::handle_timeout`](crate::Connection::handle_timeout) gave up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimedOut {
    /// The peer was silent and did not answer our Ping. It was sent a Close, for what that is worth: drop the
    /// transport, at the latest when [`Connection::poll_timeout`](crate::Connection::poll_timeout) says so.
    Pong,
    /// The closing handshake, or the end of the transport after it, took too long: drop the transport.
    Close,
    /// The peer sent no message for longer than it may. It was sent a Close, and has time to answer it.
    Idle,
    /// The peer began a message, or a frame, and did not go on with it. It was sent a Close, what had come is forgotten, and
    /// what comes is dropped.
    Message,
}

impl TimedOut {
    /// The close code, one of RFC 6455's, and the words that the peer was sent; nothing is left to be said behind a Close.
    #[must_use]
    pub fn close(self) -> Option<(u16, &'static str)> {
        match self {
            TimedOut::Pong => Some((code::INTERNAL_ERROR, "no answer to a ping")),
            TimedOut::Idle => Some((code::GOING_AWAY, "no message came for too long")),
            TimedOut::Message => Some((code::POLICY, "a message that was begun did not go on for too long")),
            TimedOut::Close => None,
        }
    }
}
