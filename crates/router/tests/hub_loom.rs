//! Interleavings of waiting and waking, of a ring that is overtaken, and of groups that begin and end.
//!
//! `RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test -p tidecast-router --release --test hub_loom`
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use loom::future::block_on;
use loom::thread;
use tidecast_router::{
    Filter, Group, Hub, Limits, Overflow, Received, RecvError, Route, Router, SubscribeOptions, Subscription, Topic,
    TryRecvError,
};

/// As in `loom.rs`.
fn explore(preemptions: usize, story: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 100_000;
    model.check(story);
}

/// A feed, and a queue of one's own.
fn subscribe(hub: &Hub<u32>, overflow: Overflow) -> Subscription<u32> {
    let options = SubscribeOptions::new().capacity(2).overflow(overflow);
    hub.subscribe("a", options).expect("a filter")
}

const BOTH: [Overflow; 2] = [Overflow::DropOld, Overflow::DropNew];

fn value(received: Result<Received<u32>, RecvError>) -> u32 {
    match received {
        Ok(Received::Message(message)) => *message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn whoever_waits_while_a_message_comes_is_woken() {
    for overflow in BOTH {
        explore(3, move || {
            let hub = Hub::new();
            let mut subscription = subscribe(&hub, overflow);
            let mut publisher = hub.publisher("a").expect("a topic");
            // Asked now, so that the story is not about the router.
            publisher.publish(1);
            let thread = thread::spawn(move || {
                publisher.publish(2);
                publisher
            });
            assert_eq!(value(block_on(subscription.recv_async())), 1);
            assert_eq!(value(block_on(subscription.recv_async())), 2);
            drop(thread.join().expect("no panic"));
        });
    }
}

#[test]
fn two_who_wait_on_one_feed_are_both_woken() {
    explore(2, || {
        let hub = Hub::new();
        let mut one = subscribe(&hub, Overflow::DropOld);
        let mut two = subscribe(&hub, Overflow::DropOld);
        let mut publisher = hub.publisher("a").expect("a topic");
        publisher.publish(1);
        assert!(one.try_recv().is_ok() && two.try_recv().is_ok());
        let thread = thread::spawn(move || value(block_on(one.recv_async())));
        publisher.publish(2);
        assert_eq!(value(block_on(two.recv_async())), 2);
        assert_eq!(thread.join().expect("no panic"), 2);
    });
}

#[test]
fn whoever_waits_while_the_hub_closes_is_woken() {
    for overflow in BOTH {
        explore(2, move || {
            let hub = Hub::new();
            let mut subscription = subscribe(&hub, overflow);
            let thread = thread::spawn(move || hub.close());
            let outcome = block_on(subscription.recv_async());
            assert_eq!(outcome.expect_err("closed"), RecvError::Closed);
            thread.join().expect("no panic");
        });
    }
}

/// Counts those of it that live.
struct Counted(Arc<AtomicUsize>, u32);

impl Counted {
    fn new(count: &Arc<AtomicUsize>, number: u32) -> Self {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Counted(Arc::clone(count), number)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn a_reader_that_is_overtaken_counts_what_it_misses_and_all_is_freed() {
    explore(3, || {
        let count = Arc::new(AtomicUsize::new(0));
        let hub = Hub::new();
        let options = SubscribeOptions::new().capacity(1);
        let mut subscription = hub.subscribe("a", options).expect("a filter");
        let mut publisher = hub.publisher("a").expect("a topic");
        publisher.publish(Counted::new(&count, 0));
        let counter = Arc::clone(&count);
        let thread = thread::spawn(move || {
            publisher.publish(Counted::new(&counter, 1));
            publisher.publish(Counted::new(&counter, 2));
            publisher
        });
        let mut next = 0;
        let mut take = |subscription: &mut Subscription<Counted>| match subscription.try_recv() {
            Ok(Received::Message(message)) => {
                assert_eq!(message.1, next);
                next += 1;
                true
            }
            Ok(Received::Lagged(lagged)) => {
                next += u32::try_from(lagged).expect("a few");
                true
            }
            Err(TryRecvError::Empty) => false,
            Err(error) => panic!("{error}"),
        };
        take(&mut subscription);
        take(&mut subscription);
        let publisher = thread.join().expect("no panic");
        while take(&mut subscription) {}
        assert_eq!(next, 3);
        drop((subscription, publisher, hub));
        // The feed is in the router's garbage; its messages were all taken.
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 0);
    });
}

#[test]
fn two_publishers_fill_one_ring_and_overtake_each_other() {
    explore(3, || {
        let hub = Hub::new();
        let options = SubscribeOptions::new().capacity(2);
        let mut subscription = hub.subscribe("a", options).expect("a filter");
        let mut one = hub.publisher("a").expect("a topic");
        one.publish(0);
        let mut two = one.clone();
        let thread = thread::spawn(move || {
            two.publish(1);
            two
        });
        one.publish(2);
        let two = thread.join().expect("no panic");
        assert!(matches!(subscription.try_recv(), Ok(Received::Lagged(1))));
        let mut rest = [0; 2].map(|_| value(subscription.try_recv().map_err(|_| RecvError::Closed)));
        rest.sort_unstable();
        assert_eq!(rest, [1, 2]);
        drop((one, two));
    });
}

#[test]
fn whoever_has_subscribed_is_reached_while_the_last_reader_leaves() {
    explore(2, || {
        let hub = Hub::new();
        let first = subscribe(&hub, Overflow::DropOld);
        let thread = thread::spawn(move || drop(first));
        let mut second = subscribe(&hub, Overflow::DropOld);
        assert!(hub.publish("a", 1).expect("a topic") >= 1);
        assert_eq!(value(block_on(second.recv_async())), 1);
        thread.join().expect("no panic");
    });
}

fn filter() -> Filter {
    Filter::parse("$share/g/a", &Limits::default()).expect("a filter")
}

fn found(router: &Router<u32>) -> Vec<u32> {
    let mut found = Vec::new();
    let topic = Topic::parse("a", &Limits::default()).expect("a topic");
    router.for_each_match(topic, |&who| found.push(who));
    found
}

#[test]
fn two_who_found_a_group_at_once_are_one_group() {
    explore(2, || {
        let router = Arc::new(Router::new());
        let other = Arc::clone(&router);
        let thread = thread::spawn(move || {
            other.subscribe(&filter(), 1);
            assert_eq!(found(&other).len(), 1);
        });
        router.subscribe(&filter(), 2);
        assert_eq!(found(&router).len(), 1);
        thread.join().expect("no panic");
        assert_eq!((found(&router).len(), router.len()), (1, 2));
    });
}

#[test]
fn a_group_has_a_member_for_each_match_while_one_leaves_and_another_comes() {
    explore(2, || {
        let router = Arc::new(Router::new());
        let first = router.subscribe(&filter(), 1);
        let other = Arc::clone(&router);
        let thread = thread::spawn(move || {
            assert_eq!(other.unsubscribe(&filter(), first), Some(1));
            assert_ne!(found(&other), [1], "it had left");
        });
        router.subscribe(&filter(), 2);
        assert!(matches!(found(&router)[..], [1] | [2]));
        thread.join().expect("no panic");
        assert_eq!(found(&router), [2]);
    });
}

#[test]
fn a_group_that_was_kept_is_good_while_the_generation_is() {
    explore(2, || {
        let router = Arc::new(Router::new());
        let other = Arc::clone(&router);
        let thread = thread::spawn(move || other.subscribe(&filter(), 1));
        let generation = router.generation();
        let mut groups: Vec<Group<u32>> = Vec::new();
        let topic = Topic::parse("a", &Limits::default()).expect("a topic");
        router.for_each_route(topic, |route| match route {
            Route::Group(group) => groups.push(group.clone()),
            Route::One(who) => panic!("{who} is alone"),
        });
        thread.join().expect("no panic");
        if router.generation() == generation {
            assert_eq!(groups.iter().filter_map(|group| group.pick(0)).collect::<Vec<_>>(), [1]);
        }
    });
}
