//! Writing packets: what the broker says, and the commands of a client.
//!
//! Everything is appended to a buffer of the caller's, so that encoding costs no allocation of its own; several packets
//! one after the other are a message.

use super::{ID, KEY, KINDS, NO_ECHO, RETAIN, SINCE, SLOW, SLOW_SHIFT, Type};
use crate::command::{Command, Kind, Payload, Reference, Since, SlowPolicy};
use crate::error::Code;
use crate::json;
use crate::reply::Details;

/// A part of a packet's body.
#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    String(&'a str),
    Octet(u8),
    Rest(&'a [u8]),
}

impl Field<'_> {
    fn len(self) -> usize {
        match self {
            Field::Varint(number) => varint_len(number),
            Field::String(text) => varint_len(text.len() as u64) + text.len(),
            Field::Octet(_) => 1,
            Field::Rest(bytes) => bytes.len(),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Field::Varint(number) => varint(out, number),
            Field::String(text) => {
                varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Field::Octet(octet) => out.push(octet),
            Field::Rest(bytes) => out.extend_from_slice(bytes),
        }
    }
}

fn varint_len(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn packet(out: &mut Vec<u8>, number: Type, fields: &[Field<'_>]) {
    let length = fields.iter().map(|field| field.len()).sum::<usize>();
    out.reserve(1 + varint_len(length as u64) + length);
    out.push(number as u8);
    varint(out, length as u64);
    fields.iter().for_each(|field| field.write(out));
}

fn kind_number(kind: Kind) -> Field<'static> {
    let number = KINDS.iter().position(|&other| other == kind);
    Field::Octet(number.expect("every kind has a number") as u8)
}

/// A string that a flag announces, or nothing.
fn optional(text: Option<&str>) -> Field<'_> {
    text.map_or(Field::Rest(&[]), Field::String)
}

/// A `ref` as a number; 0 if it is none, as one that came in JSON may be.
fn reference_number(reference: Option<&Reference<'_>>) -> Field<'static> {
    Field::Varint(
        reference
            .and_then(|reference| reference.as_json().parse().ok())
            .unwrap_or(0),
    )
}

/// Appends a delivery.
pub fn message(out: &mut Vec<u8>, topic: &str, kind: Kind, payload: &[u8], offset: Option<u64>) {
    packet(
        out,
        Type::Msg,
        &[
            Field::String(topic),
            Field::Varint(offset.map_or(0, |offset| offset + 1)),
            kind_number(kind),
            Field::Rest(payload),
        ],
    );
}

/// Appends the first packet of a connection. `max_message` is in bytes, `ping_ms` in milliseconds.
pub fn hello(out: &mut Vec<u8>, session: &str, max_message: u64, ping_ms: u64) {
    let mut object = Vec::new();
    json::hello_object(&mut object, session, max_message, ping_ms);
    packet(
        out,
        Type::Hello,
        &[Field::Varint(object.len() as u64), Field::Rest(&object)],
    );
}

/// Appends the reply to a command that carried a `ref` and was carried out.
pub fn ok(out: &mut Vec<u8>, reference: &Reference<'_>, details: Option<&Details<'_>>) {
    let mut object = Vec::new();
    json::details_object(&mut object, details);
    packet(
        out,
        Type::Ok,
        &[
            reference_number(Some(reference)),
            Field::Varint(object.len() as u64),
            Field::Rest(&object),
        ],
    );
}

/// Appends the refusal of a command.
pub fn err(out: &mut Vec<u8>, reference: Option<&Reference<'_>>, code: Code, text: &str) {
    packet(
        out,
        Type::Err,
        &[
            reference_number(reference),
            Field::String(code.as_str()),
            Field::String(text),
        ],
    );
}

/// Appends the answer to PING.
pub fn pong(out: &mut Vec<u8>) {
    packet(out, Type::Pong, &[]);
}

/// Appends the announcement of a close: the close code that will follow, the reason, and how many milliseconds to wait before
/// coming back.
pub fn bye(out: &mut Vec<u8>, code: u16, text: &str, retry_ms: u64) {
    packet(
        out,
        Type::Bye,
        &[Field::Varint(code.into()), Field::String(text), Field::Varint(retry_ms)],
    );
}

/// Appends the notice that `dropped` messages of the subscription `filter` were dropped.
pub fn lag(out: &mut Vec<u8>, filter: &str, dropped: u64) {
    packet(out, Type::Lag, &[Field::String(filter), Field::Varint(dropped)]);
}

/// Appends a command, for a client. A `ref` has to be a number above 0 here.
///
/// A payload of kind `json` must be JSON, one of kind `text` UTF-8.
pub fn command(out: &mut Vec<u8>, command: &Command<'_>) {
    match command {
        Command::Sub {
            filter,
            reference,
            since,
            slow,
        } => {
            let slow = slow.filter(|slow| *slow != SlowPolicy::Close);
            let slow = SLOW.iter().position(|&other| other == slow).unwrap_or(0);
            let since = since.as_ref().map(|since| match since {
                Since::All => "all".to_owned(),
                Since::Last(count) => format!("{{\"last\":{count}}}"),
                Since::After { epoch, offset } => format!("{epoch}:{offset}"),
            });
            let flags = (slow as u64) << SLOW_SHIFT | if since.is_some() { SINCE } else { 0 };
            let fields = [
                reference_number(reference.as_ref()),
                Field::Varint(flags),
                Field::String(filter),
                optional(since.as_deref()),
            ];
            packet(out, Type::Sub, &fields);
        }
        Command::Unsub { filter, reference } => {
            packet(
                out,
                Type::Unsub,
                &[reference_number(reference.as_ref()), Field::String(filter)],
            );
        }
        Command::Pub {
            topic,
            payload: Payload { kind, bytes },
            reference,
            retain,
            echo,
            key,
            id,
        } => {
            let flag = |bit, set| if set { bit } else { 0 };
            let flags =
                flag(RETAIN, *retain) | flag(NO_ECHO, !echo) | flag(KEY, key.is_some()) | flag(ID, id.is_some());
            let fields = [
                reference_number(reference.as_ref()),
                Field::Varint(flags),
                Field::String(topic),
                optional(key.as_deref()),
                optional(id.as_deref()),
                kind_number(*kind),
                Field::Rest(bytes),
            ];
            packet(out, Type::Pub, &fields);
        }
        Command::Auth { token, reference } => {
            packet(
                out,
                Type::Auth,
                &[reference_number(reference.as_ref()), Field::String(token)],
            );
        }
        Command::Ping => packet(out, Type::Ping, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn every_packet_looks_as_the_protocol_says() {
        let reference = Reference::number(300);
        assert_eq!(
            written(|out| message(out, "a/b", Kind::Binary, b"\xff", Some(7))),
            b"\x01\x07\x03a/b\x08\x02\xff"
        );
        assert_eq!(
            written(|out| message(out, "t", Kind::Json, b"1", None)),
            b"\x01\x05\x01t\x00\x001"
        );
        assert_eq!(written(|out| ok(out, &reference, None)), b"\x05\x05\xac\x02\x02{}");
        assert_eq!(
            written(|out| err(out, None, Code::NotFound, "no")),
            b"\x06\x0e\x00\x09not_found\x02no"
        );
        assert_eq!(written(|out| lag(out, "a/#", 128)), b"\x07\x06\x03a/#\x80\x01");
        assert_eq!(
            written(|out| hello(out, "s", 1, 2)),
            b"\x08\x2c\x2b{\"session\":\"s\",\"max_message\":1,\"ping_ms\":2}"
        );
        assert_eq!(written(|out| bye(out, 4001, "go", 5)), b"\x09\x06\xa1\x1f\x02go\x05");
        assert_eq!(written(pong), b"\x0b\x00");
    }

    #[test]
    fn lengths_are_known_before_they_are_written() {
        for number in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX >> 1,
            u64::MAX,
        ] {
            assert_eq!(written(|out| varint(out, number)).len(), varint_len(number), "{number}");
        }
    }
}
