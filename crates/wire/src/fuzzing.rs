//! What the fuzz targets and the property tests run; no interface for anyone else.

use crate::command::Kind;
use crate::error::Code;
use crate::reply::Reply;
use crate::{binary, json};

/// Any bytes as a command: never a panic, and what was read is written and read again as the same.
pub fn command(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut out = Vec::new();
    match json::parse(text) {
        Ok(command) => {
            json::command(&mut out, &command);
            let again = std::str::from_utf8(&out).expect("JSON is UTF-8");
            assert_eq!(json::parse(again), Ok(command), "{text}");
        }
        Err(error) => {
            json::err(&mut out, error.reference.as_ref(), error.code, &error.text);
            let again = std::str::from_utf8(&out).expect("JSON is UTF-8");
            let reply = Reply::Err {
                reference: error.reference,
                code: error.code.as_str().into(),
                text: error.text.as_ref().into(),
            };
            assert_eq!(json::parse_reply(again), Ok(reply), "{text}");
        }
    }
}

/// Any bytes as a message of packets, for the broker and for a client: never a panic, and what was read is written and
/// read again as the same.
pub fn packets(bytes: &[u8]) {
    for packet in binary::Packets::new(bytes) {
        let Ok(packet) = packet else { return };
        let mut out = Vec::new();
        match binary::parse(&packet) {
            Ok(command) => {
                binary::command(&mut out, &command);
                let again = only(&out);
                assert_eq!(binary::parse(&again), Ok(command));
            }
            Err(error) => {
                binary::err(&mut out, error.reference.as_ref(), error.code, &error.text);
                let reply = Reply::Err {
                    reference: error.reference,
                    code: error.code.as_str().into(),
                    text: error.text.as_ref().into(),
                };
                assert_eq!(binary::parse_reply(&only(&out)), Ok(reply));
            }
        }
        if let Ok(reply) = binary::parse_reply(&packet)
            && let Some(written) = write(&reply)
        {
            assert_eq!(binary::parse_reply(&only(&written)), Ok(reply));
        }
    }
}

/// The packet that is all of `message`.
fn only(message: &[u8]) -> binary::Packet<'_> {
    let mut packets = binary::Packets::new(message);
    let packet = packets.next().expect("a packet was written").expect("it is whole");
    assert_eq!(packets.next(), None);
    packet
}

/// The packet of a reply, but for a code of a newer broker, which is read and cannot be written.
fn write(reply: &Reply<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match reply {
        Reply::Hello {
            session,
            max_message,
            ping_ms,
        } => binary::hello(&mut out, session, *max_message, *ping_ms),
        Reply::Message { topic, payload, offset } => {
            binary::message(&mut out, topic, payload.kind, &payload.bytes, *offset);
        }
        Reply::Ok { reference, details } => binary::ok(&mut out, reference, Some(details)),
        Reply::Err { reference, code, text } => binary::err(&mut out, reference.as_ref(), Code::parse(code)?, text),
        Reply::Lag { filter, dropped } => binary::lag(&mut out, filter, *dropped),
        Reply::Bye { code, text, retry_ms } => binary::bye(&mut out, *code, text, *retry_ms),
        Reply::Pong => binary::pong(&mut out),
    }
    Some(out)
}

/// Any bytes as a reply: never a panic, and what was read is written and read again as the same.
pub fn reply(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(reply) = json::parse_reply(text) else { return };
    let mut out = Vec::new();
    match &reply {
        Reply::Hello {
            session,
            max_message,
            ping_ms,
        } => json::hello(&mut out, session, *max_message, *ping_ms),
        Reply::Message { topic, payload, offset } => {
            assert!(payload.kind != Kind::Json || json::is_valid(&payload.bytes), "{text}");
            json::message(&mut out, topic, payload.kind, &payload.bytes, *offset);
        }
        Reply::Ok { reference, details } => json::ok(&mut out, reference, Some(details)),
        Reply::Err { reference, code, text } => {
            // A code of a newer broker is read, and cannot be written.
            let Some(code) = Code::parse(code) else { return };
            json::err(&mut out, reference.as_ref(), code, text);
        }
        Reply::Lag { filter, dropped } => json::lag(&mut out, filter, *dropped),
        Reply::Bye { code, text, retry_ms } => json::bye(&mut out, *code, text, *retry_ms),
        Reply::Pong => json::pong(&mut out),
    }
    let again = std::str::from_utf8(&out).expect("JSON is UTF-8");
    assert_eq!(json::parse_reply(again).as_ref(), Ok(&reply), "{text}");
}
