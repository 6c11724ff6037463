//! How connections begin: accepted, let in, and named by the proxy that they come through.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidecast_broker::wire;
use tidecast_driver::{Completion, Op, Token};
use tidecast_websocket::Millis;
use tidecast_websocket::http::Request;

use super::{Accepting, ECANCELED, Worker};
use crate::admission::Cause;
use crate::budget::Holdings;
use crate::connection::{Phase, Slot};
use crate::forwarded;
use crate::journal::Entry;
use crate::ledger::End;
use crate::proxy::{self, MOST_BINARY};
use crate::tls::Session;

/// Accepts in flight for each listener: as many connections are taken in a turn, of those that come at one time.
const ACCEPTS: u32 = 32;
/// How long a listener that failed is left alone.
const ACCEPT_RETRY: Millis = Millis(100);
const ECONNABORTED: i32 = 103;
const EAGAIN: i32 = 11;

impl Worker {
    /// Keeps accepts in flight on all listeners, if connections are wanted.
    pub(super) fn accept(&mut self) -> io::Result<()> {
        if self.accepting != Accepting::Yes {
            return Ok(());
        }
        // A connection without a slot would be reset by the kernel, so there are never more accepts than slots. No listener is to be
        // without one: some slots are held in reserve for that.
        let free = self.config.max_connections - self.active;
        let vacant = free.saturating_sub(self.reserve());
        let mut in_flight: u32 = self.armed.iter().sum();
        for (number, (_, listener)) in self.listeners.iter().enumerate() {
            let armed = &mut self.armed[number];
            while *armed < ACCEPTS && in_flight < free && (in_flight < vacant || *armed == 0) {
                self.driver.accept(listener, number as u32)?;
                *armed += 1;
                in_flight += 1;
            }
        }
        if self.armed.contains(&0) {
            // Others have what there was when there was more. When they have let go of it, all are given their share.
            for (number, _) in self.armed.iter().enumerate().filter(|(_, armed)| **armed > 1) {
                self.driver.cancel_accepts(number as u32)?;
            }
        }
        Ok(())
    }

    /// Slots for the accepts that all listeners but one may have in flight when this worker is full, if there are so many.
    fn reserve(&self) -> u32 {
        let others = (self.listeners.len() as u32).saturating_sub(1);
        others.min(self.config.max_connections.saturating_sub(1))
    }

    /// Whether no more is to be accepted than what accepts in flight are there for.
    pub(super) fn is_full(&self) -> bool {
        self.active + self.reserve() >= self.config.max_connections
    }

    /// Accepts no more, for the broker stops.
    pub(super) fn stop_accepting(&mut self) -> io::Result<()> {
        self.accepting = Accepting::No;
        for (number, armed) in self.armed.iter().enumerate() {
            if *armed > 0 {
                self.driver.cancel_accepts(number as u32)?;
            }
        }
        Ok(())
    }

    pub(super) fn handle_accepted(&mut self, completion: Completion) -> io::Result<()> {
        let listener = completion.token.slot();
        self.armed[listener as usize] -= 1;
        match completion.error() {
            None => {
                let peer = self.driver.take_peer(completion.token);
                let peer = peer.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
                let address = peer.ip().to_canonical();
                self.counters.accepted.add(1);
                let slot = completion.result as u32;
                // It stays until nothing is in flight for it.
                let (number, _) = self.listeners[listener as usize];
                match self.admit(slot, number, address) {
                    Ok(()) => {
                        self.ledger.open(slot, peer, self.now);
                        self.open(slot, number, address)?;
                    }
                    Err(cause) => {
                        self.count_refused(cause, peer);
                        self.driver.close(Token::new(Op::Close, slot, 0))?;
                    }
                }
            }
            // A peer that was gone before it was accepted, or that somebody else who shares the socket has accepted every time
            // that this accept was woken, says nothing about the next.
            Some(ECANCELED | ECONNABORTED | EAGAIN) => {}
            // Too many descriptors, or no memory: not worth spinning on.
            Some(error) if self.accepting == Accepting::Yes => {
                self.journal.write(Entry::CannotAccept(error));
                self.accepting = Accepting::Retry(self.now + ACCEPT_RETRY);
            }
            Some(_) => {}
        }
        self.accept()
    }

    /// Decides about a connection by what is known of it when it is accepted.
    fn admit(&mut self, slot: u32, listener: u16, peer: IpAddr) -> Result<(), Cause> {
        let admission = &self.config.admission;
        if self.memory.is_short() {
            return Err(Cause::Memory);
        }
        self.gate.open(admission)?;
        let admitted = if !self.config.listeners[usize::from(listener)].proxy {
            self.gate
                .locate(slot, peer, admission, admission.rate.as_ref(), self.now)
        } else if admission.is_trusted(peer) {
            Ok(())
        } else {
            Err(Cause::Proxy)
        };
        if admitted.is_err() {
            self.gate.close(slot);
        }
        admitted
    }

    fn open(&mut self, slot: u32, listener: u16, peer: IpAddr) -> io::Result<()> {
        if self.slots.len() <= slot as usize {
            self.slots.resize_with(slot as usize + 1, Slot::default);
        }
        self.active += 1;
        self.counters.connections.add(1);
        let deadline = self.now + self.config.handshake_timeout.into();
        let state = &mut self.slots[slot as usize];
        debug_assert!(matches!(state.phase, Phase::Free), "the kernel gives out free slots");
        let bytes = Vec::new();
        state.phase = if self.config.listeners[usize::from(listener)].proxy {
            Phase::Proxy {
                bytes,
                deadline,
                listener,
                peer,
            }
        } else {
            Phase::Head {
                bytes,
                deadline,
                listener,
                peer,
                again: false,
            }
        };
        let terms = self.config.listeners[usize::from(listener)].tls.as_ref();
        self.fanout.open(slot, terms.is_some());
        if let Some(terms) = terms {
            self.tls.open(slot, terms);
        }
        self.arm(slot, deadline);
        self.receive(slot)?;
        self.note_late(slot);
        if self.is_full() && self.accepting != Accepting::No {
            self.accepting = Accepting::Full;
        }
        Ok(())
    }

    /// Bytes of a PROXY header, perhaps of the client's after it.
    pub(super) fn proxy_header(&mut self, slot: u32, bytes: &mut [u8]) -> io::Result<()> {
        let Phase::Proxy {
            bytes: kept,
            deadline,
            listener,
            peer,
        } = &mut self.slots[slot as usize].phase
        else {
            return Ok(());
        };
        let (deadline, listener, peer) = (*deadline, *listener, *peer);
        let before = kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(MOST_BINARY)]);
        let cause = match proxy::parse(kept) {
            Ok(None) => return Ok(()),
            Ok(Some(header)) => {
                let client = header.source.map_or(peer, |source| source.to_canonical());
                self.ledger.locate(slot, client);
                let admission = &self.config.admission;
                match self
                    .gate
                    .locate(slot, client, admission, admission.rate.as_ref(), self.now)
                {
                    Ok(()) => {
                        self.slots[slot as usize].phase = Phase::Head {
                            bytes: Vec::new(),
                            deadline,
                            listener,
                            peer: client,
                            again: false,
                        };
                        let rest = &mut bytes[header.length - before..];
                        return if rest.is_empty() {
                            Ok(())
                        } else {
                            self.received(slot, rest)
                        };
                    }
                    Err(cause) => cause,
                }
            }
            Err(_) => Cause::Proxy,
        };
        self.count_refused(cause, self.ledger.get(slot).peer());
        self.kill(slot)
    }

    /// Counts a connection or request that a limit refuses, and writes it down.
    fn count_refused(&mut self, cause: Cause, peer: SocketAddr) {
        let reason = cause.count(&self.counters);
        self.journal.write(Entry::Refused { reason, peer });
    }

    /// Decides about whoever asks, if `peer` is trusted to name somebody; `again`, if it is not the first request of the connection.
    pub(super) fn admit_client(
        &mut self,
        slot: u32,
        peer: IpAddr,
        request: &Request<'_>,
        again: bool,
    ) -> Result<(), Cause> {
        let admission = &self.config.admission;
        let named = forwarded::client(request, admission.forwarded, peer, &admission.trusted);
        if let Ok(client) = named {
            self.ledger.locate(slot, client);
        }
        let rate = admission.rate.as_ref().filter(|_| !again);
        match named {
            Ok(client) if client == peer => Ok(()),
            Ok(client) => self.gate.locate(slot, client, admission, rate, self.now),
            // Together they may be as many as one address: who forges what a proxy says gains nothing by it.
            Err(forwarded::Unreadable) => self.gate.locate_anyway(slot, peer, admission, rate, self.now),
        }
    }

    /// Counts what the connection in `slot` holds now. One that has come to hold more than there is memory for is given up.
    pub(super) fn account(&mut self, slot: u32) -> io::Result<()> {
        if self.count_held(slot) {
            // It may be a message that has begun, which has to come to its end.
            self.arm_by_state(slot);
            self.settle_memory();
            if !self.memory.admits(self.slots[slot as usize].held as usize) {
                self.overload(slot)?;
                self.count_held(slot);
                self.settle_memory();
            }
        }
        Ok(())
    }

    /// Counts what the connection in `slot` holds now, and tells whether that is more than before.
    pub(super) fn count_held(&mut self, slot: u32) -> bool {
        let state = &mut self.slots[slot as usize];
        let held = state.memory() + self.tls.session(slot).map_or(0, Session::memory);
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut state.held, held);
        self.held = self.held + held as usize - before as usize;
        held > before
    }

    /// Tells the others what this worker holds, and learns whether that is too much.
    pub(super) fn settle_memory(&mut self) {
        let subscriptions = self.broker.memory();
        self.memory.settle(Holdings {
            incoming: self.held,
            subscriptions,
            outgoing: self.fanout.held() + self.tls.held(),
        });
        self.broker
            .set_most_memory(subscriptions.saturating_add(self.memory.subscription_room()));
    }

    /// There is no memory for what comes from `slot`.
    fn overload(&mut self, slot: u32) -> io::Result<()> {
        match &self.slots[slot as usize].phase {
            Phase::Head { .. } | Phase::Body(_) => self.refuse(slot, Cause::Memory),
            Phase::Proxy { .. } => {
                self.count_refused(Cause::Memory, self.ledger.get(slot).peer());
                self.kill(slot)
            }
            Phase::Open(_) if self.slots[slot as usize].paused.is_none() => {
                self.blame(slot, End::Memory);
                let code = wire::close::OVERLOADED;
                self.abandon(slot, code, wire::close::own_reason(code))
            }
            // It holds what it has said, and says no more for now.
            _ => Ok(()),
        }
    }

    /// Answers a request with a refusal.
    pub(super) fn refuse(&mut self, slot: u32, cause: Cause) -> io::Result<()> {
        self.count_refused(cause, self.ledger.get(slot).peer());
        if !self.can_respond(slot) {
            return self.kill(slot);
        }
        let retry = Duration::from_millis(self.retry_ms());
        self.scratch.clear();
        cause.respond(retry, &mut self.scratch);
        self.respond(slot)
    }
}
