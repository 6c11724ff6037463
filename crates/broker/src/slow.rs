//! What to do with a message for a subscriber that is behind.

use tidecast_wire::SlowPolicy;

/// The policy of a subscription, with what is needed to apply it to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// Nothing may be dropped: close the connection.
    Close,
    /// Drop this message.
    DropNew {
        /// The subscriber list it comes through, for [`Broker::say_lag`](crate::Broker::say_lag).
        list: u32,
    },
    /// Drop the oldest that wait.
    DropOld {
        /// As above.
        list: u32,
    },
    /// Drop what waits with the same key; besides, the oldest.
    Latest {
        /// As above.
        list: u32,
        /// What stands for topic and key.
        key: u64,
    },
}

impl Slow {
    /// What `policy` means for a message that comes through `list`, with what `key` gives if it is needed to know what that
    /// replaces.
    #[inline]
    pub(crate) fn new(policy: SlowPolicy, list: u32, key: impl FnOnce() -> u64) -> Slow {
        match policy {
            SlowPolicy::Close => Slow::Close,
            SlowPolicy::DropNew => Slow::DropNew { list },
            SlowPolicy::DropOld => Slow::DropOld { list },
            SlowPolicy::Latest => Slow::Latest { list, key: key() },
        }
    }

    /// Whether the message may be dropped once it waits.
    #[must_use]
    pub fn drops_old(self) -> bool {
        matches!(self, Slow::DropOld { .. } | Slow::Latest { .. })
    }

    /// The subscriber list, if messages of it may be dropped.
    #[must_use]
    pub fn list(self) -> Option<u32> {
        match self {
            Slow::Close => None,
            Slow::DropNew { list } | Slow::DropOld { list } | Slow::Latest { list, .. } => Some(list),
        }
    }
}
