//! How much each connection may say, and all of one identity: commands and octets a second.
//!
//! ```text
//!   within its rates ──▶ done
//!   beyond           ──▶ refused, `rate_limited`      again and again, without a pause ──▶ closed with 4002
//! ```
//!
//! A client that was merely too eager hears of it and slows down: once it has paid off what it said, its refusals are
//! forgotten. One that goes on is not worth its answers.

use std::sync::Arc;

use tidecast_broker::Allowance;
use tidecast_websocket::Millis;

use crate::census::Census;
use crate::identities::{Identities, IdentityLimits};
use crate::rate::{Rate, nanos};

/// Refusals after which a client that did not pause is closed: as many as one write of a program in a loop may bring before it
/// can have read the first.
const PATIENCE: u32 = 100;

/// What a connection may say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageRates {
    /// Commands, or messages of a raw connection; any number, if there is none.
    pub messages: Option<Rate>,
    /// Their octets, as they are on the wire before compression.
    pub bytes: Option<Rate>,
}

/// What a connection has said.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// See [`Rate::next`].
    messages: u64,
    bytes: u64,
    /// Refusals since it was last within its rates for as long as it takes to pay off all.
    refused: u32,
}

/// What the connections of a worker have said.
#[derive(Debug)]
pub(crate) struct Meter {
    rates: MessageRates,
    identities: Identities,
    now: Millis,
    /// By slot.
    accounts: Vec<Account>,
    /// Commands that were refused.
    pub(crate) refused: u64,
}

impl Meter {
    /// A meter of these rates, if there are any limits.
    pub(crate) fn new(rates: MessageRates, identity: IdentityLimits, census: &Arc<Census>) -> Option<Box<Meter>> {
        let mut meter = Meter {
            rates,
            identities: Identities::new(Arc::clone(census)),
            now: Millis(0),
            accounts: Vec::new(),
            refused: 0,
        };
        meter.set_limits(rates, identity);
        let is_limited = rates != MessageRates::default() || identity != IdentityLimits::NONE;
        is_limited.then(|| Box::new(meter))
    }

    /// Changes the limits. What was said counts.
    pub(crate) fn set_limits(&mut self, rates: MessageRates, identity: IdentityLimits) {
        self.rates = rates;
        self.identities.set_limits(identity);
    }

    /// The connection in `slot` is of `identity` from now on; see [`Identities::set`].
    pub(crate) fn identify(&mut self, slot: u32, identity: Option<&str>) -> bool {
        self.identities.set(slot, identity, self.now)
    }

    /// The connection in `slot` is gone.
    pub(crate) fn close(&mut self, slot: u32) {
        self.identities.close(slot);
    }

    /// It is `now`.
    pub(crate) fn set_now(&mut self, now: Millis) {
        self.now = now;
    }

    /// Another connection has `slot`.
    pub(crate) fn open(&mut self, slot: u32) {
        *self.account(slot) = Account::default();
    }

    /// The connection in `slot` says something of so many octets.
    pub(crate) fn spend(&mut self, slot: u32, octets: usize) -> Allowance {
        let (rates, now) = (self.rates, self.now);
        let account = self.account(slot);
        let next =
            |rate: Option<Rate>, paid_off, units| rate.map_or(Ok(paid_off), |rate| rate.next(paid_off, units, now));
        let messages = next(rates.messages, account.messages, 1);
        let bytes = next(rates.bytes, account.bytes, octets as u64);
        let is_within = messages.is_ok() && bytes.is_ok() && self.identities.spend(slot, octets, now);
        let account = self.account(slot);
        if let (true, Ok(messages), Ok(bytes)) = (is_within, messages, bytes) {
            if account.messages.max(account.bytes) <= nanos(now) {
                account.refused = 0;
            }
            (account.messages, account.bytes) = (messages, bytes);
            return Allowance::Within;
        }
        account.refused += 1;
        let goes_on = account.refused > PATIENCE;
        self.refused += 1;
        if goes_on { Allowance::Spent } else { Allowance::Beyond }
    }

    fn account(&mut self, slot: u32) -> &mut Account {
        let slot = slot as usize;
        if self.accounts.len() <= slot {
            self.accounts.resize(slot + 1, Account::default());
        }
        &mut self.accounts[slot]
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn meter(messages: u32, bytes: u32) -> Box<Meter> {
        let rate = |per_second| NonZeroU32::new(per_second).map(|per_second| Rate::new(per_second, 0));
        let rates = MessageRates {
            messages: rate(messages),
            bytes: rate(bytes),
        };
        let census = Arc::new(Census::new(16));
        Meter::new(rates, IdentityLimits::NONE, &census).expect("there are rates")
    }

    #[test]
    fn without_rates_there_is_no_meter() {
        let census = Arc::new(Census::new(16));
        assert!(Meter::new(MessageRates::default(), IdentityLimits::NONE, &census).is_none());
    }

    #[test]
    fn whoever_says_too_much_is_refused_and_heard_again_when_time_has_passed() {
        let mut meter = meter(10, 0);
        for _ in 0..10 {
            assert_eq!(meter.spend(3, 1 << 20), Allowance::Within);
        }
        assert_eq!(meter.spend(3, 1), Allowance::Beyond);
        assert_eq!(meter.spend(4, 1), Allowance::Within, "another is heard");
        meter.set_now(Millis(100));
        assert_eq!(meter.spend(3, 1), Allowance::Within);
        assert_eq!(meter.spend(3, 1), Allowance::Beyond);
        // Neither does the next connection of that slot inherit it.
        meter.open(3);
        assert_eq!(meter.spend(3, 1), Allowance::Within);
        assert_eq!(meter.refused, 2);
    }

    #[test]
    fn octets_count_as_well_and_what_is_refused_costs_nothing() {
        let mut meter = meter(100, 1000);
        assert_eq!(meter.spend(0, 900), Allowance::Within);
        for _ in 0..50 {
            assert_eq!(meter.spend(0, 200), Allowance::Beyond);
        }
        for _ in 0..99 {
            assert_eq!(meter.spend(0, 1), Allowance::Within);
        }
        assert_eq!(meter.spend(0, 1), Allowance::Beyond);
    }

    #[test]
    fn whoever_goes_on_is_given_up_and_whoever_pauses_is_not() {
        let mut meter = meter(10, 0);
        for second in 0..4 {
            meter.set_now(Millis(second * 2_000));
            let allowances: Vec<_> = (0..10 + PATIENCE).map(|_| meter.spend(0, 1)).collect();
            assert!(!allowances.contains(&Allowance::Spent), "it paused");
        }
        // Twice as much as it may, all the time.
        let mut now = 8_000;
        while meter.spend(0, 1) != Allowance::Spent {
            now += 50;
            meter.set_now(Millis(now));
            assert!(now < 60_000, "it is given up");
        }
    }
}
