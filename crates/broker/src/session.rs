//! What the broker knows of a connection.

use std::sync::Arc;

use tidecast_auth::Grant;
use tidecast_wire::Kind;

/// Names a session within its worker; the worker's slot of the connection serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u32);

impl SessionId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One subscription as its session sees it: which list, and where in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub(crate) list: u32,
    pub(crate) position: u32,
}

/// What is spoken on a connection with many topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `tidecast.json.v1`.
    Json,
    /// `tidecast.bin.v1`.
    Packets,
}

/// What a session may say and how.
#[derive(Debug, Default)]
pub(crate) enum Face {
    /// No session has this id.
    #[default]
    Closed,
    /// Many topics, commands in JSON.
    Json,
    /// Many topics, commands in packets.
    Packets,
    /// One topic, frames are payloads.
    Raw(Box<RawFace>),
}

/// What a raw connection publishes.
#[derive(Debug)]
pub(crate) struct RawFace {
    /// The topic published to, or why nothing may be published.
    pub(crate) publish: Result<Box<str>, &'static str>,
    /// Whether its own messages come back.
    pub(crate) echo: bool,
    /// The kind of its text frames.
    pub(crate) text_kind: Kind,
}

// What a connection costs here, subscriptions aside; see the sum in the documentation of the crate.
const _: () = assert!(size_of::<Session>() <= 56 && size_of::<Membership>() == 8);

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) face: Face,
    pub(crate) memberships: Vec<Membership>,
    /// What it may do; there is none if it is closed.
    pub(crate) grant: Option<Arc<Grant>>,
    /// The last message delivered through more than one list, so that it is delivered once.
    pub(crate) mark: u32,
    pub(crate) rendition: u8,
    /// Tokens that it sent and that were refused.
    pub(crate) refused_tokens: u8,
}

impl Session {
    /// Adds a membership.
    pub(crate) fn join(&mut self, membership: Membership) {
        if self.memberships.len() == self.memberships.capacity() {
            // By a quarter, where `Vec` would double; and to an odd number, which fills what `malloc` gives.
            let len = self.memberships.len();
            let capacity = (len + (len / 4).max(2)) | 1;
            self.memberships.reserve_exact(capacity - len);
        }
        self.memberships.push(membership);
    }
}
