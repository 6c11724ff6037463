//! What a connection does about a peer that is silent, or too slow.

use super::{Connection, TICK, tick};
use crate::assembly::Assembly;
use crate::frame::Opcode;
use crate::state::{State, Step};
use crate::time::{Millis, TimedOut, Timing};

impl Connection {
    /// The moment of [`Connection::poll_timeout`] may have come: sends a Ping after silence, or gives up. Calling it
    /// early does nothing.
    pub fn handle_timeout(&mut self, now: Millis, timing: &Timing, out: &mut Vec<u8>) -> Option<TimedOut> {
        if now < self.poll_timeout(timing) {
            return None;
        }
        match self.state {
            State::Open if self.awaiting_pong && now >= self.waiting_since + timing.pong_timeout => {
                self.give_up(TimedOut::Pong, now, out)
            }
            State::Open if now >= self.message_at(timing) => self.give_up(TimedOut::Message, now, out),
            State::Open if now >= self.idle_at(timing) => self.give_up(TimedOut::Idle, now, out),
            State::Open => {
                // Never empty: libwebsockets of 2011 does not answer an empty Ping, or stalls on it.
                let body = (now.0 as u32).to_be_bytes();
                self.encoder().encode(Opcode::Ping, &body, out);
                self.awaiting_pong = true;
                self.waiting_since = now;
                None
            }
            State::CloseSent | State::Draining => {
                self.handle_end();
                Some(TimedOut::Close)
            }
            State::Closed => None,
        }
    }

    /// When [`Connection::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self, timing: &Timing) -> Millis {
        match self.state {
            State::Open => {
                let silent_at = if self.awaiting_pong {
                    self.waiting_since + timing.pong_timeout
                } else {
                    self.heard_at + timing.ping_interval
                };
                silent_at.min(self.message_at(timing)).min(self.idle_at(timing))
            }
            State::CloseSent | State::Draining => self.waiting_since + timing.close_timeout,
            State::Closed => Millis::NEVER,
        }
    }

    /// When the peer has been without a message for too long, at the latest a second late.
    fn idle_at(&self, timing: &Timing) -> Millis {
        if timing.idle_timeout == Millis::NEVER {
            return Millis::NEVER;
        }
        // No message is younger than the last octets, nor older than there are ticks. One that is coming in is as young.
        let since = if self.assembly.is_some() {
            0
        } else {
            tick(self.heard_at).wrapping_sub(self.message_tick)
        };
        let next = (self.heard_at.0 >> TICK) - u64::from(since) + 1;
        Millis(next << TICK) + timing.idle_timeout.min(Millis(u64::from(u16::MAX / 2) << TICK))
    }

    /// When a message that is coming in has taken too long.
    fn message_at(&self, timing: &Timing) -> Millis {
        let since = self.assembly.as_deref().and_then(Assembly::coming_since);
        since.map_or(Millis::NEVER, |since| since + timing.message_timeout)
    }

    /// Tells the peer what it is given up for.
    fn give_up(&mut self, cause: TimedOut, now: Millis, out: &mut Vec<u8>) -> Option<TimedOut> {
        if let Some((code, reason)) = cause.close() {
            // Whoever is only idle may have something to say still.
            let step = if cause == TimedOut::Idle {
                Step::CloseSent
            } else {
                Step::Failed
            };
            self.end(code, reason, step, now, out);
        }
        Some(cause)
    }
}
