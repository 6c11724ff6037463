//! Answers that are kept for as long as they are good.

use std::hash::{Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use tidecast_broker::auth::{Event, Ruling};
use tidecast_websocket::Millis;

/// For whom an answer is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Every connection of this identity.
    Identity(Arc<str>),
    /// The one connection that has this slot and generation, as long as it speaks for a client at this address, which a proxy may
    /// change with every request: it has no identity.
    Connection(u32, u32, IpAddr),
}

/// What was asked, as it is kept.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    who: Who,
    event: Event,
    topic: Box<str>,
}

/// The same as it is looked for.
#[derive(Hash)]
struct Wanted<'a> {
    who: &'a Who,
    event: Event,
    topic: &'a str,
}

impl Equivalent<Key> for Wanted<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.who == key.who && self.event == key.event && *self.topic == *key.topic
    }
}

/// Yes, or no and why.
type Answer = Result<(), Box<str>>;

#[derive(Debug)]
struct Kept {
    answer: Answer,
    until: Millis,
}

/// A bounded memory of answers. There are two halves: new answers go to the one, and when that is full it becomes the
/// other one, whose answers are forgotten. What is looked up on the way moves with it.
#[derive(Debug)]
pub(crate) struct Verdicts {
    young: HashMap<Key, Kept, RandomState>,
    old: HashMap<Key, Kept, RandomState>,
    /// How many answers each half can have.
    half: usize,
}

impl Verdicts {
    /// With room for at least `most / 2` and at most `most` answers.
    pub(crate) fn new(most: usize) -> Verdicts {
        Verdicts {
            young: HashMap::default(),
            old: HashMap::default(),
            half: most / 2,
        }
    }

    /// What was answered, if that is still good.
    pub(crate) fn get(&mut self, who: &Who, event: Event, topic: &str, now: Millis) -> Option<&Answer> {
        let wanted = Wanted { who, event, topic };
        if let Some((key, kept)) = self.old.remove_entry(&wanted) {
            self.put(key, kept);
        }
        let kept = self.young.get(&wanted)?;
        (now < kept.until).then_some(&kept.answer)
    }

    /// Keeps an answer until `until`. What an answer changes is not kept: only connections that are opened are changed,
    /// and each of them asks.
    pub(crate) fn keep(&mut self, who: Who, event: Event, topic: &str, ruling: &Ruling, until: Millis) {
        let answer = match ruling {
            Ruling::Allow(None) => Ok(()),
            Ruling::Allow(Some(_)) => return,
            Ruling::Deny(reason) => Err(reason.clone()),
        };
        let key = Key {
            who,
            event,
            topic: topic.into(),
        };
        self.old.remove(&key);
        self.put(key, Kept { answer, until });
    }

    fn put(&mut self, key: Key, kept: Kept) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, kept);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn ann() -> Who {
        Who::Identity("ann".into())
    }

    #[test]
    fn an_answer_is_kept_until_its_time_is_over() {
        let mut verdicts = Verdicts::new(8);
        verdicts.keep(ann(), Event::Publish, "a", &Ruling::Allow(None), Millis(10));
        verdicts.keep(ann(), Event::Subscribe, "a", &Ruling::Deny("no".into()), Millis(10));
        assert_eq!(verdicts.get(&ann(), Event::Publish, "a", Millis(9)), Some(&Ok(())));
        assert_eq!(
            verdicts.get(&ann(), Event::Subscribe, "a", Millis(9)),
            Some(&Err("no".into()))
        );
        assert_eq!(verdicts.get(&ann(), Event::Publish, "a", Millis(10)), None);
        verdicts.keep(ann(), Event::Publish, "a", &Ruling::Allow(None), Millis(20));
        assert_eq!(verdicts.get(&ann(), Event::Publish, "a", Millis(10)), Some(&Ok(())));
    }

    #[test]
    fn an_answer_is_good_for_what_was_asked_and_nothing_else() {
        let mut verdicts = Verdicts::new(8);
        let of = |generation, last| Who::Connection(1, generation, [192, 0, 2, last].into());
        let nobody = of(2, 1);
        verdicts.keep(ann(), Event::Publish, "a", &Ruling::Allow(None), Millis::NEVER);
        verdicts.keep(nobody.clone(), Event::Publish, "b", &Ruling::Allow(None), Millis::NEVER);
        for (who, event, topic) in [
            (Who::Identity("bob".into()), Event::Publish, "a"),
            (ann(), Event::Subscribe, "a"),
            (ann(), Event::Publish, "b"),
            (of(3, 1), Event::Publish, "b"),
            (of(2, 2), Event::Publish, "b"),
            (nobody, Event::Publish, "a"),
        ] {
            assert_eq!(
                verdicts.get(&who, event, topic, Millis(0)),
                None,
                "{who:?} {event:?} {topic}"
            );
        }
        let changes = Ruling::Allow(Some(Box::default()));
        verdicts.keep(ann(), Event::Connect, "c", &changes, Millis::NEVER);
        assert_eq!(
            verdicts.get(&ann(), Event::Connect, "c", Millis(0)),
            None,
            "changes are asked for again"
        );
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let mut verdicts = Verdicts::new(8);
        for number in 0..100 {
            let topic = number.to_string();
            verdicts.keep(ann(), Event::Publish, &topic, &Ruling::Allow(None), Millis::NEVER);
            assert!(
                verdicts.get(&ann(), Event::Publish, "0", Millis(0)).is_some(),
                "it is used all the time"
            );
            assert!(verdicts.young.len() + verdicts.old.len() <= 8);
        }
        for kept in ["99", "98", "97"] {
            assert!(
                verdicts.get(&ann(), Event::Publish, kept, Millis(0)).is_some(),
                "{kept}"
            );
        }
        assert!(verdicts.get(&ann(), Event::Publish, "50", Millis(0)).is_none());
        let mut none = Verdicts::new(0);
        none.keep(ann(), Event::Publish, "a", &Ruling::Allow(None), Millis::NEVER);
        assert!(none.get(&ann(), Event::Publish, "a", Millis(0)).is_none());
    }
}
