//! What becomes of sessions that are there when limits, rules or rights change: a part at a time, so that nobody waits for
//! all of them.

use std::sync::Arc;

use tidecast_auth::Grant;
use tidecast_router::Filter;
use tidecast_wire::{Code, close};

use super::{Broker, Limits, Output, Refusal};
use crate::session::{Face, SessionId};

/// Steps that a session takes whatever it subscribes to: its grant is looked up, and compared.
const STEPS_PER_SESSION: usize = 8;
/// Steps that a subscription takes whatever rules and patterns there are: its filter is put together from the router.
const STEPS_PER_SUBSCRIPTION: usize = 3;

/// What is left to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Review {
    /// The session that is next.
    next: u32,
    /// What is left of it, if it was begun.
    rest: Option<Rest>,
    /// Every subscription is looked at, not only those of sessions whose rights have changed.
    rules_changed: bool,
}

/// The first subscriptions of a session, which were not looked at yet. From behind, so that all of them are, whatever it
/// does meanwhile: what is new comes last, and only what was last takes the place of one that ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    memberships: usize,
    shares: usize,
}

impl Rest {
    pub(super) const ALL: Rest = Rest {
        memberships: usize::MAX,
        shares: usize::MAX,
    };
}

impl<E: Copy> Broker<E> {
    /// Changes its limits, those of topics aside. They hold at once for everything that is said from now on. What clients
    /// have already they keep until the [review](Broker::review), which this begins, has come to it.
    ///
    /// # Panics
    /// Such a review has not come to its end.
    pub fn set_limits(&mut self, limits: Limits, out: &mut impl Output<Encoded = E>) {
        assert!(self.is_reviewed(), "one change of limits at a time");
        let rules_changed = limits.rules != self.limits.rules;
        self.limits = Limits {
            topics: self.limits.topics,
            ..limits
        };
        if rules_changed {
            self.settle(out);
            self.routes.clear();
            self.usual = self.usual.of_others();
        }
        self.review = Some(Review {
            next: 0,
            rest: None,
            rules_changed,
        });
    }

    /// Whether there is nothing left to [review](Broker::review).
    pub fn is_reviewed(&self) -> bool {
        self.review.is_none()
    }

    /// Goes on with a review: sessions get the grants that are theirs now, and subscriptions end that are not permitted any
    /// more, which they are told. It stops after so many `steps`, or a few more; each rule and pattern looked at is one.
    ///
    /// `renew` says what the grant of a session has become, or why it has none any more: then it is closed.
    pub fn review<O: Output<Encoded = E>>(
        &mut self,
        mut steps: usize,
        out: &mut O,
        mut renew: impl FnMut(&mut O, SessionId, &Arc<Grant>) -> Result<Arc<Grant>, String>,
    ) {
        let Some(mut review) = self.review.take() else {
            return;
        };
        while (review.next as usize) < self.sessions.len() {
            if steps == 0 {
                self.review = Some(review);
                return;
            }
            let id = SessionId(review.next);
            let rest = review.rest.take().or_else(|| {
                steps = steps.saturating_sub(STEPS_PER_SESSION);
                let rights_changed = self.renew(id, out, &mut renew)?;
                (rights_changed || review.rules_changed).then_some(Rest::ALL)
            });
            review.rest = rest.and_then(|rest| self.review_subscriptions(id, rest, &mut steps, out));
            if review.rest.is_none() {
                review.next += 1;
            }
        }
    }

    /// Gives a session the grant that is its now, and tells whether that is another one; nothing if it has none.
    fn renew<O: Output<Encoded = E>>(
        &mut self,
        id: SessionId,
        out: &mut O,
        renew: &mut impl FnMut(&mut O, SessionId, &Arc<Grant>) -> Result<Arc<Grant>, String>,
    ) -> Option<bool> {
        let grant = self.sessions[id.index()].grant.as_mut()?;
        match renew(out, id, grant) {
            Ok(renewed) => {
                let changed = !Arc::ptr_eq(&renewed, grant) && *renewed != **grant;
                *grant = renewed;
                Some(changed)
            }
            Err(reason) => {
                out.close(id, close::UNAUTHORIZED, &reason);
                None
            }
        }
    }

    /// Looks again at `rest` of what a session subscribes to. Gives what is left of that when `steps` are used up.
    pub(super) fn review_subscriptions(
        &mut self,
        id: SessionId,
        mut rest: Rest,
        steps: &mut usize,
        out: &mut impl Output<Encoded = E>,
    ) -> Option<Rest> {
        let grant = self.sessions[id.index()].grant.clone()?;
        let rules = Arc::clone(&self.limits.rules);
        let patterns = grant.subscribe.filters().map_or(0, <[Filter]>::len);
        let each = STEPS_PER_SUBSCRIPTION + rules.all().len() + patterns;
        let ended = |filter: &Filter| {
            let text = format!(
                "the subscription to {:?} has ended: it is not permitted any more",
                filter.as_str()
            );
            Refusal::new(Code::Forbidden, text)
        };
        let before = self.stats.subscriptions;
        rest.memberships = rest.memberships.min(self.sessions[id.index()].memberships.len());
        while rest.memberships > 0 && *steps > 0 {
            *steps = steps.saturating_sub(each);
            rest.memberships -= 1;
            let place = rest.memberships;
            let list = self.sessions[id.index()].memberships[place].list;
            let directory = self.shared.directory(self.worker);
            let filter = self
                .index
                .filter(list, directory)
                .expect("a membership's list has a filter");
            if rules.permit_subscribe(&filter, &grant) {
                let bounds = self.usual.of_rule(rules.of_filter(&filter));
                self.index.set_bounds(&self.sessions[id.index()], place, bounds);
            } else {
                self.leave(id, place, out);
                self.refuse(id, None, &ended(&filter), out);
            }
        }
        rest.shares = rest.shares.min(self.shares.count(id));
        while rest.shares > 0 && *steps > 0 {
            *steps = steps.saturating_sub(each);
            rest.shares -= 1;
            let filter = self.shares.filter(id, rest.shares);
            if !rules.permit_subscribe(filter, &grant) {
                let share = self.shares.leave_at(id, rest.shares);
                self.end_share(&share);
                self.refuse(id, None, &ended(&share.filter), out);
            }
        }
        // A raw session has one subscription, and no other words for its end.
        if self.stats.subscriptions < before && matches!(self.sessions[id.index()].face, Face::Raw(_)) {
            let reason = close::own_reason(close::FORBIDDEN);
            out.close(id, close::FORBIDDEN, reason);
        }
        (rest.memberships > 0 || rest.shares > 0).then_some(rest)
    }
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
