//! Who has how many connections, by address and by identity: shared by all workers.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidecast_websocket::Millis;

use crate::meter::MessageRates;
use crate::rate::Rate;
use crate::tally::{Place, Refused, Tally};

/// Counts connections: in all, by address, by identity. Workers share it.
pub struct Census {
    connections: AtomicU64,
    addresses: Tally<1>,
    /// Made when identities are limited for the first time.
    identities: OnceLock<Tally<2>>,
    room: usize,
    epoch: Instant,
}

impl Census {
    /// Room to count `connections`, each of another address and identity.
    pub fn new(connections: usize) -> Census {
        Census {
            connections: AtomicU64::new(0),
            addresses: Tally::new(connections),
            identities: OnceLock::new(),
            room: connections,
            epoch: Instant::now(),
        }
    }

    /// When time began for all who share it.
    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Counts one more connection, unless there are `most` already.
    pub(crate) fn connect(&self, most: u32) -> bool {
        let let_in = self.connections.fetch_add(1, Ordering::Relaxed) < u64::from(most);
        if !let_in {
            self.disconnect();
        }
        let_in
    }

    /// A connection that was counted is gone.
    pub(crate) fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one more connection from `address`, of which there may be `most`, and new ones at `rate`. Of an IPv6 address the
    /// first `prefix` bits count: that is what one customer has.
    ///
    /// # Errors
    /// It is one too many, or too soon.
    pub(crate) fn enter_address(
        &self,
        address: IpAddr,
        prefix: u8,
        most: u32,
        rate: Option<&Rate>,
        now: Millis,
    ) -> Result<Place, Refused> {
        let key = self.addresses.key(customer(address, prefix));
        self.addresses.enter(key, most, rate, now)
    }

    /// A connection that was counted there is gone.
    pub(crate) fn leave_address(&self, place: Place) {
        self.addresses.leave(place);
    }

    /// Counts a connection that is counted in `place` as one of `identity` instead, of which there may be `most`.
    ///
    /// # Errors
    /// It is one too many; it counts as before.
    pub(crate) fn move_to_identity(
        &self,
        place: Place,
        identity: &str,
        most: u32,
        now: Millis,
    ) -> Result<Place, Refused> {
        let identities = self.identities.get_or_init(|| Tally::new(self.room));
        let key = identities.key(identity);
        if identities.holds(place, key) {
            return Ok(place);
        }
        let other = identities.enter(key, most, None, now)?;
        identities.leave(place);
        Ok(other)
    }

    /// A connection that was counted there is gone.
    pub(crate) fn leave_identity(&self, place: Place) {
        if let Some(identities) = self.identities.get() {
            identities.leave(place);
        }
    }

    /// Whether the identity that is counted in `place` may say something of so many octets.
    pub(crate) fn spend_identity(&self, place: Place, rates: &MessageRates, octets: u64, now: Millis) -> bool {
        let Some(identities) = self.identities.get() else {
            return true;
        };
        let units = [(rates.messages.as_ref(), 1), (rates.bytes.as_ref(), octets)];
        identities.spend(place, units, now).is_ok()
    }
}

/// What an address has in common with all of its customer.
fn customer(address: IpAddr, prefix: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
        address => address,
    }
}

impl std::fmt::Debug for Census {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Census({} connections)", self.connections.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_by_what_one_customer_has() {
        let same = |one: &str, other: &str, prefix| {
            customer(one.parse().unwrap(), prefix) == customer(other.parse().unwrap(), prefix)
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1", 64));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1", 64));
        assert!(same("2001:db8::1", "2001:db8:0:1::1", 56));
        assert!(!same("2001:db8::1", "2001:db8::2", 128));
        assert!(same("2001:db8::1", "fe80::1", 0));
        assert!(!same("192.0.2.1", "192.0.2.2", 0));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1", 64));
    }
}
