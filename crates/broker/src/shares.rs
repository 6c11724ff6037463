//! Which sessions of this worker are members of groups (`$share/<group>/<filter>`).
//!
//! A group spans all workers and lives in their router; a member is one session. So unlike other subscriptions these are
//! not collected in lists: whoever publishes picks a member, and its worker delivers to that session alone.

use hashbrown::HashMap;
use tidecast_router::{Filter, SubscriptionId};

use crate::session::SessionId;
use crate::subscriber::Subscriber;

/// One session's place in one group.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) filter: Filter,
    pub(crate) id: SubscriptionId,
    token: u16,
}

/// What a share takes, in octets, besides its filter twice: here and in the router, with a group of its own, as measured.
const SHARE: usize = 1200;

/// What a share of `filter` takes.
pub(crate) fn memory_of(filter: &Filter) -> usize {
    SHARE + 2 * filter.as_str().len()
}

/// The shares of all sessions. Beside the sessions, as few have any.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    by_session: HashMap<SessionId, Vec<Share>>,
    next_token: u16,
    memory: usize,
}

impl Shares {
    /// Octets that all shares take.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// How many shares a session has.
    pub(crate) fn count(&self, session: SessionId) -> usize {
        self.by_session.get(&session).map_or(0, Vec::len)
    }

    /// Whether a session is a member of the group of `filter`.
    pub(crate) fn contains(&self, session: SessionId, filter: &Filter) -> bool {
        let shares = self.by_session.get(&session);
        shares.is_some_and(|shares| shares.iter().any(|share| share.filter == *filter))
    }

    /// The filters of a session's shares.
    pub(crate) fn filters(&self, session: SessionId) -> Vec<Filter> {
        let shares = self.by_session.get(&session).into_iter().flatten();
        shares.map(|share| share.filter.clone()).collect()
    }

    /// The filter of a session's share at `place`, which is below [`Shares::count`].
    pub(crate) fn filter(&self, session: SessionId, place: usize) -> &Filter {
        &self.by_session[&session][place].filter
    }

    /// Adds a share. `register` is given what stands for it in the router of all workers.
    pub(crate) fn join(
        &mut self,
        worker: u16,
        session: SessionId,
        filter: &Filter,
        register: impl FnOnce(Subscriber) -> SubscriptionId,
    ) {
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        let share = Share {
            filter: filter.clone(),
            id: register(Subscriber::member(worker, session, token)),
            token,
        };
        self.memory += memory_of(filter);
        self.by_session.entry(session).or_default().push(share);
    }

    /// Takes a share out.
    pub(crate) fn leave(&mut self, session: SessionId, filter: &Filter) -> Option<Share> {
        let shares = self.by_session.get(&session)?;
        let place = shares.iter().position(|share| share.filter == *filter)?;
        Some(self.leave_at(session, place))
    }

    /// Takes the share at `place`, which is below [`Shares::count`], out; the last one takes its place.
    pub(crate) fn leave_at(&mut self, session: SessionId, place: usize) -> Share {
        let shares = self.by_session.get_mut(&session).expect("it has shares");
        let share = shares.swap_remove(place);
        if shares.is_empty() {
            self.by_session.remove(&session);
        }
        self.memory -= memory_of(&share.filter);
        share
    }

    /// Takes all of a session's shares out.
    pub(crate) fn leave_all(&mut self, session: SessionId) -> Vec<Share> {
        let shares = self.by_session.remove(&session).unwrap_or_default();
        self.memory -= shares.iter().map(|share| memory_of(&share.filter)).sum::<usize>();
        shares
    }

    /// Whether `member`, picked a moment ago on some worker, still is one.
    pub(crate) fn is_member(&self, member: Subscriber) -> bool {
        let shares = self.by_session.get(&member.session());
        shares.is_some_and(|shares| shares.iter().any(|share| share.token == member.token()))
    }
}
