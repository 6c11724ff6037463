//! What each connection has done, and what ended it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tidecast_broker::wire::close;
use tidecast_websocket::Millis;

use crate::counters::{Counter, Counters};

macro_rules! ends {
    ($($(#[doc = $doc:literal])+ $name:ident => $counter:ident, $word:literal;)+) => {
        /// What ended a session: a WebSocket, or a stream of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum End {
            $($(#[doc = $doc])+ $name,)+
        }

        impl End {
            /// All there are.
            pub const ALL: &[End] = &[$(End::$name),+];

            /// One word for it, as in the label of the metric.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(End::$name => $word,)+
                }
            }

            /// Where it is counted.
            fn counter(self, counters: &Counters) -> &Counter {
                match self {
                    $(End::$name => &counters.$counter,)+
                }
            }
        }
    };
}

ends! {
    /// The client sent a Close.
    Client => left, "client";
    /// The client closed the connection without one.
    Gone => gone, "gone";
    /// The connection was reset.
    Broken => broken, "broken";
    /// The client did not take what it was sent, or its system did not answer.
    Unacknowledged => unacknowledged, "unacknowledged";
    /// The client broke the WebSocket protocol.
    Protocol => protocol_errors, "protocol";
    /// A raw client said what cannot be done.
    BadRequest => bad_requests, "bad_request";
    /// The client was not permitted what it did.
    Forbidden => forbidden, "forbidden";
    /// Credentials were over, or never came.
    Expired => expired, "expired";
    /// Settings took away what the client's rights rested on.
    Withdrawn => withdrawn, "withdrawn";
    /// The client said more than it may.
    RateLimited => flooders, "rate_limited";
    /// The subscriber did not read.
    SlowConsumer => slow_consumers, "slow_consumer";
    /// There was no memory for what it said, or did not read.
    Memory => overloaded, "memory";
    /// The client did not answer.
    Silent => silent, "silent";
    /// The client sent nothing for too long.
    Idle => idle, "idle";
    /// The client did not go on with a message.
    Unfinished => messages_timed_out, "message_timeout";
    /// The connection was as old as it may be.
    Aged => aged, "aged";
    /// An operator closed it.
    Operator => kicked, "operator";
    /// The broker stopped.
    Stop => stopped, "stop";
}

impl End {
    /// What ends a WebSocket whose connection has this error, a negated errno.
    pub(crate) fn of_error(error: i32) -> End {
        if error == -ETIMEDOUT {
            End::Unacknowledged
        } else {
            End::Broken
        }
    }

    /// What ends a WebSocket that is closed with this code of ours.
    pub(crate) fn of_code(code: u16) -> End {
        match code {
            close::SLOW_CONSUMER => End::SlowConsumer,
            close::RATE_LIMITED => End::RateLimited,
            close::OVERLOADED => End::Memory,
            close::UNAUTHORIZED | close::FORBIDDEN => End::Forbidden,
            close::TOKEN_EXPIRED => End::Expired,
            _ => End::BadRequest,
        }
    }
}

const ETIMEDOUT: i32 = 110;

/// What one connection has done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// Where its client is, an IPv4 address mapped.
    address: Ipv6Addr,
    /// When it was accepted.
    pub(crate) since: Millis,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Messages that came from it.
    pub(crate) messages_in: u64,
    /// Messages that were delivered to it.
    pub(crate) messages_out: u64,
    /// The client's port, unless a proxy has it.
    port: u16,
    has_session: bool,
    pub(crate) end: Option<End>,
}

// A line of the processor's cache.
const _: () = assert!(size_of::<Account>() <= 64);

impl Account {
    /// Where its client is. The port is 0 if only a proxy knows it.
    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.address).to_canonical(), self.port)
    }
}

/// What the connections of a worker have done, by slot.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
}

impl Ledger {
    /// There are to be places for so many connections without moving any.
    pub(crate) fn reserve(&mut self, places: usize) {
        self.accounts.reserve(places);
    }

    /// A connection took `slot`.
    pub(crate) fn open(&mut self, slot: u32, peer: SocketAddr, now: Millis) {
        let account = Account {
            address: mapped(peer.ip()),
            since: now,
            bytes_in: 0,
            bytes_out: 0,
            messages_in: 0,
            messages_out: 0,
            port: peer.port(),
            has_session: false,
            end: None,
        };
        let slot = slot as usize;
        if self.accounts.len() <= slot {
            self.accounts.resize(slot + 1, account);
        }
        self.accounts[slot] = account;
    }

    pub(crate) fn get(&self, slot: u32) -> &Account {
        &self.accounts[slot as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Account {
        &mut self.accounts[slot as usize]
    }

    /// The client in `slot` is at `address`, for a proxy says so.
    pub(crate) fn locate(&mut self, slot: u32, address: IpAddr) {
        let account = self.get_mut(slot);
        let address = mapped(address);
        if account.address != address {
            (account.address, account.port) = (address, 0);
        }
    }

    /// The connection in `slot` is a WebSocket, or a stream of events.
    pub(crate) fn upgrade(&mut self, slot: u32) {
        self.get_mut(slot).has_session = true;
    }

    /// The session in `slot` ends because of this, if nothing ended it before.
    pub(crate) fn blame(&mut self, slot: u32, end: End, counters: &Counters) {
        let account = self.get_mut(slot);
        if account.has_session && account.end.is_none() {
            account.end = Some(end);
            end.counter(counters).add(1);
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(peer: &str) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.open(3, peer.parse().unwrap(), Millis(5));
        ledger
    }

    #[test]
    fn a_websocket_ends_once_and_what_was_none_does_not() {
        let (mut ledger, counters) = (opened("192.0.2.1:80"), Counters::default());
        ledger.blame(3, End::Gone, &counters);
        ledger.upgrade(3);
        ledger.blame(3, End::Protocol, &counters);
        ledger.blame(3, End::Silent, &counters);
        assert_eq!(ledger.get(3).end, Some(End::Protocol));
        let counts = (
            counters.gone.get(),
            counters.protocol_errors.get(),
            counters.silent.get(),
        );
        assert_eq!(counts, (0, 1, 0));
    }

    #[test]
    fn a_client_behind_a_proxy_has_its_own_address_and_no_port() {
        for peer in ["192.0.2.1:80", "[2001:db8::1]:80"] {
            let mut ledger = opened(peer);
            assert_eq!(ledger.get(3).peer().to_string(), peer);
            ledger.locate(3, ledger.get(3).peer().ip());
            assert_eq!(ledger.get(3).peer().to_string(), peer);
            ledger.locate(3, "198.51.100.7".parse().unwrap());
            assert_eq!(ledger.get(3).peer().to_string(), "198.51.100.7:0");
        }
    }

    #[test]
    fn every_end_is_counted_under_its_word() {
        let is_counted = |end: &End| {
            let counters = Counters::default();
            end.counter(&counters).add(1);
            let totals = counters.totals();
            let mut counted = totals.values().filter(|(_, value)| *value > 0);
            counted
                .next()
                .is_some_and(|(series, _)| series.family.name == "sessions_closed" && series.value == end.as_str())
        };
        assert!(End::ALL.iter().all(is_counted));
    }
}
