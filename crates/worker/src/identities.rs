//! The identities of a worker's connections, as they are counted over all workers.

use std::sync::Arc;

use tidecast_websocket::Millis;

use crate::census::Census;
use crate::meter::MessageRates;
use crate::tally::Place;

/// What one identity may do, over all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityLimits {
    /// The most connections at a time.
    pub connections: u32,
    /// How much they may say together.
    pub rates: MessageRates,
}

impl IdentityLimits {
    /// Anything.
    pub const NONE: IdentityLimits = IdentityLimits {
        connections: u32::MAX,
        rates: MessageRates {
            messages: None,
            bytes: None,
        },
    };
}

/// Who is behind each connection of a worker, as far as that is limited.
#[derive(Debug)]
pub(crate) struct Identities {
    census: Arc<Census>,
    limits: IdentityLimits,
    /// By slot; as far as there was ever one that is counted.
    places: Vec<Place>,
}

impl Identities {
    pub(crate) fn new(census: Arc<Census>) -> Identities {
        Identities {
            census,
            limits: IdentityLimits::NONE,
            places: Vec::new(),
        }
    }

    /// Changes the limits. Connections that were opened without any are not counted.
    pub(crate) fn set_limits(&mut self, limits: IdentityLimits) {
        self.limits = limits;
    }

    /// The connection in `slot` is of `identity` from now on. Gives false, and leaves it as it is, if that one has as many as it may
    /// have.
    pub(crate) fn set(&mut self, slot: u32, identity: Option<&str>, now: Millis) -> bool {
        let Some(identity) = identity.filter(|_| self.limits != IdentityLimits::NONE) else {
            self.close(slot);
            return true;
        };
        let slot = slot as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, Place::NONE);
        }
        let place = &mut self.places[slot];
        let moved = self
            .census
            .move_to_identity(*place, identity, self.limits.connections, now);
        moved.map(|moved| *place = moved).is_ok()
    }

    /// The connection in `slot` is gone, or of nobody.
    pub(crate) fn close(&mut self, slot: u32) {
        if let Some(place) = self.places.get_mut(slot as usize) {
            self.census.leave_identity(std::mem::replace(place, Place::NONE));
        }
    }

    /// Whether who is behind the connection in `slot` may say something of so many octets.
    pub(crate) fn spend(&self, slot: u32, octets: usize, now: Millis) -> bool {
        match self.places.get(slot as usize) {
            None | Some(&Place::NONE) => true,
            Some(&place) => self
                .census
                .spend_identity(place, &self.limits.rates, octets as u64, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::rate::Rate;

    const NOW: Millis = Millis(0);

    #[test]
    fn an_identity_is_limited_over_all_workers_and_may_ask_again() {
        let census = Arc::new(Census::new(16));
        let mut workers = [(); 2].map(|()| Identities::new(Arc::clone(&census)));
        let rate = Rate::new(NonZeroU32::new(3).unwrap(), 3);
        for worker in &mut workers {
            worker.set_limits(IdentityLimits {
                connections: 2,
                rates: MessageRates {
                    messages: Some(rate),
                    bytes: None,
                },
            });
            assert!(worker.set(5, Some("alice"), NOW));
        }
        let [one, other] = &mut workers;
        assert!(!one.set(6, Some("alice"), NOW));
        assert!(one.set(5, Some("alice"), NOW), "a new token of the same");
        assert!(one.set(6, Some("bob"), NOW) && one.set(7, None, NOW));
        // They speak with one voice, and nobody in particular has none.
        assert!(one.spend(5, 1, NOW) && other.spend(5, 1, NOW) && one.spend(5, 1, NOW));
        assert!(!one.spend(5, 1, NOW) && !other.spend(5, 1, NOW));
        assert!(one.spend(6, 1, NOW) && one.spend(7, 1, NOW) && one.spend(99, 1, NOW));
        // Whoever becomes somebody else, or goes, makes room.
        assert!(other.set(5, Some("carol"), NOW));
        assert!(one.set(7, Some("alice"), NOW));
        assert!(!one.set(8, Some("alice"), NOW));
        one.close(5);
        assert!(one.set(8, Some("alice"), NOW));
    }

    #[test]
    fn without_limits_nobody_is_counted() {
        let mut identities = Identities::new(Arc::new(Census::new(16)));
        assert!((0..100).all(|slot| identities.set(slot, Some("alice"), NOW)));
        assert!(identities.places.is_empty());
    }
}
