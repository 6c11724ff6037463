//! Taking packets apart.

use std::borrow::Cow;

use crate::error::{Code, Error};

/// One packet of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub(super) number: u8,
    pub(super) body: &'a [u8],
}

impl Packet<'_> {
    /// Octets of its body.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.body.len()
    }
}

/// The packets of one message, one after the other.
///
/// A message breaks off where a packet is longer than what is left of it: that is the last item, an error, and the
/// packets before it are good.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    /// The packets of `message`.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Packets { rest: message }
    }

    /// The packets that are left, as they came.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Error<'static>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&number, rest) = self.rest.split_first()?;
        let mut body = Body(rest);
        let packet = body
            .varint("the length of a packet")
            .and_then(|length| body.take(length, "a packet"))
            .map(|body| Packet { number, body });
        self.rest = if packet.is_ok() { body.0 } else { &[] };
        Some(packet)
    }
}

/// What is left of a packet's body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    /// # Errors
    /// It is cut short, or has more than 64 bits.
    #[inline]
    pub(super) fn varint(&mut self, what: &str) -> Result<u64, Error<'static>> {
        let mut number = 0;
        for (place, &octet) in self.0.iter().enumerate() {
            let bits = u64::from(octet & 0x7f);
            if place > 9 || place == 9 && bits > 1 {
                return Err(bad(format!("{what} is a number of more than 64 bits")));
            }
            number |= bits << (7 * place);
            if octet & 0x80 == 0 {
                self.0 = &self.0[place + 1..];
                return Ok(number);
            }
        }
        Err(bad(format!("{what} is cut short")))
    }

    /// # Errors
    /// There is none left.
    pub(super) fn octet(&mut self, what: &str) -> Result<u8, Error<'static>> {
        let (&octet, rest) = self.0.split_first().ok_or_else(|| bad(format!("{what} is missing")))?;
        self.0 = rest;
        Ok(octet)
    }

    /// # Errors
    /// It is cut short, or not UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str, Error<'static>> {
        let length = self.varint(what)?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|error| bad(format!("{what} is not UTF-8 at byte {}", error.valid_up_to())))
    }

    fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8], Error<'static>> {
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length));
        let (taken, rest) = taken.ok_or_else(|| {
            let left = self.0.len();
            bad(format!("{what} says it has {length} bytes, but {left} are left"))
        })?;
        self.0 = rest;
        Ok(taken)
    }

    /// # Errors
    /// Something is left.
    pub(super) fn end(self, what: &str) -> Result<(), Error<'static>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(bad(format!("{} bytes too many in {what}", self.0.len())))
        }
    }
}

pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Error<'static> {
    Error {
        code: Code::BadMessage,
        reference: None,
        text: text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_up_to_ten_octets_and_sixty_four_bits() {
        let table: [(&[u8], Option<u64>); 8] = [
            (b"\x00", Some(0)),
            (b"\x7f", Some(127)),
            (b"\x80\x01", Some(128)),
            (b"\x80\x00", Some(0)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Some(u64::MAX)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", None),
            (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", None),
            (b"\xff", None),
        ];
        for (octets, expected) in table {
            assert_eq!(Body(octets).varint("it").ok(), expected, "{octets:x?}");
        }
    }

    #[test]
    fn the_packets_before_a_broken_one_are_good() {
        let packets: Vec<_> = Packets::new(b"\x0a\x00\x04\x02ab\x0a\x05x").collect();
        let [Ok(ping), Ok(unsub), Err(error)] = &packets[..] else {
            panic!("{packets:?}");
        };
        assert_eq!((ping.number, ping.body), (0x0a, &b""[..]));
        assert_eq!((unsub.number, unsub.body), (0x04, &b"ab"[..]));
        assert_eq!(error.text, "a packet says it has 5 bytes, but 1 are left");
        assert_eq!(Packets::new(b"").count(), 0);
        assert!(Packets::new(b"\x0a").next().is_some_and(|packet| packet.is_err()));
    }
}
