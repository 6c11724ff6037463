//! The answer to "who wants this topic", kept by topic until a subscription changes anywhere.

use hashbrown::HashMap;
use tidecast_router::{Group, Limits, Router, Topic, TopicError};

use crate::rules::Rules;
use crate::subscriber::Subscriber;
use crate::workers::WorkerSet;

/// Topics whose answer is kept: as many as a table of 65,536 places takes before it grows. A place has 97 bytes, and the topic
/// is apart, so this is some 9 MiB a worker.
const KEPT: usize = (1 << 16) / 8 * 7;
/// Lists and groups in these answers, of 4 to 32 bytes: a topic can be matched by many thousand filters with wildcards.
const MOST_WANTED: usize = 1 << 20;

/// Who wants a topic.
#[derive(Debug)]
pub(crate) struct Route {
    /// The router's generation before the question was asked.
    generation: u64,
    /// Workers with a subscriber.
    pub(crate) workers: WorkerSet,
    /// This worker's lists.
    pub(crate) lists: Box<[u32]>,
    /// The number of the rule that holds for it.
    pub(crate) rule: Option<u8>,
    /// Groups, of which a member each gets the message, and what sticky ones choose it by.
    pub(crate) groups: Box<[(Group<Subscriber>, u64)]>,
}

impl Route {
    fn wanted(&self) -> usize {
        self.lists.len() + self.groups.len()
    }
}

/// Routes by topic.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    kept: HashMap<Box<str>, Route>,
    /// Lists and groups in them.
    wanted: usize,
}

impl Routes {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.wanted = 0;
    }

    /// The route of `topic` on `worker`.
    ///
    /// # Errors
    /// The topic is not valid. A topic that is kept was valid before, so the check is not repeated.
    pub(crate) fn resolve(
        &mut self,
        topic: &str,
        limits: &Limits,
        rules: &Rules,
        router: &Router<Subscriber>,
        worker: u16,
    ) -> Result<&Route, TopicError> {
        // Read before asking: a change in between makes the answer look old, never new.
        let generation = router.generation();
        if self.wanted >= MOST_WANTED || (self.kept.len() >= KEPT && !self.kept.contains_key(topic)) {
            // Only a flood of distinct topics comes here, and it would not profit from any choice of victims.
            self.clear();
        }
        let ask = |topic: &str| -> Result<Route, TopicError> {
            let topic = Topic::parse(topic, limits)?;
            let mut workers = WorkerSet::EMPTY;
            let (mut lists, mut groups) = (Vec::new(), Vec::new());
            router.for_each_route(topic, |route| match route {
                tidecast_router::Route::One(subscriber) => {
                    workers.insert(subscriber.of_worker());
                    if subscriber.of_worker() == worker {
                        lists.push(subscriber.of_list());
                    }
                }
                tidecast_router::Route::Group(group) => groups.push((group.clone(), router.sticky_key(topic))),
            });
            Ok(Route {
                generation,
                workers,
                groups: groups.into(),
                lists: lists.into(),
                rule: rules.of_topic(topic),
            })
        };
        match self.kept.entry_ref(topic) {
            hashbrown::hash_map::EntryRef::Occupied(entry) => {
                let route = entry.into_mut();
                if route.generation != generation {
                    let asked = ask(topic)?;
                    self.wanted = self.wanted - route.wanted() + asked.wanted();
                    *route = asked;
                }
                Ok(route)
            }
            hashbrown::hash_map::EntryRef::Vacant(entry) => {
                let route = ask(topic)?;
                self.wanted += route.wanted();
                Ok(entry.insert_with_key(topic.into(), route))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_table_takes_what_its_documentation_says() {
        assert_eq!(size_of::<(Box<str>, Route)>() + 1, 97);
        let mut table = HashMap::<u32, ()>::new();
        table.extend((0..KEPT as u32).map(|number| (number, ())));
        assert_eq!(table.capacity(), KEPT, "it is full, and has not grown");
    }
}
