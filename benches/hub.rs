//! Fan-out within a process: every message to every subscriber, published and received, beside what people use for it.
//!
//! - `tidecast` is a [`Publisher`] of a hub, `tidecast by topic` is [`Hub::publish`], which parses the topic and asks the
//!   router each time: what the rivals, being channels, have no counterpart of.
//! - `tokio` is one `tokio::sync::broadcast`; `flume` and `crossbeam` are a bounded channel for each subscriber.
//!
//! All have room for 1,024 messages. Messages of 128 octets are shared by all subscribers: the rivals send an `Arc`,
//! the hub makes one of its own. Numbers are sent as such by the rivals; the hub has to make a message of each.
//!
//! With one thread, 32 messages are published, then each subscriber receives them. With two, one publishes and the other
//! receives for all subscribers, blocking where nothing is there; no more than 512 messages are under way.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use tidecast_router::{Hub, Publisher, Received, SubscribeOptions, Subscription};
use tokio::sync::broadcast;

const CAPACITY: usize = 1024;
const TOPIC: &str = "market/stocks/acme";

/// Messages published before they are received.
const BURST: u64 = 32;

/// Messages under way between two threads; more would overflow the queues.
const UNDER_WAY: u64 = 512;

/// What is published.
trait Value: Send + Sync + 'static {
    /// What a channel carries.
    type Shared: Clone + Send + Sync + 'static;
    const NAME: &str;

    fn new(number: u64) -> Self;
    fn share(self) -> Self::Shared;
    fn number(&self) -> u64;
    fn shared_number(shared: &Self::Shared) -> u64;
}

struct Octets([u64; 16]);

impl Value for Octets {
    type Shared = Arc<Octets>;
    const NAME: &str = "128 octets";

    fn new(number: u64) -> Self {
        Octets([number; 16])
    }

    fn share(self) -> Arc<Octets> {
        Arc::new(self)
    }

    fn number(&self) -> u64 {
        self.0[15]
    }

    fn shared_number(shared: &Arc<Octets>) -> u64 {
        shared.number()
    }
}

impl Value for u64 {
    type Shared = u64;
    const NAME: &str = "number";

    fn new(number: u64) -> Self {
        number
    }

    fn share(self) -> u64 {
        self
    }

    fn number(&self) -> u64 {
        *self
    }

    fn shared_number(shared: &u64) -> u64 {
        *shared
    }
}

/// One way to publish to many.
trait Fanout<V: Value> {
    const NAME: &str;
    type Sender: Send;
    type Receiver: Send;

    fn open(subscribers: usize) -> (Self::Sender, Vec<Self::Receiver>);
    fn send(sender: &mut Self::Sender, value: V);
    /// The number received, which must be there.
    fn try_receive(receiver: &mut Self::Receiver) -> u64;
    fn receive(receiver: &mut Self::Receiver) -> u64;
}

fn message<V: Value, E: std::fmt::Debug>(received: Result<Received<V>, E>) -> u64 {
    match received {
        Ok(Received::Message(message)) => message.number(),
        other => panic!("{:?}", other.map(|_| "not a message")),
    }
}

fn subscribe<V: Value>(hub: &Hub<V>, subscribers: usize) -> Vec<Subscription<V>> {
    let options = || SubscribeOptions::new().capacity(CAPACITY);
    (0..subscribers)
        .map(|_| hub.subscribe(TOPIC, options()).expect("a filter"))
        .collect()
}

struct Tidecast;

impl<V: Value> Fanout<V> for Tidecast {
    const NAME: &str = "tidecast";
    type Sender = Publisher<V>;
    type Receiver = Subscription<V>;

    fn open(subscribers: usize) -> (Publisher<V>, Vec<Subscription<V>>) {
        let hub = Hub::new();
        let subscriptions = subscribe(&hub, subscribers);
        (hub.publisher(TOPIC).expect("a topic"), subscriptions)
    }

    fn send(sender: &mut Publisher<V>, value: V) {
        sender.publish(value);
    }

    fn try_receive(receiver: &mut Subscription<V>) -> u64 {
        message(receiver.try_recv())
    }

    fn receive(receiver: &mut Subscription<V>) -> u64 {
        message(receiver.recv())
    }
}

struct ByTopic;

impl<V: Value> Fanout<V> for ByTopic {
    const NAME: &str = "tidecast by topic";
    type Sender = Hub<V>;
    type Receiver = Subscription<V>;

    fn open(subscribers: usize) -> (Hub<V>, Vec<Subscription<V>>) {
        let hub = Hub::new();
        let subscriptions = subscribe(&hub, subscribers);
        (hub, subscriptions)
    }

    fn send(sender: &mut Hub<V>, value: V) {
        sender.publish(black_box(TOPIC), value).expect("a topic");
    }

    fn try_receive(receiver: &mut Subscription<V>) -> u64 {
        message(receiver.try_recv())
    }

    fn receive(receiver: &mut Subscription<V>) -> u64 {
        message(receiver.recv())
    }
}

struct Tokio;

impl<V: Value> Fanout<V> for Tokio {
    const NAME: &str = "tokio";
    type Sender = broadcast::Sender<V::Shared>;
    type Receiver = broadcast::Receiver<V::Shared>;

    fn open(subscribers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let (sender, _) = broadcast::channel(CAPACITY);
        let receivers = (0..subscribers).map(|_| sender.subscribe()).collect();
        (sender, receivers)
    }

    fn send(sender: &mut Self::Sender, value: V) {
        sender.send(value.share()).unwrap_or_else(|_| panic!("no receiver"));
    }

    fn try_receive(receiver: &mut Self::Receiver) -> u64 {
        V::shared_number(&receiver.try_recv().expect("a message"))
    }

    fn receive(receiver: &mut Self::Receiver) -> u64 {
        V::shared_number(&receiver.blocking_recv().expect("a message"))
    }
}

struct Flume;

impl<V: Value> Fanout<V> for Flume {
    const NAME: &str = "flume";
    type Sender = Vec<flume::Sender<V::Shared>>;
    type Receiver = flume::Receiver<V::Shared>;

    fn open(subscribers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        (0..subscribers).map(|_| flume::bounded(CAPACITY)).unzip()
    }

    fn send(senders: &mut Self::Sender, value: V) {
        let shared = value.share();
        for sender in senders {
            sender.try_send(shared.clone()).unwrap_or_else(|_| panic!("no room"));
        }
    }

    fn try_receive(receiver: &mut Self::Receiver) -> u64 {
        V::shared_number(&receiver.try_recv().expect("a message"))
    }

    fn receive(receiver: &mut Self::Receiver) -> u64 {
        V::shared_number(&receiver.recv().expect("a message"))
    }
}

struct Crossbeam;

impl<V: Value> Fanout<V> for Crossbeam {
    const NAME: &str = "crossbeam";
    type Sender = Vec<crossbeam_channel::Sender<V::Shared>>;
    type Receiver = crossbeam_channel::Receiver<V::Shared>;

    fn open(subscribers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        (0..subscribers).map(|_| crossbeam_channel::bounded(CAPACITY)).unzip()
    }

    fn send(senders: &mut Self::Sender, value: V) {
        let shared = value.share();
        for sender in senders {
            sender.try_send(shared.clone()).unwrap_or_else(|_| panic!("no room"));
        }
    }

    fn try_receive(receiver: &mut Self::Receiver) -> u64 {
        V::shared_number(&receiver.try_recv().expect("a message"))
    }

    fn receive(receiver: &mut Self::Receiver) -> u64 {
        V::shared_number(&receiver.recv().expect("a message"))
    }
}

type Group<'c> = criterion::BenchmarkGroup<'c, criterion::measurement::WallTime>;

fn one_thread<V: Value, F: Fanout<V>>(group: &mut Group<'_>, subscribers: usize) {
    let (mut sender, mut receivers) = F::open(subscribers);
    group.bench_function(BenchmarkId::new(F::NAME, subscribers), |bencher| {
        bencher.iter(|| {
            for number in 0..BURST {
                F::send(&mut sender, V::new(number));
            }
            for receiver in &mut receivers {
                for number in 0..BURST {
                    assert_eq!(F::try_receive(receiver), number);
                }
            }
        });
    });
}

fn two_threads<V: Value, F: Fanout<V>>(group: &mut Group<'_>, subscribers: usize) {
    group.bench_function(BenchmarkId::new(F::NAME, subscribers), |bencher| {
        bencher.iter_custom(|iterations| {
            let (mut sender, mut receivers) = F::open(subscribers);
            // Messages that all subscribers have received.
            let received = AtomicU64::new(0);
            let start = Instant::now();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..iterations {
                        for receiver in &mut receivers {
                            for number in 0..BURST {
                                assert_eq!(F::receive(receiver), number);
                            }
                        }
                        received.fetch_add(BURST, Ordering::Release);
                    }
                });
                for iteration in 0..iterations {
                    while iteration * BURST - received.load(Ordering::Acquire) > UNDER_WAY - BURST {
                        std::thread::yield_now();
                    }
                    for number in 0..BURST {
                        F::send(&mut sender, V::new(number));
                    }
                }
            });
            start.elapsed()
        });
    });
}

fn fan_out<V: Value>(criterion: &mut Criterion) {
    for subscribers in [1, 10, 1000] {
        let deliveries = Throughput::Elements(BURST * subscribers as u64);
        let mut group = criterion.benchmark_group(format!("{}, one thread", V::NAME));
        group.throughput(deliveries.clone());
        one_thread::<V, Tidecast>(&mut group, subscribers);
        one_thread::<V, ByTopic>(&mut group, subscribers);
        one_thread::<V, Tokio>(&mut group, subscribers);
        one_thread::<V, Flume>(&mut group, subscribers);
        one_thread::<V, Crossbeam>(&mut group, subscribers);
        group.finish();

        let mut group = criterion.benchmark_group(format!("{}, two threads", V::NAME));
        group.throughput(deliveries);
        two_threads::<V, Tidecast>(&mut group, subscribers);
        two_threads::<V, ByTopic>(&mut group, subscribers);
        two_threads::<V, Tokio>(&mut group, subscribers);
        two_threads::<V, Flume>(&mut group, subscribers);
        two_threads::<V, Crossbeam>(&mut group, subscribers);
        group.finish();
    }
}

/// A message that nobody wants.
fn nobody(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("to nobody");
    let empty = Hub::<u64>::new();
    group.bench_function("empty hub", |bencher| {
        bencher.iter(|| empty.publish(black_box(TOPIC), 7))
    });

    let hub = Hub::<u64>::new();
    let options = || SubscribeOptions::new().capacity(1);
    let _others: Vec<_> = (0..1000)
        .map(|number| {
            hub.subscribe(&format!("market/stocks/{number}"), options())
                .expect("a filter")
        })
        .collect();
    group.bench_function("among 1,000 filters", |bencher| {
        bencher.iter(|| hub.publish(black_box(TOPIC), 7));
    });
    let mut publisher = hub.publisher(TOPIC).expect("a topic");
    group.bench_function("publisher", |bencher| bencher.iter(|| publisher.publish(7)));
    let (sender, _) = broadcast::channel::<u64>(CAPACITY);
    group.bench_function("tokio", |bencher| bencher.iter(|| sender.send(black_box(7))));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .configure_from_args();
    nobody(&mut criterion);
    fan_out::<Octets>(&mut criterion);
    fan_out::<u64>(&mut criterion);
    criterion.final_summary();
}
