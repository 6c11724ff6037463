//! How many there are of what: one table for all workers, without locks.
//!
//! ```text
//!   hash of a key ──▶ │ entry │ entry │ entry │ …        its window: the entry of a key is in here, or there is none
//!                         │
//!          ┌──────────────┴─────────────┬─────────────────────────────────┐
//!          │ word:  tag 40 │ c │ count  │ paid off: what has come so fast │
//!          └────────────────────────────┴─────────────────────────────────┘
//! ```
//!
//! A word changes by compare-and-swap only, so that no count is lost. The entry of a key whose connections are all gone stays
//! until it is needed for another one: it remembers how fast they came.
//!
//! # One entry for each key
//! Two workers may meet a new key at one time and choose different entries. So an entry is *claimed* first (`c`, with a
//! ticket in the place of the count) and counts only after its window was searched once more:
//!
//! ```text
//!   free ──claim──▶ claimed ──nobody else has the tag──▶ 1 connection
//!     ▲                │ an entry that counts has the tag: withdraw, and begin again
//!     └────────────────┘ another claim has it: void that one, then go on
//! ```
//!
//! Of two claims each is written before the other's window is searched, with a fence between, so at least one sees the other. One
//! that was voided cannot go on, for its ticket is gone; and nobody waits for a claim whose worker was put to sleep by the
//! system. That is modelled with loom below.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::time::Duration;

use tidecast_websocket::Millis;

use crate::rate::{Rate, nanos};
use crate::sync::{AtomicU64, fence};

/// Entries that are searched for a key. In a table that is half full, four keys of a million find no room in so many.
#[cfg(not(loom))]
const WINDOW: usize = 64;
#[cfg(loom)]
const WINDOW: usize = 2;
/// The most entries of a table, of 16 bytes each.
const MOST_ENTRIES: usize = 1 << 20;
/// How often an entry is looked for, which another worker's claim may thwart each time.
const ATTEMPTS: usize = 16;

const TAG: u32 = 24;
const CLAIMED: u64 = 1 << 23;
const COUNT: u64 = CLAIMED - 1;
/// The word of an entry that was in use and has no key any more. One that never was is 0; keys have other tags than these.
const FREED: u64 = 1 << TAG;

/// A key by its hash, which nobody outside can predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u64);

/// The entry that a connection is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// It is not counted.
    pub(crate) const NONE: Place = Place(u32::MAX);
}

/// Why one more is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are as many as may be.
    Count,
    /// They come too fast; the next may come after so long.
    Rate(Duration),
}

struct Entry<const RATES: usize> {
    word: AtomicU64,
    /// See [`Rate::next`].
    paid_off: [AtomicU64; RATES],
}

/// Counts connections by key, and how fast `RATES` things come of each.
///
/// Invariant: in the window of a key at most one entry has its tag and is not claimed.
pub(crate) struct Tally<const RATES: usize> {
    entries: Box<[Entry<RATES>]>,
    keys: RandomState,
    tickets: AtomicU64,
}

impl<const RATES: usize> Tally<RATES> {
    /// Room to count `connections`, each with a key of its own.
    pub(crate) fn new(connections: usize) -> Tally<RATES> {
        let entries = (2 * connections).clamp(WINDOW, MOST_ENTRIES).next_power_of_two();
        Tally {
            entries: (0..entries)
                .map(|_| Entry {
                    word: AtomicU64::new(0),
                    paid_off: [(); RATES].map(|()| AtomicU64::new(0)),
                })
                .collect(),
            keys: RandomState::new(),
            tickets: AtomicU64::new(0),
        }
    }

    /// The key of something.
    pub(crate) fn key(&self, of: impl Hash) -> Key {
        Key(self.keys.hash_one(of))
    }

    /// Counts one more connection of `key`, of which there may be `most`, and new ones at `rate`, the first of all; it counts until
    /// [`Tally::leave`]. When a window holds nothing but keys that are in use, one that is not is let in uncounted: those who are
    /// many have an entry.
    ///
    /// # Errors
    /// It is one too many, or too soon.
    pub(crate) fn enter(&self, key: Key, most: u32, rate: Option<&Rate>, now: Millis) -> Result<Place, Refused> {
        for _ in 0..ATTEMPTS {
            let index = match self.find(key) {
                Some(index) => match self.add(index, key, most) {
                    Some(added) => added.map(|()| index)?,
                    None => continue,
                },
                None => match self.vacant(key, now) {
                    None => return Ok(Place::NONE),
                    Some(_) if most == 0 => return Err(Refused::Count),
                    Some((index, word)) if self.claim(index, word, key) => index,
                    Some(_) => continue,
                },
            };
            let place = Place(index as u32);
            if let Some(rate) = rate
                && let Some(paid_off) = self.entries[index].paid_off.first()
                && let Err(wait) = pay(paid_off, rate, 1, now)
            {
                self.leave(place);
                return Err(Refused::Rate(wait));
            }
            return Ok(place);
        }
        Ok(Place::NONE)
    }

    /// Whether `place` is the entry of `key`, which is known to be in use.
    pub(crate) fn holds(&self, place: Place, key: Key) -> bool {
        place != Place::NONE && self.find(key) == Some(place.0 as usize)
    }

    /// A connection that was counted is gone.
    pub(crate) fn leave(&self, place: Place) {
        if place != Place::NONE {
            let before = self.entries[place.0 as usize].word.fetch_sub(1, AcqRel);
            debug_assert!(
                before & CLAIMED == 0 && before & COUNT > 0,
                "it was counted: {before:x}"
            );
        }
    }

    /// Entries in the window of `key`, up to the first that was never used: behind that there is none of it.
    fn window(&self, key: Key) -> impl Iterator<Item = (usize, u64)> {
        let mask = self.entries.len() - 1;
        (0..WINDOW)
            .map(move |offset| (key.0 as usize).wrapping_add(offset) & mask)
            .map(|index| (index, self.entries[index].word.load(Acquire)))
    }

    fn find(&self, key: Key) -> Option<usize> {
        self.window(key)
            .take_while(|(_, word)| *word != 0)
            .find(|(_, word)| word & !COUNT == key.tag())
            .map(|(index, _)| index)
    }

    /// Counts one more in the entry `index`; `None` if that is not the key's any more.
    fn add(&self, index: usize, key: Key, most: u32) -> Option<Result<(), Refused>> {
        let entry = &self.entries[index].word;
        let mut word = entry.load(Acquire);
        loop {
            if word & !COUNT != key.tag() {
                return None;
            }
            if word & COUNT >= u64::from(most).min(COUNT) {
                return Some(Err(Refused::Count));
            }
            match entry.compare_exchange_weak(word, word + 1, AcqRel, Acquire) {
                Ok(_) => return Some(Ok(())),
                Err(now) => word = now,
            }
        }
    }

    /// The entry in the window of `key` to be claimed, with its word: the first that nobody needs, else the one that will be
    /// recovered first.
    fn vacant(&self, key: Key, now: Millis) -> Option<(usize, u64)> {
        let mut first = None;
        for (index, word) in self.window(key).filter(|(_, word)| word & (CLAIMED | COUNT) == 0) {
            let paid_off = self.entries[index]
                .paid_off
                .iter()
                .map(|paid_off| paid_off.load(Relaxed));
            let paid_off = paid_off.max().unwrap_or(0);
            if paid_off <= nanos(now) {
                return Some((index, word));
            }
            if first.is_none_or(|(earliest, _)| paid_off < earliest) {
                first = Some((paid_off, (index, word)));
            }
        }
        first.map(|(_, vacant)| vacant)
    }

    /// Makes the entry `index`, whose word is `vacant`, one of `key` with one connection, unless somebody else was first.
    fn claim(&self, index: usize, vacant: u64, key: Key) -> bool {
        let entry = &self.entries[index];
        let claim = key.tag() | CLAIMED | (self.tickets.fetch_add(1, Relaxed) & COUNT);
        if entry.word.compare_exchange(vacant, claim, AcqRel, Relaxed).is_err() {
            return false;
        }
        // Nobody who has the old key can be here: they have to be counted first.
        entry.paid_off.iter().for_each(|paid_off| paid_off.store(0, Relaxed));
        fence(SeqCst);
        for (other, word) in self.window(key).take_while(|(_, word)| *word != 0) {
            if other == index || word & !(CLAIMED | COUNT) != key.tag() {
                continue;
            }
            let voided = word & CLAIMED != 0
                && self.entries[other]
                    .word
                    .compare_exchange(word, FREED, AcqRel, Relaxed)
                    .is_ok();
            if !voided {
                // It may be free already, voided by that other one.
                let _ = entry.word.compare_exchange(claim, FREED, AcqRel, Relaxed);
                return false;
            }
        }
        entry
            .word
            .compare_exchange(claim, key.tag() | 1, AcqRel, Relaxed)
            .is_ok()
    }

    /// Lets in what comes of the key of a connection that is counted, unless it comes too fast: so many units of each thing. What
    /// is refused costs nothing.
    pub(crate) fn spend(
        &self,
        place: Place,
        units: [(Option<&Rate>, u64); RATES],
        now: Millis,
    ) -> Result<(), Duration> {
        if place == Place::NONE {
            return Ok(());
        }
        let entry = &self.entries[place.0 as usize];
        let limits = || {
            entry
                .paid_off
                .iter()
                .zip(units)
                .filter_map(|(paid_off, (rate, units))| Some((paid_off, rate?, units)))
        };
        for (paid_off, rate, units) in limits() {
            rate.next(paid_off.load(Relaxed), units, now)?;
        }
        limits().try_for_each(|(paid_off, rate, units)| pay(paid_off, rate, units, now))
    }

    /// Connections that are counted.
    #[cfg(test)]
    fn total(&self) -> u64 {
        let words = self.entries.iter().map(|entry| entry.word.load(Acquire));
        words
            .inspect(|word| assert_eq!(word & CLAIMED, 0))
            .map(|word| word & COUNT)
            .sum()
    }
}

fn pay(entry: &AtomicU64, rate: &Rate, units: u64, now: Millis) -> Result<(), Duration> {
    let mut paid_off = entry.load(Relaxed);
    loop {
        let next = rate.next(paid_off, units, now)?;
        match entry.compare_exchange_weak(paid_off, next, Relaxed, Relaxed) {
            Ok(_) => return Ok(()),
            Err(other) => paid_off = other,
        }
    }
}

impl Key {
    /// Its high bits, in their place in a word; the low ones say where its window begins.
    fn tag(self) -> u64 {
        // Not one of the two that mean no key.
        (self.0 >> TAG).max(2) << TAG
    }
}

#[cfg(all(test, not(loom)))]
#[path = "tally_tests.rs"]
mod tests;

#[cfg(all(test, loom))]
mod model {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Keys of one window, which is all of the table.
    const KEYS: [Key; 2] = [Key(2 << TAG), Key(3 << TAG)];

    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    fn enter(tally: &Tally<1>, key: Key) -> Option<Place> {
        tally.enter(key, 1, None, Millis(0)).ok()
    }

    /// Two workers meet a new key at one time, in a window that has room for two: one of them is counted, the other refused.
    #[test]
    fn a_new_key_is_counted_in_one_entry() {
        check(|| {
            let tally = Arc::new(Tally::<1>::new(1));
            let other = {
                let tally = Arc::clone(&tally);
                thread::spawn(move || enter(&tally, KEYS[0]))
            };
            let places = [enter(&tally, KEYS[0]), other.join().unwrap()];
            let counted: Vec<Place> = places.into_iter().flatten().collect();
            assert!(counted.len() == 1 && counted[0] != Place::NONE, "{places:?}");
            tally.leave(counted[0]);
            assert_eq!(tally.total(), 0);
        });
    }

    /// The same while a third makes the entry before theirs vacant, or takes it.
    #[test]
    fn a_key_has_one_entry_while_others_come_and_go() {
        check(|| {
            let tally = Arc::new(Tally::<1>::new(1));
            let guest = enter(&tally, KEYS[1]).expect("there is room");
            let others: Vec<_> = (0..2)
                .map(|i| {
                    let tally = Arc::clone(&tally);
                    thread::spawn(move || {
                        if i == 0 {
                            tally.leave(guest);
                        }
                        enter(&tally, KEYS[0])
                    })
                })
                .collect();
            let places: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
            let counted = places.iter().flatten().filter(|place| **place != Place::NONE);
            assert_eq!(counted.count(), 1, "{places:?}");
            assert_eq!(tally.total(), 1);
        });
    }
}
