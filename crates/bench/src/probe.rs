//! Which of a publisher's messages a broker has taken in, where nobody receives them: found out by pings.
//!
//! ```text
//!   message … message  ping  message … message  ping  …      a broker takes the frames of a connection in order,
//!                        └──────── pong: all before has been taken in
//! ```
//!
//! Protocols with pings of their own have those, for they take the way of the messages; they carry nothing and are answered one
//! by one. Elsewhere they are WebSocket's: such a ping carries how many messages went before it, and its pong gives that back.

use std::collections::VecDeque;
use std::time::Duration;

/// How often WebSocket's pings go out at most, in nanoseconds: 800 a second. Servers, ours for one, take more than a thousand
/// control frames a second for an attack.
pub(crate) const SPACING: u64 = 1_250_000;

/// The pings of one publisher.
///
/// Invariant: `taken <= asked`, and `outstanding` is in the order of the pings, which is that of their `messages`.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Messages in flight behind which a ping goes out at once.
    every: u64,
    /// How long after a ping the next one may go out, in nanoseconds.
    spacing: u64,
    /// When that is.
    next: u64,
    /// Messages before the last ping.
    asked: u64,
    /// Messages before the last ping with an answer.
    taken: u64,
    /// Pings without an answer.
    outstanding: VecDeque<Ping>,
}

/// A ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ping {
    /// How many messages were sent before it.
    messages: u64,
    /// When it was to go out, in nanoseconds of the clock.
    intended: u64,
}

/// What is known by the answer to one ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Whose messages, by the number in the run.
    pub(crate) publisher: usize,
    /// How many of them the broker has taken in so far.
    pub(crate) total: u64,
    /// Those among them of which that was not known.
    pub(crate) news: u64,
    /// When the ping was to go out.
    pub(crate) intended: u64,
    /// When the answer came.
    pub(crate) at: u64,
}

impl Probe {
    /// For a publisher with up to `in_flight` messages outstanding, which are asked for half by half; a ping goes out `spacing`
    /// after the one before at the earliest.
    pub(crate) fn new(in_flight: u64, spacing: u64) -> Probe {
        Probe {
            every: (in_flight / 2).max(1),
            spacing,
            next: 0,
            asked: 0,
            taken: 0,
            outstanding: VecDeque::new(),
        }
    }

    /// Whether a ping is to go out behind message `sent`, which others follow at once.
    #[inline]
    pub(crate) fn is_due(&self, sent: u64, now: u64) -> bool {
        sent - self.asked >= self.every && now >= self.next
    }

    /// Whether a ping is to go out behind message `sent`, which no other follows for now, or which is the `last` of all.
    pub(crate) fn is_due_at_the_end(&self, sent: u64, now: u64, last: bool) -> bool {
        sent > self.asked && (last || self.is_wanted(sent) && now >= self.next)
    }

    /// How long after `now` a ping is to go out behind message `sent`; none if that does not depend on time.
    pub(crate) fn wait(&self, sent: u64, now: u64) -> Option<Duration> {
        (sent > self.asked && self.is_wanted(sent)).then(|| Duration::from_nanos(self.next.saturating_sub(now)))
    }

    fn is_wanted(&self, sent: u64) -> bool {
        self.outstanding.is_empty() || sent - self.asked >= self.every
    }

    /// A ping goes out behind message `sent` at `now`; `intended` is when it was to.
    pub(crate) fn ask(&mut self, sent: u64, intended: u64, now: u64) {
        self.asked = sent;
        self.next = now + self.spacing;
        self.outstanding.push_back(Ping {
            messages: sent,
            intended,
        });
    }

    /// A ping of another purpose, which carries nothing, goes out at `now`: its answer is one like all others.
    pub(crate) fn keep_alive(&mut self, now: u64) {
        self.ask(self.asked, now, now);
    }

    /// An answer came `at` that time, with the number of messages before its ping if the ping carried that. Answers to the
    /// pings before it need not come.
    ///
    //= RFC 6455#section-5.5.3
    //# If an endpoint receives a Ping frame and has not yet sent Pong
    //# frame(s) in response to previous Ping frame(s), the endpoint MAY
    //# elect to send a Pong frame for only the most recently processed Ping
    //# frame.
    pub(crate) fn answered(&mut self, publisher: usize, messages: Option<u64>, at: u64, taken: &mut Vec<Taken>) {
        let answered = match messages {
            // One that nobody asked for is answered by no ping of ours.
            Some(messages) => match self.outstanding.iter().rposition(|ping| ping.messages == messages) {
                Some(last) => last + 1,
                None => return,
            },
            None => self.outstanding.len().min(1),
        };
        for Ping { messages, intended } in self.outstanding.drain(..answered) {
            taken.push(Taken {
                publisher,
                total: messages,
                news: messages - self.taken,
                intended,
                at,
            });
            self.taken = messages;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is newly known to be taken in, by ping, and how many that makes.
    fn answered(probe: &mut Probe, messages: Option<u64>) -> (Vec<u64>, u64) {
        let mut taken = Vec::new();
        probe.answered(3, messages, 100, &mut taken);
        assert!(taken.iter().all(|taken| (taken.publisher, taken.at) == (3, 100)));
        (taken.iter().map(|taken| taken.news).collect(), probe.taken)
    }

    #[test]
    fn half_a_window_is_asked_for_at_once_and_what_is_left_when_nothing_is_outstanding() {
        let mut probe = Probe::new(8, 0);
        assert!(!probe.is_due(3, 0) && probe.is_due(4, 0));
        probe.ask(4, 10, 10);
        assert!(
            !probe.is_due(7, 11) && !probe.is_due_at_the_end(7, 11, false),
            "one is outstanding"
        );
        assert_eq!(probe.wait(7, 11), None);
        assert!(probe.is_due_at_the_end(7, 11, true), "no other one will follow");
        assert_eq!(answered(&mut probe, Some(4)), (vec![4], 4));
        assert!(probe.is_due_at_the_end(7, 12, false));
        probe.ask(7, 20, 20);
        assert!(!probe.is_due_at_the_end(7, 21, true), "nothing is left to ask for");
        assert!(Probe::new(1, 0).is_due(1, 0));
    }

    #[test]
    fn pings_keep_their_distance_but_the_last_one_need_not() {
        let mut probe = Probe::new(8, 100);
        assert!(probe.is_due(4, 1_000));
        probe.ask(4, 1_000, 1_000);
        assert!(!probe.is_due(8, 1_099) && !probe.is_due_at_the_end(8, 1_099, false));
        assert_eq!(probe.wait(8, 1_030), Some(Duration::from_nanos(70)));
        assert!(probe.is_due(8, 1_100) && probe.is_due_at_the_end(8, 1_099, true));
        assert_eq!(probe.wait(4, 1_030), None, "there is nothing to ask for");
    }

    #[test]
    fn one_answer_may_stand_for_several_pings() {
        let mut probe = Probe::new(8, 0);
        for sent in [4, 8, 12] {
            probe.ask(sent, sent, sent);
        }
        assert_eq!(answered(&mut probe, Some(8)), (vec![4, 4], 8));
        assert_eq!(answered(&mut probe, Some(8)), (vec![], 8), "nobody asked for this one");
        assert_eq!(answered(&mut probe, Some(9)), (vec![], 8), "nor for this one");
        assert_eq!(answered(&mut probe, Some(12)), (vec![4], 12));
    }

    #[test]
    fn answers_that_carry_nothing_are_those_to_the_pings_in_their_order() {
        let mut probe = Probe::new(8, 0);
        probe.ask(4, 10, 10);
        probe.keep_alive(15);
        probe.ask(9, 20, 20);
        assert_eq!(answered(&mut probe, None), (vec![4], 4));
        assert_eq!(
            answered(&mut probe, None),
            (vec![0], 4),
            "what keeps alive tells nothing new"
        );
        assert_eq!(answered(&mut probe, None), (vec![5], 9));
        assert_eq!(answered(&mut probe, None), (vec![], 9));
    }
}
