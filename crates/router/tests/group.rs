//! Shared subscriptions: one member of a group for each message.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tidecast_router::{Filter, Group, Limits, Load, Route, Router, SharedOptions, Strategy, SubscriptionId, Topic};

fn filter(text: &str) -> Filter {
    Filter::parse(text, &Limits::default()).expect("a filter")
}

fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text, &Limits::default()).expect("a topic")
}

fn found(router: &Router<u32>, text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    router.for_each_match(topic(text), |&who| found.push(who));
    found.sort_unstable();
    found
}

fn the_group(router: &Router<u32>, text: &str) -> Option<Group<u32>> {
    let mut groups = Vec::new();
    router.for_each_route(topic(text), |route| match route {
        Route::Group(group) => groups.push(group.clone()),
        Route::One(who) => panic!("{who} is in no group"),
    });
    assert!(groups.len() <= 1, "{} groups", groups.len());
    groups.pop()
}

/// A group `$share/g/a` of members `0..count`.
fn group(strategy: Strategy, count: u32) -> (Router<u32>, Vec<SubscriptionId>) {
    let router = Router::with_strategy(strategy);
    let shared = filter("$share/g/a");
    let ids = (0..count).map(|who| router.subscribe(&shared, who)).collect();
    (router, ids)
}

#[test]
fn each_group_gets_a_message_once_and_everybody_else_too() {
    let router = Router::new();
    for who in 0..3 {
        router.subscribe(&filter("$share/one/a/+"), who);
        router.subscribe(&filter("$share/two/a/+"), 10 + who);
        router.subscribe(&filter("$share/one/a/b"), 20 + who);
        router.subscribe(&filter("a/b"), 30 + who);
    }
    assert_eq!(router.len(), 12);
    for _ in 0..20 {
        let found = found(&router, "a/b");
        // Groups of one name and another filter are other groups.
        let tens: Vec<_> = found.iter().map(|who| who / 10).collect();
        assert_eq!(tens, [0, 1, 2, 3, 3, 3]);
    }
    assert_eq!(found(&router, "b"), []);
    assert_eq!(found(&router, "a/c").len(), 2);
}

#[test]
fn round_robin_gives_each_member_its_turn() {
    let (router, _) = group(Strategy::RoundRobin, 5);
    let turns: Vec<_> = (0..15).flat_map(|_| found(&router, "a")).collect();
    for round in turns.chunks(5) {
        assert_eq!(round.iter().collect::<HashSet<_>>().len(), 5, "{turns:?}");
    }
}

#[test]
fn random_gives_each_member_about_as_much() {
    let (router, _) = group(Strategy::Random, 4);
    let mut counts = [0; 4];
    for _ in 0..8000 {
        counts[found(&router, "a")[0] as usize] += 1;
    }
    // Ten standard deviations.
    assert!(counts.iter().all(|count| (1600..2400).contains(count)), "{counts:?}");
}

const KEYS: u64 = 10_000;

fn owners(group: &Group<u32>) -> Vec<u32> {
    (0..KEYS).map(|key| group.pick(key).expect("a member")).collect()
}

#[test]
fn a_sticky_key_stays_with_its_member_and_moves_only_from_who_left_and_to_who_came() {
    let (router, ids) = group(Strategy::Sticky, 10);
    let shared = filter("$share/g/a");
    let group = the_group(&router, "a").expect("a group");
    let before = owners(&group);
    assert_eq!(owners(&group), before);

    let mut shares: HashMap<u32, u64> = HashMap::new();
    before.iter().for_each(|who| *shares.entry(*who).or_default() += 1);
    let mean = KEYS / 10;
    assert!(
        (0..10).all(|who| (mean / 2..mean * 2).contains(&shares[&who])),
        "{shares:?}"
    );

    assert_eq!(router.unsubscribe(&shared, ids[4]), Some(4));
    let without = owners(&group);
    for (before, without) in before.iter().zip(&without) {
        assert!(*without != 4 && (before == without || *before == 4));
    }
    router.subscribe(&shared, 10);
    let with = owners(&group);
    let moved = without.iter().zip(&with).filter(|(without, with)| without != with);
    let mut count = 0;
    for (_, to) in moved {
        assert_eq!(*to, 10);
        count += 1;
    }
    assert!((mean / 2..mean * 2).contains(&count), "{count} keys moved");
}

#[test]
fn a_sticky_match_goes_by_the_topic() {
    let router = Router::with_strategy(Strategy::Sticky);
    for who in 0..8 {
        router.subscribe(&filter("$share/g/#"), who);
    }
    let mut members = HashSet::new();
    for number in 0..100 {
        let name = format!("t/{number}");
        let first = found(&router, &name);
        assert_eq!(found(&router, &name), first);
        members.extend(first);
        let group = the_group(&router, &name).expect("a group");
        let key = router.sticky_key(topic(&name));
        assert_eq!(group.pick(key), Some(found(&router, &name)[0]));
    }
    assert_eq!(members.len(), 8, "every member has a topic");
}

#[test]
fn the_least_loaded_of_a_few_is_always_picked_and_the_most_loaded_of_many_never() {
    for count in [2, 8, 100] {
        let router = Router::with_strategy(Strategy::LeastLoaded);
        let shared = filter("$share/g/a");
        let loads: Vec<_> = (0..count).map(|_| Load::new()).collect();
        for (who, load) in (0..).zip(&loads) {
            load.set(u64::from(who));
            router.subscribe_shared(&shared, who, &SharedOptions::new().load(load.clone()));
        }
        for _ in 0..500 {
            let who = found(&router, "a")[0];
            assert!(if count <= 8 { who == 0 } else { who < count - 1 });
        }
        // A work queue: each message is work. None has more than a few above the mean.
        loads.iter().for_each(|load| load.set(0));
        for _ in 0..count * 100 {
            loads[found(&router, "a")[0] as usize].add(1);
        }
        let most = loads.iter().map(Load::get).max();
        assert!(most <= Some(108), "{most:?} of {count}, the mean is 100");
    }
}

#[test]
fn the_first_member_sets_the_strategy_until_the_last_has_left() {
    let router = Router::new();
    let shared = filter("$share/g/a");
    let with = |strategy| SharedOptions::new().strategy(strategy);
    let first = router.subscribe_shared(&shared, 1, &with(Strategy::Sticky));
    let second = router.subscribe_shared(&shared, 2, &with(Strategy::Random));
    let strategy = |router| the_group(router, "a").map(|group| group.strategy());
    assert_eq!(strategy(&router), Some(Strategy::Sticky));
    router.unsubscribe(&shared, first);
    assert_eq!(strategy(&router), Some(Strategy::Sticky));
    router.unsubscribe(&shared, second);
    assert_eq!(strategy(&router), None);
    router.subscribe_shared(&shared, 3, &with(Strategy::Random));
    assert_eq!(strategy(&router), Some(Strategy::Random));
}

#[test]
fn the_generation_rises_with_groups_and_not_with_their_members() {
    let router = Router::new();
    let shared = filter("$share/g/a");
    let before = router.generation();
    let first = router.subscribe(&shared, 1);
    let founded = router.generation();
    assert!(founded > before);
    let group = the_group(&router, "a").expect("a group");
    let second = router.subscribe(&shared, 2);
    assert_eq!(router.unsubscribe(&shared, first), Some(1));
    assert_eq!(router.unsubscribe(&shared, first), None);
    assert_eq!(router.generation(), founded);
    // What was found before sees who is there now.
    assert_eq!((group.len(), group.pick(0)), (1, Some(2)));
    assert_eq!(router.unsubscribe(&shared, second), Some(2));
    assert!(router.generation() > founded);
    assert!(group.is_empty() && group.pick(0).is_none() && router.is_empty());
    // Another group of the same name is another group.
    router.subscribe(&shared, 3);
    assert_eq!(group.pick(0), None);
    assert_eq!(found(&router, "a"), [3]);
}

#[test]
fn a_subscription_is_ended_under_its_own_filter_only() {
    let router = Router::new();
    let plain = router.subscribe(&filter("a"), 1);
    let shared = router.subscribe(&filter("$share/g/a"), 2);
    for (other, id) in [("$share/g/a", plain), ("a", shared), ("$share/h/a", shared)] {
        assert_eq!(router.unsubscribe(&filter(other), id), None);
    }
    assert_eq!(found(&router, "a"), [1, 2]);
}

#[test]
fn a_hundred_thousand_members_come_and_go() {
    const COUNT: u32 = 100_000;
    for strategy in [Strategy::RoundRobin, Strategy::LeastLoaded] {
        let (router, ids) = group(strategy, COUNT);
        assert_eq!(router.len(), COUNT as usize);
        assert_eq!(found(&router, "a").len(), 1);
        for step in 0..COUNT as usize {
            let index = step * 7919 % COUNT as usize;
            let left = router.unsubscribe(&filter("$share/g/a"), ids[index]);
            assert_eq!(left, Some(index as u32));
        }
        assert_eq!(found(&router, "a"), []);
    }
}

/// Members come and go, founding and ending groups all the time, while others match.
#[test]
fn one_member_is_found_while_there_is_one_and_never_one_who_had_left() {
    const WRITERS: u64 = 3;
    const ROUNDS: u64 = 3000;
    let limits = Limits::default();
    // In `kept` one member stays; in `brief` groups begin and end.
    let (kept, brief) = (filter("$share/kept/a"), filter("$share/brief/a"));
    let router: Router<u64> = Router::new();
    router.subscribe(&kept, u64::MAX);
    // By writer: the serial numbers that have left.
    let over: Vec<_> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (router, over, kept, brief) = (&router, &over, &kept, &brief);
                scope.spawn(move || {
                    for serial in 1..=ROUNDS {
                        let who = writer << 32 | serial;
                        let (one, two) = (router.subscribe(kept, who), router.subscribe(brief, who));
                        // A member from now on: the group is there.
                        let mut groups = 0;
                        let a = Topic::parse("a", &limits).expect("a topic");
                        router.for_each_match(a, |_| groups += 1);
                        assert_eq!(groups, 2);
                        assert_eq!(router.unsubscribe(kept, one), Some(who));
                        assert_eq!(router.unsubscribe(brief, two), Some(who));
                        over[writer as usize].store(serial, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let topic = Topic::parse("a", &limits).expect("a topic");
            let mut cached: Option<(u64, Vec<Group<u64>>)> = None;
            while !done.load(Ordering::SeqCst) {
                let ended: Vec<_> = over.iter().map(|serial| serial.load(Ordering::SeqCst)).collect();
                let check = |who: u64| {
                    let (writer, serial) = (who >> 32, who & u64::from(u32::MAX));
                    assert!(who == u64::MAX || serial > ended[writer as usize], "{who} had left");
                };
                let mut found = 0;
                router.for_each_match(topic, |&who| {
                    check(who);
                    found += 1;
                });
                assert!((1..=2).contains(&found), "{found} members of two groups");
                // The same from what was kept for the generation.
                let generation = router.generation();
                if cached.as_ref().is_none_or(|(kept, _)| *kept != generation) {
                    let mut groups = Vec::new();
                    router.for_each_route(topic, |route| match route {
                        Route::Group(group) => groups.push(group.clone()),
                        Route::One(_) => panic!("nobody is alone"),
                    });
                    cached = Some((generation, groups));
                }
                let groups = &cached.as_ref().expect("just kept").1;
                let picked: Vec<_> = groups.iter().filter_map(|group| group.pick(0)).collect();
                assert!((1..=2).contains(&picked.len()));
                picked.into_iter().for_each(check);
            }
        });
        for writer in writers {
            let outcome = writer.join();
            if outcome.is_err() {
                done.store(true, Ordering::SeqCst);
            }
            outcome.expect("a writer");
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(router.len(), 1);
    let mut left = Vec::new();
    router.for_each_match(Topic::parse("a", &limits).expect("a topic"), |&who| left.push(who));
    assert_eq!(left, [u64::MAX]);
}
