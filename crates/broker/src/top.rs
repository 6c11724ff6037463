//! Which topics are published to most: a sketch, for there may be more topics than could be counted one by one.
//!
//! One message stands for all since the one before that did. Which ones do is left to chance, since publishers that go around their
//! topics would have the same ones counted always. The first of each turn of the caller's loop stands for itself, so that
//! few messages are counted exactly. What is counted goes into a *Space-Saving* summary (Metwally, Agrawal, El Abbadi: Efficient
//! Computation of Frequent and Top-k Elements in Data Streams, 2005): when there is no place for another topic, it takes that
//! of the one with the fewest messages, along with its count, which is noted as what it may have been overestimated by.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Topics that are counted at a time. Any topic with more than this part of all messages is among them.
const PLACES: usize = 256;
/// As many messages as one stands for, on average.
const STRIDE: u32 = 64;

/// How much was published to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCount {
    /// The topic.
    pub topic: String,
    /// Messages, about; never fewer than there were, as far as one stands for many.
    pub messages: u64,
    /// Octets of their payloads, about.
    pub octets: u64,
    /// How many of the messages may have been for other topics.
    pub error: u64,
}

/// The topics that are published to most.
#[derive(Debug)]
pub(crate) struct Top {
    hasher: RandomState,
    places: HashTable<u16>,
    /// Messages by place; by themselves, for the least of them is looked for often.
    messages: Vec<u64>,
    counts: Vec<Count>,
    /// Messages until the next one that is counted: what each of them costs is to count this down.
    until_next: u32,
    /// If that one is the first of a turn, which stands for itself: messages from there until one that stands for many.
    after_first: Option<u32>,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Count {
    topic: String,
    octets: u64,
    error: u64,
}

impl Default for Top {
    fn default() -> Top {
        Top {
            hasher: RandomState::new(),
            places: HashTable::new(),
            messages: Vec::new(),
            counts: Vec::new(),
            until_next: 1,
            after_first: Some(STRIDE),
            random: fastrand::Rng::with_seed(1),
        }
    }
}

impl Top {
    /// A turn begins: its first message is counted.
    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        if self.after_first.is_none() {
            self.after_first = Some(std::mem::replace(&mut self.until_next, 1));
        }
    }

    /// A message of so many octets was published.
    #[inline]
    pub(crate) fn count(&mut self, topic: &str, octets: usize) {
        self.until_next -= 1;
        if self.until_next == 0 {
            self.count_this(topic, octets as u64);
        }
    }

    #[cold]
    fn count_this(&mut self, topic: &str, octets: u64) {
        if let Some(after) = self.after_first.take() {
            self.until_next = after;
            return self.add(topic, 1, octets);
        }
        self.until_next = self.random.u32(1..2 * STRIDE);
        self.add(topic, STRIDE.into(), octets * u64::from(STRIDE));
    }

    fn add(&mut self, topic: &str, messages: u64, octets: u64) {
        let Top {
            hasher, places, counts, ..
        } = self;
        let hash = hasher.hash_one(topic);
        if let Some(&place) = places.find(hash, |place| counts[usize::from(*place)].topic == topic) {
            self.messages[usize::from(place)] += messages;
            counts[usize::from(place)].octets += octets;
            return;
        }
        let place = if counts.len() < PLACES {
            counts.push(Count {
                topic: topic.to_owned(),
                octets,
                error: 0,
            });
            self.messages.push(messages);
            counts.len() - 1
        } else {
            let least = self.messages.iter().enumerate().min_by_key(|(_, count)| **count);
            let (place, &error) = least.expect("there are places");
            let count = &mut counts[place];
            let entry = places.find_entry(hasher.hash_one(count.topic.as_str()), |other| {
                usize::from(*other) == place
            });
            entry.expect("every count has its place").remove();
            count.topic.clear();
            count.topic.push_str(topic);
            (count.octets, count.error) = (octets, error);
            self.messages[place] += messages;
            place
        };
        places.insert_unique(hash, place as u16, |place| {
            hasher.hash_one(counts[usize::from(*place)].topic.as_str())
        });
    }

    /// What was counted since this was asked last, in no order.
    pub(crate) fn take(&mut self) -> Vec<TopicCount> {
        self.places.clear();
        let messages = self.messages.drain(..);
        let counts = self.counts.drain(..).zip(messages);
        let counts = counts.map(|(count, messages)| TopicCount {
            topic: count.topic,
            messages,
            octets: count.octets,
            error: count.error,
        });
        counts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(counts: &[TopicCount], topic: &str) -> Option<TopicCount> {
        counts.iter().find(|count| count.topic == topic).cloned()
    }

    #[test]
    fn few_messages_are_counted_exactly() {
        let mut top = Top::default();
        for (topic, octets) in [("a", 10), ("b", 20), ("a", 30)] {
            top.begin_turn();
            top.count(topic, octets);
        }
        let counts = top.take();
        let a = find(&counts, "a").unwrap();
        assert_eq!((a.messages, a.octets, a.error), (2, 40, 0));
        assert_eq!(find(&counts, "b").unwrap().messages, 1);
        assert!(top.take().is_empty(), "each message is told once");
    }

    #[test]
    fn of_many_messages_in_a_turn_some_stand_for_all() {
        let mut top = Top::default();
        top.begin_turn();
        for number in 0..64_000 {
            top.count(if number % 10 < 7 { "most" } else { "some" }, 100);
        }
        let counts = top.take();
        let share = |topic| find(&counts, topic).map_or(0, |count| count.messages) as f64 / 64_000.0;
        assert!((share("most") - 0.7).abs() < 0.05, "{}", share("most"));
        assert!((share("some") - 0.3).abs() < 0.05, "{}", share("some"));
    }

    #[test]
    fn what_is_published_to_most_is_found_among_any_number_of_topics() {
        let mut top = Top::default();
        for number in 0..100_000_u32 {
            top.begin_turn();
            // Every hundredth: more than one in as many as there are places.
            let topic = if number % 100 == 0 {
                "hot".to_owned()
            } else {
                format!("cold/{number}")
            };
            top.count(&topic, 1);
        }
        let counts = top.take();
        assert_eq!(counts.len(), PLACES);
        let hot = find(&counts, "hot").expect("it is there");
        assert!(hot.messages >= 1000 && hot.messages - hot.error <= 1000, "{hot:?}");
        let most = counts.iter().max_by_key(|count| count.messages - count.error).unwrap();
        assert_eq!(most.topic, "hot");
    }
}
