//! What an operator may see of the sessions and do to them.

use std::sync::Arc;

use tidecast_router::Filter;
use tidecast_wire::{Code, SlowPolicy, close};

use super::{Broker, Output, Refusal};
use crate::encode::Encoding;
use crate::session::{Face, SessionId};
use crate::tap::Tap;
use crate::top::TopicCount;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// How it is spoken to.
    pub encoding: Encoding,
    /// Whose it is, if that is known.
    pub identity: Option<Arc<str>>,
    /// How many subscriptions it has.
    pub subscriptions: usize,
}

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// What it subscribes to, with the group if it is shared.
    pub filter: Filter,
    /// What is done with messages for it when the session is behind.
    pub slow: SlowPolicy,
}

/// Part of the filters that are subscribed to on a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterPage {
    /// Filters, with groups, and how many sessions subscribe to each. One with a group may come more than once.
    pub filters: Vec<(Filter, usize)>,
    /// Where to go on; there is no more, if there is none.
    pub next: Option<u64>,
}

/// The cursor of [`Broker::filters`] from which on shared subscriptions are told, by session.
const SHARED: u64 = 1 << 32;

impl<E: Copy> Broker<E> {
    /// What there is to say in short of a session; nothing, if it is not open.
    pub fn summary(&self, id: SessionId) -> Option<SessionSummary> {
        let session = self.sessions.get(id.index())?;
        let encoding = match session.face {
            Face::Closed => return None,
            Face::Json => Encoding::Json,
            Face::Packets => Encoding::Binary,
            Face::Raw(_) => Encoding::Raw,
        };
        Some(SessionSummary {
            encoding,
            identity: session.grant.as_ref().and_then(|grant| grant.identity.clone()),
            subscriptions: session.memberships.len() + self.shares.count(id),
        })
    }

    /// The first subscriptions of a session, at most so many.
    pub fn subscriptions(&self, id: SessionId, most: usize) -> Vec<Subscription> {
        let Some(session) = self.sessions.get(id.index()) else {
            return Vec::new();
        };
        let directory = self.shared.directory(self.worker);
        let own = (0..session.memberships.len()).filter_map(|place| {
            let filter = self.index.filter(session.memberships[place].list, directory)?;
            let slow = self.index.slow(session, place);
            Some(Subscription { filter, slow })
        });
        let shared = self.shares.filters(id).into_iter().map(|filter| Subscription {
            filter,
            slow: SlowPolicy::Close,
        });
        own.chain(shared).take(most).collect()
    }

    /// The topic that a raw session publishes to.
    pub fn publishes_to(&self, id: SessionId) -> Option<&str> {
        match &self.sessions.get(id.index())?.face {
            Face::Raw(raw) => raw.publish.as_deref().ok(),
            _ => None,
        }
    }

    /// Filters that are subscribed to here, from where `from` says: 0, or what the last call gave. Looks at `most` places, so
    /// that the work is bounded; some may be empty.
    pub fn filters(&self, from: u64, most: usize) -> FilterPage {
        let directory = self.shared.directory(self.worker);
        let mut filters = Vec::new();
        if from < SHARED {
            let to = from + most as u64;
            for list in from as u32..to as u32 {
                if let Some(filter) = self.index.filter(list, directory) {
                    filters.push((filter, self.index.entries(list).len()));
                }
            }
            let is_last = to >= u64::from(self.index.number_after_last());
            let next = Some(if is_last { SHARED } else { to });
            return FilterPage { filters, next };
        }
        let to = from + most as u64;
        for session in (from - SHARED) as u32..(to - SHARED) as u32 {
            let shares = self.shares.filters(SessionId(session));
            filters.extend(shares.into_iter().map(|filter| (filter, 1)));
        }
        let is_last = to - SHARED >= self.sessions.len() as u64;
        FilterPage {
            filters,
            next: (!is_last).then_some(to),
        }
    }

    /// What was published most to since this was asked last.
    pub fn take_top_topics(&mut self) -> Vec<TopicCount> {
        self.top.take()
    }

    /// From now on `tap` is shown what is published here; gives false if there are as many as there may be. One of the same name is
    /// replaced.
    pub fn open_tap(&mut self, tap: Tap) -> bool {
        self.taps.open(tap)
    }

    /// The tap of that name is shown nothing any more.
    pub fn close_tap(&mut self, id: u64) {
        self.taps.close(id);
    }

    /// Ends a subscription of a session, which is told so; a raw one has nothing else and is closed.
    ///
    /// # Errors
    /// The session is not open, the filter is not valid, or the session does not subscribe to it.
    pub fn end_subscription(
        &mut self,
        id: SessionId,
        filter: &str,
        out: &mut impl Output<Encoded = E>,
    ) -> Result<(), Refusal> {
        if self.summary(id).is_none() {
            return Err(Refusal::new(Code::NotFound, "there is no such session"));
        }
        self.unsubscribe(id, filter, out)?;
        if let Face::Raw(_) = self.sessions[id.index()].face {
            out.close(id, close::FORBIDDEN, "an operator has ended the subscription");
        } else {
            let text = format!("the subscription to {filter:?} has ended: an operator has ended it");
            self.refuse(id, None, &Refusal::new(Code::Forbidden, text), out);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
