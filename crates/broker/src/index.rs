//! Which sessions of this worker subscribe to what.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use tidecast_router::{Filter, SubscriptionId};
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

/// The subscribers of one filter. Of most filters there is one: that needs no memory of its own.
#[derive(Debug)]
enum Entries {
    One([Entry; 1]),
    Many(Vec<Entry>),
}

impl Entries {
    #[inline]
    fn as_slice(&self) -> &[Entry] {
        match self {
            Entries::One(entry) => entry,
            Entries::Many(entries) => entries,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Entry] {
        match self {
            Entries::One(entry) => entry,
            Entries::Many(entries) => entries,
        }
    }

    fn push(&mut self, entry: Entry) {
        match self {
            Entries::One([first]) => *self = Entries::Many(vec![*first, entry]),
            Entries::Many(entries) => entries.push(entry),
        }
    }

    /// Takes the entry at `position` out and puts the last one in its place. Gives false if it is the only one.
    fn swap_remove(&mut self, position: usize) -> bool {
        match self {
            Entries::One(_) => false,
            Entries::Many(entries) => {
                entries.swap_remove(position);
                if let [last] = entries[..] {
                    *self = Entries::One([last]);
                }
                true
            }
        }
    }
}

/// The subscribers of one filter.
#[derive(Debug)]
struct List {
    filter: Filter,
    entries: Entries,
    /// In the router of all workers.
    global: SubscriptionId,
}

// What a subscription to a filter of its own costs here, besides the filter's text and 4 bytes in a table.
const _: () = assert!(size_of::<Option<List>>() <= 56);

/// Why a list that is named exists.
const IN_TABLE: &str = "a list in the table exists";
const OF_MEMBERSHIP: &str = "a membership's list exists";

/// Filters to lists of subscribers. The router of all workers leads from topics to the numbers of the lists.
///
/// Invariant: `lists[m.list].entries[m.position]` is the entry of a session with membership `m`, and that entry's
/// `back` is the place of `m` among the session's memberships. So both sides are left in constant time.
#[derive(Debug, Default)]
pub(crate) struct Index {
    lists: Vec<Option<List>>,
    free: Vec<u32>,
    /// Numbers of lists, by their filters.
    by_filter: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    /// The subscribers of `list`.
    #[inline]
    pub(crate) fn entries(&self, list: u32) -> &[Entry] {
        self.lists[list as usize]
            .as_ref()
            .map_or(&[], |list| list.entries.as_slice())
    }

    /// The list of `filter`, if anybody subscribes to it.
    pub(crate) fn find(&self, filter: &Filter) -> Option<u32> {
        let hash = self.hasher.hash_one(filter);
        self.by_filter
            .find(hash, |list| self.filter(*list) == Some(filter))
            .copied()
    }

    /// The filter of `list`, if anybody subscribes to it.
    pub(crate) fn filter(&self, list: u32) -> Option<&Filter> {
        self.lists.get(list as usize)?.as_ref().map(|list| &list.filter)
    }

    /// Changes the policy of a session's membership at `place`.
    pub(crate) fn set_slow(&mut self, session: &Session, place: usize, slow: SlowPolicy) {
        let Membership { list, position } = session.memberships[place];
        let list = self.lists[list as usize].as_mut().expect("a membership's list exists");
        list.entries.as_mut_slice()[position as usize].slow = slow;
    }

    /// The place of `list` among the session's memberships.
    pub(crate) fn membership(&self, session: &Session, list: u32) -> Option<usize> {
        session
            .memberships
            .iter()
            .position(|membership| membership.list == list)
    }

    /// Adds the session to the filter's list. `register` is called for the first subscriber of a filter, with the number of
    /// the list, and gives its place in the router of all workers.
    pub(crate) fn join(
        &mut self,
        id: SessionId,
        session: &mut Session,
        filter: &Filter,
        slow: SlowPolicy,
        register: impl FnOnce(&Filter, u32) -> SubscriptionId,
    ) {
        let entry = Entry {
            session: id,
            back: session.memberships.len() as u32,
            rendition: session.rendition,
            slow,
        };
        let (number, position) = match self.find(filter) {
            Some(number) => {
                let entries = &mut self.lists[number as usize].as_mut().expect(IN_TABLE).entries;
                entries.push(entry);
                (number, entries.as_slice().len() as u32 - 1)
            }
            None => {
                let number = self.free.pop().unwrap_or_else(|| {
                    self.lists.push(None);
                    (self.lists.len() - 1) as u32
                });
                self.lists[number as usize] = Some(List {
                    filter: filter.clone(),
                    entries: Entries::One([entry]),
                    global: register(filter, number),
                });
                let Index {
                    lists,
                    by_filter,
                    hasher,
                    ..
                } = self;
                let hash = |list: &u32| hasher.hash_one(&lists[*list as usize].as_ref().expect(IN_TABLE).filter);
                by_filter.insert_unique(hash(&number), number, hash);
                (number, 0)
            }
        };
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
            let list = self.lists[moved.list as usize].as_mut().expect(OF_MEMBERSHIP);
            list.entries.as_mut_slice()[moved.position as usize].back = place as u32;
        }
        let list = self.lists[number as usize].as_mut().expect(OF_MEMBERSHIP);
        if list.entries.swap_remove(position as usize) {
            if let Some(moved) = list.entries.as_slice().get(position as usize) {
                sessions[moved.session.index()].memberships[moved.back as usize].position = position;
            }
            return;
        }
        let hash = self.hasher.hash_one(&list.filter);
        if let Ok(entry) = self.by_filter.find_entry(hash, |list| *list == number) {
            entry.remove();
        }
        let list = self.lists[number as usize].take().expect(OF_MEMBERSHIP);
        self.free.push(number);
        unregister(&list.filter, list.global);
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
        assert_eq!(self.by_filter.len(), self.lists.iter().flatten().count());
    }
}
