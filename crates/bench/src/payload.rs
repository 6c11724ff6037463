//! What a message of the load carries: who sent it, its number, and when it was meant to go out.
//!
//! ```text
//!   offset  0        4            8           16           24
//!          ┌────────┬────────────┬───────────┬────────────┬────────┐
//!   raw    │ run    │ publisher  │ sequence  │ intended   │ filler │   little-endian, in a binary message
//!          └────────┴────────────┴───────────┴────────────┴────────┘
//!   json   the same 24 bytes in hexadecimal (48 digits), then filler, all of it one JSON string
//!   bin, nats, mqtt   as raw, with what the protocol puts around it
//! ```
//!
//! The run is a random number: what another generator publishes to the same topic is told apart by it.

use tidecast_wire::{Command, Kind, Payload};

use crate::protocol::Protocol;
use crate::{mqtt, nats};

/// The head of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    pub(crate) publisher: u32,
    pub(crate) sequence: u64,
    /// When the message should have been sent, in nanoseconds since the start of the generator's clock.
    pub(crate) intended: u64,
}

impl Stamp {
    pub(crate) const BYTES: usize = 24;

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.run.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.publisher.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..].copy_from_slice(&self.intended.to_le_bytes());
        bytes
    }

    #[inline]
    fn decode(bytes: &[u8; Self::BYTES]) -> Stamp {
        let u32_at = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("inside 24 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("inside 24 bytes"));
        Stamp {
            run: u32_at(0),
            publisher: u32_at(4),
            sequence: u64_at(8),
            intended: u64_at(16),
        }
    }
}

impl Protocol {
    /// The smallest payload that has room for what the generator measures with, in bytes.
    pub fn smallest_payload(self) -> usize {
        match self {
            Protocol::Raw | Protocol::Path | Protocol::Bin | Protocol::Nats | Protocol::Mqtt => Stamp::BYTES,
            // Two digits a byte, and the quotes.
            Protocol::Json => 2 * Stamp::BYTES + 2,
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
                message.extend(filler_of(2 * Stamp::BYTES + filler));
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
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let (pairs, _) = self.message[self.at..][..2 * Stamp::BYTES].as_chunks_mut::<2>();
                for (pair, byte) in pairs.iter_mut().zip(bytes) {
                    *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
                }
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
                let digits: &[u8; 2 * Stamp::BYTES] = message.strip_prefix(&self.prefix[..])?.first_chunk()?;
                Some(Stamp::decode(&from_hexadecimal(digits)))
            }
        }
    }
}

/// The bytes that lower-case hexadecimal digits stand for, eight digits at a time.
///
/// What is no such digit gives some other number, which no message of the run has: the checker calls it corrupt, or it
/// is of another run.
#[inline]
fn from_hexadecimal(digits: &[u8; 2 * Stamp::BYTES]) -> [u8; Stamp::BYTES] {
    const ONES: u64 = u64::MAX / 0xff;
    let mut bytes = [0; Stamp::BYTES];
    let (groups, _) = bytes.as_chunks_mut::<4>();
    for (group, eight) in groups.iter_mut().zip(digits.as_chunks::<8>().0) {
        let eight = u64::from_be_bytes(*eight);
        // Bit 6 tells a letter, whose low bits count from 1, from a number.
        let nibbles = (eight & (0x0f * ONES)) + 9 * (eight >> 6 & ONES);
        // The upper and the lower half of a byte stand in two: they are brought together, then the bytes, then pairs.
        let bytes = (nibbles >> 4 | nibbles) & 0x00ff_00ff_00ff_00ff;
        let pairs = (bytes >> 8 | bytes) & 0x0000_ffff_0000_ffff;
        *group = ((pairs >> 16 | pairs) as u32).to_be_bytes();
    }
    bytes
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
        run: 0xdead_beef,
        publisher: 7,
        sequence: u64::MAX - 1,
        intended: 0x0123_4567_89ab_cdef,
    };

    #[test]
    fn a_raw_message_has_the_size_asked_for_and_gives_its_stamp_back() {
        for size in [Stamp::BYTES, 25, 128, 70_000] {
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
        let mut template = Template::new(Protocol::Raw, "bench", 24);
        assert_eq!(
            template.stamped(&STAMP),
            b"\xef\xbe\xad\xde\x07\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff\xef\xcd\xab\x89\x67\x45\x23\x01"
        );
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
    fn every_pair_of_digits_is_read_as_its_byte() {
        let mut digits = [b'0'; 2 * Stamp::BYTES];
        for byte in 0..=255u8 {
            for at in 0..Stamp::BYTES {
                let pair = format!("{byte:02x}");
                digits[2 * at..][..2].copy_from_slice(pair.as_bytes());
                assert_eq!(from_hexadecimal(&digits)[at], byte, "{pair} at {at}");
            }
        }
    }

    #[test]
    fn what_is_not_a_delivery_of_the_load_has_no_stamp() {
        assert_eq!(Locator::new(Protocol::Raw, "bench").stamp(&[0; 23]), None);
        let json = Locator::new(Protocol::Json, "bench");
        let digits = "0".repeat(2 * Stamp::BYTES);
        assert!(
            json.stamp(format!("[\"msg\",\"bench\",\"{digits}\"]").as_bytes())
                .is_some()
        );
        for other in [
            String::new(),
            "[\"pong\"]".to_owned(),
            format!("[\"msg\",\"other\",\"{digits}\"]"),
            "[\"msg\",\"bench\",\"00\"]".to_owned(),
        ] {
            assert_eq!(json.stamp(other.as_bytes()), None, "{other}");
        }
    }
}
