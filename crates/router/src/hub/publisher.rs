//! Publishing to one topic, without asking the router each time.

use std::fmt;
use std::sync::Arc;

use super::Owner;
use super::inner::{Inner, Outgoing, Sink};
use crate::group::Group;
use crate::router::Route;
use crate::topic::Topic;

/// Publishes to one topic.
///
/// It remembers where the topic leads, and asks again when anybody has subscribed or unsubscribed
/// in the hub since: a publish then costs one look at a number more than the deliveries. A
/// subscription that was dropped meanwhile is kept in memory until the next publish.
pub struct Publisher<T: Send + Sync + 'static> {
    owner: Arc<Owner<T>>,
    /// Checked when the publisher was made.
    topic: Box<str>,
    /// The router's generation before it was asked; `None` before the first time.
    generation: Option<u64>,
    sinks: Vec<Sink<T>>,
    groups: Vec<Group<Sink<T>>>,
}

impl<T: Send + Sync + 'static> Publisher<T> {
    pub(super) fn new(owner: Arc<Owner<T>>, topic: Box<str>) -> Self {
        Publisher {
            owner,
            topic,
            generation: None,
            sinks: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// As [`Hub::publish`](crate::Hub::publish), to this topic.
    pub fn publish(&mut self, value: T) -> usize {
        let hub = &self.owner.0;
        if hub.is_closed() {
            return 0;
        }
        // Before asking: a change in between makes the answer look old, never new.
        let generation = hub.router().generation();
        if self.generation != Some(generation) {
            let topic = Self::parse(&self.topic, hub);
            resolve(hub, topic, &mut self.sinks, &mut self.groups);
            self.generation = Some(generation);
        }
        let mut outgoing = Outgoing::new(&self.topic, value);
        let mut reached = 0;
        if !self.groups.is_empty() {
            let topic = Self::parse(&self.topic, hub);
            for group in &self.groups {
                reached += hub.deliver_to_one(group, topic, &mut outgoing);
            }
        }
        if let Some((last, others)) = self.sinks.split_last() {
            for sink in others {
                reached += sink.deliver(&mut outgoing);
            }
            reached += last.deliver_last(outgoing);
        }
        reached
    }

    fn parse<'t>(topic: &'t str, hub: &Inner<T>) -> Topic<'t> {
        Topic::parse(topic, hub.limits()).expect("it was checked when the publisher was made")
    }
}

#[cold]
fn resolve<T: Send + Sync + 'static>(
    hub: &Inner<T>,
    topic: Topic<'_>,
    sinks: &mut Vec<Sink<T>>,
    groups: &mut Vec<Group<Sink<T>>>,
) {
    sinks.clear();
    groups.clear();
    hub.router().for_each_route(topic, |route| match route {
        Route::One(sink) if sink.takes(topic) => sinks.push(sink.clone()),
        Route::One(_) => {}
        Route::Group(group) => groups.push(group.clone()),
    });
}

impl<T: Send + Sync + 'static> Clone for Publisher<T> {
    fn clone(&self) -> Self {
        Publisher {
            owner: Arc::clone(&self.owner),
            topic: self.topic.clone(),
            generation: self.generation,
            sinks: self.sinks.clone(),
            groups: self.groups.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
