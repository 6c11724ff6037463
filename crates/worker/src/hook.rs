//! What is asked of somebody else about connections, and how it is answered.
//!
//! ```text
//!   worker ── Question ──▶ Hook::ask ── … ──▶ the control plane asks whoever decides
//!     ▲                                                      │
//!     └────────── Mesh::answer ◀── Verdict ◀─────────────────┘
//! ```
//!
//! The connection waits; the worker does not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidecast_broker::auth::{Event, Verdict};

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    /// The worker's number.
    pub worker: u16,
    /// The connection's slot there.
    pub slot: u32,
    /// Which of the questions of that slot it is.
    pub number: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub asker: Asker,
    /// What is about to happen, or has.
    pub event: Event,
    /// The connection's name, as in `hello`.
    pub session: Box<str>,
    /// Whose connection it is, if that is known.
    pub identity: Option<Arc<str>>,
    /// Where it comes from.
    pub address: IpAddr,
    /// The topic that is published to, the filter that is subscribed to, or what a raw connection's address names.
    pub topic: Option<Box<str>>,
    /// When it was asked.
    pub asked: Instant,
}

/// Where questions go. It never blocks.
pub trait Hook: std::fmt::Debug + Send + Sync {
    /// Whether `event` is asked about at all.
    fn wants(&self, event: Event) -> bool;

    /// Asks. The answer comes by [`Mesh::answer`](crate::Mesh::answer), within [`Hook::patience`]; to
    /// [`Event::Disconnect`] there is none.
    ///
    /// # Errors
    /// The answer, if there is no room for another question.
    fn ask(&self, question: Question) -> Result<(), Verdict>;

    /// What is the answer to a question that nobody answers.
    fn unanswered(&self) -> Verdict;

    /// How long an answer is waited for.
    fn patience(&self) -> Duration;

    /// How many answers a worker keeps.
    fn kept(&self) -> usize;
}
