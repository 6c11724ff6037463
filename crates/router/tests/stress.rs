//! Readers and writers at once: nobody is lost, doubled or made up, and memory stays level.
//!
//! For ten minutes instead of a second:
//!
//! `TIDECAST_STRESS_SECONDS=600 cargo test -p tidecast-router --release --test stress -- --nocapture`

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidecast_router::{Filter, Limits, Router, Topic};

const WRITERS: u64 = 4;
const READERS: u64 = 2;
/// Subscriptions of a writer at once.
const BATCH: u64 = 40;

/// Filters that match [`TOPIC`]: neighbours in every way there is.
const FILTERS: [&str; 6] = ["a/b/c", "a/+/c", "a/#", "#", "+/b/#", "a/b/+"];
/// Filters beside it, which must never be found.
const OTHERS: [&str; 4] = ["a/b", "a/c/c", "b/#", "a/b/c/+"];
const TOPIC: &str = "a/b/c";

fn parse(texts: &[&str]) -> Vec<Filter> {
    texts
        .iter()
        .map(|text| Filter::parse(text, &Limits::default()).expect("a filter"))
        .collect()
}

/// How long the readers and writers run.
fn length() -> Duration {
    let seconds = std::env::var("TIDECAST_STRESS_SECONDS");
    let seconds = seconds.map_or(1, |text| text.parse().expect("whole seconds"));
    Duration::from_secs(seconds)
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a number of KiB")
}

/// Samples memory until `end`: by how many bytes its floor rises from the first half to the second.
///
/// The floor is where reclamation has caught up. Above it is what was put out of use while a thread
/// was off its processor with the epoch pinned, which depends on who shares the machine.
fn watch_memory(start: Instant, end: Instant) -> u64 {
    let mut samples = Vec::new();
    while Instant::now() < end {
        samples.push(resident());
        thread::sleep((end - start) / 100);
    }
    // The first tenth fills the memory that the rest is to make do with.
    let (first, last) = samples.split_at(samples.len() / 2);
    let floor = |samples: &[u64]| samples.iter().copied().min().unwrap_or(0);
    let (first, last) = (floor(&first[first.len() / 5..]), floor(last));
    let peak = samples.iter().copied().max().unwrap_or(0);
    println!("resident: {first} KiB in the first half, {last} KiB in the second, peak {peak} KiB");
    1024 * last.saturating_sub(first)
}

/// Who subscribed: unique over all writers, and whether it wants the topic.
fn name(writer: u64, serial: u64, wanted: bool) -> u64 {
    (writer << 40 | serial) << 1 | u64::from(wanted)
}

#[test]
fn readers_see_every_settled_subscriber_once_and_no_other() {
    let router: Router<u64> = Router::new();
    let (filters, others) = (parse(&FILTERS), parse(&OTHERS));
    let topic = Topic::parse(TOPIC, &Limits::default()).expect("a topic");
    // Subscribed throughout: every match must find them.
    let settled: HashSet<u64> = (0..100).map(|serial| name(99, serial, true)).collect();
    for (&who, filter) in settled.iter().zip(filters.iter().cycle()) {
        router.subscribe(filter, who);
    }
    // Per writer, the serial numbers begun and ended for good: a reader may find only what was
    // begun before its match ended, and not what had ended before it began.
    let begun: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let over: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    let start = Barrier::new((WRITERS + READERS) as usize);
    let matches = AtomicU64::new(0);
    let begin = Instant::now();
    let end = begin + length();

    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (router, filters, others) = (&router, &filters, &others);
                let (begun, over, start) = (&begun, &over, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut serial = 0;
                    while Instant::now() < end {
                        let mut mine = Vec::new();
                        for _ in 0..BATCH {
                            serial += 1;
                            begun[writer as usize].store(serial, Ordering::SeqCst);
                            let wanted = serial % 3 != 0;
                            let among = if wanted { filters } else { others };
                            let filter = &among[serial as usize % among.len()];
                            let who = name(writer, serial, wanted);
                            mine.push((filter, router.subscribe(filter, who), who));
                        }
                        for (filter, id, who) in mine {
                            assert_eq!(router.unsubscribe(filter, id), Some(who));
                            assert_eq!(router.unsubscribe(filter, id), None);
                        }
                        over[writer as usize].store(serial, Ordering::SeqCst);
                    }
                    serial
                })
            })
            .collect();
        for _ in 0..READERS {
            scope.spawn(|| {
                start.wait();
                while !done.load(Ordering::SeqCst) {
                    matches.fetch_add(1, Ordering::Relaxed);
                    let ended: Vec<_> = over.iter().map(|n| n.load(Ordering::SeqCst)).collect();
                    let mut found = HashSet::new();
                    router.for_each_match(topic, |&who| assert!(found.insert(who), "{who} twice"));
                    assert!(settled.is_subset(&found), "a settled subscriber was lost");
                    for who in found.difference(&settled) {
                        assert_eq!(who & 1, 1, "{who} does not want the topic");
                        let (writer, serial) = (who >> 41, who >> 1 & ((1 << 40) - 1));
                        assert!(serial > ended[writer as usize], "{who} had ended");
                        let latest = begun[writer as usize].load(Ordering::SeqCst);
                        assert!(serial <= latest, "{who} was not begun");
                    }
                }
            });
        }
        let grown = watch_memory(begin, end);
        let outcomes: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // Readers must end also when a writer failed.
        done.store(true, Ordering::SeqCst);
        let updates = outcomes.into_iter().map(|outcome| 2 * outcome.expect("a writer"));
        let updates: u64 = updates.sum();
        println!("{updates} updates, {} matches", matches.load(Ordering::Relaxed));
        // An update replaces several blocks of 24 bytes and more. What the allocator keeps of a
        // peak does not add up; in a short run, what it keeps at all does.
        if end - begin >= Duration::from_secs(60) {
            assert!(grown < updates, "memory grows by {grown} bytes in {updates} updates");
        }
        assert_eq!(router.len(), settled.len());
        assert_eq!(router.generation(), settled.len() as u64 + updates);
    });
    let mut left = HashSet::new();
    router.for_each_match(topic, |&who| assert!(left.insert(who), "{who} twice"));
    assert_eq!(left, settled);
}

#[test]
fn a_cached_match_of_an_unchanged_generation_holds_every_update_that_had_returned() {
    let router: Router<u64> = Router::new();
    let filter = Filter::parse("a", &Limits::default()).expect("a filter");
    let topic = Topic::parse("a", &Limits::default()).expect("a topic");
    let returned = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for who in 1..=5_000 {
                router.subscribe(&filter, who);
                returned.store(who, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            let mut cached: Option<(u64, u64)> = None;
            while !done.load(Ordering::SeqCst) {
                let settled = returned.load(Ordering::SeqCst);
                let generation = router.generation();
                let found = match cached {
                    Some((at, found)) if at == generation => found,
                    _ => {
                        let mut found = 0;
                        router.for_each_match(topic, |_| found += 1);
                        found
                    }
                };
                cached = Some((generation, found));
                assert!(found >= settled, "{found} found, {settled} had subscribed");
            }
        });
    });
}

#[test]
fn one_of_many_who_end_the_same_subscription_gets_it() {
    let router: Router<u64> = Router::new();
    let filter = Filter::parse("a/+", &Limits::default()).expect("a filter");
    for who in 0..200 {
        let id = router.subscribe(&filter, who);
        let got = Mutex::new(Vec::new());
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    start.wait();
                    if let Some(who) = router.unsubscribe(&filter, id) {
                        got.lock().expect("no panic before").push(who);
                    }
                });
            }
        });
        assert_eq!(got.into_inner().expect("no panic before"), [who]);
    }
    assert!(router.is_empty());
}
