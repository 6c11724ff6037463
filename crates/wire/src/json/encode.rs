//! Writing messages: what the broker says, and the commands of a client.
//!
//! Everything is appended to a buffer of the caller's, so that encoding costs no allocation of its own.

use std::borrow::Cow;

use base64::Engine;

use super::BASE64;
use crate::command::{Command, Kind, Payload, Reference, Since};
use crate::error::Code;
use crate::reply::Details;

/// Appends a delivery: `["msg",topic,payload]`, with the offset if there is one, with the mark `"base64"` if the payload is
/// binary.
///
/// A payload of kind `json` goes out as it is, so it must be JSON ([`is_valid`](super::is_valid)); one of kind `text` is
/// UTF-8, and what is not becomes U+FFFD.
pub fn message(out: &mut Vec<u8>, topic: &str, kind: Kind, payload: &[u8], offset: Option<u64>) {
    // Base64 takes four bytes for three; the rest is brackets, quotes and digits.
    out.reserve(topic.len() + payload.len() + payload.len() / 3 + 48);
    out.extend_from_slice(b"[\"msg\",");
    string(out, topic);
    out.push(b',');
    encoded_payload(out, kind, payload);
    if let Some(offset) = offset {
        out.push(b',');
        number(out, offset);
    }
    if kind == Kind::Binary {
        if offset.is_none() {
            out.extend_from_slice(b",null");
        }
        out.extend_from_slice(b",\"base64\"");
    }
    out.push(b']');
}

/// Appends the first message of a connection. `max_message` is in bytes, `ping_ms` in milliseconds.
pub fn hello(out: &mut Vec<u8>, session: &str, max_message: u64, ping_ms: u64) {
    out.extend_from_slice(b"[\"hello\",");
    hello_object(out, session, max_message, ping_ms);
    out.push(b']');
}

/// What `hello` tells.
pub(crate) fn hello_object(out: &mut Vec<u8>, session: &str, max_message: u64, ping_ms: u64) {
    let mut members = Members::open(out);
    string(members.name("session"), session);
    number(members.name("max_message"), max_message);
    number(members.name("ping_ms"), ping_ms);
    members.close();
}

/// Appends the reply to a command that carried a `ref` and was carried out. Without details their object is empty.
pub fn ok(out: &mut Vec<u8>, reference: &Reference<'_>, details: Option<&Details<'_>>) {
    out.extend_from_slice(b"[\"ok\",");
    out.extend_from_slice(reference.as_json().as_bytes());
    out.push(b',');
    details_object(out, details);
    out.push(b']');
}

/// What `ok` tells; an empty object if there is nothing to tell.
pub(crate) fn details_object(out: &mut Vec<u8>, details: Option<&Details<'_>>) {
    let mut members = Members::open(out);
    if let Some(details) = details {
        if let Some(epoch) = &details.epoch {
            string(members.name("epoch"), epoch);
        }
        if let Some(offset) = details.offset {
            number(members.name("offset"), offset);
        }
        if let Some(recovered) = details.recovered {
            boolean(members.name("recovered"), recovered);
        }
    }
    members.close();
}

/// Appends the refusal of a command.
pub fn err(out: &mut Vec<u8>, reference: Option<&Reference<'_>>, code: Code, text: &str) {
    out.extend_from_slice(b"[\"err\",");
    out.extend_from_slice(reference.map_or("null", |reference| reference.as_json()).as_bytes());
    out.extend_from_slice(b",\"");
    out.extend_from_slice(code.as_str().as_bytes());
    out.extend_from_slice(b"\",");
    string(out, text);
    out.push(b']');
}

/// Appends the answer to `ping`.
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"[\"pong\"]");
}

/// Appends the announcement of a close: the close code that will follow, the reason, and how many milliseconds to wait before
/// coming back.
pub fn bye(out: &mut Vec<u8>, code: u16, text: &str, retry_ms: u64) {
    out.extend_from_slice(b"[\"bye\",");
    number(out, code.into());
    out.push(b',');
    string(out, text);
    out.push(b',');
    number(out, retry_ms);
    out.push(b']');
}

/// What `bye` tells, with names.
pub(crate) fn bye_object(out: &mut Vec<u8>, code: u16, text: &str, retry_ms: u64) {
    let mut members = Members::open(out);
    number(members.name("code"), code.into());
    string(members.name("text"), text);
    number(members.name("retry_ms"), retry_ms);
    members.close();
}

/// Appends what is answered to an HTTP request that published to `topic`.
pub fn published(out: &mut Vec<u8>, topic: &str) {
    let mut members = Members::open(out);
    string(members.name("topic"), topic);
    members.close();
}

/// Appends what is answered to an HTTP request that is refused.
pub fn request_error(out: &mut Vec<u8>, code: Code, text: &str) {
    let mut members = Members::open(out);
    let mut error = Members::open(members.name("error"));
    string(error.name("code"), code.as_str());
    string(error.name("text"), text);
    error.close();
    members.close();
}

/// Appends the notice that `dropped` messages of the subscription `filter` were dropped.
pub fn lag(out: &mut Vec<u8>, filter: &str, dropped: u64) {
    out.extend_from_slice(b"[\"lag\",");
    string(out, filter);
    out.push(b',');
    number(out, dropped);
    out.push(b']');
}

/// Appends a command, for a client. Options that have their default value are left out.
///
/// A payload of kind `json` must be JSON, as in [`message`].
pub fn command(out: &mut Vec<u8>, command: &Command<'_>) {
    match command {
        Command::Sub {
            filter,
            reference,
            since,
            slow,
        } => {
            out.extend_from_slice(b"[\"sub\",");
            string(out, filter);
            options(out, reference.as_ref(), |members| {
                match since {
                    None => {}
                    Some(Since::All) => string(members.name("since"), "all"),
                    Some(Since::Last(count)) => {
                        let out = members.name("since");
                        out.extend_from_slice(b"{\"last\":");
                        number(out, *count);
                        out.push(b'}');
                    }
                    Some(Since::After { epoch, offset }) => string(members.name("since"), &format!("{epoch}:{offset}")),
                }
                if let Some(slow) = slow {
                    string(members.name("slow"), slow.as_str());
                }
            });
        }
        Command::Unsub { filter, reference } => {
            out.extend_from_slice(b"[\"unsub\",");
            string(out, filter);
            options(out, reference.as_ref(), |_| {});
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
            out.extend_from_slice(b"[\"pub\",");
            string(out, topic);
            out.push(b',');
            encoded_payload(out, *kind, bytes);
            options(out, reference.as_ref(), |members| {
                if *retain {
                    boolean(members.name("retain"), true);
                }
                if !echo {
                    boolean(members.name("echo"), false);
                }
                if *kind != Kind::Json {
                    string(members.name("kind"), kind.as_str());
                }
                if let Some(key) = key {
                    string(members.name("key"), key);
                }
                if let Some(id) = id {
                    string(members.name("id"), id);
                }
            });
        }
        Command::Auth { token, reference } => {
            out.extend_from_slice(b"[\"auth\",");
            string(out, token);
            options(out, reference.as_ref(), |_| {});
        }
        Command::Ping => out.extend_from_slice(b"[\"ping\""),
    }
    out.push(b']');
}

/// Appends `,{…}` with the `ref` and what `more` writes, or nothing if there is nothing to say.
fn options(out: &mut Vec<u8>, reference: Option<&Reference<'_>>, more: impl FnOnce(&mut Members<'_>)) {
    let before = out.len();
    out.push(b',');
    let mut members = Members::open(out);
    if let Some(reference) = reference {
        members.name("ref").extend_from_slice(reference.as_json().as_bytes());
    }
    more(&mut members);
    if members.first {
        out.truncate(before);
    } else {
        members.close();
    }
}

/// An object being written.
struct Members<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Members<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Members { out, first: true }
    }

    /// Begins a member whose name needs no escapes; the caller appends the value.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

fn encoded_payload(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    match kind {
        Kind::Json => out.extend_from_slice(payload),
        Kind::Text => match String::from_utf8_lossy(payload) {
            Cow::Borrowed(text) => string(out, text),
            Cow::Owned(text) => string(out, &text),
        },
        Kind::Binary => {
            out.push(b'"');
            let start = out.len();
            let room =
                base64::encoded_len(payload.len(), true).expect("a payload in memory has an encoding that can be");
            out.resize(start + room, 0);
            let written = BASE64
                .encode_slice(payload, &mut out[start..])
                .expect("the room was measured for it");
            out.truncate(start + written);
            out.push(b'"');
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes every write and a str has a JSON form");
}

fn number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("a Vec takes every write and a number has a JSON form");
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn http_requests_are_answered_with_objects() {
        assert_eq!(written(|out| published(out, "a/\"b")), r#"{"topic":"a/\"b"}"#);
        assert_eq!(
            written(|out| request_error(out, Code::TooLarge, "too \"large\"")),
            r#"{"error":{"code":"too_large","text":"too \"large\""}}"#
        );
    }

    #[test]
    fn a_delivery_looks_as_the_protocol_says() {
        let delivery = |kind, payload: &[u8], offset| written(|out| message(out, "a/\"b", kind, payload, offset));
        assert_eq!(
            delivery(Kind::Json, b"{ \"x\":1.0}", None),
            r#"["msg","a/\"b",{ "x":1.0}]"#
        );
        assert_eq!(delivery(Kind::Json, b"[]", Some(7)), r#"["msg","a/\"b",[],7]"#);
        assert_eq!(delivery(Kind::Text, "é\n".as_bytes(), None), r#"["msg","a/\"b","é\n"]"#);
        assert_eq!(
            delivery(Kind::Text, b"\xff", None),
            "[\"msg\",\"a/\\\"b\",\"\u{fffd}\"]"
        );
        assert_eq!(
            delivery(Kind::Binary, b"\xff\xfe", None),
            r#"["msg","a/\"b","//4=",null,"base64"]"#
        );
        assert_eq!(
            delivery(Kind::Binary, b"", Some(u64::MAX)),
            r#"["msg","a/\"b","",18446744073709551615,"base64"]"#
        );
    }

    #[test]
    fn every_other_reply_looks_as_the_protocol_says() {
        let reference = Reference::from_json("1.0").expect("a number");
        let details = Details {
            epoch: Some("e".into()),
            offset: Some(3),
            recovered: Some(true),
        };
        assert_eq!(
            written(|out| hello(out, "s-1", 1_048_576, 25_000)),
            r#"["hello",{"session":"s-1","max_message":1048576,"ping_ms":25000}]"#
        );
        assert_eq!(written(|out| ok(out, &reference, None)), r#"["ok",1.0,{}]"#);
        assert_eq!(
            written(|out| ok(out, &reference, Some(&details))),
            r#"["ok",1.0,{"epoch":"e","offset":3,"recovered":true}]"#
        );
        assert_eq!(
            written(|out| err(out, Some(&reference), Code::BadTopic, "no \"")),
            r#"["err",1.0,"bad_topic","no \""]"#
        );
        assert_eq!(
            written(|out| err(out, None, Code::Internal, "")),
            r#"["err",null,"internal",""]"#
        );
        assert_eq!(written(pong), r#"["pong"]"#);
        assert_eq!(
            written(|out| bye(out, 4001, "draining", 1500)),
            r#"["bye",4001,"draining",1500]"#
        );
        assert_eq!(written(|out| lag(out, "a/#", 12)), r#"["lag","a/#",12]"#);
    }

    #[test]
    fn a_command_without_options_has_no_options_object() {
        let sub = Command::Sub {
            filter: "a/#".into(),
            reference: None,
            since: None,
            slow: None,
        };
        assert_eq!(written(|out| command(out, &sub)), r#"["sub","a/#"]"#);
        let sub = Command::Sub {
            filter: "a/#".into(),
            reference: Some(Reference::number(9)),
            since: Some(Since::Last(2)),
            slow: None,
        };
        assert_eq!(
            written(|out| command(out, &sub)),
            r#"["sub","a/#",{"ref":9,"since":{"last":2}}]"#
        );
        assert_eq!(written(|out| command(out, &Command::Ping)), r#"["ping"]"#);
    }
}
