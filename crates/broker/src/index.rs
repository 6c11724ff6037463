//! Which sessions of this worker subscribe to what.

use hashbrown::HashMap;
use tidecast_router::{Filter, Router, SubscriptionId, Topic};
use tidecast_wire::SlowPolicy;

use crate::session::{Membership, Session, SessionId};

/// One subscriber in a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) session: SessionId,
    /// Where in the session's memberships this list stands.
    back: u32,
    pub(crate) rendition: u8,
    pub(crate) slow: SlowPolicy,
}

/// The subscribers of one filter.
#[derive(Debug)]
struct List {
    filter: Filter,
    entries: Vec<Entry>,
    /// In this worker's index.
    local: SubscriptionId,
    /// In the router of all workers.
    global: SubscriptionId,
}

/// Filters to lists of subscribers.
///
/// Invariant: `lists[m.list].entries[m.position]` is the entry of a session with membership `m`, and that entry's
/// `back` is the place of `m` among the session's memberships. So both sides are left in constant time.
#[derive(Debug)]
pub(crate) struct Index {
    lists: Vec<Option<List>>,
    free: Vec<u32>,
    by_filter: HashMap<Filter, u32>,
    matcher: Router<u32>,
}

impl Index {
    pub(crate) fn new() -> Index {
        Index {
            lists: Vec::new(),
            free: Vec::new(),
            by_filter: HashMap::new(),
            matcher: Router::new(),
        }
    }

    /// The lists whose filter matches `topic`.
    pub(crate) fn matches(&self, topic: Topic<'_>) -> Vec<u32> {
        let mut lists = Vec::new();
        self.matcher.for_each_match(topic, |list| lists.push(*list));
        lists
    }

    /// The subscribers of `list`.
    #[inline]
    pub(crate) fn entries(&self, list: u32) -> &[Entry] {
        self.lists[list as usize].as_ref().map_or(&[], |list| &list.entries)
    }

    /// The list of `filter`, if anybody subscribes to it.
    pub(crate) fn find(&self, filter: &Filter) -> Option<u32> {
        self.by_filter.get(filter).copied()
    }

    /// The filter of `list`, if anybody subscribes to it.
    pub(crate) fn filter(&self, list: u32) -> Option<&Filter> {
        self.lists.get(list as usize)?.as_ref().map(|list| &list.filter)
    }

    /// Changes the policy of a session's membership at `place`.
    pub(crate) fn set_slow(&mut self, session: &Session, place: usize, slow: SlowPolicy) {
        let Membership { list, position } = session.memberships[place];
        let list = self.lists[list as usize].as_mut().expect("a membership's list exists");
        list.entries[position as usize].slow = slow;
    }

    /// The place of `list` among the session's memberships.
    pub(crate) fn membership(&self, session: &Session, list: u32) -> Option<usize> {
        session
            .memberships
            .iter()
            .position(|membership| membership.list == list)
    }

    /// Adds the session to the filter's list. `register` is called for the first subscriber of a filter and gives its
    /// place in the router of all workers.
    pub(crate) fn join(
        &mut self,
        id: SessionId,
        session: &mut Session,
        filter: &Filter,
        slow: SlowPolicy,
        register: impl FnOnce(&Filter) -> SubscriptionId,
    ) {
        let number = match self.by_filter.get(filter) {
            Some(list) => *list,
            None => {
                let number = self.free.pop().unwrap_or_else(|| {
                    self.lists.push(None);
                    (self.lists.len() - 1) as u32
                });
                self.lists[number as usize] = Some(List {
                    filter: filter.clone(),
                    entries: Vec::new(),
                    local: self.matcher.subscribe(filter, number),
                    global: register(filter),
                });
                self.by_filter.insert(filter.clone(), number);
                number
            }
        };
        let list = self.lists[number as usize]
            .as_mut()
            .expect("a list in `by_filter` exists");
        let position = list.entries.len() as u32;
        list.entries.push(Entry {
            session: id,
            back: session.memberships.len() as u32,
            rendition: session.rendition,
            slow,
        });
        session.memberships.push(Membership { list: number, position });
    }

    /// Takes the session's membership at `place` out. `unregister` is called when the filter has no subscriber left.
    pub(crate) fn leave(
        &mut self,
        sessions: &mut [Session],
        id: SessionId,
        place: usize,
        unregister: impl FnOnce(&Filter, SubscriptionId),
    ) {
        let memberships = &mut sessions[id.index()].memberships;
        let Membership { list: number, position } = memberships.swap_remove(place);
        if let Some(moved) = memberships.get(place) {
            let list = self.lists[moved.list as usize]
                .as_mut()
                .expect("a membership's list exists");
            list.entries[moved.position as usize].back = place as u32;
        }
        let list = self.lists[number as usize]
            .as_mut()
            .expect("a membership's list exists");
        list.entries.swap_remove(position as usize);
        if let Some(moved) = list.entries.get(position as usize) {
            sessions[moved.session.index()].memberships[moved.back as usize].position = position;
        }
        if list.entries.is_empty() {
            let list = self.lists[number as usize].take().expect("it was just used");
            self.matcher.unsubscribe(&list.filter, list.local);
            self.by_filter.remove(&list.filter);
            self.free.push(number);
            unregister(&list.filter, list.global);
        }
    }

    /// Checks the invariant against all sessions.
    #[cfg(test)]
    pub(crate) fn check(&self, sessions: &[Session]) {
        let mut memberships = 0;
        for (i, session) in sessions.iter().enumerate() {
            for (place, membership) in session.memberships.iter().enumerate() {
                let entry = self.entries(membership.list)[membership.position as usize];
                assert_eq!((entry.session.index(), entry.back as usize), (i, place));
                memberships += 1;
            }
        }
        let entries: usize = (0..self.lists.len()).map(|list| self.entries(list as u32).len()).sum();
        assert_eq!(entries, memberships);
        assert_eq!(self.by_filter.len(), self.matcher.len());
    }
}
