//! Matching topics against filters: the router beside what one would write or take instead.
//!
//! - `tidecast` is [`tidecast_router::Router`].
//! - `naive trie` is a map of maps by level under `parking_lot::RwLock`, with one list of subscribers a place: what one
//!   writes first.
//! - `dashmap` holds the exact filters only, and finds only those: the limit of a concurrent map of topics.
//! - `zenoh` is `zenoh-keyexpr`'s tree, whose language has the same wildcards, without any lock.
//!
//! After Criterion's measurements come two that are not its kind: how many bytes a subscription takes, and what a reader
//! keeps of its rate while a writer subscribes and unsubscribes as fast as it can. `--bench routing -- reader` measures
//! only the last.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::Criterion;
use dashmap::DashMap;
use parking_lot::RwLock;
use tidecast_router::{Filter, Limits, Router, SubscriptionId, Topic};
use zenoh_keyexpr::keyexpr;
use zenoh_keyexpr::keyexpr_tree::{IKeyExprTree, IKeyExprTreeMut, IKeyExprTreeNode, IKeyExprTreeNodeMut, KeBoxTree};

const MANY: u32 = 1_000_000;

/// Steps through all of `0..MANY` without an order that a cache could follow: no factor in common with `MANY`.
const STRIDE: u32 = 618_033;

/// One of [`MANY`] topics, of five levels.
fn topic_text(number: u32) -> String {
    let (plant, device, metric) = (number / 1_000, number / 10 % 100, number % 10);
    format!("plant-{plant}/device/{device}/metric/{metric}")
}

/// What one subscriber wants: the topic of its number, and every tenth that or others.
fn filter_text(number: u32) -> String {
    let (plant, device, metric) = (number / 1_000, number / 10 % 100, number % 10);
    match number % 40 {
        3 => format!("plant-{plant}/device/{device}/metric/+"),
        13 => format!("plant-{plant}/device/{device}/#"),
        23 => format!("plant-{plant}/device/+/metric/{metric}"),
        33 => format!("plant-{plant}/+/{device}/metric/{metric}"),
        _ => topic_text(number),
    }
}

fn filter(text: &str) -> Filter {
    Filter::parse(text, &Limits::default()).expect("a filter")
}

fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text, &Limits::default()).expect("a topic")
}

/// What can be asked who wants a topic.
trait Contender {
    const NAME: &'static str;

    /// A topic, checked.
    type Key<'a>: Copy;
    fn key(text: &str) -> Self::Key<'_>;

    /// Of each filter its index is the subscriber.
    fn of(filters: &[Filter]) -> Self;

    /// The sum of those who want the topic, so that each is looked at.
    fn matching(&self, topic: Self::Key<'_>) -> u64;
}

/// One that may change while it is asked.
trait Changing: Contender + Sync {
    /// What names a subscription.
    type Handle;
    fn subscribe(&self, filter: &Filter, who: u32) -> Self::Handle;
    fn unsubscribe(&self, filter: &Filter, who: u32, handle: Self::Handle);
}

fn filled<C: Changing + Default>(filters: &[Filter]) -> C {
    let contender = C::default();
    for (filter, who) in filters.iter().zip(0..) {
        contender.subscribe(filter, who);
    }
    contender
}

impl Contender for Router<u32> {
    const NAME: &'static str = "tidecast";
    type Key<'a> = Topic<'a>;

    fn key(text: &str) -> Topic<'_> {
        topic(text)
    }

    fn of(filters: &[Filter]) -> Self {
        filled(filters)
    }

    fn matching(&self, topic: Topic<'_>) -> u64 {
        let mut sum = 0;
        self.for_each_match(topic, |&who| sum += u64::from(who));
        sum
    }
}

impl Changing for Router<u32> {
    type Handle = SubscriptionId;

    fn subscribe(&self, filter: &Filter, who: u32) -> SubscriptionId {
        Router::subscribe(self, filter, who)
    }

    fn unsubscribe(&self, filter: &Filter, who: u32, id: SubscriptionId) {
        assert_eq!(Router::unsubscribe(self, filter, id), Some(who));
    }
}

#[derive(Default)]
struct Trie {
    children: HashMap<Box<str>, Trie>,
    any: Option<Box<Trie>>,
    here: Vec<u32>,
    below: Vec<u32>,
}

impl Trie {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }

    fn list<'a>(&mut self, mut rest: impl Iterator<Item = &'a str>) -> &mut Vec<u32> {
        match rest.next() {
            None => &mut self.here,
            Some("#") => &mut self.below,
            Some("+") => self.any.get_or_insert_default().list(rest),
            Some(name) => {
                if !self.children.contains_key(name) {
                    self.children.insert(name.into(), Trie::default());
                }
                self.children.get_mut(name).expect("there is one now").list(rest)
            }
        }
    }

    fn remove<'a>(&mut self, mut rest: impl Iterator<Item = &'a str>, who: u32) {
        match rest.next() {
            None => self.here.retain(|&other| other != who),
            Some("#") => self.below.retain(|&other| other != who),
            Some("+") => {
                if let Some(any) = &mut self.any {
                    any.remove(rest, who);
                    self.any.take_if(|any| any.is_empty());
                }
            }
            Some(name) => {
                if let Some(child) = self.children.get_mut(name) {
                    child.remove(rest, who);
                    if child.is_empty() {
                        self.children.remove(name);
                    }
                }
            }
        }
    }

    fn sum<'a>(&self, mut names: impl Iterator<Item = &'a str> + Clone) -> u64 {
        let list = |list: &[u32]| list.iter().map(|&who| u64::from(who)).sum::<u64>();
        let below = list(&self.below);
        let Some(name) = names.next() else {
            return below + list(&self.here);
        };
        let child = self.children.get(name).map_or(0, |child| child.sum(names.clone()));
        below + child + self.any.as_ref().map_or(0, |any| any.sum(names))
    }
}

impl Contender for RwLock<Trie> {
    const NAME: &'static str = "naive trie";
    type Key<'a> = &'a str;

    fn key(text: &str) -> &str {
        text
    }

    fn of(filters: &[Filter]) -> Self {
        filled(filters)
    }

    fn matching(&self, topic: &str) -> u64 {
        self.read().sum(topic.split('/'))
    }
}

impl Changing for RwLock<Trie> {
    type Handle = ();

    fn subscribe(&self, filter: &Filter, who: u32) {
        self.write().list(filter.as_str().split('/')).push(who);
    }

    fn unsubscribe(&self, filter: &Filter, who: u32, (): ()) {
        self.write().remove(filter.as_str().split('/'), who);
    }
}

type Exact = DashMap<Box<str>, Vec<u32>>;

impl Contender for Exact {
    const NAME: &'static str = "dashmap, exact filters only";
    type Key<'a> = &'a str;

    fn key(text: &str) -> &str {
        text
    }

    fn of(filters: &[Filter]) -> Self {
        filled(filters)
    }

    fn matching(&self, topic: &str) -> u64 {
        let list = self.get(topic);
        list.map_or(0, |list| list.iter().map(|&who| u64::from(who)).sum())
    }
}

impl Changing for Exact {
    type Handle = ();

    fn subscribe(&self, filter: &Filter, who: u32) {
        if filter.is_exact() {
            self.entry(filter.as_str().into()).or_default().push(who);
        }
    }

    fn unsubscribe(&self, filter: &Filter, who: u32, (): ()) {
        if let Some(mut list) = self.get_mut(filter.as_str()) {
            list.retain(|&other| other != who);
        }
        self.remove_if(filter.as_str(), |_, list| list.is_empty());
    }
}

impl Contender for KeBoxTree<Vec<u32>> {
    const NAME: &'static str = "zenoh";
    type Key<'a> = &'a keyexpr;

    fn key(text: &str) -> &keyexpr {
        keyexpr::new(text).expect("a key expression")
    }

    fn of(filters: &[Filter]) -> Self {
        let mut tree = Self::default();
        for (filter, who) in filters.iter().zip(0..) {
            let text = filter.as_str().replace('+', "*").replace('#', "**");
            let node = tree.node_mut_or_create(Self::key(&text));
            match node.weight_mut() {
                Some(list) => list.push(who),
                None => drop(node.insert_weight(vec![who])),
            }
        }
        tree
    }

    fn matching(&self, topic: &keyexpr) -> u64 {
        let lists = self.nodes_including(topic).filter_map(|node| node.weight());
        lists.flatten().map(|&who| u64::from(who)).sum()
    }
}

/// The topics that are asked for, in turn.
fn asked() -> Vec<String> {
    (0..1 << 16)
        .map(|turn: u64| topic_text((turn * u64::from(STRIDE) % u64::from(MANY)) as u32))
        .collect()
}

/// Some answers against the definition of matching.
fn check<C: Contender>(contender: &C, filters: &[Filter], topics: &[String], exact_only: bool) {
    for text in topics.iter().step_by(topics.len().div_ceil(8)) {
        let wanted = filters
            .iter()
            .zip(0_u64..)
            .filter(|(filter, _)| (filter.is_exact() || !exact_only) && filter.matches(topic(text)));
        let wanted: u64 = wanted.map(|(_, who)| who).sum();
        assert_eq!(contender.matching(C::key(text)), wanted, "{} {text}", C::NAME);
    }
}

fn matching<C: Contender>(
    criterion: &mut Criterion,
    group: &str,
    filters: &[Filter],
    topics: &[String],
    exact_only: bool,
) {
    let contender = C::of(filters);
    check(&contender, filters, topics, exact_only);
    let keys: Vec<_> = topics.iter().map(|text| C::key(text)).collect();
    let mut keys = keys.iter().cycle();
    criterion.bench_function(&format!("{group}/{}", C::NAME), |bencher| {
        bencher.iter(|| contender.matching(black_box(*keys.next().expect("a cycle has no end"))));
    });
}

fn match_all(criterion: &mut Criterion, group: &str, filters: &[Filter], topics: &[String]) {
    matching::<Router<u32>>(criterion, group, filters, topics, false);
    matching::<RwLock<Trie>>(criterion, group, filters, topics, false);
    matching::<Exact>(criterion, group, filters, topics, true);
    matching::<KeBoxTree<Vec<u32>>>(criterion, group, filters, topics, false);
}

fn many_filters() -> Vec<Filter> {
    (0..MANY).map(|number| filter(&filter_text(number))).collect()
}

/// One subscription that comes and goes among those of `contender`, of which there are many.
fn updating<C: Changing>(criterion: &mut Criterion, group: &str, contender: &C, filters: &[Filter]) {
    let mut turn = 0_usize;
    criterion.bench_function(&format!("{group}/{}", C::NAME), |bencher| {
        bencher.iter(|| {
            turn += STRIDE as usize;
            let filter = &filters[turn % filters.len()];
            let handle = contender.subscribe(filter, MANY);
            contender.unsubscribe(filter, MANY, handle);
        });
    });
}

fn update_all(criterion: &mut Criterion, group: &str, filters: &[Filter], others: &[Filter]) {
    updating(criterion, group, &Router::of(filters), others);
    updating(criterion, group, &<RwLock<Trie>>::of(filters), others);
    updating(criterion, group, &Exact::of(filters), others);
}

/// Nanoseconds that this thread had a processor for, and that it had to wait for one.
fn scheduled() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let mut numbers = text.split(' ').map(|number| number.parse().expect("a number"));
    (numbers.next().expect("run time"), numbers.next().expect("wait time"))
}

/// Calls `work`, which does so many things, for a fifth of a second: things a second, and whether the thread had its
/// processor all that time. What takes one from it is not what it is measured beside.
fn rate(mut work: impl FnMut() -> u32, goes_on: impl Fn() -> bool) -> (f64, bool) {
    let (start, (_, waited), mut count) = (Instant::now(), scheduled(), 0_u64);
    while goes_on() {
        count += u64::from(work());
    }
    let taken = start.elapsed();
    let undisturbed = Duration::from_nanos(scheduled().1 - waited) < taken / 20;
    (count as f64 / taken.as_secs_f64(), undisturbed)
}

/// What a reader keeps of its rate beside a writer, turn by turn in one run. Turns count in which neither had to wait for a
/// processor.
fn reader_beside_writer<C: Changing>(place: &str, filters: &[Filter], churn: &[Filter], topics: &[String]) {
    const TURNS: usize = 15;
    const ATTEMPTS: usize = 100;
    let contender = C::of(filters);
    let keys: Vec<_> = topics.iter().map(|text| C::key(text)).collect();
    let mut keys = keys.iter().cycle();
    let mut read = || {
        let start = Instant::now();
        let work = || {
            for key in keys.by_ref().take(256) {
                black_box(contender.matching(black_box(*key)));
            }
            256
        };
        rate(work, || start.elapsed() < Duration::from_millis(200))
    };
    read();
    let mut turns = Vec::new();
    for _ in 0..ATTEMPTS {
        let (alone, alone_undisturbed) = read();
        let (begun, done) = (Barrier::new(2), AtomicBool::new(false));
        let ((beside, reader_undisturbed), (updates, writer_undisturbed)) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut filters = churn.iter().cycle();
                begun.wait();
                let work = || {
                    let filter = filters.next().expect("a cycle has no end");
                    let handle = contender.subscribe(filter, MANY);
                    contender.unsubscribe(filter, MANY, handle);
                    2
                };
                rate(work, || !done.load(Ordering::Relaxed))
            });
            begun.wait();
            let beside = read();
            done.store(true, Ordering::Relaxed);
            (beside, writer.join().expect("the writer does not panic"))
        });
        if alone_undisturbed && reader_undisturbed && writer_undisturbed {
            turns.push((beside / alone, alone, updates));
        }
        if turns.len() == TURNS {
            break;
        }
    }
    turns.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (Some(&(least, ..)), Some(&(most, ..))) = (turns.first(), turns.last()) else {
        println!(
            "reader/{place}/{}: no turn of {ATTEMPTS} had both processors for itself",
            C::NAME
        );
        return;
    };
    let (kept, alone, updates) = turns[turns.len() / 2];
    println!(
        "reader/{place}/{}: keeps {:.0} % ({:.0} to {:.0}, {} turns) of {:.2} M matches/s beside {:.2} M updates/s",
        C::NAME,
        100.0 * kept,
        100.0 * least,
        100.0 * most,
        turns.len(),
        alone / 1e6,
        updates / 1e6,
    );
}

fn readers(many: &[Filter], topics: &[String]) {
    // Of other topics, a tenth with wildcards, in an order that is not that of the hashes.
    let churn: Vec<_> = (0..10_000).map(|number| filter(&filter_text(MANY + number))).collect();
    reader_beside_writer::<Router<u32>>("1M", many, &churn, topics);
    reader_beside_writer::<RwLock<Trie>>("1M", many, &churn, topics);
    reader_beside_writer::<Exact>("1M", many, &churn, topics);
    let few: Vec<_> = (0..10).map(|number| filter(&format!("room/{number}"))).collect();
    let rooms: Vec<_> = (0..10).map(|number| format!("room/{number}")).collect();
    reader_beside_writer::<Router<u32>>("10", &few, &churn, &rooms);
    reader_beside_writer::<RwLock<Trie>>("10", &few, &churn, &rooms);
    reader_beside_writer::<Exact>("10", &few, &churn, &rooms);
}

/// Bytes of resident memory that a subscription takes, its filter parsed before.
///
/// In a process of its own: in this one it would find what others left.
fn memory<C: Contender>(place: &str, filters: &[Filter]) {
    if std::env::var(MEMORY_OF).is_ok_and(|name| name == format!("{place}/{}", C::NAME)) {
        let before = resident();
        let contender = C::of(filters);
        let bytes = (resident() - before) as f64 / filters.len() as f64;
        println!("memory/{place}/{}: {bytes:.0} bytes a subscription", C::NAME);
        drop(contender);
        std::process::exit(0);
    }
    if std::env::var(MEMORY_OF).is_err() {
        let program = std::env::current_exe().expect("this program has a path");
        let status = std::process::Command::new(program)
            .args(["--bench", "memory"])
            .env(MEMORY_OF, format!("{place}/{}", C::NAME))
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

/// In the environment of such a process: what it measures.
const MEMORY_OF: &str = "TIDECAST_BENCH_MEMORY_OF";

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    number.expect("a number of KiB") * 1024
}

fn memories(many: &[Filter], same: &[Filter]) {
    memory::<Router<u32>>("1M topics", many);
    memory::<Router<u32>>("1M subscribers of one", same);
    memory::<RwLock<Trie>>("1M topics", many);
    memory::<Exact>("1M topics", many);
    memory::<KeBoxTree<Vec<u32>>>("1M topics", many);
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    let topics = asked();
    let many = many_filters();
    let same = vec![filter("plant-0/device/0/metric/0"); MANY as usize];
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let only = |name: &str| part.as_deref().is_none_or(|part| part.starts_with(name));
    if only("memory") {
        memories(&many, &same);
    }
    if only("match") {
        match_all(&mut criterion, "match/1M", &many, &topics);
        let exact: Vec<_> = (0..MANY).map(|number| filter(&topic_text(number))).collect();
        match_all(&mut criterion, "match/1M exact", &exact, &topics);
        let few: Vec<_> = (0..10).map(|number| filter(&format!("room/{number}"))).collect();
        match_all(&mut criterion, "match/10/hit", &few, &["room/7".to_owned()]);
        match_all(&mut criterion, "match/10/miss", &few, &["room".to_owned()]);
    }
    if only("update") {
        let others: Vec<_> = (0..MANY / 10)
            .map(|number| filter(&filter_text(MANY + number)))
            .collect();
        update_all(&mut criterion, "update/1M topics", &many, &others);
        update_all(&mut criterion, "update/1M subscribers of one", &same, &same[..1]);
    }
    if only("reader") {
        readers(&many, &topics);
    }
    criterion.final_summary();
}
