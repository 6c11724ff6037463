//! What a hub promises.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_core::Stream;
use tidecast_router::{
    Hub, HubOptions, Load, Message, Overflow, Received, RecvError, RecvTimeoutError, RetainError, Strategy,
    SubscribeOptions, Subscription, TopicErrorKind, TryRecvError,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a subscription gets a queue: a feed in common with others, and one of its own with each
/// other policy. What they have in common does not depend on which. Every message has a key of its
/// own, so that none replaces another.
fn all_options<T>() -> Vec<SubscribeOptions<T>> {
    let keys = Arc::new(AtomicU64::new(0));
    [Overflow::Close, Overflow::DropNew, Overflow::DropOld, Overflow::Latest]
        .into_iter()
        .map(|overflow| {
            let keys = Arc::clone(&keys);
            SubscribeOptions::new()
                .capacity(8)
                .overflow(overflow)
                .key(move |_, _| keys.fetch_add(1, Ordering::Relaxed))
        })
        .collect()
}

fn options<T>() -> SubscribeOptions<T> {
    SubscribeOptions::new()
}

/// All that is there: topics and values, drops as `None`.
fn drain<T: Clone + Send + Sync>(subscription: &mut Subscription<T>) -> Vec<(String, T)> {
    let mut all = Vec::new();
    while let Ok(received) = subscription.try_recv() {
        match received {
            Received::Message(message) => all.push((message.topic().to_owned(), message.value().clone())),
            Received::Lagged(count) => panic!("{count} were dropped"),
        }
    }
    all
}

fn values<T: Clone + Send + Sync>(subscription: &mut Subscription<T>) -> Vec<T> {
    drain(subscription).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn a_message_reaches_whoever_wants_its_topic_in_order() {
    for options in all_options() {
        let hub = Hub::new();
        let mut one = hub.subscribe("a/+", options.clone()).expect("a filter");
        let mut two = hub.subscribe("a/+", options.clone()).expect("a filter");
        let mut other = hub.subscribe("b/#", options).expect("a filter");
        assert_eq!(hub.publish("a/x", 1), Ok(2));
        assert_eq!(hub.publish("a/y", 2), Ok(2));
        assert_eq!(hub.publish("b", 3), Ok(1));
        assert_eq!(hub.publish("c", 4), Ok(0));
        for subscription in [&mut one, &mut two] {
            assert_eq!(drain(subscription), [("a/x".to_owned(), 1), ("a/y".to_owned(), 2)]);
        }
        assert_eq!(values(&mut other), [3]);
    }
}

#[test]
fn a_subscription_begins_when_it_is_made_and_ends_when_it_is_dropped() {
    for options in all_options() {
        let hub = Hub::new();
        assert_eq!(hub.publish("a", 1), Ok(0));
        let mut one = hub.subscribe("a", options.clone()).expect("a filter");
        assert_eq!(hub.publish("a", 2), Ok(1));
        let mut two = hub.subscribe("a", options.clone()).expect("a filter");
        assert_eq!(hub.publish("a", 3), Ok(2));
        assert_eq!((values(&mut one), values(&mut two)), (vec![2, 3], vec![3]));
        drop(one);
        assert_eq!(hub.publish("a", 4), Ok(1));
        drop(two);
        assert_eq!(hub.publish("a", 5), Ok(0));
        let mut three = hub.subscribe("a", options).expect("a filter");
        assert_eq!(hub.publish("a", 6), Ok(1));
        assert_eq!(values(&mut three), [6]);
    }
}

#[test]
fn a_wrong_name_is_an_error_that_says_where() {
    let hub = Hub::new();
    let error = hub.publish("a/+", 1).expect_err("a filter is no topic");
    assert_eq!((error.kind, error.at), (TopicErrorKind::Wildcard, 2));
    assert!(hub.publisher("#").is_err());
    assert!(hub.publish_retained("#", 1).is_err() && hub.forget_retained("#").is_err());
    assert!(hub.subscribe("a+", options()).is_err());
    assert!(hub.subscribe_all(["a", "b+"], options()).is_err());
    assert!(hub.subscribe_with("a+", options(), |_| {}).is_err());
    let none = hub.subscribe_all([], options()).expect_err("no filter");
    assert_eq!(none.kind, TopicErrorKind::Empty);
    assert!(hub.subscribe("b", options()).expect("a filter").add("#/a").is_err());
}

#[test]
fn receivers_share_one_value_which_is_dropped_with_the_last_of_them() {
    for options in all_options() {
        let hub = Hub::new();
        let value = Arc::new(());
        let mut subscriptions: Vec<_> = (0..3)
            .map(|_| hub.subscribe("a", options.clone()).expect("a filter"))
            .collect();
        hub.publish("a", value.clone()).expect("a topic");
        assert_eq!(Arc::strong_count(&value), 2, "one for all");
        let mut messages: Vec<_> = subscriptions
            .iter_mut()
            .map(|subscription| subscription.recv().expect("open").message().expect("a message"))
            .collect();
        assert!(messages[0].is_same(&messages[1]) && messages[1].is_same(&messages[2]));
        let kept = messages.pop();
        drop(messages);
        assert_eq!(Arc::strong_count(&value), 2);
        // Not kept by the hub: the last receiver takes it away.
        drop(kept);
        assert_eq!(Arc::strong_count(&value), 1);

        // What nobody receives goes with the subscriptions.
        hub.publish("a", value.clone()).expect("a topic");
        drop(subscriptions);
        let empty = hub.subscribe("b", options.clone()).expect("a filter");
        for _ in 0..3 {
            hub.publish("b", Arc::new(())).expect("a topic");
        }
        drop((empty, hub));
        wait_until(|| Arc::strong_count(&value) == 1);
    }
}

/// Waits for what happens when memory is reclaimed.
fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not happen");
        crossbeam_epoch::pin().flush();
        thread::yield_now();
    }
}

#[test]
fn what_nobody_wants_is_dropped_at_once() {
    let hub = Hub::new();
    let value = Arc::new(());
    hub.publish("a", value.clone()).expect("a topic");
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn a_closed_hub_lets_receive_what_is_queued_and_then_says_closed() {
    for options in all_options() {
        let hub = Hub::new();
        let mut subscription = hub.subscribe("a", options.clone()).expect("a filter");
        hub.publish("a", 1).expect("a topic");
        hub.close();
        assert!(hub.is_closed());
        assert_eq!(hub.publish("a", 2), Ok(0));
        assert_eq!(hub.publisher("a").expect("a topic").publish(3), 0);
        assert_eq!(subscription.iter().filter_map(Received::message).count(), 1);
        assert_eq!(subscription.recv().expect_err("closed"), RecvError::Closed);
        assert_eq!(
            subscription.try_recv().expect_err("closed"),
            TryRecvError::Ended(RecvError::Closed)
        );
        let mut late = hub.subscribe("a", options).expect("a filter");
        assert_eq!(late.recv().expect_err("closed"), RecvError::Closed);
    }
}

#[test]
fn the_hub_closes_with_its_last_handle_and_publisher() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a", options()).expect("a filter");
    let mut publisher = hub.publisher("a").expect("a topic");
    drop(hub.clone());
    drop(hub);
    assert_eq!(publisher.publish(1), 1);
    drop(publisher);
    assert!(matches!(subscription.recv(), Ok(Received::Message(message)) if *message == 1));
    assert_eq!(subscription.recv().expect_err("closed"), RecvError::Closed);
}

#[test]
fn whoever_waits_is_woken_by_a_message_and_by_the_end() {
    for options in all_options() {
        let hub = Hub::new();
        let mut subscriptions: Vec<_> = (0..3)
            .map(|_| hub.subscribe("a", options.clone()).expect("a filter"))
            .collect();
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for subscription in &mut subscriptions {
                let tell = tell.clone();
                scope.spawn(move || {
                    for received in subscription.iter() {
                        tell.send(received.message().map(|message| *message))
                            .expect("a listener");
                    }
                });
            }
            for number in 0..100 {
                hub.publish("a", number).expect("a topic");
                // Nothing else is sent until all have it, so that they fall asleep at times.
                for _ in 0..3 {
                    assert_eq!(told.recv_timeout(PATIENCE), Ok(Some(number)));
                }
            }
            hub.close();
        });
    }
}

#[test]
fn a_timeout_ends_waiting_and_loses_nothing() {
    for options in all_options() {
        let hub = Hub::new();
        let mut subscription = hub.subscribe("a", options).expect("a filter");
        let start = Instant::now();
        let outcome = subscription.recv_timeout(Duration::from_millis(20));
        assert_eq!(outcome.expect_err("nothing"), RecvTimeoutError::Timeout);
        assert!(start.elapsed() >= Duration::from_millis(20));
        hub.publish("a", 1).expect("a topic");
        assert!(subscription.recv_timeout(Duration::MAX).is_ok());
        hub.close();
        let outcome = subscription.recv_timeout(PATIENCE);
        assert_eq!(outcome.expect_err("closed"), RecvTimeoutError::Ended(RecvError::Closed));
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_is_woken_once_for_what_comes_after_it_looked() {
    for options in all_options() {
        let hub = Hub::new();
        let mut subscription = hub.subscribe("a", options).expect("a filter");
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let mut poll = |subscription: &mut Subscription<i32>| match Pin::new(subscription).poll_next(&mut context) {
            Poll::Ready(Some(Received::Message(message))) => Poll::Ready(Some(*message)),
            Poll::Ready(Some(Received::Lagged(count))) => panic!("{count} were dropped"),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        };
        assert_eq!(poll(&mut subscription), Poll::Pending);
        hub.publish("a", 1).expect("a topic");
        hub.publish("a", 2).expect("a topic");
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(poll(&mut subscription), Poll::Ready(Some(1)));
        assert_eq!(poll(&mut subscription), Poll::Ready(Some(2)));
        assert_eq!(poll(&mut subscription), Poll::Pending);
        hub.close();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert_eq!(poll(&mut subscription), Poll::Ready(None));
    }
}

#[test]
fn a_future_that_is_dropped_loses_nothing() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a", options()).expect("a filter");
    let waker = Waker::from(Arc::new(Count::default()));
    let mut context = Context::from_waker(&waker);
    {
        let mut future = std::pin::pin!(subscription.recv_async());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    hub.publish("a", 1).expect("a topic");
    let mut future = std::pin::pin!(subscription.recv_async());
    assert!(matches!(
        future.as_mut().poll(&mut context),
        Poll::Ready(Ok(Received::Message(_)))
    ));
}

#[test]
fn a_callback_is_called_before_the_publish_returns_until_it_is_dropped() {
    let hub = Hub::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (other, sink) = (hub.clone(), Arc::clone(&seen));
    let callback = hub
        .subscribe_with("a/#", options(), move |message: &Message<i32>| {
            sink.lock()
                .expect("no panic")
                .push((message.topic().to_owned(), **message));
            if message.topic() == "a" {
                // It may publish itself.
                other.publish("a/b", **message + 1).expect("a topic");
            }
        })
        .expect("a filter");
    assert_eq!(hub.publish("a", 1), Ok(1));
    assert_eq!(
        *seen.lock().expect("no panic"),
        [("a".to_owned(), 1), ("a/b".to_owned(), 2)]
    );
    drop(callback);
    assert_eq!(hub.publish("a", 1), Ok(0));
}

#[test]
fn several_filters_of_one_subscription_deliver_a_message_once() {
    let hub = Hub::new();
    let mut all = hub.subscribe_all(["a/+", "a/#", "b"], options()).expect("filters");
    let mut grown = hub.subscribe("a/+", options()).expect("a filter");
    grown.add("a/#").expect("a filter");
    grown.add("b").expect("a filter");
    assert_eq!(grown.filters().len(), 3);
    let mut publisher = hub.publisher("a/x").expect("a topic");
    assert_eq!(publisher.publish(1), 2);
    assert_eq!(hub.publish("a/x", 2), Ok(2));
    assert_eq!(hub.publish("b", 3), Ok(2));
    assert_eq!(hub.publish("a/x/y", 4), Ok(2));
    assert_eq!(values(&mut all), [1, 2, 3, 4]);
    let mut got = values(&mut grown);
    // Across topics a feed and what was added to it have no order.
    got.sort_unstable();
    assert_eq!(got, [1, 2, 3, 4]);
    drop((all, grown));
    assert_eq!(hub.publish("b", 5), Ok(0));
}

#[test]
fn a_publisher_sees_who_comes_and_goes() {
    let hub = Hub::new();
    let mut publisher = hub.publisher("a").expect("a topic");
    assert_eq!(publisher.topic(), "a");
    assert_eq!(publisher.publish(0), 0);
    for options in all_options() {
        let mut one = hub.subscribe("a", options.clone()).expect("a filter");
        assert_eq!(publisher.publish(1), 1);
        let shared = hub.subscribe("$share/g/+", options.clone()).expect("a filter");
        let another = hub.subscribe("$share/g/+", options).expect("a filter");
        assert_eq!(publisher.clone().publish(2), 2);
        drop(shared);
        assert_eq!(publisher.publish(3), 2);
        drop(another);
        assert_eq!(publisher.publish(4), 1);
        assert_eq!(one.try_recv().expect("open").message().map(|message| *message), Some(1));
        drop(one);
        assert_eq!(publisher.publish(5), 0);
    }
}

#[test]
fn a_group_shares_the_work() {
    let hub = Hub::new();
    let options = || options().strategy(Strategy::RoundRobin);
    let mut workers: Vec<_> = (0..4)
        .map(|_| hub.subscribe("$share/workers/jobs/#", options()).expect("a filter"))
        .collect();
    for job in 0..40 {
        assert_eq!(hub.publish("jobs/x", job), Ok(1));
    }
    let shares: Vec<_> = workers.iter_mut().map(values).collect();
    assert!(shares.iter().all(|share| share.len() == 10), "{shares:?}");
    let mut all = shares.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..40));
}

#[test]
fn the_least_loaded_member_is_the_one_with_the_shortest_queue_unless_it_says_otherwise() {
    let hub = Hub::new();
    let options = || options().strategy(Strategy::LeastLoaded);
    let mut slow = hub.subscribe("$share/g/a", options()).expect("a filter");
    let mut fast = hub.subscribe("$share/g/a", options()).expect("a filter");
    for _ in 0..10 {
        hub.publish("a", ()).expect("a topic");
    }
    assert_eq!(values(&mut fast).len(), 5);
    for _ in 0..5 {
        hub.publish("a", ()).expect("a topic");
    }
    assert_eq!((values(&mut fast).len(), values(&mut slow).len()), (5, 5));

    let load = Load::new();
    load.set(1000);
    let mut busy = hub
        .subscribe("$share/g/a", options().load(load.clone()))
        .expect("a filter");
    for _ in 0..10 {
        hub.publish("a", ()).expect("a topic");
    }
    assert_eq!(values(&mut busy).len(), 0);
    // It counts down itself, and now it is less than any queue.
    load.set(0);
    assert_eq!((values(&mut fast).len(), values(&mut slow).len()), (5, 5));
    assert_eq!(load.get(), 0);
}

#[test]
fn the_last_retained_value_of_each_topic_comes_first() {
    for options in all_options() {
        let hub = Hub::new();
        assert_eq!(hub.publish_retained("a/x", 1), Ok(0));
        assert_eq!(hub.publish_retained("a/y", 2), Ok(0));
        assert_eq!(hub.publish_retained("a/x", 3), Ok(0));
        assert_eq!(hub.publish_retained("b", 4), Ok(0));
        let mut subscription = hub.subscribe("a/+", options.clone()).expect("a filter");
        hub.publish("a/x", 5).expect("a topic");
        hub.publish_retained("a/x", 6).expect("a topic");
        assert_eq!(values(&mut subscription), [2, 3, 5, 6]);
        // Those of a filter that is added, and each once.
        subscription.add("#").expect("a filter");
        assert_eq!(values(&mut subscription), [4]);
        let mut one = hub.subscribe("a/x", options.clone()).expect("a filter");
        assert_eq!(values(&mut one), [6]);
        let mut none = hub.subscribe("#", options.clone().retained(false)).expect("a filter");
        let mut shared = hub.subscribe("$share/g/#", options).expect("a filter");
        assert_eq!((values(&mut none), values(&mut shared)), (vec![], vec![]));

        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let push = move |message: &Message<i32>| sink.lock().expect("no panic").push(**message);
        let _callback = hub
            .subscribe_with("#", SubscribeOptions::new(), push)
            .expect("a filter");
        assert_eq!(*seen.lock().expect("no panic"), [2, 4, 6]);

        assert_eq!(hub.forget_retained("a/y"), Ok(true));
        assert_eq!(hub.forget_retained("a/y"), Ok(false));
        let mut late = hub.subscribe("a/#", SubscribeOptions::new()).expect("a filter");
        assert_eq!(values(&mut late), [6]);
    }
}

#[test]
fn no_more_topics_are_retained_than_the_hub_allows() {
    let hub = Hub::with_options(HubOptions::new().retained_topics(2));
    let mut all = hub.subscribe("#", options()).expect("a filter");
    for topic in ["a", "b", "a"] {
        assert_eq!(hub.publish_retained(topic, ()), Ok(1));
    }
    assert_eq!(hub.publish_retained("c", ()), Err(RetainError::Full { limit: 2 }));
    assert_eq!(values(&mut all).len(), 3);
    hub.forget_retained("a").expect("a topic");
    assert_eq!(hub.publish_retained("c", ()), Ok(1));
}

#[test]
fn a_topic_that_starts_with_a_dollar_is_left_out_by_leading_wildcards() {
    let hub = Hub::new();
    let mut all = hub.subscribe("#", options()).expect("a filter");
    let mut own = hub.subscribe("$sys/#", options()).expect("a filter");
    hub.publish_retained("$sys/x", 1).expect("a topic");
    assert_eq!((values(&mut all).len(), values(&mut own).len()), (0, 1));
    let mut late = hub.subscribe("+/x", options()).expect("a filter");
    assert_eq!(values(&mut late).len(), 0);
}
