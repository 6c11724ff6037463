//! How the worker stops: who is told when, and what becomes of those who come meanwhile.
//!
//! ```text
//!   Order::Drain ─▶ accepts are cancelled ─▶ who is in the queue of a listener is let in ─▶ listeners are let go of
//!            └────▶ goodbyes, slot by slot over the time they are spread ─▶ queues empty, Closes are answered ─▶ the end
//! ```
//!
//! Those who are not told yet are served as always.

use std::io;

use tidecast_websocket::Millis;

use super::{Accepting, Worker};
use crate::connection::Phase;
use crate::ledger::End;
use crate::mesh::Drain;

/// Slots that are looked at in one turn: a goodbye takes some two microseconds.
const SLOTS_PER_TURN: usize = 512;
/// For how long those who are in the queue of a listener are let in when the broker stops. It is for those who were there before.
const LAST_CALL: Millis = Millis(100);
/// The close code and words of a stop.
const GOING_AWAY: (u16, &str) = (1001, "the broker is stopping");
/// Likewise, where another process goes on.
const MOVING: (u16, &str) = (1001, "connect again: the broker is being replaced");

/// A stop that is going on.
///
/// Invariant: every slot below `told` has been told, or is in `late`, or is in the middle of a handshake that it may finish.
#[derive(Debug)]
pub(super) struct Draining {
    order: Drain,
    begun: Millis,
    /// Over how long goodbyes are spread.
    spread: Millis,
    told: usize,
    /// Slots below `told` whose connections have come, or become WebSockets, since.
    late: Vec<u32>,
    /// Accepts are in flight for those who are in the queues of listeners.
    calling: bool,
}

impl Draining {
    fn new(order: Drain, slots: usize, now: Millis) -> Draining {
        Draining {
            order,
            begun: now,
            // A thousand in a second is no crowd.
            spread: Millis::from(order.spread).min(Millis(slots as u64)),
            told: 0,
            late: Vec::new(),
            calling: false,
        }
    }

    /// When to end, whoever is left.
    pub(super) fn until(&self) -> Millis {
        self.begun + self.spread + self.order.patience.into()
    }

    /// Over how long clients come back, beyond what is usual.
    pub(super) fn returning(&self) -> Millis {
        self.order.returning.into()
    }

    /// How many of `slots` slots are to have been told by `now`.
    fn due(&self, slots: usize, now: Millis) -> usize {
        let since = now - self.begun;
        if since >= self.spread {
            return slots;
        }
        (slots as u64 * since.0 / self.spread.0) as usize
    }

    /// When the next of `slots` slots is to be told, if there is one.
    fn next(&self, slots: usize) -> Option<Millis> {
        let next = self.told as u64 + 1;
        (self.told < slots).then(|| self.begun + Millis((self.spread.0 * next).div_ceil(slots as u64)))
    }
}

impl Worker {
    /// Begins to stop.
    pub(super) fn drain(&mut self, order: Drain) -> io::Result<()> {
        if self.draining.is_some() {
            return Ok(());
        }
        self.draining = Some(Draining::new(order, self.slots.len(), self.now));
        self.stop_accepting()
    }

    /// Tells those whose turn it is, and lets in those who stand at the door.
    pub(super) fn go_on_draining(&mut self) -> io::Result<()> {
        let Some(draining) = &mut self.draining else {
            return Ok(());
        };
        let late = std::mem::take(&mut draining.late);
        let due = draining.due(self.slots.len(), self.now);
        let turn = draining.told..due.min(draining.told + SLOTS_PER_TURN);
        draining.told = draining.told.max(turn.end);
        let (succeeded, calling) = (draining.order.succeeded, std::mem::take(&mut draining.calling));
        for slot in late.into_iter().chain(turn.map(|slot| slot as u32)) {
            self.tell_going(slot, succeeded)?;
        }
        self.call_last(calling)
    }

    /// When something is to be done for the stop, if there is one.
    pub(super) fn next_goodbye(&self) -> Option<Millis> {
        let draining = self.draining.as_ref()?;
        let next = draining.next(self.slots.len()).unwrap_or(Millis::NEVER);
        Some(next.min(draining.until()))
    }

    /// Whether there is something to be done for the stop now.
    pub(super) fn has_goodbyes(&self) -> bool {
        self.draining.as_ref().is_some_and(|draining| {
            draining.calling || !draining.late.is_empty() || draining.told < draining.due(self.slots.len(), self.now)
        })
    }

    /// Whether the stop is over: nobody is left, or the time is up.
    pub(super) fn is_drained(&self) -> bool {
        // Those that linger have been told, have answered and have our FIN: the kernel can end them.
        let done = self.active == self.lingering && self.shutting == 0 && self.listeners.is_empty();
        let draining = self.draining.as_ref();
        draining.is_some_and(|draining| done || self.now >= draining.until())
    }

    /// Tells of the ends of all that were not over when time was up.
    pub(super) fn tell_ends(&mut self) {
        for slot in 0..self.slots.len() as u32 {
            self.tell_end(slot);
        }
    }

    /// The connection in `slot` is new, or has just become a WebSocket: if those before it have been told, it is next.
    pub(super) fn note_late(&mut self, slot: u32) {
        if let Some(draining) = &mut self.draining
            && (slot as usize) < draining.told
        {
            draining.late.push(slot);
        }
    }

    /// Lets in who is in the queues of listeners, and lets go of these once there is nobody: the kernel resets those who are in the
    /// queue of a socket that closes. Where another process goes on with it, nobody may be left there for whom the kernel has woken
    /// an accept of ours that was cancelled.
    fn call_last(&mut self, calling: bool) -> io::Result<()> {
        if self.listeners.is_empty() {
            return Ok(());
        }
        if calling {
            // Those who were there have been accepted: a turn has passed.
            return self.stop_accepting();
        }
        if self.armed.iter().any(|armed| *armed > 0) {
            return Ok(());
        }
        let is_full = self.is_full();
        let Some(draining) = &mut self.draining else {
            return Ok(());
        };
        let may_come = self.now < draining.begun + LAST_CALL && !is_full;
        let waits = |(_, listener): &(u16, _)| tidecast_driver::Listener::has_waiting(listener).unwrap_or(false);
        if !may_come || !self.listeners.iter().any(waits) {
            self.listeners.clear();
            return Ok(());
        }
        draining.calling = true;
        self.accepting = Accepting::Yes;
        self.accept()?;
        self.accepting = Accepting::No;
        Ok(())
    }

    /// Says goodbye to whoever is in `slot`.
    fn tell_going(&mut self, slot: u32, succeeded: bool) -> io::Result<()> {
        let is_entering = self.is_entering(slot);
        if succeeded && is_entering {
            return Ok(());
        }
        self.stop_waiting(slot)?;
        match &self.slots[slot as usize].phase {
            // Nothing was asked: whoever asks now will see that it has to connect again, which an answer would not tell.
            Phase::Head { .. } if !is_entering => {
                self.fanout.seal(slot);
                self.wind_up(slot)?;
            }
            Phase::Head { .. } | Phase::Body(_) | Phase::Answering { .. } => self.stop_requests(slot)?,
            Phase::Proxy { .. } => self.kill(slot)?,
            Phase::Open(_) | Phase::Events { .. } if !self.fanout.lane(slot).is_sealed() => {
                self.blame(slot, End::Stop);
                self.say_goodbye(slot, if succeeded { MOVING } else { GOING_AWAY });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the connection in `slot` is on its way to be a WebSocket, or has asked for something that is not answered.
    fn is_entering(&self, slot: u32) -> bool {
        let state = &self.slots[slot as usize];
        match &state.phase {
            Phase::Proxy { .. } | Phase::Body(_) | Phase::Answering { .. } => true,
            Phase::Head { bytes, again, .. } => {
                // Of a request that waits, the head is kept there.
                let waits = state.paused.as_ref().is_some_and(|paused| !paused.rest.is_empty());
                !again || !bytes.is_empty() || waits
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn draining(spread: u64, slots: usize) -> Draining {
        let order = Drain {
            spread: Duration::from_millis(spread),
            patience: Duration::from_secs(5),
            ..Drain::default()
        };
        Draining::new(order, slots, Millis(1000))
    }

    #[test]
    fn goodbyes_are_spread_evenly_and_each_is_woken_for() {
        let slots = 10_000;
        let mut draining = draining(2000, slots);
        assert_eq!(draining.until(), Millis(8000));
        let mut now = Millis(1000);
        while let Some(next) = draining.next(slots) {
            assert!(next >= now, "time does not go back");
            now = next;
            let due = draining.due(slots, now);
            assert!(due > draining.told, "nobody is woken for nothing");
            assert!(due - draining.told <= 10, "{} at one time", due - draining.told);
            draining.told = due;
        }
        assert_eq!((draining.told, now), (slots, Millis(3000)));
    }

    #[test]
    fn few_are_told_at_once_and_so_are_all_where_nothing_is_spread() {
        for (spread, slots) in [(2000, 3), (0, 10_000)] {
            let draining = draining(spread, slots);
            assert_eq!(draining.due(slots, Millis(1003)), slots);
            assert!(draining.next(slots).unwrap() <= Millis(1001));
        }
        assert_eq!(draining(2000, 0).next(0), None);
        assert_eq!(
            draining(2000, 0).until(),
            Millis(6000),
            "nobody is there, and nobody is waited for longer"
        );
    }

    #[test]
    fn slots_that_come_meanwhile_are_told_in_the_same_time() {
        let draining = draining(2000, 2000);
        assert_eq!(draining.due(4000, Millis(2000)), 2000);
        assert_eq!(draining.due(4000, Millis(3000)), 4000);
    }
}
