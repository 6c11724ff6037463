//! What sessions may do, and what is done when one gets other credentials.

use std::sync::Arc;

use tidecast_auth::Grant;
use tidecast_wire::{Code, close};

use super::review::Rest;
use super::{Broker, Output, Refusal};
use crate::session::SessionId;

/// Tokens that a session may present in vain before it is closed.
const MOST_REFUSED_TOKENS: u8 = 3;

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
        // One session has no more subscriptions than it may have, so all of them can be looked at.
        self.review_subscriptions(id, Rest::ALL, &mut { usize::MAX }, out);
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
}

#[cfg(test)]
#[path = "rights_tests.rs"]
pub(super) mod tests;
