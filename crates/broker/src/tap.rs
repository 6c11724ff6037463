//! Operators who look at what is published.

use std::fmt;
use std::sync::Arc;

use tidecast_router::{Filter, Limits, Topic};

use crate::message::Message;

/// The most taps of a worker: each is asked about every message.
pub const MOST_TAPS: usize = 16;

/// Somebody who looks at what is published to some topics.
#[derive(Clone)]
pub struct Tap {
    /// Names it.
    pub id: u64,
    /// The topics.
    pub filter: Filter,
    /// Is shown each message, on the worker's thread: it must not block, nor take long.
    pub show: Arc<dyn Fn(&Message<'_>) + Send + Sync>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({}, {:?})", self.id, self.filter.as_str())
    }
}

/// Those who look at what is published on a worker.
#[derive(Debug, Default)]
pub(crate) struct Taps(Vec<Tap>);

impl Taps {
    /// Adds one, unless there are as many as there may be. One of the same name is replaced.
    pub(crate) fn open(&mut self, tap: Tap) -> bool {
        self.close(tap.id);
        let has_room = self.0.len() < MOST_TAPS;
        if has_room {
            self.0.push(tap);
        }
        has_room
    }

    /// Takes one out.
    pub(crate) fn close(&mut self, id: u64) {
        self.0.retain(|tap| tap.id != id);
    }

    /// Shows a message to those who look at its topic, which is valid by these limits.
    #[inline]
    pub(crate) fn show(&self, message: &Message<'_>, limits: &Limits) {
        if !self.0.is_empty() {
            self.show_each(message, limits);
        }
    }

    #[cold]
    fn show_each(&self, message: &Message<'_>, limits: &Limits) {
        let Ok(topic) = Topic::parse(message.topic, limits) else {
            return;
        };
        for tap in self.0.iter().filter(|tap| tap.filter.matches(topic)) {
            (tap.show)(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tidecast_wire::Kind;

    use super::*;

    #[test]
    fn a_tap_is_shown_what_its_filter_matches_until_it_is_closed() {
        let (mut taps, limits) = (Taps::default(), Limits::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let tap = |id| Tap {
            id,
            filter: Filter::parse("a/+", &limits).unwrap(),
            show: Arc::new({
                let sink = Arc::clone(&sink);
                move |message| sink.lock().unwrap().push((id, message.topic.to_owned()))
            }),
        };
        let show = |taps: &Taps, topic| {
            let message = Message {
                topic,
                payload: b"",
                kind: Kind::Text,
                key: None,
            };
            taps.show(&message, &limits);
        };
        assert!(taps.open(tap(1)) && taps.open(tap(2)));
        show(&taps, "a/b");
        show(&taps, "b");
        taps.close(1);
        show(&taps, "a/c");
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(
            seen,
            [(1, "a/b".to_owned()), (2, "a/b".to_owned()), (2, "a/c".to_owned())]
        );
        for id in 0..MOST_TAPS as u64 {
            assert!(taps.open(tap(id)), "renewing {id} is no other one");
        }
        assert!(!taps.open(tap(99)));
    }
}
