//! Which sessions of this worker subscribe to what.

use tidecast_router::{Filter, FilterHash, SubscriptionId};
use tidecast_wire::SlowPolicy;

use crate::directory::Directory;
use crate::rules::BoundsId;
use crate::session::{Membership, Session, SessionId};
use crate::slab::Slab;

/// One subscriber in a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) session: SessionId,
    /// Where in the session's memberships this list stands.
    back: u32,
    pub(crate) rendition: u8,
    pub(crate) slow: SlowPolicy,
    /// The limits that hold for what waits.
    pub(crate) bounds: BoundsId,
}

/// The subscribers of one filter. Of most filters there is one: that needs no memory of its own.
#[derive(Debug)]
enum Entries {
    One(Entry),
    /// Number of an array of the index.
    Many(u32),
}

/// What a list is the list of.
enum Of {
    /// A filter without wildcards, whose text is in the router only.
    Exact(FilterHash),
    /// Number of a filter of the index.
    Wild(u32),
}

/// The same in one word: a number, and the highest bit if it is that of a wild one.
#[derive(Clone, Copy, Debug)]
struct Name(u32);

const WILD: u32 = 1 << 31;
const _: () = assert!(FilterHash::BITS < u32::BITS);

impl Name {
    fn new(of: Of) -> Name {
        match of {
            Of::Exact(hash) => Name(hash.get()),
            Of::Wild(number) => {
                assert!(number < WILD, "fewer filters than fit in memory");
                Name(number | WILD)
            }
        }
    }

    fn of(self) -> Of {
        if self.0 & WILD == 0 {
            Of::Exact(FilterHash::from_number(self.0))
        } else {
            Of::Wild(self.0 & !WILD)
        }
    }
}

/// The subscribers of one filter.
#[derive(Debug)]
struct List {
    name: Name,
    entries: Entries,
}

// What a filter and each of its subscribers cost here; see the sum in the documentation of the crate.
const _: () = assert!(size_of::<Option<List>>() <= 16 && size_of::<Entry>() <= 12);

/// A filter with wildcards. The router leads to these by their levels, and back from a list it does not lead.
#[derive(Debug)]
struct Wild {
    filter: Filter,
    /// In the router of all workers.
    id: SubscriptionId,
}

/// What a subscription takes, in octets, as measured; see the sum in the documentation of the crate. Of what depends on
/// other filters the most is counted: levels that no other filter has.
const MEMBER: usize = 24;
const EXACT: usize = 80;
const WILD_LEVEL: usize = 100;

/// What a list of `filter` takes before anybody is in it.
fn list_memory(filter: &Filter) -> usize {
    let text = filter.as_str();
    if filter.is_exact() {
        EXACT - MEMBER + text.len()
    } else {
        // It is kept by the index too.
        WILD_LEVEL * (1 + text.matches('/').count()) + 2 * text.len()
    }
}

/// Why a list that is named exists.
const OF_ROUTER: &str = "a list in the router exists";
const OF_MEMBERSHIP: &str = "a membership's list exists";
const OF_LIST: &str = "what a list names exists";

/// Lists of subscribers. The router of all workers leads from topics and filters to their numbers.
///
/// Invariant: `lists[m.list].entries[m.position]` is the entry of a session with membership `m`, and that entry's
/// `back` is the place of `m` among the session's memberships. So both sides are left in constant time.
#[derive(Debug, Default)]
pub(crate) struct Index {
    lists: Slab<List>,
    many: Slab<Vec<Entry>>,
    wild: Slab<Wild>,
    memory: usize,
}

impl Index {
    /// Octets that all subscriptions take.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// What one more subscriber to `filter` takes, `list` being its list.
    pub(crate) fn memory_of(filter: &Filter, list: Option<u32>) -> usize {
        MEMBER + list.map_or_else(|| list_memory(filter), |_| 0)
    }

    /// The subscribers of `list`.
    #[inline]
    pub(crate) fn entries(&self, list: u32) -> &[Entry] {
        match self.lists.get(list) {
            None => &[],
            Some(List {
                entries: Entries::One(entry),
                ..
            }) => std::slice::from_ref(entry),
            Some(List {
                entries: Entries::Many(many),
                ..
            }) => self.many.get(*many).expect(OF_LIST),
        }
    }

    /// The subscribers of a membership's list.
    fn entries_mut(&mut self, list: u32) -> &mut [Entry] {
        match &mut self.lists.get_mut(list).expect(OF_MEMBERSHIP).entries {
            Entries::One(entry) => std::slice::from_mut(entry),
            Entries::Many(many) => self.many.get_mut(*many).expect(OF_LIST),
        }
    }

    /// The filter of `list`, if anybody subscribes to it.
    pub(crate) fn filter(&self, list: u32, directory: Directory<'_>) -> Option<Filter> {
        match self.lists.get(list)?.name.of() {
            Of::Exact(hash) => directory.filter(hash, list).map(|(filter, _)| filter),
            Of::Wild(wild) => self.wild.get(wild).map(|wild| wild.filter.clone()),
        }
    }

    /// The policy of a session's membership at `place`.
    pub(crate) fn slow(&self, session: &Session, place: usize) -> SlowPolicy {
        let Membership { list, position } = session.memberships[place];
        self.entries(list)[position as usize].slow
    }

    /// A number above those of all lists.
    pub(crate) fn number_after_last(&self) -> u32 {
        self.lists.end()
    }

    /// Changes the policy of a session's membership at `place`.
    pub(crate) fn set_slow(&mut self, session: &Session, place: usize, slow: SlowPolicy) {
        let Membership { list, position } = session.memberships[place];
        self.entries_mut(list)[position as usize].slow = slow;
    }

    /// Changes the limits of a session's membership at `place`.
    pub(crate) fn set_bounds(&mut self, session: &Session, place: usize, bounds: BoundsId) {
        let Membership { list, position } = session.memberships[place];
        self.entries_mut(list)[position as usize].bounds = bounds;
    }

    /// The place of `list` among the session's memberships.
    pub(crate) fn membership(&self, session: &Session, list: u32) -> Option<usize> {
        session
            .memberships
            .iter()
            .position(|membership| membership.list == list)
    }

    /// Adds the session to `list`, which is that of `filter`, or to a new one if there is none.
    pub(crate) fn join(
        &mut self,
        id: SessionId,
        session: &mut Session,
        (filter, list): (&Filter, Option<u32>),
        (slow, bounds): (SlowPolicy, BoundsId),
        directory: Directory<'_>,
    ) {
        let entry = Entry {
            session: id,
            back: session.memberships.len() as u32,
            rendition: session.rendition,
            slow,
            bounds,
        };
        self.memory += Index::memory_of(filter, list);
        let membership = match list {
            Some(list) => Membership {
                list,
                position: self.push(list, entry),
            },
            None => Membership {
                list: self.found(filter, entry, directory),
                position: 0,
            },
        };
        session.join(membership);
    }

    /// Adds an entry to a list, and gives its position.
    fn push(&mut self, list: u32, entry: Entry) -> u32 {
        let entries = &mut self.lists.get_mut(list).expect(OF_ROUTER).entries;
        match entries {
            Entries::One(first) => {
                *entries = Entries::Many(self.many.insert(vec![*first, entry]));
                1
            }
            Entries::Many(many) => {
                let many = self.many.get_mut(*many).expect(OF_LIST);
                many.push(entry);
                many.len() as u32 - 1
            }
        }
    }

    /// A new list.
    fn found(&mut self, filter: &Filter, entry: Entry, directory: Directory<'_>) -> u32 {
        let number = self.lists.next();
        let id = directory.add(filter, number);
        let of = match directory.router.hash(filter) {
            Some(hash) => Of::Exact(hash),
            None => {
                let filter = filter.clone();
                Of::Wild(self.wild.insert(Wild { filter, id }))
            }
        };
        self.lists.insert(List {
            name: Name::new(of),
            entries: Entries::One(entry),
        })
    }

    /// Takes the session's membership at `place` out, and with the last one of a list the list.
    pub(crate) fn leave(&mut self, sessions: &mut [Session], id: SessionId, place: usize, directory: Directory<'_>) {
        let memberships = &mut sessions[id.index()].memberships;
        let Membership { list: number, position } = memberships.swap_remove(place);
        self.memory -= MEMBER;
        if let Some(moved) = memberships.get(place) {
            self.entries_mut(moved.list)[moved.position as usize].back = place as u32;
        }
        let list = self.lists.get_mut(number).expect(OF_MEMBERSHIP);
        match list.entries {
            Entries::Many(many) => {
                let entries = self.many.get_mut(many).expect(OF_LIST);
                // The last one takes its position.
                entries.swap_remove(position as usize);
                if let Some(moved) = entries.get(position as usize) {
                    sessions[moved.session.index()].memberships[moved.back as usize].position = position;
                }
                if let [last] = entries[..] {
                    list.entries = Entries::One(last);
                    self.many.remove(many);
                }
            }
            Entries::One(_) => self.end(number, directory),
        }
    }

    /// Ends a list that has nobody left.
    fn end(&mut self, number: u32, directory: Directory<'_>) {
        let list = self.lists.remove(number).expect(OF_MEMBERSHIP);
        let (filter, id) = match list.name.of() {
            Of::Exact(hash) => directory.filter(hash, number).expect("a list is in the router"),
            Of::Wild(wild) => {
                let Wild { filter, id } = self.wild.remove(wild).expect(OF_LIST);
                (filter, id)
            }
        };
        self.memory -= list_memory(&filter);
        directory.remove(&filter, id);
    }

    /// Checks the invariant against all sessions, and that lists and router lead to each other.
    #[cfg(test)]
    pub(crate) fn check(&self, sessions: &[Session], directory: Directory<'_>) {
        let mut memberships = 0;
        for (i, session) in sessions.iter().enumerate() {
            for (place, membership) in session.memberships.iter().enumerate() {
                let entry = self.entries(membership.list)[membership.position as usize];
                assert_eq!((entry.session.index(), entry.back as usize), (i, place));
                memberships += 1;
            }
        }
        let entries: usize = self.lists.iter().map(|(list, _)| self.entries(list).len()).sum();
        assert_eq!(entries, memberships);
        let (mut many, mut wild) = (0, 0);
        for (number, list) in self.lists.iter() {
            let filter = self.filter(number, directory).expect("a list has a filter");
            assert_eq!(directory.list(&filter), Some(number));
            many += usize::from(matches!(list.entries, Entries::Many(_)));
            wild += usize::from(matches!(list.name.of(), Of::Wild(_)));
        }
        let lists = self
            .lists
            .iter()
            .filter_map(|(number, _)| self.filter(number, directory));
        let memory: usize = lists.map(|filter| list_memory(&filter)).sum();
        assert_eq!(self.memory, memory + memberships * MEMBER);
        assert_eq!((many, wild), (self.many.iter().count(), self.wild.iter().count()));
    }
}
