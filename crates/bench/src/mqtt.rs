//! MQTT 3.1.1 at QoS 0, as far as a load needs it.
//!
//! A packet is a first octet with its type, the length of the rest as a varint, and the rest. Over WebSocket packets come in
//! binary messages, which need not begin where packets do (section 6.0 of the standard).

use crate::protocol::Packet;

/// First octets.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const UNSUBSCRIBE: u8 = 0xa2;
const UNSUBACK: u8 = 0xb0;
const PINGRESP: u8 = 0xd0;

/// Asks for a sign of life, and gives one.
pub(crate) const PING_REQUEST: &[u8] = &[0xc0, 0];
/// Ends a session.
pub(crate) const DISCONNECT: &[u8] = &[0xe0, 0];

/// How long the broker is to wait for a sign of life, in seconds.
const KEEP_ALIVE: u16 = 60;
/// The rest of a SUBACK that says no.
const FAILURE: u8 = 0x80;
/// A clean session, without a will and without credentials.
const CLEAN: u8 = 0x02;

/// Begins a session of `client`, which has to be a name that no other connection has.
pub(crate) fn connect(client: &str, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    string("MQTT", &mut body);
    // 3.1.1 is level 4.
    body.extend_from_slice(&[4, CLEAN]);
    body.extend_from_slice(&KEEP_ALIVE.to_be_bytes());
    string(client, &mut body);
    packet(CONNECT, &body, out);
}

/// Subscribes at QoS 0.
pub(crate) fn subscribe(filter: &str, number: u64, out: &mut Vec<u8>) {
    let mut body = packet_identifier(number).to_be_bytes().to_vec();
    string(filter, &mut body);
    body.push(0);
    packet(SUBSCRIBE, &body, out);
}

/// Takes a subscription back.
pub(crate) fn unsubscribe(filter: &str, number: u64, out: &mut Vec<u8>) {
    let mut body = packet_identifier(number).to_be_bytes().to_vec();
    string(filter, &mut body);
    packet(UNSUBSCRIBE, &body, out);
}

/// A publish of `size` octets: what comes before them.
pub(crate) fn publish(topic: &str, size: usize) -> Vec<u8> {
    let mut head = vec![PUBLISH];
    length(2 + topic.len() + size, &mut head);
    string(topic, &mut head);
    head
}

/// The number of a command as a packet identifier, which has 16 bits and is never zero (section 2.3.1).
pub(crate) fn packet_identifier(number: u64) -> u16 {
    (number % 65_535) as u16 + 1
}

fn packet(first: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    length(body.len(), out);
    out.extend_from_slice(body);
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Topics are checked to be shorter with the plan, and client names are ours.
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn length(mut rest: usize, out: &mut Vec<u8>) {
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The first packet of `bytes` and its length, if it is whole.
///
/// # Errors
/// That is not what an MQTT server says to a client that subscribes at QoS 0.
#[inline]
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, String> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((size, digits)) = read_length(rest)? else {
        return Ok(None);
    };
    let Some(body) = rest[digits..].get(..size) else {
        return Ok(None);
    };
    // Retained and duplicate messages are messages too; QoS 0 leaves the other bits clear.
    let packet = if first & 0xf6 == PUBLISH {
        let payload = body
            .split_first_chunk()
            .and_then(|(length, rest)| rest.get(usize::from(u16::from_be_bytes(*length))..));
        Packet::Delivery(payload.ok_or("the server sent a PUBLISH without a topic")?)
    } else {
        read(first, body)?
    };
    Ok(Some((packet, 1 + digits + size)))
}

/// A length and the octets it takes, if they are all there.
#[inline]
fn read_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err("the server sent a length of more than four octets".to_owned())
    }
}

#[cold]
fn read(first: u8, body: &[u8]) -> Result<Packet<'_>, String> {
    let identifier = || body.first_chunk().map(|chunk| u64::from(u16::from_be_bytes(*chunk)));
    match (first, body) {
        (CONNACK, [_, 0]) => Ok(Packet::Greeted),
        (CONNACK, [_, code]) => Ok(Packet::Refused {
            number: None,
            reason: format!("the broker refused: {}", connect_refusal(*code)),
        }),
        (SUBACK, [_, _, FAILURE]) => Ok(Packet::Refused {
            number: identifier(),
            reason: "the broker refused the subscription".to_owned(),
        }),
        (SUBACK, [_, _, _]) | (UNSUBACK, [_, _]) => Ok(Packet::Confirmed(identifier())),
        (PINGRESP, []) => Ok(Packet::Pong),
        _ => Err(format!(
            "the server sent what cannot be read: a packet that begins with {first:#04x}, of {} octets",
            body.len()
        )),
    }
}

/// What a CONNACK says no with.
fn connect_refusal(code: u8) -> String {
    match code {
        1 => "it does not speak MQTT 3.1.1".to_owned(),
        2 => "it does not take our client identifiers".to_owned(),
        3 => "it is not available".to_owned(),
        4 => "it wants a user name and a password".to_owned(),
        5 => "we are not authorized".to_owned(),
        other => format!("code {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_say_is_as_the_standard_has_it() {
        let mut out = Vec::new();
        connect("me", &mut out);
        assert_eq!(out, b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02me");
        let mut out = Vec::new();
        subscribe("a/b", 0, &mut out);
        assert_eq!(out, b"\x82\x08\0\x01\0\x03a/b\0");
        let mut out = Vec::new();
        unsubscribe("a/b", 65_534, &mut out);
        assert_eq!(out, b"\xa2\x07\xff\xff\0\x03a/b");
        assert_eq!(publish("a/b", 2), b"\x30\x07\0\x03a/b");
        assert_eq!(publish("a", 200)[..3], [0x30, 0xcb, 0x01]);
    }

    #[test]
    fn no_command_has_the_packet_identifier_zero() {
        for (number, identifier) in [(0, 1), (1, 2), (65_534, 65_535), (65_535, 1), (u64::MAX, 1)] {
            assert_eq!(packet_identifier(number), identifier, "{number}");
        }
    }

    #[test]
    fn what_a_server_says_is_read_packet_by_packet_wherever_it_is_cut() {
        let mut said = vec![0x20, 2, 0, 0, 0x90, 3, 0, 7, 0, 0xb0, 2, 0, 8, 0xd0, 0];
        said.extend(publish("a/b", 300));
        said.extend([b'x'; 300]);
        let expected = [
            Packet::Greeted,
            Packet::Confirmed(Some(7)),
            Packet::Confirmed(Some(8)),
            Packet::Pong,
            Packet::Delivery(&[b'x'; 300]),
        ];
        for cut in 0..=said.len() {
            let mut rest = &said[..cut];
            let mut heard = Vec::new();
            while let Some((packet, length)) = next(rest).unwrap() {
                heard.push(packet);
                rest = &rest[length..];
            }
            assert_eq!(heard, expected[..heard.len()], "cut at {cut}");
            assert_eq!(heard.len() == expected.len(), cut == said.len());
        }
    }

    #[test]
    fn refusals_say_why() {
        let reason = |bytes: &'static [u8]| match next(bytes) {
            Ok(Some((Packet::Refused { reason, .. }, _))) => reason,
            other => panic!("{other:?} is no refusal"),
        };
        assert!(reason(&[0x20, 2, 0, 5]).contains("not authorized"));
        assert!(reason(&[0x90, 3, 0, 1, 0x80]).contains("subscription"));
    }

    #[test]
    fn what_no_server_says_is_an_error() {
        assert!(next(&[0x30, 1, 0]).is_err(), "a topic without its length");
        assert!(next(&[0x30, 3, 0, 9, 0]).is_err(), "a topic longer than the packet");
        assert!(next(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(next(&[0x40, 2, 0, 1]).is_err(), "an acknowledgement of QoS 1");
    }
}
