//! How connections end: the closing handshake, the end of the stream, deadlines, and the stop of the broker.

use std::io;
use std::time::Duration;

use tidecast_broker::{SessionId, wire};
use tidecast_driver::Op;
use tidecast_websocket::{Millis, State, TimedOut};

use super::{Accepting, Worker};
use crate::connection::{Phase, Slot};
use crate::timers::Due;

/// How long a client is told to stay away when the broker stops, from and to: spread, so that not all return at once.
const RETRY_MS: std::ops::Range<u64> = 1_000..6_000;
/// The close code and words of a stop.
const GOING_AWAY: (u16, &str) = (1001, "the broker is stopping");

impl Worker {
    /// Starts the closing handshake.
    pub(super) fn close(&mut self, slot: u32, code: u16, reason: &str) {
        if let Phase::Open(connection) = &mut self.slots[slot as usize].phase {
            self.broker.settle(&mut self.fanout);
            self.scratch.clear();
            connection.close(code, reason, self.now, &mut self.scratch);
            self.fanout.send_frames(slot, &self.scratch);
            self.fanout.seal(slot);
            self.arm_by_state(slot);
        }
    }

    pub(super) fn close_overflowing(&mut self) {
        if self.fanout.is_overflowing() {
            // Nothing may come behind the gap that is about to be made.
            self.broker.settle(&mut self.fanout);
        }
        while let Some(slot) = self.fanout.cut_overflowing() {
            self.counters.slow_consumers.add(1);
            let (code, retry) = (wire::close::SLOW_CONSUMER, self.random.u64(RETRY_MS));
            let reason = wire::close::reason(code).expect("one of our codes");
            self.broker
                .say_bye(SessionId(slot), code, reason, retry, &mut self.fanout);
            self.close(slot, code, reason);
        }
    }

    /// Sends FIN once everything is said and sent; if the peer has done so, that is the end.
    pub(super) fn finish(&mut self, slot: u32) -> io::Result<()> {
        if self.is_said(slot) && self.fanout.lane(slot).is_empty() {
            if self.slots[slot as usize].ended {
                return self.kill(slot);
            }
            let deadline = self.now + self.config.timing.close_timeout;
            self.slots[slot as usize].phase = Phase::Lingering { deadline };
            self.lingering += 1;
            self.arm(slot, deadline);
            self.slots[slot as usize].shutting = true;
            self.shutting += 1;
            self.ring.shut_down(self.token(Op::Shutdown, slot))?;
        }
        Ok(())
    }

    /// Whether nothing is to be added to what is queued for `slot`.
    pub(super) fn is_said(&self, slot: u32) -> bool {
        match &self.slots[slot as usize].phase {
            Phase::Open(connection) => connection.state() == State::Draining,
            Phase::Finishing { .. } => true,
            _ => false,
        }
    }

    /// The peer has closed its side.
    pub(super) fn end(&mut self, slot: u32) -> io::Result<()> {
        let answered = self.is_said(slot) && !self.fanout.lane(slot).is_empty();
        let state = &mut self.slots[slot as usize];
        state.ended = true;
        // Not before what it said last was heard, and the last answer is sent: it may still read.
        if state.paused.is_some() || answered {
            return Ok(());
        }
        self.kill(slot)
    }

    /// Gives the connection up. What it published and waits for other workers is still forwarded first.
    pub(super) fn kill(&mut self, slot: u32) -> io::Result<()> {
        let token = self.token(Op::Receive, slot);
        let state = &mut self.slots[slot as usize];
        if state.paused.is_some() {
            state.ended = true;
            self.fanout.close(slot);
            return Ok(());
        }
        if matches!(state.phase, Phase::Free | Phase::Dying) {
            return Ok(());
        }
        if let Phase::Lingering { .. } = std::mem::replace(&mut state.phase, Phase::Dying) {
            self.lingering -= 1;
        }
        if state.receiving {
            self.ring.cancel(token)?;
        }
        if state.polling {
            self.ring.cancel(token.with(Op::Writable))?;
        }
        self.broker.handle_close(SessionId(slot), &mut self.fanout);
        self.fanout.close(slot);
        self.release(slot)
    }

    /// Closes the slot of a dying connection once nothing is in flight for it.
    pub(super) fn release(&mut self, slot: u32) -> io::Result<()> {
        let close = self.token(Op::Close, slot);
        let state = &mut self.slots[slot as usize];
        if !matches!(state.phase, Phase::Dying) || state.receiving || state.polling || state.shutting {
            return Ok(());
        }
        *state = Slot {
            generation: state.generation.wrapping_add(1),
            ..Slot::default()
        };
        self.active -= 1;
        self.counters.connections.subtract(1);
        self.ring.close(close)?;
        if self.accepting == Accepting::Full {
            self.accepting = Accepting::Yes;
            self.accept()?;
        }
        Ok(())
    }

    /// Says goodbye to everybody.
    pub(super) fn drain(&mut self, time: Duration) -> io::Result<()> {
        if self.drain_until.is_some() {
            return Ok(());
        }
        self.drain_until = Some(self.now + time.into());
        self.stop_accepting(Accepting::No)?;
        self.listeners.clear();
        let (code, reason) = GOING_AWAY;
        for slot in 0..self.slots.len() as u32 {
            match &self.slots[slot as usize].phase {
                Phase::Head { .. } => {
                    self.scratch.clear();
                    let response = tidecast_websocket::http::Response::new(&mut self.scratch, 503);
                    let retry = self.random.u64(RETRY_MS).div_ceil(1000);
                    response
                        .header("Connection", "close")
                        .header("Retry-After", retry)
                        .text("The broker is stopping.");
                    self.respond(slot)?;
                }
                Phase::Open(_) if !self.fanout.lane(slot).is_sealed() => {
                    let retry = self.random.u64(RETRY_MS);
                    self.broker
                        .say_bye(SessionId(slot), code, reason, retry, &mut self.fanout);
                    self.close(slot, code, reason);
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn arm(&mut self, slot: u32, deadline: Millis) {
        self.timers.arm(slot, &mut self.slots[slot as usize].due, deadline);
    }

    /// Arms the deadline that an open connection's own state has now.
    pub(super) fn arm_by_state(&mut self, slot: u32) {
        if let Phase::Open(connection) = &self.slots[slot as usize].phase {
            let deadline = connection.poll_timeout(&self.config.timing);
            self.arm(slot, deadline);
        }
    }

    pub(super) fn handle_deadlines(&mut self) -> io::Result<()> {
        if matches!(self.accepting, Accepting::Retry(at) if self.now >= at) {
            self.accepting = Accepting::Yes;
            self.accept()?;
        }
        let mut expired = std::mem::take(&mut self.expired);
        self.timers.advance(self.now, &mut expired);
        for (slot, due) in expired.drain(..) {
            let state = &mut self.slots[slot as usize];
            if state.due == due {
                state.due = Due::NONE;
                self.handle_deadline(slot)?;
            }
        }
        self.expired = expired;
        Ok(())
    }

    /// Time may be up for `slot`; if it is not, its next deadline is armed.
    fn handle_deadline(&mut self, slot: u32) -> io::Result<()> {
        let now = self.now;
        let state = &mut self.slots[slot as usize];
        if state.paused.is_some() {
            // It is not listened to, so it cannot be blamed for silence.
            self.arm(slot, now + Millis::from_secs(1));
            return Ok(());
        }
        match &mut state.phase {
            Phase::Free | Phase::Dying => {}
            Phase::Head { deadline, .. } if now >= *deadline => {
                self.counters.requests_timed_out.add(1);
                self.scratch.clear();
                tidecast_websocket::http::Response::new(&mut self.scratch, 408)
                    .header("Connection", "close")
                    .text("The request did not arrive in time.");
                self.respond(slot)?;
            }
            Phase::Finishing { deadline } | Phase::Lingering { deadline } if now >= *deadline => self.kill(slot)?,
            Phase::Head { deadline, .. } | Phase::Finishing { deadline } | Phase::Lingering { deadline } => {
                let deadline = *deadline;
                self.arm(slot, deadline);
            }
            Phase::Open(connection) => {
                self.scratch.clear();
                let timed_out = connection.handle_timeout(now, &self.config.timing, &mut self.scratch);
                if !self.slots[slot as usize].polling {
                    // The pause after the 101 is over; a full socket is still waited for.
                    self.fanout.unblock(slot);
                }
                if !self.scratch.is_empty() {
                    self.fanout.send_frames(slot, &self.scratch);
                }
                match timed_out {
                    None => self.arm_by_state(slot),
                    Some(TimedOut::Pong) => {
                        self.counters.silent.add(1);
                        self.broker.handle_close(SessionId(slot), &mut self.fanout);
                        self.fanout.seal(slot);
                        self.arm_by_state(slot);
                        self.finish(slot)?;
                    }
                    Some(TimedOut::Idle) => {
                        self.counters.idle.add(1);
                        self.broker.handle_close(SessionId(slot), &mut self.fanout);
                        self.fanout.seal(slot);
                        self.arm_by_state(slot);
                    }
                    Some(TimedOut::Close) => {
                        self.counters.silent.add(1);
                        self.kill(slot)?;
                    }
                }
            }
        }
        Ok(())
    }
}
