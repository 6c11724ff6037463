//! What the brokers of all workers have in common.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidecast_router::{Router, Strategy};

use crate::directory::Directory;
use crate::subscriber::Subscriber;

/// What all workers of a process share.
#[derive(Debug, Default)]
pub struct Shared {
    pub(crate) router: Router<Subscriber>,
    subscriptions: AtomicUsize,
}

impl Shared {
    /// Nothing is subscribed to. Members of a group take turns.
    pub fn new() -> Shared {
        Shared::default()
    }

    /// The same, with another way to choose which member of a group gets a message.
    pub fn with_strategy(strategy: Strategy) -> Shared {
        Shared {
            router: Router::with_strategy(strategy),
            ..Shared::default()
        }
    }

    /// What `worker` has in the router.
    pub(crate) fn directory(&self, worker: u16) -> Directory<'_> {
        Directory {
            router: &self.router,
            worker,
        }
    }

    /// Counts one more subscription, unless there are `most`.
    pub(crate) fn begin_subscription(&self, most: usize) -> bool {
        let is_one = self.subscriptions.fetch_add(1, Ordering::Relaxed) < most;
        if !is_one {
            self.end_subscription();
        }
        is_one
    }

    /// A subscription that was counted has ended.
    pub(crate) fn end_subscription(&self) {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Filters that some worker has a subscriber of, counted once per worker, and members of groups.
    pub fn filters(&self) -> usize {
        self.router.len()
    }
}
