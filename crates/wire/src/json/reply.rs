//! Replies, as a client reads them.

use std::borrow::Cow;

use base64::Engine;

use super::scan::{Fault, Scanner};
use super::{BASE64, boolean, string, type_name, whole_number};
use crate::command::{Kind, Payload, Reference};
use crate::error::{Code, Error};
use crate::reply::{Details, Reply};

/// The most elements of a reply that this version reads: those of a delivery.
const MAX_ELEMENTS: usize = 5;

/// Reads one message of the broker.
///
/// Elements and members that a newer broker adds are ignored.
///
/// # Errors
/// [`Code::BadMessage`] if it is not a message of this protocol, [`Code::UnknownVerb`] if it is one with a verb that this
/// version does not know; the latter a client may ignore.
pub fn parse_reply(text: &str) -> Result<Reply<'_>, Error<'_>> {
    let message = Message::read(text)?;
    let verb = message.string(0, "the verb")?;
    match &*verb {
        "msg" => message.delivery(),
        "ok" => Ok(Reply::Ok {
            reference: message.reference()?,
            details: details(message.element(2)?)?,
        }),
        "err" => Ok(Reply::Err {
            reference: if message.element(1)? == "null" {
                None
            } else {
                Some(message.reference()?)
            },
            code: message.string(2, "the code")?,
            text: message.string(3, "the text")?,
        }),
        "pong" => Ok(Reply::Pong),
        "hello" => hello(message.element(1)?),
        "lag" => Ok(Reply::Lag {
            filter: message.string(1, "the filter")?,
            dropped: message.number(2, "the count")?,
        }),
        "bye" => Ok(Reply::Bye {
            code: u16::try_from(message.number(1, "the close code")?).map_err(|_| bad("the close code has 16 bits"))?,
            text: message.string(2, "the text")?,
            retry_ms: message.number(3, "the delay")?,
        }),
        other => {
            let start: String = other.chars().take(32).collect();
            Err(Error {
                code: Code::UnknownVerb,
                reference: None,
                text: format!("unknown verb {start:?}").into(),
            })
        }
    }
}

fn bad(text: impl Into<Cow<'static, str>>) -> Error<'static> {
    Error {
        code: Code::BadMessage,
        reference: None,
        text: text.into(),
    }
}

fn not_json(fault: Fault) -> Error<'static> {
    bad(format!(
        "the message is not JSON: expected {} at byte {}",
        fault.expected, fault.at
    ))
}

/// A message taken apart; every element is known to be JSON.
struct Message<'a> {
    elements: [&'a str; MAX_ELEMENTS],
    count: usize,
}

impl<'a> Message<'a> {
    fn read(text: &'a str) -> Result<Self, Error<'static>> {
        let Some(mut elements) = Scanner::new(text).array() else {
            return Err(bad("a reply is a JSON array"));
        };
        let mut message = Message {
            elements: [""; MAX_ELEMENTS],
            count: 0,
        };
        while let Some(element) = elements.next().map_err(not_json)? {
            if let Some(place) = message.elements.get_mut(message.count) {
                *place = element;
                message.count += 1;
            }
        }
        Ok(message)
    }

    fn element(&self, index: usize) -> Result<&'a str, Error<'static>> {
        let elements = &self.elements[..self.count];
        elements
            .get(index)
            .copied()
            .ok_or_else(|| bad(format!("the reply ends after {} elements", self.count)))
    }

    fn string(&self, index: usize, what: &str) -> Result<Cow<'a, str>, Error<'static>> {
        let raw = self.element(index)?;
        string(raw).ok_or_else(|| bad(format!("{what} is a string; got {}", type_name(raw))))
    }

    fn number(&self, index: usize, what: &str) -> Result<u64, Error<'static>> {
        let raw = self.element(index)?;
        whole_number(raw).ok_or_else(|| bad(format!("{what} is a whole number; got {}", type_name(raw))))
    }

    fn reference(&self) -> Result<Reference<'a>, Error<'static>> {
        let raw = self.element(1)?;
        Reference::from_json(raw).ok_or_else(|| bad("the ref of a reply is the number or string of the command"))
    }

    fn delivery(&self) -> Result<Reply<'a>, Error<'static>> {
        let topic = self.string(1, "the topic")?;
        let raw = self.element(2)?;
        let offset = match self.count {
            0..=3 => None,
            _ if self.elements[3] == "null" => None,
            _ => Some(self.number(3, "the offset")?),
        };
        let payload = if self.count == MAX_ELEMENTS {
            let mark = self.string(4, "the mark")?;
            if mark != "base64" {
                return Err(bad("the mark of a payload is \"base64\""));
            }
            let text = self.string(2, "a marked payload")?;
            let bytes = BASE64
                .decode(text.as_bytes())
                .map_err(|error| bad(format!("the payload is not base64: {error}")))?;
            Payload {
                kind: Kind::Binary,
                bytes: Cow::Owned(bytes),
            }
        } else {
            Payload {
                kind: Kind::Json,
                bytes: Cow::Borrowed(raw.as_bytes()),
            }
        };
        Ok(Reply::Message { topic, payload, offset })
    }
}

/// What `ok` tells.
pub(crate) fn details(object: &str) -> Result<Details<'_>, Error<'static>> {
    let mut details = Details::default();
    let Some(mut members) = Scanner::new(object).object() else {
        return Err(bad("the details of a reply are an object"));
    };
    while let Some((name, value)) = members.next().map_err(not_json)? {
        match string(name).as_deref() {
            Some("epoch") => details.epoch = Some(string(value).ok_or_else(|| bad("an epoch is a string"))?),
            Some("offset") => {
                details.offset = Some(whole_number(value).ok_or_else(|| bad("an offset is a whole number"))?);
            }
            Some("recovered") => {
                details.recovered = Some(boolean(value).ok_or_else(|| bad("recovered is true or false"))?);
            }
            _ => {}
        }
    }
    Ok(details)
}

/// What `hello` tells.
pub(crate) fn hello(object: &str) -> Result<Reply<'_>, Error<'static>> {
    let (mut session, mut max_message, mut ping_ms) = (None, None, None);
    if let Some(mut members) = Scanner::new(object).object() {
        while let Some((name, value)) = members.next().map_err(not_json)? {
            match string(name).as_deref() {
                Some("session") => session = string(value),
                Some("max_message") => max_message = whole_number(value),
                Some("ping_ms") => ping_ms = whole_number(value),
                _ => {}
            }
        }
    }
    match (session, max_message, ping_ms) {
        (Some(session), Some(max_message), Some(ping_ms)) => Ok(Reply::Hello {
            session,
            max_message,
            ping_ms,
        }),
        _ => Err(bad(
            "hello is an object with session (string), max_message and ping_ms (numbers)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_is_read() {
        let json = |text: &'static str| Payload {
            kind: Kind::Json,
            bytes: text.as_bytes().into(),
        };
        for (text, reply) in [
            (
                r#"["hello",{"session":"s","max_message":1,"ping_ms":2,"more":{}}]"#,
                Reply::Hello {
                    session: "s".into(),
                    max_message: 1,
                    ping_ms: 2,
                },
            ),
            (
                r#"["msg","t",[ 1 ]]"#,
                Reply::Message {
                    topic: "t".into(),
                    payload: json("[ 1 ]"),
                    offset: None,
                },
            ),
            (
                r#"["msg","t","x",5]"#,
                Reply::Message {
                    topic: "t".into(),
                    payload: json("\"x\""),
                    offset: Some(5),
                },
            ),
            (
                r#"["msg","t","//4=",null,"base64"]"#,
                Reply::Message {
                    topic: "t".into(),
                    payload: Payload {
                        kind: Kind::Binary,
                        bytes: b"\xff\xfe".into(),
                    },
                    offset: None,
                },
            ),
            (
                r#"["ok","r",{"offset":3}]"#,
                Reply::Ok {
                    reference: Reference::from_json("\"r\"").expect("a string"),
                    details: Details {
                        offset: Some(3),
                        ..Details::default()
                    },
                },
            ),
            (
                r#"["err",null,"new_code","why"]"#,
                Reply::Err {
                    reference: None,
                    code: "new_code".into(),
                    text: "why".into(),
                },
            ),
            (
                r#"["lag","a/#",3]"#,
                Reply::Lag {
                    filter: "a/#".into(),
                    dropped: 3,
                },
            ),
            (
                r#"["bye",4001,"draining",9]"#,
                Reply::Bye {
                    code: 4001,
                    text: "draining".into(),
                    retry_ms: 9,
                },
            ),
            (r#"["pong"]"#, Reply::Pong),
        ] {
            assert_eq!(parse_reply(text), Ok(reply), "{text}");
        }
    }

    #[test]
    fn a_text_arrives_as_a_json_string_and_is_read_as_text() {
        let Ok(Reply::Message { payload, .. }) = parse_reply(r#"["msg","t","a\n"]"#) else {
            panic!("a delivery")
        };
        assert_eq!(payload.text().as_deref(), Some("a\n"));
    }

    #[test]
    fn what_is_not_the_protocol_is_refused_and_a_new_verb_is_told_apart() {
        for text in [
            "",
            "{}",
            "[]",
            "[1]",
            r#"["msg"]"#,
            r#"["msg","t"]"#,
            r#"["msg",1,2]"#,
            r#"["msg","t",1,-1]"#,
            r#"["msg","t",1,null,"base64"]"#,
            r#"["msg","t","!",null,"base64"]"#,
            r#"["msg","t","",null,"zip"]"#,
            r#"["ok"]"#,
            r#"["ok",null,{}]"#,
            r#"["ok",1]"#,
            r#"["ok",1,{"offset":"3"}]"#,
            r#"["err",1,"x"]"#,
            r#"["hello",{}]"#,
            r#"["hello",7]"#,
            r#"["bye",70000,"",0]"#,
            r#"["lag","a"]"#,
            r#"["pong"] x"#,
        ] {
            assert_eq!(
                parse_reply(text).map_err(|error| error.code),
                Err(Code::BadMessage),
                "{text}"
            );
        }
        assert_eq!(
            parse_reply(r#"["news",1]"#).map_err(|error| error.code),
            Err(Code::UnknownVerb)
        );
    }
}
