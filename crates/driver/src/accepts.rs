//! Where the kernel writes the addresses of the peers whose connections it accepts.
//!
//! A multishot accept has one such place for all its connections, and each overwrites the address of the one before. So
//! accepts are single, as many in flight as the caller likes, and every one has a place of its own:
//!
//! ```text
//!              accept queued              a connection               its address is taken
//!   vacant ────────────────────▶ in flight ────────────▶ landed ────────────────────────▶ vacant
//!      ▲                              │ failed, or cancelled
//!      └──────────────────────────────┘
//! ```
//!
//! A place in flight belongs to the kernel. If the ring ends before the kernel has said that it is done with it, it is never freed.
//! With epoll the driver does what the kernel would.

use std::net::SocketAddr;
use std::ptr::NonNull;

use socket2::{SockAddr, SockAddrStorage};

use crate::token::Token;

/// An address, and before it is written the room for it.
struct Place {
    address: SockAddrStorage,
    len: libc::socklen_t,
}

/// What became of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Vacant,
    /// The kernel writes to it, for a connection of this listener.
    InFlight(u32),
    Landed,
}

/// The places of one ring, by number.
///
/// Invariant: nobody but the kernel touches a place in flight, and no vacant or landed one is known to the kernel.
#[derive(Default)]
pub(crate) struct Accepts {
    places: Vec<(NonNull<Place>, State)>,
    /// Numbers of the vacant ones.
    vacant: Vec<u32>,
}

impl Accepts {
    /// Hands out a place for a connection of `listener`: its number, and where the kernel writes address and length.
    pub(crate) fn begin(&mut self, listener: u32) -> (u32, *mut libc::sockaddr, *mut libc::socklen_t) {
        let address = SockAddrStorage::zeroed();
        let len = address.size_of();
        let fresh = Place { address, len };
        let number = match self.vacant.pop() {
            Some(number) => {
                let (place, state) = &mut self.places[number as usize];
                *state = State::InFlight(listener);
                // SAFETY: it was made by `Box::new` below, is not freed before `self` is dropped, and was vacant.
                unsafe { place.write(fresh) };
                number
            }
            None => {
                let number = self.places.len() as u32;
                assert!(
                    number < Token::GENERATIONS,
                    "a token has room for the number of a place"
                );
                let place = NonNull::from(Box::leak(Box::new(fresh)));
                self.places.push((place, State::InFlight(listener)));
                number
            }
        };
        let place = self.places[number as usize].0.as_ptr();
        // SAFETY: the pointer is to a place, and no reference to it exists; only the addresses of its fields are taken.
        let (address, len) = unsafe { (&raw mut (*place).address, &raw mut (*place).len) };
        (number, address.cast(), len)
    }

    /// The kernel is done with place `number`; it wrote an address there if it `accepted` a connection.
    pub(crate) fn end(&mut self, number: u32, accepted: bool) {
        let state = &mut self.places[number as usize].1;
        debug_assert!(matches!(state, State::InFlight(_)), "the kernel reports an accept once");
        if accepted {
            *state = State::Landed;
        } else {
            *state = State::Vacant;
            self.vacant.push(number);
        }
    }

    /// A connection of `peer` was accepted for place `number`: does what the kernel does where it is the one that accepts.
    pub(crate) fn land(&mut self, number: u32, peer: &SockAddr) {
        let place = self.places[number as usize].0.as_ptr();
        // SAFETY: the place is live, in flight and not known to any kernel; an address is no longer than a storage for any, and
        // lies elsewhere.
        unsafe {
            std::ptr::copy_nonoverlapping(
                peer.as_ptr().cast::<u8>(),
                (&raw mut (*place).address).cast::<u8>(),
                peer.len() as usize,
            );
            (*place).len = peer.len();
        }
        self.end(number, true);
    }

    /// The address in place `number`, which is vacant from now on. None if nothing has landed there, or no address of TCP.
    pub(crate) fn take(&mut self, number: u32) -> Option<SocketAddr> {
        let (place, state) = self.places.get_mut(number as usize)?;
        if *state != State::Landed {
            return None;
        }
        *state = State::Vacant;
        self.vacant.push(number);
        // SAFETY: the place is live and no longer the kernel's; a zeroed storage that an address may have been written to is a
        // valid one. `begin` overwrites it before it is read again.
        let Place { address, len } = unsafe { place.read() };
        // SAFETY: the kernel wrote the address of an accepted socket's peer and its length, or left all zero.
        unsafe { SockAddr::new(address, len) }.as_socket()
    }

    /// The places in flight for `listener`.
    pub(crate) fn in_flight(&self, listener: u32) -> impl Iterator<Item = u32> {
        let places = self.places.iter().enumerate();
        places
            .filter(move |(_, (_, state))| *state == State::InFlight(listener))
            .map(|(number, _)| number as u32)
    }
}

impl Drop for Accepts {
    fn drop(&mut self) {
        for (place, state) in &self.places {
            if !matches!(state, State::InFlight(_)) {
                // SAFETY: it was made by `Box::new` and leaked in `begin`, is freed only here, and is not the kernel's.
                drop(unsafe { Box::from_raw(place.as_ptr()) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_handed_out_again_only_after_its_address_was_taken() {
        let mut accepts = Accepts::default();
        let (first, ..) = accepts.begin(7);
        let (second, ..) = accepts.begin(8);
        assert_ne!(first, second);
        assert_eq!(accepts.take(first), None, "it is the kernel's");
        let peer: SocketAddr = "[2001:db8::1]:5000".parse().unwrap();
        accepts.land(first, &SockAddr::from(peer));
        let (third, ..) = accepts.begin(7);
        assert!(third != first && third != second, "an address waits there");
        assert_eq!(accepts.take(first), Some(peer));
        assert_eq!(accepts.take(first), None, "it is taken once");
        assert_eq!(accepts.begin(7).0, first);
        assert_eq!(accepts.in_flight(8).collect::<Vec<_>>(), [second]);
        for number in [first, second, third] {
            accepts.end(number, false);
        }
        assert_eq!(accepts.in_flight(7).count(), 0);
        assert_eq!(accepts.take(99), None);
    }
}
