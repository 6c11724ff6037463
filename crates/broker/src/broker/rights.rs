//! What sessions may do, and what is done when that changes.

use std::sync::Arc;

use tidecast_auth::Grant;
use tidecast_router::Filter;
use tidecast_wire::{Code, close};

use super::{Broker, Output, Refusal};
use crate::session::{Face, SessionId};

/// Tokens that a session may present in vain before it is closed.
const MOST_REFUSED_TOKENS: u8 = 3;

/// The number by which an output knows the limits of a rule.
pub(super) fn number_of_bounds(rule: Option<u8>) -> u8 {
    rule.map_or(0, |rule| rule + 1)
}

/// Why a client that has `grant` may not do something with a topic or filter.
pub(super) fn not_permitted(grant: &Grant, what: &str, name: &str) -> Refusal {
    match &grant.identity {
        Some(identity) => Refusal::new(Code::Forbidden, format!("{identity:?} may not {what} {name:?}")),
        None if grant.publish.is_none() && grant.subscribe.is_none() => Refusal::new(
            Code::Unauthorized,
            format!("credentials are needed to {what} {name:?}: send them with auth, or when connecting"),
        ),
        None => Refusal::new(
            Code::Forbidden,
            format!("without other credentials nobody may {what} {name:?}"),
        ),
    }
}

impl<E: Copy> Broker<E> {
    /// What a session may do.
    pub fn grant(&self, id: SessionId) -> Option<&Arc<Grant>> {
        self.sessions.get(id.index())?.grant.as_ref()
    }

    /// Changes what a session may do. Subscriptions that it may not have any more end, and it is told so.
    pub fn set_grant(&mut self, id: SessionId, grant: Arc<Grant>, out: &mut impl Output<Encoded = E>) {
        self.sessions[id.index()].grant = Some(grant);
        self.review(id, out);
    }

    /// A token of a session was refused. Judging one can cost more than all else that a client may ask for.
    pub(super) fn count_refused_token(&mut self, id: SessionId, out: &mut impl Output<Encoded = E>) {
        let refused = &mut self.sessions[id.index()].refused_tokens;
        *refused = refused.saturating_add(1);
        if *refused == MOST_REFUSED_TOKENS {
            let reason = close::own_reason(close::UNAUTHORIZED);
            out.close(id, close::UNAUTHORIZED, reason);
        }
    }

    /// Looks again at what a session subscribes to, now that rules or its rights have changed.
    pub(super) fn review(&mut self, id: SessionId, out: &mut impl Output<Encoded = E>) {
        let Some(grant) = self.sessions[id.index()].grant.clone() else {
            return;
        };
        let rules = Arc::clone(&self.limits.rules);
        let ended = |filter: &Filter| {
            let text = format!(
                "the subscription to {:?} has ended: it is not permitted any more",
                filter.as_str()
            );
            Refusal::new(Code::Forbidden, text)
        };
        let before = self.stats.subscriptions;
        // From behind: the last takes the place of one that is left.
        for place in (0..self.sessions[id.index()].memberships.len()).rev() {
            let list = self.sessions[id.index()].memberships[place].list;
            let directory = self.shared.directory(self.worker);
            let filter = self
                .index
                .filter(list, directory)
                .expect("a membership's list has a filter");
            if rules.permit_subscribe(&filter, &grant) {
                let bounds = number_of_bounds(rules.of_filter(&filter));
                self.index.set_bounds(&self.sessions[id.index()], place, bounds);
            } else {
                self.leave(id, place, out);
                self.refuse(id, None, &ended(&filter), out);
            }
        }
        for filter in self.shares.filters(id) {
            if !rules.permit_subscribe(&filter, &grant)
                && let Some(share) = self.shares.leave(id, &filter)
            {
                self.end_share(&share);
                self.refuse(id, None, &ended(&filter), out);
            }
        }
        // A raw session has one subscription, and no other words for its end.
        if self.stats.subscriptions < before && matches!(self.sessions[id.index()].face, Face::Raw(_)) {
            let reason = close::own_reason(close::FORBIDDEN);
            out.close(id, close::FORBIDDEN, reason);
        }
    }
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;
