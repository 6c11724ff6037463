//! The memory that clients can make the broker hold, against what it may have in all.
//!
//! ```text
//!   what comes in part: request heads, messages, publishers that wait ─┐
//!   what waits to be sent: the outbox, the queues' and backlogs' lists ┴─▶ of one worker ──▶ of all ──▶ short of?
//! ```
//!
//! Each worker tells what it holds when that has grown, and once a turn; a turn takes in and produces little, so little more
//! than the budget is ever held. When it is used up, whoever would make the broker hold more is refused: newcomers, and those
//! who are about to say more than fits into one read. Those who do not read what they are sent may use seven eighths, so that
//! the others do not suffer for them. Whoever needs nothing is served as before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a worker holds is told in steps of so many octets, so that workers seldom get in each other's way.
const STEP: usize = 64 * 1024;

/// The memory that the workers of a process may hold for clients, in octets.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    held: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` octets, of which none are held.
    pub fn new(limit: usize) -> Budget {
        Budget {
            limit: AtomicUsize::new(limit),
            held: AtomicUsize::new(0),
        }
    }

    /// Changes the limit. What is held beyond it is given up as for any shortage.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Octets that are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// One worker's part of what is held.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    mine: usize,
    excess: usize,
    room: usize,
    is_short: bool,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>) -> Share {
        Share {
            budget,
            mine: 0,
            excess: 0,
            room: usize::MAX,
            is_short: false,
        }
    }

    /// This worker holds `mine` octets now.
    pub(crate) fn settle(&mut self, mine: usize) {
        let Budget { limit, held } = &*self.budget;
        let mine = mine.next_multiple_of(STEP);
        let before = std::mem::replace(&mut self.mine, mine);
        let held = if mine == before {
            held.load(Ordering::Relaxed)
        } else {
            // Modulo 2^64, to add what may be less than nothing.
            let change = mine.wrapping_sub(before);
            held.fetch_add(change, Ordering::Relaxed).wrapping_add(change)
        };
        let limit = limit.load(Ordering::Relaxed);
        self.is_short = held > limit;
        let for_queues = limit - limit / 8;
        self.room = for_queues.saturating_sub(held);
        self.excess = match held.saturating_sub(for_queues) {
            0 => 0,
            // Each worker gives up as much of what is too much as it has of all.
            excess => (excess as u128 * mine as u128 / held as u128) as usize + 1,
        };
    }

    /// Whether nobody may make it hold more.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Whether anything is refused.
    pub(crate) fn is_pressed(&self) -> bool {
        self.is_short || self.excess > 0
    }

    /// Octets that may wait for those who do not read besides what does.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Octets that this worker has to give up of what waits for those who do not read; none as long as more may wait.
    pub(crate) fn excess(&self) -> usize {
        self.excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two workers make of holding so many steps, and whether they are short.
    fn settle(shares: &mut [Share; 2], steps: [usize; 2]) -> [(usize, bool); 2] {
        for _ in 0..2 {
            shares[0].settle(steps[0] * STEP);
            shares[1].settle(steps[1] * STEP);
        }
        shares.each_ref().map(|share| (share.excess(), share.is_short()))
    }

    #[test]
    fn what_is_too_much_is_given_up_by_all_who_hold_it_in_proportion() {
        let budget = Arc::new(Budget::new(80 * STEP));
        let mut shares = [(); 2].map(|()| Share::new(Arc::clone(&budget)));
        assert_eq!(settle(&mut shares, [60, 10]), [(0, false); 2]);
        assert_eq!(
            settle(&mut shares, [60, 20]),
            [(STEP * 60 / 8 + 1, false), (STEP * 20 / 8 + 1, false)]
        );
        assert_eq!(settle(&mut shares, [60, 21]).map(|(_, is_short)| is_short), [true; 2]);
        assert_eq!(settle(&mut shares, [40, 30]), [(0, false); 2]);
        assert_eq!(budget.held(), 70 * STEP);
        budget.set_limit(STEP);
        let [nothing, _] = settle(&mut shares, [0, 30]);
        assert_eq!(nothing, (1, true), "whoever holds nothing does not take more either");
    }

    #[test]
    fn what_is_held_is_known_to_a_step() {
        let budget = Arc::new(Budget::new(usize::MAX));
        let mut share = Share::new(Arc::clone(&budget));
        for mine in [1, STEP, STEP + 1, 100 * STEP - 1, 5, 0] {
            share.settle(mine);
            assert!((mine..mine + STEP).contains(&budget.held()), "{mine}");
            assert!(!share.is_short());
        }
    }
}
