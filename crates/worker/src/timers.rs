//! Deadlines of connections, in a wheel of coarse ticks.

use tidecast_websocket::Millis;

/// Milliseconds of a tick: deadlines are for peers that went silent, counted in seconds.
const TICK: u64 = 50;
/// Ticks of one turn of the wheel, 51 seconds; a later deadline is put in again when it comes by.
const TICKS: usize = 1024;

/// Multiplied with numbers that follow each other, it gives others that do not: 2^32 by the golden ratio.
const GOLDEN: u32 = 0x9e37_79b9;

/// An interval that is up to a quarter shorter, by the slot: connections that came together are not to be pinged together.
pub(crate) fn spread(interval: Millis, slot: u32) -> Millis {
    if interval == Millis::NEVER {
        return interval;
    }
    let share = u64::from(slot.wrapping_mul(GOLDEN) >> 16);
    Millis(interval.0 - interval.0.saturating_mul(share) / (4 << 16))
}

/// A place in the wheel, kept by the connection: an entry that is not where the connection says is out of date. It is a tick in
/// 32 bits, which come again after seven years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due(u32);

impl Due {
    /// No entry is valid.
    pub(crate) const NONE: Due = Due(u32::MAX);

    fn at(tick: u64) -> Due {
        Due((tick % u64::from(Due::NONE.0)) as u32)
    }

    /// Ticks from `tick` on until it; more than there are in the wheel if it has passed.
    fn ahead_of(self, tick: u64) -> u64 {
        let cycle = u64::from(Due::NONE.0);
        (u64::from(self.0) + cycle - tick % cycle) % cycle
    }
}

/// Slots by the tick at which they want attention.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Vec<Vec<(u32, Due)>>,
    /// The first tick not yet looked at.
    next: u64,
    entries: usize,
}

impl Timers {
    pub(crate) fn new(now: Millis) -> Timers {
        Timers {
            wheel: (0..TICKS).map(|_| Vec::new()).collect(),
            next: now.0 / TICK,
            entries: 0,
        }
    }

    /// Makes sure that `slot` comes up at `deadline` or soon after. Nothing is done if `due` says it comes up earlier
    /// already: it will be asked again then.
    pub(crate) fn arm(&mut self, slot: u32, due: &mut Due, deadline: Millis) {
        let tick = (deadline.0 / TICK + 1).max(self.next);
        let ahead = due.ahead_of(self.next);
        if *due != Due::NONE && (ahead <= tick - self.next || ahead >= TICKS as u64) {
            return;
        }
        // Beyond the wheel's reach it comes up on the way.
        let tick = tick.min(self.next + TICKS as u64 - 1);
        *due = Due::at(tick);
        self.wheel[tick as usize % TICKS].push((slot, *due));
        self.entries += 1;
    }

    /// Moves entries that came up by `now` to `expired`.
    pub(crate) fn advance(&mut self, now: Millis, expired: &mut Vec<(u32, Due)>) {
        let end = now.0 / TICK + 1;
        if self.entries == 0 {
            self.next = self.next.max(end);
            return;
        }
        while self.next < end {
            let bucket = &mut self.wheel[self.next as usize % TICKS];
            self.entries -= bucket.len();
            expired.append(bucket);
            self.next += 1;
        }
    }

    /// How long until the next entry comes up, at most one turn of the wheel.
    pub(crate) fn next_in(&self, now: Millis) -> Millis {
        let ticks = (0..TICKS as u64)
            .find(|ahead| self.entries > 0 && !self.wheel[(self.next + ahead) as usize % TICKS].is_empty())
            .unwrap_or(TICKS as u64 - 1);
        Millis((self.next + ticks) * TICK) - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(timers: &mut Timers, now: u64) -> Vec<u32> {
        let mut expired = Vec::new();
        timers.advance(Millis(now), &mut expired);
        expired.into_iter().map(|(slot, _)| slot).collect()
    }

    #[test]
    fn thirty_thousand_that_came_together_are_pinged_one_after_the_other() {
        let interval = Millis::from_secs(24);
        let mut ticks = std::collections::HashMap::new();
        for slot in 0..30_000 {
            let Millis(after) = spread(interval, slot);
            assert!((18_000..=24_000).contains(&after), "{after}");
            *ticks.entry(after / TICK).or_insert(0) += 1;
        }
        // 120 ticks of 250 each.
        let most = ticks.values().max().unwrap();
        assert!(*most <= 300, "{most} in one tick");
        assert_eq!(spread(Millis::NEVER, 7), Millis::NEVER);
    }

    #[test]
    fn a_deadline_comes_up_after_it_and_soon() {
        for start in [0, 12_345] {
            for span in [0, 1, 49, 50, 51, 1000, 25_000, 51_000] {
                let mut timers = Timers::new(Millis(start));
                let mut due = Due::NONE;
                timers.arm(7, &mut due, Millis(start + span));
                let mut now = Millis(start);
                let mut came_up = Vec::new();
                while came_up.is_empty() {
                    now = now + timers.next_in(now) + Millis(1);
                    came_up = expired(&mut timers, now.0);
                }
                assert_eq!(came_up, [7]);
                assert!(now.0 > start + span || span > 50_000, "{span} ms: came up early");
                assert!(
                    now.0 <= start + span + 3 * TICK,
                    "{span} ms: came up at {}",
                    now.0 - start
                );
            }
        }
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_and_not_the_other_way() {
        let mut timers = Timers::new(Millis(0));
        let mut due = Due::NONE;
        timers.arm(1, &mut due, Millis(10_000));
        let late = due;
        timers.arm(1, &mut due, Millis(20_000));
        assert_eq!(due, late);
        timers.arm(1, &mut due, Millis(1_000));
        assert_ne!(due, late);
        let mut expired = Vec::new();
        timers.advance(Millis(30_000), &mut expired);
        assert_eq!(
            expired,
            [(1, due), (1, late)],
            "the later entry is recognised as out of date"
        );
    }

    #[test]
    fn an_entry_that_has_come_up_and_was_not_looked_at_yet_is_not_put_off() {
        let mut timers = Timers::new(Millis(0));
        let mut due = Due::NONE;
        timers.arm(1, &mut due, Millis(1_000));
        let up = due;
        let mut expired = Vec::new();
        timers.advance(Millis(2_000), &mut expired);
        timers.arm(1, &mut due, Millis(3_000));
        assert_eq!((&expired[..], due), (&[(1, up)][..], up));
    }

    #[test]
    fn deadlines_come_up_in_order_where_their_ticks_come_again() {
        let start = u64::from(u32::MAX) * TICK - 2_000;
        let mut timers = Timers::new(Millis(start));
        let mut dues = [Due::NONE; 3];
        for (slot, due) in dues.iter_mut().enumerate() {
            timers.arm(slot as u32, due, Millis(start + 1_950 + 50 * slot as u64));
            timers.arm(slot as u32, due, Millis(start + 10_000));
        }
        assert!(!dues.contains(&Due::NONE));
        assert_eq!(expired(&mut timers, start + 1_900), [] as [u32; 0]);
        assert_eq!(expired(&mut timers, start + 5_000), [0, 1, 2]);
    }

    #[test]
    fn a_sleep_of_hours_loses_nothing() {
        let mut timers = Timers::new(Millis(0));
        for slot in 0..5000 {
            timers.arm(slot, &mut Due::NONE.clone(), Millis(u64::from(slot) * 100));
        }
        let mut all = expired(&mut timers, 24 * 3600 * 1000);
        all.sort_unstable();
        assert_eq!(all, (0..5000).collect::<Vec<_>>());
        assert_eq!(expired(&mut timers, 25 * 3600 * 1000), [] as [u32; 0]);
    }
}
