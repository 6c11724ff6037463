//! Commands as the broker reads them, and replies as a client does.

use super::read::{Body, Packet, bad};
use super::{ID, KEY, KINDS, NO_ECHO, RETAIN, SINCE, SLOW, SLOW_SHIFT, Type};
use crate::command::{Command, Kind, Payload, Reference, Since};
use crate::error::{Code, Error};
use crate::json;
use crate::reply::Reply;

/// Reads a command.
///
/// # Errors
/// [`Code::BadMessage`] and [`Code::UnknownVerb`], with a text for the client's author and, wherever it can be read, the
/// `ref` of the command.
pub fn parse<'a>(packet: &Packet<'a>) -> Result<Command<'a>, Error<'a>> {
    let mut body = Body(packet.body);
    match Type::of(packet.number) {
        Some(Type::Pub) => with_reference(body, publish),
        Some(Type::Sub) => with_reference(body, subscribe),
        Some(Type::Unsub) => with_reference(body, |body, reference| {
            let filter = body.string("the filter")?.into();
            body.end("an UNSUB")?;
            Ok(Command::Unsub { filter, reference })
        }),
        Some(Type::Auth) => with_reference(body, |body, reference| {
            let token = body.string("the token")?.into();
            body.end("an AUTH")?;
            Ok(Command::Auth { token, reference })
        }),
        Some(Type::Ping) => body.end("a PING").map(|()| Command::Ping),
        Some(Type::Msg | Type::Ok | Type::Err | Type::Lag | Type::Hello | Type::Bye | Type::Pong) => {
            Err(unknown(packet.number, "is for the broker to send"))
        }
        None => {
            // Of what is not known, a ref is the most likely start; better a refusal with a wrong one than none.
            let reference = body.varint("the ref").ok().and_then(reference_of);
            Err(Error {
                reference,
                ..unknown(
                    packet.number,
                    "is not known; clients send PUB, SUB, UNSUB, AUTH and PING",
                )
            })
        }
    }
}

fn unknown(number: u8, why: &str) -> Error<'static> {
    Error {
        code: Code::UnknownVerb,
        reference: None,
        text: format!("packet type {number:#04x} {why}").into(),
    }
}

fn reference_of(number: u64) -> Option<Reference<'static>> {
    (number > 0).then(|| Reference::number(number))
}

/// Reads the `ref` that a command begins with, and then the command; an error carries the `ref`.
fn with_reference<'a>(
    mut body: Body<'a>,
    read: impl FnOnce(&mut Body<'a>, Option<Reference<'static>>) -> Result<Command<'a>, Error<'static>>,
) -> Result<Command<'a>, Error<'a>> {
    let reference = reference_of(body.varint("the ref")?);
    read(&mut body, reference.clone()).map_err(|error| Error { reference, ..error })
}

fn publish<'a>(body: &mut Body<'a>, reference: Option<Reference<'static>>) -> Result<Command<'a>, Error<'static>> {
    let flags = body.varint("the flags")?;
    if flags & !(RETAIN | NO_ECHO | KEY | ID) != 0 {
        return Err(bad(format!(
            "the flags {flags:#x} of a PUB are not known; there are bits 0 to 3"
        )));
    }
    let topic = body.string("the topic")?.into();
    let mut optional = |flag, what| (flags & flag != 0).then(|| body.string(what)).transpose();
    let (key, id) = (optional(KEY, "the key")?, optional(ID, "the id")?);
    let payload = payload(body)?;
    match payload.kind {
        Kind::Json if !json::is_valid(&payload.bytes) => {
            return Err(bad("the payload is not one JSON value, as its kind says"));
        }
        Kind::Text if std::str::from_utf8(&payload.bytes).is_err() => {
            return Err(bad("the payload is not UTF-8, as its kind says"));
        }
        _ => {}
    }
    Ok(Command::Pub {
        topic,
        payload,
        reference,
        retain: flags & RETAIN != 0,
        echo: flags & NO_ECHO == 0,
        key: key.map(Into::into),
        id: id.map(Into::into),
    })
}

/// The kind and the rest.
fn payload<'a>(body: &mut Body<'a>) -> Result<Payload<'a>, Error<'static>> {
    let number = body.octet("the kind")?;
    let kind = KINDS.get(usize::from(number));
    let kind = *kind.ok_or_else(|| bad(format!("kind {number} is not known; 0 is json, 1 text, 2 binary")))?;
    Ok(Payload {
        kind,
        bytes: std::mem::take(&mut body.0).into(),
    })
}

fn subscribe<'a>(body: &mut Body<'a>, reference: Option<Reference<'static>>) -> Result<Command<'a>, Error<'static>> {
    let flags = body.varint("the flags")?;
    let slow = usize::try_from(flags >> SLOW_SHIFT)
        .ok()
        .and_then(|number| SLOW.get(number));
    let slow = *slow.ok_or_else(|| {
        bad(format!(
            "the flags {flags:#x} of a SUB are not known; there are bits 0 to 2"
        ))
    })?;
    let filter = body.string("the filter")?.into();
    let since = if flags & SINCE == 0 {
        None
    } else {
        let text = body.string("since")?;
        let form = || bad(r#"since is `all`, `<epoch>:<offset>` or `{"last":n}`"#);
        Some(since(text).ok_or_else(form)?)
    };
    body.end("a SUB")?;
    Ok(Command::Sub {
        filter,
        reference,
        since,
        slow,
    })
}

fn since(text: &str) -> Option<Since<'_>> {
    // An epoch may look like the start of an object; but an object does not end like an offset.
    Since::parse(text.into()).or_else(|| json::since(text).filter(|_| text.starts_with('{')))
}

/// Reads one packet of the broker. What a newer broker adds at the end is ignored.
///
/// # Errors
/// [`Code::BadMessage`] if it is not a packet of this protocol, [`Code::UnknownVerb`] if it is one of a type that this
/// version does not know; the latter a client may ignore.
pub fn parse_reply<'a>(packet: &Packet<'a>) -> Result<Reply<'a>, Error<'static>> {
    let mut body = Body(packet.body);
    Ok(match Type::of(packet.number) {
        Some(Type::Msg) => {
            let topic = body.string("the topic")?.into();
            let offset = body.varint("the offset")?.checked_sub(1);
            let payload = payload(&mut body)?;
            Reply::Message { topic, payload, offset }
        }
        Some(Type::Ok) => Reply::Ok {
            reference: reference_of(body.varint("the ref")?).ok_or_else(|| bad("an OK has a ref"))?,
            details: json::details(body.string("the details")?)?,
        },
        Some(Type::Err) => Reply::Err {
            reference: reference_of(body.varint("the ref")?),
            code: body.string("the code")?.into(),
            text: body.string("the text")?.into(),
        },
        Some(Type::Lag) => Reply::Lag {
            filter: body.string("the filter")?.into(),
            dropped: body.varint("the count")?,
        },
        Some(Type::Hello) => json::parse_hello(body.string("the details")?)?,
        Some(Type::Bye) => Reply::Bye {
            code: u16::try_from(body.varint("the close code")?).map_err(|_| bad("the close code has 16 bits"))?,
            text: body.string("the text")?.into(),
            retry_ms: body.varint("the delay")?,
        },
        Some(Type::Pong) => Reply::Pong,
        Some(Type::Pub | Type::Sub | Type::Unsub | Type::Auth | Type::Ping) => {
            return Err(unknown(packet.number, "is for clients to send"));
        }
        None => return Err(unknown(packet.number, "is not known")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::Packets;

    fn refused(octets: &[u8]) -> (Code, Option<String>, String) {
        let packet = Packets::new(octets).next().unwrap().unwrap();
        let error = parse(&packet).unwrap_err();
        let reference = error.reference.map(|reference| reference.as_json().to_owned());
        (error.code, reference, error.text.into_owned())
    }

    #[test]
    fn a_publish_is_read_without_a_copy() {
        let octets = b"\x02\x0e\x05\x02\x03a/b\x00{\"x\":1}";
        let packet = Packets::new(octets).next().unwrap().unwrap();
        let Ok(Command::Pub {
            topic,
            payload,
            reference,
            echo,
            ..
        }) = parse(&packet)
        else {
            panic!("{:?}", parse(&packet));
        };
        assert_eq!((&*topic, &*payload.bytes, echo), ("a/b", &b"{\"x\":1}"[..], false));
        assert_eq!(reference, Some(Reference::number(5)));
        assert!(matches!(payload.bytes, std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_ref() {
        let table: [(&[u8], Code, Option<&str>, &str); 9] = [
            (
                b"\x02\x06\x07\x00\x01t\x00[",
                Code::BadMessage,
                Some("7"),
                "not one JSON value",
            ),
            (
                b"\x02\x06\x07\x00\x01t\x01\xff",
                Code::BadMessage,
                Some("7"),
                "not UTF-8",
            ),
            (b"\x02\x06\x07\x00\x01t\x03x", Code::BadMessage, Some("7"), "kind 3"),
            (b"\x02\x05\x07\x10\x01t\x02", Code::BadMessage, Some("7"), "flags 0x10"),
            (b"\x03\x05\x01\x08\x01t\x00", Code::BadMessage, Some("1"), "flags 0x8"),
            (b"\x03\x07\x01\x01\x01t\x02no", Code::BadMessage, Some("1"), "since is"),
            (b"\x04\x04\x00\x01t!", Code::BadMessage, None, "1 bytes too many"),
            (b"\x01\x00", Code::UnknownVerb, None, "for the broker"),
            (b"\x40\x01\x09", Code::UnknownVerb, Some("9"), "0x40"),
        ];
        for (octets, code, reference, words) in table {
            let refused = refused(octets);
            assert_eq!((refused.0, refused.1.as_deref()), (code, reference), "{octets:x?}");
            assert!(refused.2.contains(words), "{}", refused.2);
        }
    }
}
