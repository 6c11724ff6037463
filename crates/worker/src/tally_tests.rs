//! Limits by key hold, for one worker and for many at once.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use super::*;

const NOW: Millis = Millis(1_000);
const NO_LIMIT: u32 = u32::MAX;

/// A key whose window begins with entry `index`.
fn key(number: u64, index: u64) -> Key {
    Key((number + 2) << TAG | index)
}

#[test]
fn a_key_has_as_many_connections_as_it_may_and_gets_others_when_they_go() {
    let tally = Tally::<1>::new(16);
    let (one, other) = (tally.key("one"), tally.key("other"));
    let mut places: Vec<Place> = (0..3).map(|_| tally.enter(one, 3, None, NOW).unwrap()).collect();
    assert_eq!(tally.enter(one, 3, None, NOW), Err(Refused::Count));
    assert!(tally.enter(other, 3, None, NOW).is_ok(), "another is served");
    tally.leave(places.pop().unwrap());
    assert!(tally.enter(one, 3, None, NOW).is_ok());
    assert_eq!(tally.enter(one, 3, None, NOW), Err(Refused::Count));
    assert_eq!(tally.enter(key(9, 0), 0, None, NOW), Err(Refused::Count));
}

#[test]
fn newcomers_are_counted_by_their_rate_also_after_they_have_gone() {
    let tally = Tally::<1>::new(16);
    let rate = Rate::new(NonZeroU32::new(2).unwrap(), 3);
    let enter = |now| tally.enter(key(1, 0), NO_LIMIT, Some(&rate), Millis(now));
    for _ in 0..3 {
        tally.leave(enter(1_000).unwrap());
    }
    assert_eq!(enter(1_000), Err(Refused::Rate(Duration::from_millis(500))));
    assert_eq!(tally.total(), 0, "who is refused is not counted");
    tally.leave(enter(1_500).unwrap());
    assert!(enter(1_500).is_err());
    assert!(
        tally.enter(key(2, 0), NO_LIMIT, Some(&rate), NOW).is_ok(),
        "another is served"
    );
}

#[test]
fn an_entry_is_used_again_when_its_key_has_gone_and_first_one_that_has_recovered() {
    let tally = Tally::<1>::new(WINDOW / 2);
    assert_eq!(tally.entries.len(), WINDOW);
    let rate = Rate::new(NonZeroU32::new(1).unwrap(), 1);
    let enter = |number, now| tally.enter(key(number, 0), NO_LIMIT, Some(&rate), Millis(now));
    // All entries remember somebody, the first of them longest.
    for number in 0..WINDOW as u64 {
        let now = 2_000 - number;
        tally.leave(enter(number, now).unwrap());
    }
    let last = WINDOW as u64 - 1;
    let newcomer = enter(100, 1_000).unwrap();
    assert!(enter(0, 2_000).is_err(), "it is remembered");
    assert!(tally.find(key(last, 0)).is_none(), "it would have been forgotten first");
    tally.leave(newcomer);
    // Once all have recovered, the first will do.
    enter(101, 60_000).unwrap();
    assert_eq!(tally.find(key(101, 0)), Some(0));
}

#[test]
fn a_window_full_of_others_lets_in_without_counting_rather_than_keep_out() {
    let tally = Tally::<1>::new(WINDOW / 2);
    let places: Vec<Place> = (0..WINDOW as u64)
        .map(|number| tally.enter(key(number, 5), 1, None, NOW).unwrap())
        .collect();
    assert!(places.iter().all(|place| *place != Place::NONE));
    let uncounted = tally.enter(key(1_000, 5), 1, None, NOW).unwrap();
    assert_eq!(uncounted, Place::NONE);
    tally.leave(uncounted);
    assert_eq!(tally.total(), WINDOW as u64);
    assert_eq!(tally.enter(key(3, 5), 1, None, NOW), Err(Refused::Count));
}

/// Workers let keys in and out, in a table in which all keys meet. What a test sees is less than what is counted, for it
/// looks after the one and before the other.
#[test]
fn under_contention_no_key_gets_more_than_it_may_and_no_count_is_lost() {
    const KEYS: usize = 5;
    const MOST: u32 = 3;
    let tally = Tally::<1>::new(4);
    let seen: [AtomicU32; KEYS] = Default::default();
    let rate = Rate::new(NonZeroU32::new(1_000_000).unwrap(), 1_000_000);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (tally, seen, rate) = (&tally, &seen, &rate);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(worker);
                let mut held: Vec<(usize, Place)> = Vec::new();
                for step in 0..20_000 {
                    let number = random.usize(..KEYS);
                    if random.bool() {
                        let now = Millis(step / 10);
                        // Windows that overlap, and do not begin at the same entry.
                        let key = key(number as u64, number as u64 % 3);
                        if let Ok(place) = tally.enter(key, MOST, Some(rate), now) {
                            assert_ne!(place, Place::NONE, "there is an entry for every key");
                            let now = seen[number].fetch_add(1, SeqCst) + 1;
                            assert!(now <= MOST, "{now} of at most {MOST}");
                            held.push((number, place));
                        }
                    } else if !held.is_empty() {
                        let (number, place) = held.swap_remove(random.usize(..held.len()));
                        seen[number].fetch_sub(1, SeqCst);
                        tally.leave(place);
                    }
                }
                for (number, place) in held {
                    seen[number].fetch_sub(1, SeqCst);
                    tally.leave(place);
                }
            });
        }
    });
    assert_eq!(tally.total(), 0);
}

#[test]
fn what_comes_of_a_key_is_limited_however_many_connections_it_comes_by() {
    let tally = Tally::<2>::new(16);
    let [messages, bytes] =
        [(10, 10), (1_000, 1_000)].map(|(rate, burst)| Rate::new(NonZeroU32::new(rate).unwrap(), burst));
    let key = tally.key("alice");
    let places = [(); 2].map(|()| tally.enter(key, 2, None, NOW).unwrap());
    let say = |place, octets, now| {
        tally
            .spend(place, [(Some(&messages), 1), (Some(&bytes), octets)], Millis(now))
            .is_ok()
    };
    for turn in 0..10 {
        assert!(say(places[turn % 2], 50, 1_000));
    }
    assert!(!say(places[0], 50, 1_000) && !say(places[1], 50, 1_000));
    assert!(say(places[1], 500, 1_100));
    // Refused for its octets, it costs no message.
    assert!(!say(places[1], 500, 1_200));
    assert!(say(places[1], 100, 1_200));
    assert!(say(Place::NONE, 1 << 20, 1_000));
    assert!(tally.spend(places[0], [(None, 1), (None, 1 << 20)], NOW).is_ok());
}
