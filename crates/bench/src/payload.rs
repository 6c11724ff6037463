//! What a message of the load carries: who sent it, its number, and when it was meant to go out.
//!
//! ```text
//!   offset  0          6           9          13     16
//!          ┌──────────┬───────────┬──────────┬──────┬────────┐
//!   raw    │ intended │ publisher │ sequence │ run  │ filler │   little-endian, in a binary message
//!          └──────────┴───────────┴──────────┴──────┴────────┘
//!   json   the same 16 bytes in base64url (22 digits), then filler, all of it one JSON string
//!   bin, nats, mqtt   as raw, with what the protocol puts around it
//! ```
//!
//! The run is a random number: what another generator publishes to the same topic is told apart by it. A sequence number is
//! told by its last 32 bits: whoever receives it knows which one to expect, and so which of those with these bits it is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidecast_wire::{Command, Kind, Payload};

use crate::protocol::Protocol;
use crate::{mqtt, nats};

/// The head of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Below [`Stamp::RUNS`].
    pub(crate) run: u32,
    /// Below [`Stamp::PUBLISHERS`].
    pub(crate) publisher: u32,
    /// The last 32 bits of it.
    pub(crate) sequence: u32,
    /// When the message should have been sent, in nanoseconds since the start of the generator's clock; a multiple of
    /// [`Stamp::UNIT`].
    pub(crate) intended: u64,
}

impl Stamp {
    pub(crate) const BYTES: usize = 16;
    /// Digits of one in base64.
    const DIGITS: usize = 22;
    /// How many runs are told apart.
    pub(crate) const RUNS: u32 = 1 << 24;
    /// How many publishers are told apart.
    pub(crate) const PUBLISHERS: u32 = 1 << 24;
    /// What times are told in, in nanoseconds: 48 bits of it are 208 days. Whole milliseconds, which most spans begin and end
    /// with, are multiples of it.
    pub(crate) const UNIT: u64 = 64;

    /// The last time up to `time`, in nanoseconds, that can be told.
    pub(crate) fn time(time: u64) -> u64 {
        time - time % Stamp::UNIT
    }

    fn encode(&self) -> [u8; Self::BYTES] {
        let intended = u128::from(self.intended / Self::UNIT) & 0xffff_ffff_ffff;
        let value =
            intended | u128::from(self.publisher) << 48 | u128::from(self.sequence) << 72 | u128::from(self.run) << 104;
        value.to_le_bytes()
    }

    #[inline]
    fn decode(bytes: &[u8; Self::BYTES]) -> Stamp {
        let value = u128::from_le_bytes(*bytes);
        Stamp {
            run: (value >> 104) as u32,
            publisher: (value >> 48) as u32 % Self::PUBLISHERS,
            sequence: (value >> 72) as u32,
            intended: (value as u64 & 0xffff_ffff_ffff) * Self::UNIT,
        }
    }
}

/// The number nearest to `expected` whose last 32 bits are `last`; none if that is below zero.
pub(crate) fn nearest(expected: u64, last: u32) -> Option<u64> {
    let ahead = last.wrapping_sub(expected as u32).cast_signed();
    expected.checked_add_signed(ahead.into())
}

impl Protocol {
    /// The smallest payload that has room for what the generator measures with, in bytes.
    pub fn smallest_payload(self) -> usize {
        match self {
            Protocol::Raw | Protocol::Path | Protocol::Bin | Protocol::Nats | Protocol::Mqtt => Stamp::BYTES,
            // And the quotes.
            Protocol::Json => Stamp::DIGITS + 2,
        }
    }
}

/// Bytes that deflate to about half, as small JSON messages do: letters with four bits of chance in each.
fn filler_of(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letter = || {
        // A linear congruential generator: the same filler in every run, so that runs compare.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'a' + (state >> 60) as u8
    };
    std::iter::repeat_with(letter).take(size).collect()
}

/// A message to be published again and again, each time with another [`Stamp`].
#[derive(Debug)]
pub(crate) struct Template {
    message: Vec<u8>,
    /// Where the stamp goes.
    at: usize,
    protocol: Protocol,
}

impl Template {
    /// A message whose payload has `size` bytes, which the plan has checked to be enough.
    pub(crate) fn new(protocol: Protocol, topic: &str, size: usize) -> Template {
        let filler = size - protocol.smallest_payload();
        let (message, at) = match protocol {
            Protocol::Raw | Protocol::Path => (filler_of(size), 0),
            Protocol::Bin => {
                let payload = Payload {
                    kind: Kind::Binary,
                    bytes: filler_of(size).into(),
                };
                let mut message = Vec::new();
                protocol.command(&publish(topic, payload), &mut message);
                // The payload is the end of the packet.
                let at = message.len() - size;
                (message, at)
            }
            Protocol::Nats => {
                let mut message = nats::publish(topic, size);
                let at = message.len();
                message.extend(filler_of(size));
                message.extend_from_slice(nats::END);
                (message, at)
            }
            Protocol::Mqtt => {
                let mut message = mqtt::publish(topic, size);
                let at = message.len();
                message.extend(filler_of(size));
                (message, at)
            }
            Protocol::Json => {
                let mut message = format!("[\"pub\",{},\"", json_string(topic)).into_bytes();
                let at = message.len();
                message.extend(filler_of(Stamp::DIGITS + filler));
                message.extend_from_slice(b"\"]");
                (message, at)
            }
        };
        Template { message, at, protocol }
    }

    /// The message with `stamp`.
    pub(crate) fn stamped(&mut self, stamp: &Stamp) -> &[u8] {
        let bytes = stamp.encode();
        match self.protocol {
            Protocol::Raw | Protocol::Path | Protocol::Bin | Protocol::Nats | Protocol::Mqtt => {
                self.message[self.at..][..Stamp::BYTES].copy_from_slice(&bytes);
            }
            Protocol::Json => {
                URL_SAFE_NO_PAD
                    .encode_slice(bytes, &mut self.message[self.at..][..Stamp::DIGITS])
                    .expect("that is how many digits it has");
            }
        }
        &self.message
    }
}

/// The command that publishes to our broker, without a confirmation.
fn publish<'a>(topic: &'a str, payload: Payload<'a>) -> Command<'a> {
    Command::Pub {
        topic: topic.into(),
        payload,
        reference: None,
        retain: false,
        echo: true,
        key: None,
        id: None,
    }
}

/// Finds the stamp in a delivery of one topic: in the payload, or in JSON in the whole message.
#[derive(Debug)]
pub(crate) struct Locator {
    /// What every delivery of the topic begins with; the stamp follows.
    prefix: Vec<u8>,
    protocol: Protocol,
}

impl Locator {
    pub(crate) fn new(protocol: Protocol, topic: &str) -> Locator {
        let prefix = match protocol {
            Protocol::Raw | Protocol::Path | Protocol::Bin | Protocol::Nats | Protocol::Mqtt => Vec::new(),
            Protocol::Json => format!("[\"msg\",{},\"", json_string(topic)).into_bytes(),
        };
        Locator { prefix, protocol }
    }

    /// The stamp; `None` if `message` is not a delivery of the load.
    #[inline]
    pub(crate) fn stamp(&self, message: &[u8]) -> Option<Stamp> {
        match self.protocol {
            Protocol::Raw | Protocol::Path | Protocol::Bin | Protocol::Nats | Protocol::Mqtt => {
                message.first_chunk().map(Stamp::decode)
            }
            Protocol::Json => {
                let digits: &[u8; Stamp::DIGITS] = message.strip_prefix(&self.prefix[..])?.first_chunk()?;
                // The decoder asks for the room that digits in whole groups of four would take.
                let mut bytes = [0; Stamp::BYTES + 2];
                URL_SAFE_NO_PAD.decode_slice(digits, &mut bytes).ok()?;
                bytes.first_chunk().map(Stamp::decode)
            }
        }
    }
}

/// `text` as a JSON string, quotes included, written as the broker writes it.
fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

#[cfg(test)]
mod tests {
    use tidecast_wire::json;

    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0xde_adbe,
        publisher: 7,
        sequence: u32::MAX - 1,
        intended: 0x0023_4567_89ab_cdc0,
    };

    #[test]
    fn a_raw_message_has_the_size_asked_for_and_gives_its_stamp_back() {
        for size in [Stamp::BYTES, 17, 128, 70_000] {
            let mut template = Template::new(Protocol::Raw, "bench", size);
            let message = template.stamped(&STAMP).to_vec();
            assert_eq!(message.len(), size);
            assert_eq!(Locator::new(Protocol::Raw, "bench").stamp(&message), Some(STAMP));
            let next = Stamp { sequence: 0, ..STAMP };
            assert_eq!(
                Locator::new(Protocol::Raw, "bench").stamp(template.stamped(&next)),
                Some(next)
            );
        }
    }

    #[test]
    fn the_fixed_offsets_are_as_documented() {
        let mut template = Template::new(Protocol::Raw, "bench", 16);
        let stamp = Stamp {
            intended: 0x89ab_cdef * Stamp::UNIT,
            ..STAMP
        };
        assert_eq!(
            template.stamped(&stamp),
            b"\xef\xcd\xab\x89\0\0\x07\0\0\xfe\xff\xff\xff\xbe\xad\xde"
        );
    }

    #[test]
    fn times_are_told_to_the_unit_and_for_longer_than_any_run() {
        assert_eq!((Stamp::time(127), Stamp::time(128)), (64, 128));
        let days = 200 * 86_400 * 1_000_000_000;
        assert_eq!(Stamp::time(days), days);
        let stamp = Stamp {
            intended: days,
            ..STAMP
        };
        assert_eq!(Stamp::decode(&stamp.encode()), stamp);
    }

    #[test]
    fn a_number_is_known_by_its_last_bits_and_the_one_that_is_expected() {
        const ROUND: u64 = 1 << 32;
        for (expected, number) in [
            (0, 0),
            (0, 5),
            (5, 3),
            (ROUND - 1, ROUND + 4),
            (ROUND + 4, ROUND - 1),
            (7 * ROUND, 7 * ROUND - 65_536),
            (7 * ROUND, 7 * ROUND + 65_536),
        ] {
            assert_eq!(
                nearest(expected, number as u32),
                Some(number),
                "{number} where {expected} is expected"
            );
        }
        assert_eq!(nearest(2, u32::MAX), None, "there is no number below zero");
    }

    #[test]
    fn a_json_publish_is_a_command_whose_payload_comes_back_in_a_delivery() {
        for topic in ["bench", "löad/\"x\""] {
            for size in [Protocol::Json.smallest_payload(), 128] {
                let mut template = Template::new(Protocol::Json, topic, size);
                let text = String::from_utf8(template.stamped(&STAMP).to_vec()).unwrap();
                let Command::Pub {
                    topic: published_to,
                    payload,
                    ..
                } = json::parse(&text).unwrap()
                else {
                    panic!("{text} is a publish");
                };
                assert_eq!(published_to, topic);
                assert_eq!((payload.kind, payload.bytes.len()), (Kind::Json, size));
                let mut delivery = Vec::new();
                json::message(&mut delivery, topic, payload.kind, &payload.bytes, None);
                assert_eq!(Locator::new(Protocol::Json, topic).stamp(&delivery), Some(STAMP));
            }
        }
    }

    #[test]
    fn a_publish_in_packets_has_the_size_it_says() {
        let mut nats = Template::new(Protocol::Nats, "bench/1", 128);
        let message = nats.stamped(&STAMP).to_vec();
        let payload = message.strip_prefix(b"PUB bench/1 128\r\n").unwrap();
        assert_eq!(payload.len(), 130);
        assert_eq!(Locator::new(Protocol::Nats, "bench/1").stamp(payload), Some(STAMP));
        let mut bin = Template::new(Protocol::Bin, "bench/1", 128);
        let message = bin.stamped(&STAMP).to_vec();
        let packet = tidecast_wire::binary::Packets::new(&message).next().unwrap().unwrap();
        let Ok(Command::Pub { payload, .. }) = tidecast_wire::binary::parse(&packet) else {
            panic!("{packet:?} is a publish");
        };
        assert_eq!((payload.bytes.len(), payload.kind), (128, Kind::Binary));
        assert_eq!(
            Locator::new(Protocol::Bin, "bench/1").stamp(&payload.bytes),
            Some(STAMP)
        );
        let mut mqtt = Template::new(Protocol::Mqtt, "bench/1", 128);
        let message = mqtt.stamped(&STAMP).to_vec();
        // What is said at QoS 0 is what is delivered.
        let (packet, length) = mqtt::next(&message).unwrap().unwrap();
        let crate::protocol::Packet::Delivery(payload) = packet else {
            panic!("{packet:?} is a publish");
        };
        assert_eq!((payload.len(), length), (128, message.len()));
        assert_eq!(Locator::new(Protocol::Mqtt, "bench/1").stamp(payload), Some(STAMP));
    }

    #[test]
    fn what_is_not_a_delivery_of_the_load_has_no_stamp() {
        assert_eq!(Locator::new(Protocol::Raw, "bench").stamp(&[0; 15]), None);
        let json = Locator::new(Protocol::Json, "bench");
        let digits = "A".repeat(Stamp::DIGITS);
        assert!(
            json.stamp(format!("[\"msg\",\"bench\",\"{digits}\"]").as_bytes())
                .is_some()
        );
        for other in [
            String::new(),
            "[\"pong\"]".to_owned(),
            format!("[\"msg\",\"other\",\"{digits}\"]"),
            "[\"msg\",\"bench\",\"AA\"]".to_owned(),
            "[\"msg\",\"bench\",\"what somebody else says\"]".to_owned(),
        ] {
            assert_eq!(json.stamp(other.as_bytes()), None, "{other}");
        }
    }
}
