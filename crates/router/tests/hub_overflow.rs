//! Each policy on overflow against a model, and against threads.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use tidecast_router::{Hub, Overflow, Received, RecvError, SubscribeOptions, Subscription, TryRecvError};

const TOPICS: [&str; 3] = ["t/a", "t/b", "t/c"];

/// How messages replace each other with [`Overflow::Latest`].
#[derive(Debug, Clone, Copy)]
enum Keys {
    Topic,
    /// The value divided by this.
    Quotient(u64),
}

impl Keys {
    fn of(self, topic: usize, value: u64) -> u64 {
        match self {
            Keys::Topic => topic as u64,
            Keys::Quotient(divisor) => value / divisor,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    Value(u64),
    Lagged(u64),
    Empty,
    Overflowed,
}

/// What a queue of one policy does, told plainly.
struct Model {
    overflow: Overflow,
    capacity: usize,
    keys: Keys,
    /// Topic, value, and how many were dropped just before it.
    queue: VecDeque<(usize, u64, u64)>,
    /// Taken from the queue to tell what was dropped before it.
    held: Option<u64>,
    lost: u64,
    overflowed: bool,
}

impl Model {
    fn push(&mut self, topic: usize, value: u64) -> bool {
        let full = self.queue.len() == self.capacity;
        match self.overflow {
            Overflow::Close => {
                self.overflowed |= full;
                if self.overflowed {
                    return false;
                }
                self.queue.push_back((topic, value, 0));
            }
            Overflow::DropNew if full => {
                self.lost += 1;
                return false;
            }
            Overflow::DropNew => {
                self.queue.push_back((topic, value, self.lost));
                self.lost = 0;
            }
            Overflow::DropOld => {
                if full {
                    self.queue.pop_front();
                    self.lost += 1;
                }
                self.queue.push_back((topic, value, 0));
            }
            _ => {
                let key = self.keys.of(topic, value);
                let keys = self.keys;
                match self
                    .queue
                    .iter_mut()
                    .find(|(topic, value, _)| keys.of(*topic, *value) == key)
                {
                    Some(entry) => {
                        *entry = (topic, value, 0);
                        self.lost += 1;
                    }
                    None => {
                        if full {
                            self.queue.pop_front();
                            self.lost += 1;
                        }
                        self.queue.push_back((topic, value, 0));
                    }
                }
            }
        }
        true
    }

    fn take(&mut self) -> Got {
        if let Some(value) = self.held.take() {
            return Got::Value(value);
        }
        // Only `DropNew` drops what would have come later than what is queued.
        if self.overflow != Overflow::DropNew || self.queue.is_empty() {
            match std::mem::take(&mut self.lost) {
                0 => {}
                lost => return Got::Lagged(lost),
            }
        }
        match self.queue.pop_front() {
            Some((_, value, 0)) => Got::Value(value),
            Some((_, value, before)) => {
                self.held = Some(value);
                Got::Lagged(before)
            }
            None if self.overflowed => Got::Overflowed,
            None => Got::Empty,
        }
    }
}

fn take(subscription: &mut Subscription<u64>) -> Got {
    match subscription.try_recv() {
        Ok(Received::Message(message)) => Got::Value(*message),
        Ok(Received::Lagged(count)) => Got::Lagged(count),
        Err(TryRecvError::Empty) => Got::Empty,
        Err(TryRecvError::Ended(RecvError::Overflowed)) => Got::Overflowed,
        Err(error) => panic!("{error}"),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    Receive,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![(0..TOPICS.len()).prop_map(Step::Publish), Just(Step::Receive)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_queue_does_what_its_policy_says(
        overflow in prop::sample::select(vec![
            Overflow::Close, Overflow::DropNew, Overflow::DropOld, Overflow::Latest
        ]),
        // A queue in common with others, or one of its own.
        own in any::<bool>(),
        keys in prop_oneof![Just(Keys::Topic), (1..20_u64).prop_map(Keys::Quotient)],
        capacity in 1..6_usize,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let hub = Hub::new();
        let mut options = SubscribeOptions::new().capacity(capacity).overflow(overflow);
        if let Keys::Quotient(divisor) = keys {
            options = options.key(move |_, value| value / divisor);
        }
        let mut subscription = if own {
            hub.subscribe_all(["t/+"], options)
        } else {
            hub.subscribe("t/+", options)
        }
        .expect("a filter");
        let queue = VecDeque::new();
        let mut model = Model { overflow, capacity, keys, queue, held: None, lost: 0, overflowed: false };
        for (value, step) in (0..).zip(steps) {
            match step {
                Step::Publish(topic) => {
                    let reached = hub.publish(TOPICS[topic], value).expect("a topic");
                    // A reader of a feed is reached even if it lags.
                    prop_assert_eq!(reached == 1, model.push(topic, value));
                }
                Step::Receive => prop_assert_eq!(take(&mut subscription), model.take()),
            }
        }
        loop {
            let got = take(&mut subscription);
            prop_assert_eq!(got, model.take());
            if matches!(got, Got::Empty | Got::Overflowed) {
                break;
            }
        }
    }

    #[test]
    fn readers_of_one_feed_lag_each_by_its_own_capacity(
        capacities in prop::collection::vec(5..9_usize, 1..4),
        steps in prop::collection::vec(prop::option::of(0..4_usize), 0..200),
    ) {
        let hub = Hub::new();
        let mut readers: Vec<_> = capacities
            .into_iter()
            .map(|capacity| {
                let options = SubscribeOptions::new().capacity(capacity);
                let model = Model {
                    overflow: Overflow::DropOld,
                    capacity,
                    keys: Keys::Topic,
                    queue: VecDeque::new(),
                    held: None,
                    lost: 0,
                    overflowed: false,
                };
                (hub.subscribe("t", options).expect("a filter"), model)
            })
            .collect();
        for (value, step) in (0..).zip(steps) {
            match step {
                None => {
                    prop_assert_eq!(hub.publish("t", value), Ok(readers.len()));
                    for (_, model) in &mut readers {
                        model.push(0, value);
                    }
                }
                Some(index) => {
                    let count = readers.len();
                    let (subscription, model) = &mut readers[index % count];
                    prop_assert_eq!(take(subscription), model.take());
                }
            }
        }
    }
}

/// Publishers as fast as they can, receivers that fall behind: per publisher and topic in order, and
/// every message delivered or counted.
#[test]
fn what_is_published_is_delivered_in_order_or_counted() {
    const PUBLISHERS: u64 = 3;
    const MESSAGES: u64 = 20_000;
    let policies = [
        Overflow::DropOld,
        Overflow::DropNew,
        Overflow::Latest,
        Overflow::DropOld,
    ];
    let hub = Hub::<(u64, u64)>::new();
    let options = |overflow| {
        SubscribeOptions::new()
            .capacity(61)
            .overflow(overflow)
            .key(|_, (publisher, serial): &(u64, u64)| (publisher << 32) | (serial % 40))
    };
    let mut subscriptions: Vec<_> = (0..)
        .zip(policies)
        .map(|(index, overflow)| {
            // The last one has a queue of its own.
            let subscription = match index {
                3 => hub.subscribe_all(["t/+"], options(overflow)),
                _ => hub.subscribe("t/+", options(overflow)),
            };
            (overflow, subscription.expect("a filter"))
        })
        .collect();
    // A second reader of the feed of the first.
    let twin = hub.subscribe("t/+", options(Overflow::DropOld)).expect("a filter");
    subscriptions.push((Overflow::DropOld, twin));
    thread::scope(|scope| {
        for (overflow, subscription) in &mut subscriptions {
            scope.spawn(move || {
                let mut last: HashMap<(u64, String), u64> = HashMap::new();
                let (mut delivered, mut dropped) = (0, 0);
                while delivered + dropped < PUBLISHERS * MESSAGES {
                    match subscription.recv_timeout(Duration::from_secs(60)) {
                        Ok(Received::Lagged(count)) => dropped += count,
                        Ok(Received::Message(message)) => {
                            delivered += 1;
                            let (publisher, serial) = *message;
                            let place = (publisher, message.topic().to_owned());
                            let before = last.insert(place, serial);
                            // A conflated message stands where its key began to wait.
                            assert!(*overflow == Overflow::Latest || before.is_none_or(|before| before < serial));
                        }
                        Err(error) => panic!("{error} after {delivered} and {dropped}"),
                    }
                }
                assert_eq!(delivered + dropped, PUBLISHERS * MESSAGES);
                assert!(matches!(subscription.try_recv(), Err(TryRecvError::Empty)));
            });
        }
        for publisher in 0..PUBLISHERS {
            let hub = &hub;
            scope.spawn(move || {
                let mut kept = hub.publisher(TOPICS[0]).expect("a topic");
                for serial in 0..MESSAGES {
                    match TOPICS[serial as usize % 3] {
                        "t/a" => {
                            kept.publish((publisher, serial));
                        }
                        topic => {
                            hub.publish(topic, (publisher, serial)).expect("a topic");
                        }
                    }
                }
            });
        }
    });
}

/// With `close`, everything up to the first that found no room is delivered.
#[test]
fn a_subscription_that_closes_delivers_all_before_the_overflow() {
    let hub = Hub::new();
    let options = SubscribeOptions::new().capacity(10).overflow(Overflow::Close);
    let mut subscription = hub.subscribe("a", options).expect("a filter");
    let reached: usize = (0..25).map(|number| hub.publish("a", number).expect("a topic")).sum();
    assert_eq!(reached, 10);
    for number in 0..10 {
        assert!(matches!(subscription.recv(), Ok(Received::Message(message)) if *message == number));
    }
    assert_eq!(subscription.recv().expect_err("the end"), RecvError::Overflowed);
    assert_eq!(subscription.recv().expect_err("the end"), RecvError::Overflowed);
    assert_eq!(hub.publish("a", 0), Ok(0));
}

/// Feeds begin and end while publishers use them: whoever subscribes gets what is published next.
#[test]
fn subscriptions_come_and_go_under_publishers_and_miss_nothing() {
    let hub = Hub::<u64>::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = hub.publisher("noise/x").expect("a topic");
            let mut count = 0;
            while !done.load(Ordering::SeqCst) {
                publisher.publish(count);
                hub.publish("noise/y", count).expect("a topic");
                count += 1;
            }
        });
        let comers: Vec<_> = (0..2)
            .map(|who| {
                let hub = &hub;
                scope.spawn(move || {
                    let mut publisher = hub.publisher("own/x").expect("a topic");
                    for round in 0..2000 {
                        let options = || SubscribeOptions::new().capacity(4096);
                        let noise = hub.subscribe("noise/+", options()).expect("a filter");
                        let mut own = hub.subscribe("own/+", options()).expect("a filter");
                        let value = round * 2 + who;
                        if round % 2 == 0 {
                            assert!(publisher.publish(value) >= 1);
                        } else {
                            assert!(hub.publish("own/x", value).expect("a topic") >= 1);
                        }
                        // The other one's may come before.
                        let mut found = false;
                        while let Ok(received) = own.try_recv() {
                            match received {
                                Received::Message(message) => found |= *message == value,
                                Received::Lagged(count) => panic!("{count} were dropped"),
                            }
                        }
                        // One that is being written before it keeps it back for a moment.
                        while !found {
                            let received = own.recv_timeout(Duration::from_secs(60));
                            let message = received.expect("it was published").message();
                            found = message.is_some_and(|message| *message == value);
                        }
                        drop((noise, own));
                    }
                })
            })
            .collect();
        for comer in comers {
            let outcome = comer.join();
            if outcome.is_err() {
                done.store(true, Ordering::SeqCst);
            }
            outcome.expect("a comer");
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(hub.publish("own/x", 0), Ok(0));
    assert_eq!(hub.publish("noise/x", 0), Ok(0));
}

/// A new subscriber has the newest retained value, and after it none that is older.
#[test]
fn retained_values_go_on_where_they_began() {
    const LAST: u64 = 20_000;
    let hub = Hub::<u64>::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=LAST {
                hub.publish_retained("t", number).expect("room");
            }
        });
        for own in [false, true] {
            let hub = &hub;
            scope.spawn(move || {
                let mut seen = 0;
                while seen < LAST {
                    let options = SubscribeOptions::new().capacity(1 << 15);
                    let subscription = if own {
                        hub.subscribe_all(["t"], options)
                    } else {
                        hub.subscribe("t", options)
                    };
                    let mut subscription = subscription.expect("a filter");
                    let mut first = true;
                    for _ in 0..50 {
                        match subscription.recv_timeout(Duration::from_millis(1)) {
                            Ok(Received::Message(message)) => {
                                // Nothing is left out but between two subscriptions.
                                assert!(if first { *message >= seen } else { *message == seen + 1 });
                                (first, seen) = (false, *message);
                            }
                            Ok(Received::Lagged(count)) => panic!("{count} were dropped"),
                            Err(_) => break,
                        }
                    }
                }
            });
        }
    });
}
