//! Connections to listeners with TLS: records come in here, octets go on from here.

//= RFC 6455#section-10.6
//# WebSocket implementations MUST support TLS

use std::io;

use tidecast_websocket::http::Response;

use super::Worker;
use crate::connection::Phase;
use crate::ledger::End;
use crate::tls::{Fault, Received, speaks_http};

impl Worker {
    /// Bytes as they come from a socket.
    pub(super) fn received(&mut self, slot: u32, bytes: &mut [u8]) -> io::Result<()> {
        // A proxy that names its client does that in the clear, before all else.
        let is_named = !matches!(self.slots[slot as usize].phase, Phase::Proxy { .. });
        if is_named && self.tls.session(slot).is_some() {
            self.records(slot, bytes)
        } else {
            self.input(slot, bytes)
        }
    }

    /// Bytes of a secure connection. What is in them goes on as if it had come in the clear, from where it lies.
    //= RFC 6455#section-4.2.2
    //# all further communication for the connection (including the server's handshake) MUST run through the
    //# encrypted tunnel [RFC5246].
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
    //# all further communication for the connection (including the server handshake) MUST run through the encrypted
    //# tunnel.
    fn records(&mut self, slot: u32, bytes: &mut [u8]) -> io::Result<()> {
        let Some(session) = self.tls.session_mut(slot) else {
            return Ok(());
        };
        if session.is_fresh() && speaks_http(bytes) {
            return self.refuse_plain(slot);
        }
        let mut records = session.records(bytes);
        while self.listens(slot) {
            let Some(session) = self.tls.session_mut(slot) else {
                break;
            };
            if !session.is_open() {
                self.fanout.count_proof();
            }
            let received = match records.next() {
                Ok(Some(record)) => session.receive(record).map(|received| (received, record)),
                Ok(None) => {
                    session.keep(records.into_rest());
                    break;
                }
                Err(fault) => {
                    session.give_up(&fault);
                    Err(fault)
                }
            };
            self.fanout.set_ciphertext(slot, session.waiting().len());
            match received {
                Ok((Received::Nothing, _)) => {}
                Ok((Received::Data(range), record)) => self.input(slot, &mut record[range])?,
                Ok((Received::Shaken { resumed }, _)) => {
                    self.counters.tls_full.add(u64::from(!resumed));
                    self.counters.tls_resumed.add(u64::from(resumed));
                }
                Ok((Received::Closed, _)) => self.end_in_order(slot)?,
                // It will not listen.
                Err(Fault::Alerted) => {
                    self.counters.tls_failed.add(1);
                    self.blame(slot, End::Broken);
                    self.kill(slot)?;
                }
                Err(_) => self.fail_tls(slot)?,
            }
        }
        Ok(())
    }

    /// Whether what comes from `slot` matters.
    fn listens(&self, slot: u32) -> bool {
        let state = &self.slots[slot as usize];
        let is_heard = matches!(
            state.phase,
            Phase::Head { .. } | Phase::Body(_) | Phase::Answering { .. } | Phase::Open(_) | Phase::Events { .. }
        );
        !state.ended && is_heard
    }

    /// Whether HTTP can be spoken to `slot`: not while TLS is not there yet.
    pub(super) fn can_respond(&self, slot: u32) -> bool {
        self.tls.session(slot).is_none_or(|session| session.is_open())
    }

    /// Closes a connection with which TLS is not possible any more, after the alert if there is one.
    pub(super) fn fail_tls(&mut self, slot: u32) -> io::Result<()> {
        self.counters.tls_failed.add(1);
        self.blame(slot, End::Broken);
        self.fanout.spoil(slot);
        self.wind_up(slot)
    }

    /// The peer says no more, and is told the same once it has been sent all that is queued.
    fn end_in_order(&mut self, slot: u32) -> io::Result<()> {
        self.blame(slot, End::Gone);
        let state = &mut self.slots[slot as usize];
        state.ended = true;
        if let Phase::Answering { .. } = state.phase {
            return Ok(());
        }
        // Not before what it said last was heard.
        if let Some(paused) = &state.paused {
            return if paused.asks_to_come_in() {
                self.kill(slot)
            } else {
                Ok(())
            };
        }
        self.fanout.seal(slot);
        self.wind_up(slot)
    }

    /// Nothing is taken in or said any more, except for what is queued.
    pub(super) fn wind_up(&mut self, slot: u32) -> io::Result<()> {
        self.end_session(slot);
        let deadline = self.now + self.config.timing.close_timeout;
        self.slots[slot as usize].phase = Phase::Finishing { deadline };
        self.arm(slot, deadline);
        self.finish(slot)
    }

    /// Tells a secure connection, to which all is said, that it is. Gives false if it has been told, or cannot be.
    pub(super) fn close_tls(&mut self, slot: u32) -> bool {
        let is_all_sealed = self.fanout.lane(slot).has_no_plaintext();
        let Some(session) = self.tls.session_mut(slot) else {
            return false;
        };
        let says = session.say_goodbye(is_all_sealed);
        let waiting = session.waiting().len();
        if says {
            self.fanout.set_ciphertext(slot, waiting);
        }
        says
    }

    /// HTTP in the clear on a port with TLS.
    fn refuse_plain(&mut self, slot: u32) -> io::Result<()> {
        self.counters.plain_on_tls.add(1);
        self.tls.close(slot);
        self.fanout.open_in_the_clear(slot);
        self.explain(slot, "This port speaks TLS: use https:// or wss://.")
    }

    /// TLS on a port without it. In the clear, for there is nothing else.
    pub(super) fn refuse_tls(&mut self, slot: u32) -> io::Result<()> {
        self.counters.tls_on_plain.add(1);
        self.explain(slot, "This port does not speak TLS: use http:// or ws://.")
    }

    fn explain(&mut self, slot: u32, hint: &str) -> io::Result<()> {
        self.counters.requests_refused.add(1);
        self.scratch.clear();
        Response::new(&mut self.scratch, 400)
            .header("Connection", "close")
            .text(hint);
        self.respond(slot)
    }
}
