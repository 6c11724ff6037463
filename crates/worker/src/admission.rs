//! Who may connect, and what each connection is counted under.
//!
//! ```text
//!   accepted ──▶ in all ──▶ address of the peer ──────────────────────────┐
//!                  │          │ a trusted proxy: not its own, but the     ├──▶ served, and counted until it ends
//!                  │          ▼ address that it names                     │
//!                  │        PROXY header, or request head ─▶ its client's ┘
//!                  ▼          ▼                                 ▼
//!                closed     closed                             429
//! ```
//!
//! A proxy may speak for another client with each request of a connection that stays: that one is counted while it is served, and
//! has not opened it.
//!
//! Refused as early as can be known: of a connection that is closed right after it was accepted, nothing was read.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tidecast_websocket::Millis;
use tidecast_websocket::http::Response;

use crate::census::Census;
use crate::counters::Counters;
use crate::forwarded::{ForwardedHeader, is_among};
use crate::rate::Rate;
use crate::tally::{Place, Refused};

/// Who may connect.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The most connections at a time, over all workers.
    pub connections: u32,
    /// The most of one address.
    pub per_address: u32,
    /// How fast one address may open them; as fast as it likes, if there is none.
    pub rate: Option<Rate>,
    /// How many bits of an IPv6 address count as one.
    pub ipv6_prefix: u8,
    /// Networks whose addresses are not limited.
    pub exempt: Vec<IpNet>,
    /// Proxies that are believed about whom they speak for, and are not limited themselves.
    pub trusted: Vec<IpNet>,
    /// Where these say it in the request head.
    pub forwarded: ForwardedHeader,
}

impl Admission {
    /// Nobody is refused, and nobody is believed.
    pub const OPEN: Admission = Admission {
        connections: u32::MAX,
        per_address: u32::MAX,
        rate: None,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        trusted: Vec::new(),
        forwarded: ForwardedHeader::None,
    };

    /// Whether what `address` says of others is believed.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        is_among(address, &self.trusted)
    }

    fn is_limited(&self, address: IpAddr) -> bool {
        let limits = self.per_address < u32::MAX || self.rate.is_some();
        limits && !is_among(address, &self.exempt) && !self.is_trusted(address)
    }
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There are as many as there may be.
    Full,
    /// Its address has as many as it may have.
    Address,
    /// Its address opens them too fast; not any more after so long.
    Rate(Duration),
    /// It came by a listener for proxies, and is none that is trusted, or sent no PROXY header.
    Proxy,
    /// There is no memory for it.
    Memory,
    /// Its identity has as many as it may have.
    Identity,
}

impl Cause {
    /// Counts it, and gives one word for it, as in the label of the metric.
    pub(crate) fn count(self, counters: &Counters) -> &'static str {
        let (counter, word) = match self {
            Cause::Full => (&counters.refused_full, "full"),
            Cause::Address => (&counters.refused_address, "address"),
            Cause::Rate(_) => (&counters.refused_rate, "rate"),
            Cause::Proxy => (&counters.refused_proxy, "proxy"),
            Cause::Memory => (&counters.refused_memory, "memory"),
            Cause::Identity => (&counters.refused_identity, "identity"),
        };
        counter.add(1);
        word
    }

    /// Answers a request with it; `retry` is when to come back if nothing better is known.
    pub(crate) fn respond(self, retry: Duration, out: &mut Vec<u8>) {
        let (status, retry, text) = match self {
            Cause::Full => (503, retry, "The broker has as many connections as it may have."),
            Cause::Address => (
                429,
                retry,
                "Your address has as many connections as it may have: close some.",
            ),
            Cause::Rate(wait) => (429, wait, "Your address opens connections too fast."),
            Cause::Proxy => (403, retry, "This address is for proxies."),
            Cause::Memory => (503, retry, "The broker is short of memory."),
            Cause::Identity => (429, retry, "You have as many connections as you may have: close some."),
        };
        Response::new(out, status)
            .header("Connection", "close")
            .header("Retry-After", retry.as_millis().div_ceil(1000).max(1))
            .text(text);
    }
}

/// The connections of one worker, as they are counted over all.
#[derive(Debug)]
pub(crate) struct Gate {
    census: Arc<Census>,
    /// By slot; as far as there was ever one that is counted by its address.
    places: Vec<Place>,
}

impl Gate {
    pub(crate) fn new(census: Arc<Census>) -> Gate {
        Gate {
            census,
            places: Vec::new(),
        }
    }

    /// What all workers count in.
    pub(crate) fn census(&self) -> &Arc<Census> {
        &self.census
    }

    /// A connection was accepted. It counts among all until [`Gate::close`].
    pub(crate) fn open(&self, admission: &Admission) -> Result<(), Cause> {
        let let_in = self.census.connect(admission.connections);
        let_in.then_some(()).ok_or(Cause::Full)
    }

    /// The connection in `slot`, which is open, comes from `address`, where connections are opened at this rate at the most. It
    /// counts there too until [`Gate::leave`] or [`Gate::close`], unless that is not limited.
    pub(crate) fn locate(
        &mut self,
        slot: u32,
        address: IpAddr,
        admission: &Admission,
        rate: Option<&Rate>,
        now: Millis,
    ) -> Result<(), Cause> {
        if !admission.is_limited(address) {
            return Ok(());
        }
        self.locate_anyway(slot, address, admission, rate, now)
    }

    /// The same, also where nobody is limited.
    pub(crate) fn locate_anyway(
        &mut self,
        slot: u32,
        address: IpAddr,
        admission: &Admission,
        rate: Option<&Rate>,
        now: Millis,
    ) -> Result<(), Cause> {
        let most = admission.per_address;
        let place = self
            .census
            .enter_address(address, admission.ipv6_prefix, most, rate, now)
            .map_err(|refused| match refused {
                Refused::Count => Cause::Address,
                Refused::Rate(wait) => Cause::Rate(wait),
            })?;
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, Place::NONE);
        }
        // It was counted for the peer, if that was not known as a proxy yet when it came.
        self.leave(slot);
        self.places[slot as usize] = place;
        Ok(())
    }

    /// The connection in `slot` is nobody's for now, though it counts among all.
    pub(crate) fn leave(&mut self, slot: u32) {
        if let Some(place) = self.places.get_mut(slot as usize) {
            self.census.leave_address(std::mem::replace(place, Place::NONE));
        }
    }

    /// The connection in `slot`, or the one that was about to take it, is gone.
    pub(crate) fn close(&mut self, slot: u32) {
        self.census.disconnect();
        self.leave(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(0);

    fn gates(count: usize) -> Vec<Gate> {
        let census = Arc::new(Census::new(100));
        (0..count).map(|_| Gate::new(Arc::clone(&census))).collect()
    }

    fn admission() -> Admission {
        Admission {
            connections: 10,
            per_address: 2,
            exempt: vec!["127.0.0.0/8".parse().unwrap()],
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            ..Admission::OPEN
        }
    }

    #[test]
    fn an_address_is_limited_over_all_workers_and_what_is_closed_makes_room() {
        let (admission, mut gates) = (admission(), gates(2));
        let address = "192.0.2.1".parse().unwrap();
        for gate in &mut gates {
            gate.open(&admission).unwrap();
            gate.locate(7, address, &admission, None, NOW).unwrap();
        }
        gates[0].open(&admission).unwrap();
        assert_eq!(gates[0].locate(8, address, &admission, None, NOW), Err(Cause::Address));
        assert_eq!(
            gates[0].locate(8, "192.0.2.2".parse().unwrap(), &admission, None, NOW),
            Ok(())
        );
        gates[1].close(7);
        gates[1].open(&admission).unwrap();
        assert_eq!(gates[1].locate(9, address, &admission, None, NOW), Ok(()));
    }

    #[test]
    fn whoever_is_exempt_or_a_trusted_proxy_is_limited_only_with_all_others() {
        let (admission, mut gates) = (admission(), gates(1));
        let gate = &mut gates[0];
        for slot in 0..10 {
            gate.open(&admission).unwrap();
            let address = if slot < 5 { "127.0.0.1" } else { "10.1.2.3" };
            gate.locate(slot, address.parse().unwrap(), &admission, None, NOW)
                .unwrap();
        }
        assert!(gate.places.is_empty(), "it costs nothing");
        assert_eq!(gate.open(&admission), Err(Cause::Full));
        gate.close(3);
        assert_eq!(gate.open(&admission), Ok(()));
    }

    #[test]
    fn a_refusal_says_why_and_when_to_come_back() {
        for (cause, status, retry) in [
            (Cause::Full, "503", "3"),
            (Cause::Address, "429", "3"),
            (Cause::Rate(Duration::from_millis(1200)), "429", "2"),
            (Cause::Rate(Duration::from_nanos(1)), "429", "1"),
        ] {
            let mut out = Vec::new();
            cause.respond(Duration::from_secs(3), &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(text.contains(&format!("\r\nRetry-After: {retry}\r\n")), "{text}");
        }
    }
}
