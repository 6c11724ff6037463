//! Concurrent histories are linearizable: there is an order of the operations that respects which
//! of them returned before which began, and in which one thread alone gets the same answers.
//!
//! Histories of threads that run at once are recorded, and an order is looked for as Wing and Gong
//! do, remembering like Lowe where the search has been. Compiled twice, like the oracle: as it is
//! used, and into the crate's unit tests, where sets are deep and names collide.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use tidecast_router::{Filter, Limits, Router, SubscriptionId, Topic};

const THREADS: usize = 3;
/// Operations of a thread; of all threads they fit in a word, one bit each.
const OPERATIONS: usize = 16;
/// Subscriptions there are from the start, which every thread may end.
const SHARED: usize = 8;
const ROUNDS: u64 = 1_000;

const FILTERS: [&str; 6] = ["a/b", "a/+", "#", "a/c", "+/b", "a/b/#"];
const TOPICS: [&str; 3] = ["a/b", "a/c", "$a/b"];

/// Subscribers, one bit each.
type Mask = u64;

#[derive(Debug, Clone, Copy)]
enum Event {
    Subscribe { who: u32 },
    Unsubscribe { who: u32, found: bool },
    Match { topic: usize, found: Mask },
}

/// An operation, and when it began and returned on a clock that all threads share.
#[derive(Debug, Clone, Copy)]
struct Operation {
    event: Event,
    began: u32,
    returned: u32,
}

/// What one thread alone would do: the subscribers after the event, if it can be the next one.
fn step(event: Event, now: Mask, wanting: &[Mask; TOPICS.len()]) -> Option<Mask> {
    match event {
        Event::Subscribe { who } => Some(now | 1 << who),
        Event::Unsubscribe { who, found } => (found == (now >> who & 1 == 1)).then_some(now & !(1 << who)),
        Event::Match { topic, found } => (found == now & wanting[topic]).then_some(now),
    }
}

/// Whether an order exists. `wanting`: of all subscribers those whose filter matches the topic.
fn is_linearizable(history: &[Operation], start: Mask, wanting: &[Mask; TOPICS.len()]) -> bool {
    assert!(history.len() <= 64);
    let all = u64::MAX.checked_shr(64 - history.len() as u32).unwrap_or(0);
    let mut seen = HashSet::new();
    // Which operations are ordered so far, and the subscribers then.
    let mut open = vec![(0_u64, start)];
    while let Some((ordered, now)) = open.pop() {
        if ordered == all {
            return true;
        }
        if !seen.insert((ordered, now)) {
            continue;
        }
        let left = || (0..history.len()).filter(|index| ordered >> index & 1 == 0);
        // The next one began before any that is left returned.
        let first_return = left().map(|index| history[index].returned).min();
        for index in left().filter(|&index| Some(history[index].began) < first_return) {
            if let Some(then) = step(history[index].event, now, wanting) {
                open.push((ordered | 1 << index, then));
            }
        }
    }
    false
}

/// One round's router and what its threads share.
struct Round {
    router: Router<u32>,
    filters: Vec<Filter>,
    shared: Vec<SubscriptionId>,
    clock: AtomicU32,
    ready: AtomicUsize,
}

impl Round {
    fn new() -> Self {
        let filters = FILTERS.map(|text| Filter::parse(text, &Limits::default()).expect("a filter"));
        let router = Router::new();
        let shared = (0..SHARED).map(|who| router.subscribe(&filters[who % FILTERS.len()], who as u32));
        Round {
            shared: shared.collect(),
            router,
            filters: filters.to_vec(),
            clock: AtomicU32::new(0),
            ready: AtomicUsize::new(0),
        }
    }

    /// What the filters want, by the definition of matching, with `filters` by subscriber.
    fn wanting(&self, filters: &[usize]) -> [Mask; TOPICS.len()] {
        TOPICS.map(|text| {
            let topic = Topic::parse(text, &Limits::default()).expect("a topic");
            let wants = |filter: usize| self.filters[filter].matches(topic);
            let masks = filters.iter().enumerate();
            masks.map(|(who, &filter)| u64::from(wants(filter)) << who).sum()
        })
    }

    /// The operations of one thread, and the filters of those it subscribed.
    fn run(&self, thread: usize, random: &mut fastrand::Rng) -> (Vec<Operation>, Vec<(u32, usize)>) {
        let topics = TOPICS.map(|text| Topic::parse(text, &Limits::default()).expect("a topic"));
        // Enough for every thread's: 8 and 3 times 16 are 56 bits.
        let mut who = (SHARED + thread * OPERATIONS) as u32;
        let (mut history, mut subscribed, mut mine) = (Vec::new(), Vec::new(), Vec::new());
        self.ready.fetch_add(1, Ordering::SeqCst);
        while self.ready.load(Ordering::SeqCst) < THREADS {
            thread::yield_now();
        }
        for _ in 0..OPERATIONS {
            let choice = random.u8(0..8);
            let filter = random.usize(0..FILTERS.len());
            let topic = random.usize(0..TOPICS.len());
            let shared = random.usize(0..SHARED);
            let pause = random.u8(0..16) == 0;
            let began = self.clock.fetch_add(1, Ordering::SeqCst);
            if pause {
                // So that operations overlap also where one thread runs at a time.
                thread::yield_now();
            }
            let event = match choice {
                0..2 => {
                    mine.push((who, filter, self.router.subscribe(&self.filters[filter], who)));
                    Event::Subscribe { who }
                }
                2 if !mine.is_empty() => {
                    let (who, filter, id) = mine.swap_remove(random.usize(0..mine.len()));
                    let found = self.router.unsubscribe(&self.filters[filter], id);
                    Event::Unsubscribe {
                        who,
                        found: found.is_some(),
                    }
                }
                2..4 => {
                    let filter = &self.filters[shared % FILTERS.len()];
                    let found = self.router.unsubscribe(filter, self.shared[shared]);
                    Event::Unsubscribe {
                        who: shared as u32,
                        found: found.is_some(),
                    }
                }
                _ => {
                    let mut found = 0;
                    self.router.for_each_match(topics[topic], |&who| found |= 1 << who);
                    Event::Match { topic, found }
                }
            };
            let returned = self.clock.fetch_add(1, Ordering::SeqCst);
            if let Event::Subscribe { who: new } = event {
                subscribed.push((new, filter));
                who += 1;
            }
            history.push(Operation { event, began, returned });
        }
        (history, subscribed)
    }
}

#[test]
fn every_history_of_a_few_threads_has_an_order() {
    let mut overlapping = 0;
    for seed in 0..ROUNDS {
        let round = Round::new();
        let mut filters: Vec<usize> = (0..64).map(|who| who % FILTERS.len()).collect();
        let mut history = Vec::new();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let round = &round;
                    let mut random = fastrand::Rng::with_seed(seed * THREADS as u64 + thread as u64);
                    scope.spawn(move || round.run(thread, &mut random))
                })
                .collect();
            for thread in threads {
                let (operations, subscribed) = thread.join().expect("no panic");
                history.extend(operations);
                for (who, filter) in subscribed {
                    filters[who as usize] = filter;
                }
            }
        });
        let start = (1 << SHARED) - 1;
        assert!(
            is_linearizable(&history, start, &round.wanting(&filters)),
            "seed {seed}: no order explains {history:#?}"
        );
        // An operation overlaps another if the clock ticked more than once during it.
        overlapping += history.iter().filter(|one| one.returned - one.began > 1).count();
    }
    assert!(overlapping > 0, "the threads ran one after the other in every round");
}

#[test]
fn a_match_that_mixes_two_moments_has_no_order() {
    let operation = |event, began, returned| Operation { event, began, returned };
    let subscribe = |who, began, returned| operation(Event::Subscribe { who }, began, returned);
    let found = |found, began, returned| operation(Event::Match { topic: 0, found }, began, returned);
    let wanting = [u64::MAX; TOPICS.len()];
    // While one subscribes 0 and then 1, another may find none, 0, or both, but not 1 alone.
    for (mask, possible) in [(0b00, true), (0b01, true), (0b11, true), (0b10, false)] {
        let history = [subscribe(0, 1, 2), subscribe(1, 3, 4), found(mask, 0, 5)];
        assert_eq!(is_linearizable(&history, 0, &wanting), possible, "{mask:b}");
    }
    // What returned is found by what begins after.
    let history = [subscribe(0, 0, 1), found(0, 2, 3)];
    assert!(!is_linearizable(&history, 0, &wanting));
    // Of two who end one subscription one finds it.
    let end = |found, began, returned| operation(Event::Unsubscribe { who: 0, found }, began, returned);
    for (one, other, possible) in [(true, false, true), (true, true, false), (false, false, false)] {
        let history = [end(one, 0, 2), end(other, 1, 3)];
        assert_eq!(is_linearizable(&history, 1, &wanting), possible);
    }
}
