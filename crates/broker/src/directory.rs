//! What a worker has in the router of all workers.

use tidecast_router::{Filter, FilterHash, Router, SubscriptionId};

use crate::subscriber::Subscriber;

/// One worker's side of the router: which of its lists is that of a filter, and of which filter a list is. So neither
/// is kept here a second time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directory<'a> {
    pub(crate) router: &'a Router<Subscriber>,
    pub(crate) worker: u16,
}

impl Directory<'_> {
    /// This worker's list of `filter`.
    pub(crate) fn list(self, filter: &Filter) -> Option<u32> {
        let mut found = None;
        self.router.for_each_of(filter, |subscriber| {
            if subscriber.of_worker() == self.worker {
                found = Some(subscriber.of_list());
            }
        });
        found
    }

    /// The filter of `list`, which has no wildcards, and what it is in the router.
    pub(crate) fn filter(self, hash: FilterHash, list: u32) -> Option<(Filter, SubscriptionId)> {
        let subscriber = Subscriber::list(self.worker, list);
        self.router.find(hash, |other| *other == subscriber)
    }

    /// From now on messages of `filter` come to `list`.
    pub(crate) fn add(self, filter: &Filter, list: u32) -> SubscriptionId {
        self.router.subscribe(filter, Subscriber::list(self.worker, list))
    }

    /// From now on they do not.
    pub(crate) fn remove(self, filter: &Filter, id: SubscriptionId) {
        self.router.unsubscribe(filter, id);
    }
}
