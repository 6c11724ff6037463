//! Limits by key hold, for one worker and for many at once.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use super::*;

const NOW: Millis = Millis(1_000);
const NO_LIMIT: u32 = u32::MAX;

fn address(census: &Census, text: &str, prefix: u8) -> Key {
    census.address(text.parse().unwrap(), prefix)
}

/// A key whose window begins with entry `index`.
fn key(number: u64, index: u64) -> Key {
    Key((number + 2) << TAG | index)
}

#[test]
fn a_key_has_as_many_connections_as_it_may_and_gets_others_when_they_go() {
    let census = Census::new(16);
    let (one, other) = (address(&census, "192.0.2.1", 64), address(&census, "192.0.2.2", 64));
    let mut places: Vec<Place> = (0..3).map(|_| census.enter(one, 3, None, NOW).unwrap()).collect();
    assert_eq!(census.enter(one, 3, None, NOW), Err(Refused::Count));
    assert!(census.enter(other, 3, None, NOW).is_ok(), "another is served");
    census.leave(places.pop().unwrap());
    assert!(census.enter(one, 3, None, NOW).is_ok());
    assert_eq!(census.enter(one, 3, None, NOW), Err(Refused::Count));
    assert_eq!(census.enter(key(9, 0), 0, None, NOW), Err(Refused::Count));
}

#[test]
fn addresses_are_told_apart_by_what_one_customer_has() {
    let census = Census::new(16);
    let same = |one, other, prefix| address(&census, one, prefix) == address(&census, other, prefix);
    assert!(same("2001:db8::1", "2001:db8::ffff:1", 64));
    assert!(!same("2001:db8::1", "2001:db8:0:1::1", 64));
    assert!(same("2001:db8::1", "2001:db8:0:1::1", 56));
    assert!(!same("2001:db8::1", "2001:db8::2", 128));
    assert!(same("2001:db8::1", "fe80::1", 0));
    assert!(!same("192.0.2.1", "192.0.2.2", 0));
    assert!(same("192.0.2.1", "::ffff:192.0.2.1", 64));
}

#[test]
fn newcomers_are_counted_by_their_rate_also_after_they_have_gone() {
    let census = Census::new(16);
    let rate = Rate::new(NonZeroU32::new(2).unwrap(), 3);
    let enter = |now| census.enter(key(1, 0), NO_LIMIT, Some(&rate), Millis(now));
    for _ in 0..3 {
        census.leave(enter(1_000).unwrap());
    }
    assert_eq!(enter(1_000), Err(Refused::Rate(Duration::from_millis(500))));
    assert_eq!(census.total(), 0, "who is refused is not counted");
    census.leave(enter(1_500).unwrap());
    assert!(enter(1_500).is_err());
    assert!(
        census.enter(key(2, 0), NO_LIMIT, Some(&rate), NOW).is_ok(),
        "another is served"
    );
}

#[test]
fn an_entry_is_used_again_when_its_key_has_gone_and_first_one_that_has_recovered() {
    let census = Census::new(WINDOW / 2);
    assert_eq!(census.entries.len(), WINDOW);
    let rate = Rate::new(NonZeroU32::new(1).unwrap(), 1);
    let enter = |number, now| census.enter(key(number, 0), NO_LIMIT, Some(&rate), Millis(now));
    // All entries remember somebody, the first of them longest.
    for number in 0..WINDOW as u64 {
        let now = 2_000 - number;
        census.leave(enter(number, now).unwrap());
    }
    let last = WINDOW as u64 - 1;
    let newcomer = enter(100, 1_000).unwrap();
    assert!(enter(0, 2_000).is_err(), "it is remembered");
    assert!(
        census.find(key(last, 0)).is_none(),
        "it would have been forgotten first"
    );
    census.leave(newcomer);
    // Once all have recovered, the first will do.
    enter(101, 60_000).unwrap();
    assert_eq!(census.find(key(101, 0)), Some(0));
}

#[test]
fn a_window_full_of_others_lets_in_without_counting_rather_than_keep_out() {
    let census = Census::new(WINDOW / 2);
    let places: Vec<Place> = (0..WINDOW as u64)
        .map(|number| census.enter(key(number, 5), 1, None, NOW).unwrap())
        .collect();
    assert!(places.iter().all(|place| *place != Place::NONE));
    let uncounted = census.enter(key(1_000, 5), 1, None, NOW).unwrap();
    assert_eq!(uncounted, Place::NONE);
    census.leave(uncounted);
    assert_eq!(census.total(), WINDOW as u64);
    assert_eq!(census.enter(key(3, 5), 1, None, NOW), Err(Refused::Count));
}

/// Workers let keys in and out, in a table in which all keys meet. What a test sees is less than what is counted, for it
/// looks after the one and before the other.
#[test]
fn under_contention_no_key_gets_more_than_it_may_and_no_count_is_lost() {
    const KEYS: usize = 5;
    const MOST: u32 = 3;
    let census = Census::new(4);
    let seen: [AtomicU32; KEYS] = Default::default();
    let rate = Rate::new(NonZeroU32::new(1_000_000).unwrap(), 1_000_000);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (census, seen, rate) = (&census, &seen, &rate);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(worker);
                let mut held: Vec<(usize, Place)> = Vec::new();
                for step in 0..20_000 {
                    let number = random.usize(..KEYS);
                    if random.bool() {
                        let now = Millis(step / 10);
                        // Windows that overlap, and do not begin at the same entry.
                        let key = key(number as u64, number as u64 % 3);
                        if let Ok(place) = census.enter(key, MOST, Some(rate), now) {
                            assert_ne!(place, Place::NONE, "there is an entry for every key");
                            let now = seen[number].fetch_add(1, SeqCst) + 1;
                            assert!(now <= MOST, "{now} of at most {MOST}");
                            held.push((number, place));
                        }
                    } else if !held.is_empty() {
                        let (number, place) = held.swap_remove(random.usize(..held.len()));
                        seen[number].fetch_sub(1, SeqCst);
                        census.leave(place);
                    }
                }
                for (number, place) in held {
                    seen[number].fetch_sub(1, SeqCst);
                    census.leave(place);
                }
            });
        }
    });
    assert_eq!(census.total(), 0);
}
