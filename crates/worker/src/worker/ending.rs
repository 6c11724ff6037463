//! How connections end: the closing handshake, the end of the stream, and deadlines.

use std::io;

use tidecast_broker::auth::UnixSeconds;
use tidecast_broker::{SessionId, wire};
use tidecast_driver::Op;
use tidecast_websocket::{Millis, State, TimedOut, Timing};

use super::draining::Draining;
use super::{Accepting, Worker};
use crate::authentication::unix_now;
use crate::connection::{Phase, Slot};
use crate::fanout::Behind;
use crate::ledger::End;
use crate::timers::{Due, spread};

/// How long a client is told to stay away, from and to: spread, so that not all return at once.
const RETRY_MS: std::ops::Range<u64> = 1_000..6_000;
/// The close code and words for a connection that may not be older.
const TOO_OLD: (u16, &str) = (1001, "connect again: this connection is as old as it may be");
/// The close code and words for a connection whose keys were used as often as they may be, where TLS has no others for it.
const KEYS_SPENT: (u16, &str) = (1001, "connect again: TLS 1.2 needs new keys");

impl Worker {
    /// The WebSocket in `slot`, if it is one, ends because of this; unless something has ended it before.
    pub(super) fn blame(&mut self, slot: u32, end: End) {
        self.ledger.blame(slot, end, &self.counters);
    }

    /// Starts the closing handshake.
    pub(super) fn close(&mut self, slot: u32, code: u16, reason: &str) {
        if let Phase::Events { .. } = self.slots[slot as usize].phase {
            return self.end_events(slot, code, reason);
        }
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
            self.fanout.choose_overflowing();
        }
        while let Some((slot, behind)) = self.fanout.cut_overflowing() {
            let code = match behind {
                Behind::TooFar => wire::close::SLOW_CONSUMER,
                Behind::NoMemory => wire::close::OVERLOADED,
            };
            self.blame(slot, End::of_code(code));
            let reason = wire::close::own_reason(code);
            self.say_goodbye(slot, (code, reason));
        }
    }

    /// Ends a connection that may not go on with `code`, one of ours: what it says is not listened to any more, and nothing of it is
    /// kept.
    pub(super) fn abandon(&mut self, slot: u32, code: u16, reason: &str) -> io::Result<()> {
        if let Phase::Events { .. } = self.slots[slot as usize].phase {
            self.end_events(slot, code, reason);
            return Ok(());
        }
        let retry = self.retry_ms();
        self.broker
            .say_bye(SessionId(slot), code, reason, retry, &mut self.fanout);
        if let Phase::Open(connection) = &mut self.slots[slot as usize].phase {
            self.broker.settle(&mut self.fanout);
            self.scratch.clear();
            connection.abandon(code, reason, self.now, &mut self.scratch);
            self.fanout.send_frames(slot, &self.scratch);
        }
        self.end_session(slot);
        self.fanout.seal(slot);
        self.arm_by_state(slot);
        self.finish(slot)
    }

    /// How long a client is told to stay away.
    pub(super) fn retry_ms(&mut self) -> u64 {
        let longer = self.draining.as_ref().map_or(Millis(0), Draining::returning);
        self.random.u64(RETRY_MS.start..RETRY_MS.end + longer.0)
    }

    /// Sends FIN once everything is said and sent; if the peer has done so, that is the end.
    pub(super) fn finish(&mut self, slot: u32) -> io::Result<()> {
        if let Phase::Answering { .. } = self.slots[slot as usize].phase {
            self.answered.push(slot);
            return Ok(());
        }
        if self.is_said(slot) && !self.close_tls(slot) && self.fanout.lane(slot).is_empty() {
            if self.slots[slot as usize].ended {
                return self.kill(slot);
            }
            let deadline = self.now + self.config.timing.close_timeout;
            self.slots[slot as usize].phase = Phase::Lingering { deadline };
            self.lingering += 1;
            self.arm(slot, deadline);
            self.slots[slot as usize].shutting = true;
            self.shutting += 1;
            self.driver.shut_down(self.token(Op::Shutdown, slot))?;
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
        self.blame(slot, End::Gone);
        let answered = self.is_said(slot) && !self.fanout.lane(slot).is_empty();
        let state = &mut self.slots[slot as usize];
        state.ended = true;
        if let Phase::Answering { .. } = state.phase {
            return Ok(());
        }
        if state.paused.as_ref().is_some_and(|paused| paused.asks_to_come_in()) {
            return self.kill(slot);
        }
        // Not before what it said last was heard, and the last answer is sent: it may still read.
        if state.paused.is_some() || answered {
            return Ok(());
        }
        if matches!(state.phase, Phase::Head { .. } | Phase::Body(_)) && !self.fanout.lane(slot).is_empty() {
            self.fanout.seal(slot);
            return self.wind_up(slot);
        }
        self.kill(slot)
    }

    /// Gives the connection up. What it published and waits for other workers is still forwarded first.
    pub(super) fn kill(&mut self, slot: u32) -> io::Result<()> {
        let token = self.token(Op::Receive, slot);
        let state = &mut self.slots[slot as usize];
        if let Some(paused) = &mut state.paused {
            state.ended = true;
            if !paused.stalled.is_empty() {
                // What it has not been permitted is not done any more, and nothing that it sent after it.
                if paused.waiting.take().is_some() {
                    paused.rest.clear();
                }
                self.fanout.close(slot);
                return Ok(());
            }
            state.paused = None;
        }
        if matches!(state.phase, Phase::Free | Phase::Dying) {
            return Ok(());
        }
        if let Phase::Lingering { .. } = std::mem::replace(&mut state.phase, Phase::Dying) {
            self.lingering -= 1;
        }
        if state.receiving {
            self.driver.cancel(token)?;
        }
        if state.polling {
            self.driver.cancel(token.with(Op::Writable))?;
        }
        self.end_session(slot);
        self.fanout.close(slot);
        self.tls.close(slot);
        self.release(slot)
    }

    /// Closes the slot of a dying connection once nothing is in flight for it.
    pub(super) fn release(&mut self, slot: u32) -> io::Result<()> {
        let close = self.token(Op::Close, slot);
        let state = &mut self.slots[slot as usize];
        if !matches!(state.phase, Phase::Dying) || state.receiving || state.polling || state.shutting {
            return Ok(());
        }
        self.held -= state.held as usize;
        *state = Slot {
            generation: state.generation.wrapping_add(1),
            ..Slot::default()
        };
        self.gate.close(slot);
        self.active -= 1;
        self.counters.connections.subtract(1);
        self.driver.close(close)?;
        if self.accepting == Accepting::Full && !self.is_full() {
            self.accepting = Accepting::Yes;
            self.accept()?;
        }
        Ok(())
    }

    /// Says goodbye to those who have to come again for new keys.
    pub(super) fn close_spent(&mut self) {
        while let Some(slot) = self.tls.take_ending() {
            if self.slots[slot as usize].has_session() && !self.fanout.lane(slot).is_sealed() {
                self.blame(slot, End::Aged);
                self.say_goodbye(slot, KEYS_SPENT);
            }
        }
    }

    /// Says `bye` and starts the closing handshake, with a close code and its words.
    pub(super) fn say_goodbye(&mut self, slot: u32, (code, reason): (u16, &str)) {
        let retry = self.retry_ms();
        self.broker
            .say_bye(SessionId(slot), code, reason, retry, &mut self.fanout);
        self.close(slot, code, reason);
    }

    pub(super) fn arm(&mut self, slot: u32, deadline: Millis) {
        self.timers.arm(slot, &mut self.slots[slot as usize].due, deadline);
    }

    /// Arms the deadline that an open connection's own state has now.
    pub(super) fn arm_by_state(&mut self, slot: u32) {
        let (mut deadline, is_open) = match &self.slots[slot as usize].phase {
            Phase::Open(connection) => (
                connection.poll_timeout(&self.timing(slot)),
                connection.state() == State::Open,
            ),
            Phase::Events { ping } => (*ping, true),
            _ => return,
        };
        if is_open {
            deadline = deadline.min(self.expiry(slot));
            let grant = self.broker.grant(SessionId(slot));
            if let Some(expires) = grant.and_then(|grant| grant.expires) {
                deadline = deadline.min(comes_up(expires, unix_now(), self.now));
            }
        }
        self.arm(slot, deadline);
    }

    /// The pings and the patience of the connection in `slot`.
    fn timing(&self, slot: u32) -> Timing {
        let timing = self.config.timing;
        Timing {
            ping_interval: spread(timing.ping_interval, slot),
            ..timing
        }
    }

    /// A WebSocket was opened in `slot`.
    pub(super) fn set_expiry(&mut self, slot: u32) {
        let Some(age) = self.config.max_age else {
            // Nor does that of its predecessor count.
            if let Some(expiry) = self.expiries.get_mut(slot as usize) {
                *expiry = u32::MAX;
            }
            return;
        };
        let seconds = self.now.0 as f64 / 1e3 + age.as_secs_f64() * (0.9 + 0.2 * self.random.f64());
        if self.expiries.len() <= slot as usize {
            self.expiries.resize(slot as usize + 1, u32::MAX);
        }
        self.expiries[slot as usize] = seconds.ceil() as u32;
    }

    fn expiry(&self, slot: u32) -> Millis {
        match self.expiries.get(slot as usize) {
            None | Some(&u32::MAX) => Millis::NEVER,
            Some(&seconds) => Millis::from_secs(seconds.into()),
        }
    }

    /// Ends a session whose credentials are over, or have not come; tells whether it did.
    fn end_expired(&mut self, slot: u32) -> io::Result<bool> {
        let id = SessionId(slot);
        let Some(grant) = self.broker.grant(id).filter(|grant| grant.expires.is_some()) else {
            return Ok(false);
        };
        if !grant.is_expired(unix_now()) || self.fanout.lane(slot).is_sealed() {
            return Ok(false);
        }
        let never_came = grant.identity.is_none() && grant.publish.is_none() && grant.subscribe.is_none();
        let (code, reason) = if never_came {
            (wire::close::UNAUTHORIZED, "no credentials came in time")
        } else {
            let code = wire::close::TOKEN_EXPIRED;
            (code, wire::close::own_reason(code))
        };
        self.blame(slot, End::Expired);
        self.abandon(slot, code, reason)?;
        Ok(true)
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
        let (now, timing, expiry) = (self.now, self.timing(slot), self.expiry(slot));
        let state = &mut self.slots[slot as usize];
        if state.paused.is_some() {
            self.give_up_waiting(slot);
            // It is not listened to, so it cannot be blamed for silence.
            self.arm(slot, now + Millis::from_secs(1));
            return Ok(());
        }
        if state.has_session() && self.end_expired(slot)? {
            return Ok(());
        }
        match &mut self.slots[slot as usize].phase {
            Phase::Free | Phase::Dying => {}
            Phase::Proxy { deadline, .. } if now >= *deadline => {
                self.counters.requests_timed_out.add(1);
                self.kill(slot)?;
            }
            Phase::Head { deadline, .. } | Phase::Answering { deadline, .. } if now >= *deadline => {
                self.give_up_request(slot)?;
            }
            Phase::Body(posting) if now >= posting.deadline => self.give_up_request(slot)?,
            Phase::Body(posting) => {
                let deadline = posting.deadline;
                self.arm(slot, deadline);
            }
            // What waits for a slow client is given to it as long as the broker can wait.
            Phase::Finishing { .. } if self.draining.is_some() && !self.fanout.lane(slot).is_empty() => {
                self.arm(slot, now + timing.close_timeout);
            }
            Phase::Finishing { deadline } | Phase::Lingering { deadline } if now >= *deadline => self.kill(slot)?,
            Phase::Proxy { deadline, .. }
            | Phase::Head { deadline, .. }
            | Phase::Answering { deadline, .. }
            | Phase::Finishing { deadline }
            | Phase::Lingering { deadline } => {
                let deadline = *deadline;
                self.arm(slot, deadline);
            }
            Phase::Events { .. } if now < expiry => self.keep_events_alive(slot),
            Phase::Events { .. } => {
                self.blame(slot, End::Aged);
                self.say_goodbye(slot, TOO_OLD);
            }
            Phase::Open(connection) if connection.state() == State::Open && now >= expiry => {
                self.blame(slot, End::Aged);
                self.say_goodbye(slot, TOO_OLD);
            }
            // What waits for a slow client is given to it as long as the broker can wait: its time to answer the Close begins
            // when that has been sent.
            Phase::Open(connection)
                if self.draining.is_some()
                    && connection.state() != State::Open
                    && !self.fanout.lane(slot).is_empty() =>
            {
                self.arm(slot, now + timing.close_timeout);
            }
            Phase::Open(connection) => {
                self.scratch.clear();
                let timed_out = connection.handle_timeout(now, &timing, &mut self.scratch);
                if !self.slots[slot as usize].polling {
                    // The pause after the 101 is over; a full socket is still waited for.
                    self.fanout.unblock(slot);
                }
                if let Some((code, reason)) = timed_out.and_then(TimedOut::close) {
                    let retry = self.retry_ms();
                    self.broker
                        .say_bye(SessionId(slot), code, reason, retry, &mut self.fanout);
                }
                if !self.scratch.is_empty() {
                    self.broker.settle(&mut self.fanout);
                    self.fanout.send_frames(slot, &self.scratch);
                }
                match timed_out {
                    None => self.arm_by_state(slot),
                    Some(cause @ (TimedOut::Pong | TimedOut::Message)) => {
                        let is_silent = cause == TimedOut::Pong;
                        self.blame(slot, if is_silent { End::Silent } else { End::Unfinished });
                        self.end_session(slot);
                        self.fanout.seal(slot);
                        self.arm_by_state(slot);
                        self.finish(slot)?;
                        self.count_held(slot);
                    }
                    Some(TimedOut::Idle) => {
                        self.blame(slot, End::Idle);
                        self.end_session(slot);
                        self.fanout.seal(slot);
                        self.arm_by_state(slot);
                    }
                    Some(TimedOut::Close) => {
                        self.blame(slot, End::Silent);
                        self.kill(slot)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// When to look whether a grant that ends at `expires` has ended: when it would if the clock that tokens count by, which says
/// `clock` now, went on as that of deadlines does. Somebody may set it, so what ends a session is what it says then.
fn comes_up(expires: UnixSeconds, clock: UnixSeconds, now: Millis) -> Millis {
    now + Millis::from_secs(expires.0.saturating_sub(clock.0))
}

#[cfg(test)]
mod tests {
    use tidecast_broker::auth::Grant;

    use super::*;

    const EXPIRES: UnixSeconds = UnixSeconds(1_000_000);

    /// Looks whenever that is due, the clock of tokens being `ahead` of where it was at the beginning, a hundred seconds before the
    /// end; gives when the session ended.
    fn ends(ahead: impl Fn(u64) -> i64) -> u64 {
        let grant = Grant {
            expires: Some(EXPIRES),
            ..Grant::everything()
        };
        let clock = |now: Millis| {
            let seconds = now.0 / 1000;
            UnixSeconds((EXPIRES.0 - 100 + seconds).saturating_add_signed(ahead(seconds)))
        };
        let mut now = Millis(0);
        while !grant.is_expired(clock(now)) {
            // There is a ping, or something else, at least so often.
            let usual = now + Millis::from_secs(25);
            now = comes_up(EXPIRES, clock(now), now).min(usual);
        }
        now.0 / 1000
    }

    #[test]
    fn a_clock_that_is_set_ends_no_session_before_its_token_says_so_and_keeps_none_alive() {
        assert_eq!(ends(|_| 0), 100);
        assert_eq!(
            ends(|second| if second >= 10 { -3600 } else { 0 }),
            3700,
            "set back by an hour"
        );
        assert_eq!(
            ends(|second| if second >= 99 { -86_400 } else { 0 }),
            86_500,
            "just before the end"
        );
        assert_eq!(
            ends(|second| if second >= 10 { 3600 } else { 0 }),
            25,
            "set forward: the next look finds it"
        );
        assert_eq!(
            ends(|second| if (10..60).contains(&second) { -3600 } else { 0 }),
            100,
            "set back, and corrected"
        );
    }

    #[test]
    fn a_clock_that_went_wrong_altogether_is_no_reason_to_look_without_end() {
        let now = Millis(5);
        assert_eq!(comes_up(EXPIRES, UnixSeconds(u64::MAX), now), now);
        assert!(comes_up(UnixSeconds(u64::MAX), UnixSeconds(0), now) > Millis::from_secs(1 << 40));
    }
}
