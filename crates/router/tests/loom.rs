//! Every interleaving of a few small stories, reclamation included.
//!
//! `RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test -p tidecast-router --release --test loom`
#![cfg(loom)]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use tidecast_router::{Filter, Limits, Router, Topic};

/// Runs `story` in every interleaving with at most `preemptions` forced switches of threads; more
/// take hours, for each pin of the epoch has a dozen places to switch at.
fn explore(preemptions: usize, story: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 100_000;
    model.check(story);
}

fn filter(text: &str) -> Filter {
    Filter::parse(text, &Limits::default()).expect("a filter")
}

fn found<S: Clone + Send + Sync + 'static>(router: &Router<S>, get: impl Fn(&S) -> u32) -> Vec<u32> {
    let topic = Topic::parse("a/b", &Limits::default()).expect("a topic");
    let mut found = Vec::new();
    router.for_each_match(topic, |who| found.push(get(who)));
    found.sort_unstable();
    found
}

#[test]
fn two_who_subscribe_at_once_are_both_found() {
    explore(3, || {
        let router = Arc::new(Router::new());
        let other = router.clone();
        let thread = thread::spawn(move || other.subscribe(&filter("a/+"), 1));
        let mine = router.subscribe(&filter("a/b"), 2);
        let theirs = thread.join().expect("no panic");
        assert_ne!(mine, theirs);
        assert_eq!(found(&router, |&who| who), [1, 2]);
        assert_eq!((router.len(), router.generation()), (2, 2));
    });
}

#[test]
fn one_who_leaves_while_another_comes_is_gone_and_the_other_is_found() {
    explore(3, || {
        let router = Arc::new(Router::new());
        let id = router.subscribe(&filter("a/b"), 1);
        let other = router.clone();
        let thread = thread::spawn(move || other.unsubscribe(&filter("a/b"), id));
        router.subscribe(&filter("a/b"), 2);
        assert_eq!(thread.join().expect("no panic"), Some(1));
        assert_eq!(found(&router, |&who| who), [2]);
    });
}

#[test]
fn of_two_who_end_the_same_subscription_one_gets_it() {
    explore(3, || {
        let router = Arc::new(Router::new());
        let id = router.subscribe(&filter("#"), 1);
        let other = router.clone();
        let thread = thread::spawn(move || other.unsubscribe(&filter("#"), id));
        let mine = router.unsubscribe(&filter("#"), id);
        let theirs = thread.join().expect("no panic");
        assert!(matches!((mine, theirs), (Some(1), None) | (None, Some(1))));
        assert!(router.is_empty());
    });
}

/// A subscriber that knows whether it was dropped, also after its memory is gone.
struct Canary(&'static AtomicBool, u32);

impl Canary {
    fn new(who: u32) -> Self {
        Canary(Box::leak(Box::new(AtomicBool::new(true))), who)
    }
}

impl Clone for Canary {
    fn clone(&self) -> Self {
        Canary::new(self.1)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

#[test]
fn what_a_reader_visits_is_not_freed_under_it() {
    explore(3, || {
        let router = Arc::new(Router::new());
        let id = router.subscribe(&filter("a/#"), Canary::new(1));
        let other = router.clone();
        let switch = Arc::new(AtomicUsize::new(0));
        let turn = switch.clone();
        let thread = thread::spawn(move || {
            other.unsubscribe(&filter("a/#"), id);
            // Everything that may be freed is: three epochs have passed, if they can.
            for _ in 0..3 {
                crossbeam_epoch::pin().flush();
            }
            turn.store(1, Ordering::Release);
        });
        let topic = Topic::parse("a/b", &Limits::default()).expect("a topic");
        router.for_each_match(topic, |canary| {
            let alive = canary.0;
            assert!(alive.load(SeqCst));
            switch.load(Ordering::Acquire);
            assert!(alive.load(SeqCst), "freed under the reader");
        });
        thread.join().expect("no panic");
    });
}

#[test]
fn a_generation_that_did_not_change_vouches_for_a_match() {
    explore(3, || {
        let router = Arc::new(Router::new());
        let returned = Arc::new(AtomicUsize::new(0));
        let (other, signal) = (router.clone(), returned.clone());
        let thread = thread::spawn(move || {
            other.subscribe(&filter("a/b"), 1);
            signal.store(1, Ordering::Release);
        });
        let generation = router.generation();
        let cached = found(&router, |&who| who);
        let settled = returned.load(Ordering::Acquire);
        if router.generation() == generation {
            assert!(cached.len() >= settled, "the cache misses a subscriber");
        }
        thread.join().expect("no panic");
    });
}

/// A subscriber written with relaxed stores, which a reader sees only if the router orders them.
struct Written(AtomicUsize);

impl Written {
    fn new(value: usize) -> Self {
        let written = Written(AtomicUsize::new(0));
        written.0.store(value, Ordering::Relaxed);
        written
    }
}

impl Clone for Written {
    fn clone(&self) -> Self {
        Written::new(self.0.load(Ordering::Relaxed))
    }
}

#[test]
fn what_was_written_before_a_subscribe_is_seen_by_whoever_finds_it() {
    explore(3, || {
        let router = Arc::new(Router::new());
        let other = router.clone();
        let thread = thread::spawn(move || other.subscribe(&filter("a/b"), Written::new(7)));
        let found = found(&router, |written| written.0.load(Ordering::Relaxed) as u32);
        assert!(found.is_empty() || found == [7], "{found:?}");
        thread.join().expect("no panic");
    });
}

#[test]
fn a_writer_sees_the_version_it_builds_on_whole() {
    explore(3, || {
        let router = Arc::new(Router::new());
        let other = router.clone();
        let thread = thread::spawn(move || other.subscribe(&filter("a/b"), Written::new(7)));
        // Of the same filter, so that this one copies the other's subscriber.
        router.subscribe(&filter("a/b"), Written::new(8));
        thread.join().expect("no panic");
        assert_eq!(
            found(&router, |written| written.0.load(Ordering::Relaxed) as u32),
            [7, 8]
        );
    });
}

#[test]
fn a_match_finds_what_there_is_at_one_moment_with_and_without_wildcards() {
    explore(3, || {
        let router = Arc::new(Router::new());
        let other = router.clone();
        // Without 1 there is never 2, and the two lie in different trees.
        let thread = thread::spawn(move || {
            let wild = other.subscribe(&filter("#"), 1);
            let exact = other.subscribe(&filter("a/b"), 2);
            other.unsubscribe(&filter("a/b"), exact);
            other.unsubscribe(&filter("#"), wild);
        });
        let found = found(&router, |&who| who);
        assert!(matches!(found[..], [] | [1] | [1, 2]), "{found:?}");
        thread.join().expect("no panic");
    });
}
