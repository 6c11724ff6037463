//! The memory that clients can make the broker hold, against what it may have in all.
//!
//! ```text
//!                                                                             may take of the limit
//!   incoming: what comes in part (request heads, messages, publishers that wait)     3/8 ╲
//!   subscriptions: their lists, and the router                                       3/8  ▶ 8/8, or it is short
//!   outgoing: what waits to be sent (the outbox, the queues' and backlogs' lists)    7/8 ╱
//! ```
//!
//! Each worker tells what it holds when that has grown, and once a turn; a turn takes in and produces little, so little more
//! than the budget is ever held. When it is used up, whoever would make the broker hold more is refused: newcomers, and those
//! who are about to say more than fits into one read. Whoever needs nothing is served as before.
//!
//! Nobody pays for another kind of use: what comes in and who subscribes cannot take more than their parts, and nothing beyond
//! them is held against those who do not read, so that an eighth, at the least, is theirs. They in turn may use seven eighths,
//! so that the others do not suffer for them.
//!
//! Among those who say something in part the room is shared by a dynamic threshold (Choudhury and Hahne, 1998): none may hold
//! more than twice what is left. The more of them hold something, the less may each, and something is always left: a crowd
//! that begins large messages and does not go on with them keeps nobody from saying a small one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a worker holds is told in steps of so many octets, so that workers seldom get in each other's way.
const STEP: usize = 64 * 1024;
/// What may be held of each kind, in eighths of the limit.
const INCOMING: usize = 3;
const SUBSCRIPTIONS: usize = 3;
const OUTGOING: usize = 7;
const _: () = assert!(INCOMING + SUBSCRIPTIONS < OUTGOING);
/// How many times what is left one connection may hold of what comes in part.
const GREED: usize = 2;
/// What any connection may hold of it as long as there is memory at all: a request head, a record of TLS, most messages.
const MODEST: usize = 16 * 1024;

/// The memory that the workers of a process may hold for clients, in octets.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    incoming: AtomicUsize,
    subscriptions: AtomicUsize,
    outgoing: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` octets, of which none are held.
    pub fn new(limit: usize) -> Budget {
        Budget {
            limit: AtomicUsize::new(limit),
            incoming: AtomicUsize::new(0),
            subscriptions: AtomicUsize::new(0),
            outgoing: AtomicUsize::new(0),
        }
    }

    /// Changes the limit. What is held beyond it is given up as for any shortage.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Octets that may be held.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Octets that are held.
    pub fn held(&self) -> usize {
        let kinds = [&self.incoming, &self.subscriptions, &self.outgoing];
        kinds.iter().map(|kind| kind.load(Ordering::Relaxed)).sum()
    }
}

/// What is held, by what it is held for, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// What comes in part.
    pub(crate) incoming: usize,
    /// Subscriptions.
    pub(crate) subscriptions: usize,
    /// What waits to be sent.
    pub(crate) outgoing: usize,
}

impl Holdings {
    fn sum(self) -> usize {
        self.incoming + self.subscriptions + self.outgoing
    }
}

/// One worker's part of what is held.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    mine: Holdings,
    /// What all workers held when this one told last, and might have.
    all: Holdings,
    limit: usize,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>) -> Share {
        Share {
            budget,
            mine: Holdings::default(),
            all: Holdings::default(),
            limit: usize::MAX,
        }
    }

    /// This worker holds this now.
    pub(crate) fn settle(&mut self, mine: Holdings) {
        let budget = &*self.budget;
        self.limit = budget.limit.load(Ordering::Relaxed);
        self.all = Holdings {
            incoming: tell(&budget.incoming, &mut self.mine.incoming, mine.incoming),
            subscriptions: tell(&budget.subscriptions, &mut self.mine.subscriptions, mine.subscriptions),
            outgoing: tell(&budget.outgoing, &mut self.mine.outgoing, mine.outgoing),
        };
    }

    fn eighths(&self, count: usize) -> usize {
        self.limit / 8 * count
    }

    /// Whether nobody may make it hold more.
    pub(crate) fn is_short(&self) -> bool {
        self.all.sum() > self.limit
    }

    /// Whether anything is refused.
    pub(crate) fn is_pressed(&self) -> bool {
        self.is_short() || self.excess() > 0
    }

    /// Whether one connection may hold `held` octets of what comes in part, which are counted already.
    pub(crate) fn admits(&self, held: usize) -> bool {
        let left = self.eighths(INCOMING).saturating_sub(self.all.incoming);
        !self.is_short() && (held <= MODEST || held <= left.saturating_mul(GREED))
    }

    /// Octets that subscriptions may take besides those that they take.
    pub(crate) fn subscription_room(&self) -> usize {
        let part = self.eighths(SUBSCRIPTIONS).saturating_sub(self.all.subscriptions);
        part.min(self.limit.saturating_sub(self.all.sum()))
    }

    /// What is held against what waits to be sent: itself, and of the others no more than their parts.
    fn counted(&self) -> usize {
        let Holdings {
            incoming,
            subscriptions,
            outgoing,
        } = self.all;
        incoming.min(self.eighths(INCOMING)) + subscriptions.min(self.eighths(SUBSCRIPTIONS)) + outgoing
    }

    /// Octets that may wait for those who do not read besides what does.
    pub(crate) fn room(&self) -> usize {
        self.eighths(OUTGOING).saturating_sub(self.counted())
    }

    /// Octets that this worker has to give up of what waits for those who do not read; none as long as more may wait.
    pub(crate) fn excess(&self) -> usize {
        match self.counted().saturating_sub(self.eighths(OUTGOING)) {
            0 => 0,
            // Each worker gives up as much of what is too much as it has of all.
            excess => (excess as u128 * self.mine.outgoing as u128 / self.all.outgoing.max(1) as u128) as usize + 1,
        }
    }
}

/// Tells that a worker, which told `before`, holds `now` of some kind; gives what all hold.
fn tell(all: &AtomicUsize, before: &mut usize, now: usize) -> usize {
    let now = now.next_multiple_of(STEP);
    let before = std::mem::replace(before, now);
    if now == before {
        all.load(Ordering::Relaxed)
    } else {
        // Modulo 2^64, to add what may be less than nothing.
        let change = now.wrapping_sub(before);
        all.fetch_add(change, Ordering::Relaxed).wrapping_add(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(steps: usize) -> Holdings {
        Holdings {
            outgoing: steps * STEP,
            ..Holdings::default()
        }
    }

    fn incoming(octets: usize) -> Holdings {
        Holdings {
            incoming: octets,
            ..Holdings::default()
        }
    }

    /// What two workers make of so many steps that wait to be sent, and whether they are short.
    fn settle(shares: &mut [Share; 2], steps: [usize; 2]) -> [(usize, bool); 2] {
        for _ in 0..2 {
            shares[0].settle(outgoing(steps[0]));
            shares[1].settle(outgoing(steps[1]));
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
        budget.set_limit(8 * STEP);
        let [nothing, _] = settle(&mut shares, [0, 30]);
        assert_eq!(nothing, (1, true), "whoever holds nothing does not take more either");
    }

    #[test]
    fn what_is_held_is_known_to_a_step() {
        let budget = Arc::new(Budget::new(usize::MAX));
        let mut share = Share::new(Arc::clone(&budget));
        for mine in [1, STEP, STEP + 1, 100 * STEP - 1, 5, 0] {
            share.settle(incoming(mine));
            assert!((mine..mine + STEP).contains(&budget.held()), "{mine}");
            assert!(!share.is_short() && share.admits(mine));
        }
    }

    #[test]
    fn neither_half_messages_nor_subscriptions_are_held_against_those_who_do_not_read() {
        let budget = Arc::new(Budget::new(80 * STEP));
        let mut share = Share::new(Arc::clone(&budget));
        let mut hold = |incoming, subscriptions, outgoing| {
            share.settle(Holdings {
                incoming: incoming * STEP,
                subscriptions: subscriptions * STEP,
                outgoing: outgoing * STEP,
            });
            (share.room() / STEP, share.excess(), share.subscription_room() / STEP)
        };
        assert_eq!(hold(0, 0, 70), (0, 0, 10));
        assert_eq!(hold(30, 0, 10), (30, 0, 30));
        assert_eq!(hold(30, 30, 10), (0, 0, 0));
        // The budget is short, but not for their sake.
        assert_eq!(hold(60, 0, 40), (0, 0, 0));
        assert_eq!(hold(60, 60, 10), (0, 0, 0));
        assert_eq!(hold(60, 60, 11), (0, STEP + 1, 0));
    }

    #[test]
    fn the_more_hold_something_the_less_may_each_and_a_small_message_is_always_taken() {
        const LIMIT: usize = 1 << 30;
        let part = LIMIT / 8 * INCOMING;
        let budget = Arc::new(Budget::new(LIMIT));
        let mut share = Share::new(Arc::clone(&budget));
        // One after the other, each says as much as it may.
        let (mut held, mut largest) = (0, Vec::new());
        for _ in 0..10_000 {
            let mut mine = 0;
            while {
                share.settle(incoming(held + 4096));
                mine < part && share.admits(mine + 4096)
            } {
                mine += 4096;
                held += 4096;
            }
            largest.push(mine);
        }
        assert!((part * 6 / 10..=part * 7 / 10).contains(&largest[0]), "{}", largest[0]);
        assert!(
            largest.is_sorted_by(|a, b| a >= b),
            "nobody gets more than who came before"
        );
        assert!(largest.iter().all(|held| *held >= MODEST));
        assert!(!share.is_short(), "and yet there is memory left for others");
        // Not without end.
        share.settle(incoming(LIMIT + 1));
        assert!(!share.admits(1));
    }
}
