//! How subscriptions begin and end.

use tidecast_auth::Event;
use tidecast_router::Filter;
use tidecast_wire::{Code, SlowPolicy};

use super::rights::not_permitted;
use super::step::{Refusal, Step};
use super::{Broker, Output};
use crate::index::Index;
use crate::session::SessionId;
use crate::shares::{self, Share};

/// What is said when there are subscriptions enough.
const FULL: &str = "the broker has as many subscriptions as it may have: try again later";
/// What is said when there is no memory for more of them.
const NO_MEMORY: &str = "the broker has no memory for more subscriptions: try again later";

impl<E: Copy> Broker<E> {
    /// Subscribes a session to `filter`, if it may.
    pub(super) fn subscribe(
        &mut self,
        id: SessionId,
        filter: &str,
        slow: Option<SlowPolicy>,
        out: &mut impl Output<Encoded = E>,
    ) -> Result<Step, Refusal> {
        let filter = Filter::parse(filter, &self.limits.topics).map_err(|error| Refusal::topic(filter, error))?;
        let session = &self.sessions[id.index()];
        if filter.share_group().is_some() {
            if slow.is_some_and(|slow| slow != SlowPolicy::Close) {
                let text =
                    "a shared subscription has the slow policy close: what is dropped by one member is lost to all";
                return Err(Refusal::new(Code::BadMessage, text));
            }
            if self.shares.contains(id, &filter) {
                return Ok(Step::Next);
            }
        }
        let grant = session.grant.as_deref().expect("only open sessions command");
        if !self.limits.rules.permit_subscribe(&filter, grant) {
            return Err(not_permitted(grant, "subscribe to", filter.as_str()));
        }
        let list = self.shared.directory(self.worker).list(&filter);
        if let Some(place) = list.and_then(|list| self.index.membership(session, list)) {
            if let Some(slow) = slow {
                self.settle(out);
                self.index.set_slow(&self.sessions[id.index()], place, slow);
            }
            return Ok(Step::Next);
        }
        if session.memberships.len() + self.shares.count(id) >= self.limits.subscriptions as usize {
            let text = format!(
                "this connection has {} subscriptions, the most it may have: unsubscribe from some, or use a wildcard",
                self.limits.subscriptions
            );
            return Err(Refusal::new(Code::Forbidden, text));
        }
        if let Err(withheld) = out.permit(id, Event::Subscribe, filter.as_str(), grant) {
            return Step::withheld(withheld, Code::Forbidden);
        }
        self.begin_subscription(&filter, list)
            .map_err(|reason| Refusal::new(Code::Overloaded, reason))?;
        self.join(id, &filter, list, slow, out);
        Ok(Step::Next)
    }

    /// Counts one more subscription, `list` being that of the filter; gives the reason if there may be none.
    pub(super) fn begin_subscription(&self, filter: &Filter, list: Option<u32>) -> Result<(), &'static str> {
        let memory = if filter.share_group().is_some() {
            shares::memory_of(filter)
        } else {
            Index::memory_of(filter, list)
        };
        if self.memory() + memory > self.most_memory {
            return Err(NO_MEMORY);
        }
        if !self.shared.begin_subscription(self.limits.all_subscriptions) {
            return Err(FULL);
        }
        Ok(())
    }

    /// Subscribes a session, `list` being that of the filter.
    pub(super) fn join(
        &mut self,
        id: SessionId,
        filter: &Filter,
        list: Option<u32>,
        slow: Option<SlowPolicy>,
        out: &mut impl Output<Encoded = E>,
    ) {
        self.settle(out);
        let rules = &self.limits.rules;
        let rule = rules.of_filter(filter);
        let by_rule = || rules.get(rule).and_then(|rule| rule.slow);
        let slow = slow.or_else(by_rule).unwrap_or(self.limits.slow);
        let bounds = self.usual.of_rule(rule);
        let (router, worker) = (&self.shared.router, self.worker);
        if filter.share_group().is_some() {
            self.shares
                .join(worker, id, filter, |member| router.subscribe(filter, member));
        } else {
            let session = &mut self.sessions[id.index()];
            let directory = self.shared.directory(worker);
            self.index.join(id, session, (filter, list), (slow, bounds), directory);
        }
        self.stats.subscriptions += 1;
    }

    /// Ends the subscription of a session at `place` among its memberships.
    pub(super) fn leave(&mut self, id: SessionId, place: usize, out: &mut impl Output<Encoded = E>) {
        self.settle(out);
        let directory = self.shared.directory(self.worker);
        self.index.leave(&mut self.sessions, id, place, directory);
        self.stats.subscriptions -= 1;
        self.shared.end_subscription();
    }

    /// Takes a share, which its session has no more, out of its group.
    pub(super) fn end_share(&mut self, share: &Share) {
        self.shared.router.unsubscribe(&share.filter, share.id);
        self.stats.subscriptions -= 1;
        self.shared.end_subscription();
    }

    /// Ends the subscription of a session to `filter`.
    pub(super) fn unsubscribe(
        &mut self,
        id: SessionId,
        filter: &str,
        out: &mut impl Output<Encoded = E>,
    ) -> Result<(), Refusal> {
        let filter = Filter::parse(filter, &self.limits.topics).map_err(|error| Refusal::topic(filter, error))?;
        if let Some(share) = self.shares.leave(id, &filter) {
            self.end_share(&share);
            return Ok(());
        }
        let session = &self.sessions[id.index()];
        let place = self
            .shared
            .directory(self.worker)
            .list(&filter)
            .and_then(|list| self.index.membership(session, list))
            .ok_or_else(|| {
                Refusal::new(
                    Code::NotFound,
                    format!(
                        "there is no subscription to {:?}: give the filter as it was subscribed",
                        filter.as_str()
                    ),
                )
            })?;
        self.leave(id, place, out);
        Ok(())
    }
}
