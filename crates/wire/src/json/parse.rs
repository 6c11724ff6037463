//! Commands, as the broker reads them.

use std::borrow::Cow;

use base64::Engine;

use super::scan::{Fault, Scanner};
use super::{BASE64, boolean, string, type_name, whole_number};
use crate::command::{Command, Kind, Payload, Reference, Since, SlowPolicy, Verb};
use crate::error::{Code, Error};

/// The most elements a command may have: verb, operands, options.
const MAX_ELEMENTS: usize = 4;

/// Reads one command from one text message.
///
/// One pass over the payload, and no allocation unless a string has escapes in it or a binary payload is decoded.
///
/// # Errors
/// [`Code::BadMessage`] and [`Code::UnknownVerb`], with a text for the client's author and, wherever it can be read, the
/// `ref` of the command.
pub fn parse(text: &str) -> Result<Command<'_>, Error<'_>> {
    let message = Message::read(text)?;
    message.command().map_err(|refusal| Error {
        code: refusal.code,
        reference: message.reference(),
        text: refusal.text,
    })
}

/// Why a message is refused, before its `ref` is looked for.
struct Refusal {
    code: Code,
    text: Cow<'static, str>,
}

impl Refusal {
    fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Refusal {
            code: Code::BadMessage,
            text: text.into(),
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal::bad(format!(
            "the message is not JSON: expected {} at byte {}",
            fault.expected, fault.at
        ))
    }
}

impl From<Refusal> for Error<'_> {
    fn from(refusal: Refusal) -> Self {
        Error {
            code: refusal.code,
            reference: None,
            text: refusal.text,
        }
    }
}

/// A message taken apart; every element is known to be JSON.
struct Message<'a> {
    /// The elements, as far as a command has so many.
    elements: [&'a str; MAX_ELEMENTS],
    /// How many there are; more than [`MAX_ELEMENTS`] if the message is no command.
    count: usize,
    /// The last one, where the options stand.
    last: &'a str,
}

impl<'a> Message<'a> {
    fn read(text: &'a str) -> Result<Self, Refusal> {
        let scanner = Scanner::new(text);
        let Some(mut elements) = scanner.clone().array() else {
            let mut scanner = scanner;
            let other = scanner.value()?;
            return Err(Refusal::bad(format!(
                r#"a command is an array with the verb first, as in ["sub","news/#"]; got {}"#,
                type_name(other)
            )));
        };
        let mut message = Message {
            elements: [""; MAX_ELEMENTS],
            count: 0,
            last: "",
        };
        while let Some(element) = elements.next()? {
            if let Some(place) = message.elements.get_mut(message.count) {
                *place = element;
            }
            message.last = element;
            message.count += 1;
        }
        Ok(message)
    }

    /// The `ref`, whatever else is wrong. What stands where a verb wants an operand is not taken for options.
    fn reference(&self) -> Option<Reference<'a>> {
        let operands = string(self.elements[0])
            .and_then(|word| Verb::parse(&word))
            .map_or(0, |verb| verb.operands().len());
        if self.count <= 1 + operands {
            return None;
        }
        let mut members = Scanner::new(self.last).object()?;
        let mut reference = None;
        while let Ok(Some((name, value))) = members.next() {
            if string(name).as_deref() == Some("ref") {
                reference = Reference::from_json(value);
            }
        }
        reference
    }

    fn command(&self) -> Result<Command<'a>, Refusal> {
        let verb = self.verb()?;
        let operands = verb.operands().len();
        if self.count < 1 + operands {
            return Err(Refusal::bad(format!(
                "\"{}\" takes {}",
                verb.as_str(),
                verb.operands().join(" and ")
            )));
        }
        if self.count > 1 + operands + usize::from(verb.takes_options()) {
            let after = if operands == 0 {
                "the verb"
            } else {
                verb.operands()[operands - 1]
            };
            let limit = if verb.takes_options() {
                "at most an options object"
            } else {
                "nothing"
            };
            return Err(Refusal::bad(format!(
                "\"{}\" takes {limit} after {after}",
                verb.as_str()
            )));
        }
        // Empty if there are no options.
        let options = if self.count > 1 + operands { self.last } else { "" };
        match verb {
            Verb::Sub => self.sub(options),
            Verb::Unsub => {
                let filter = self.operand_string(verb)?;
                Ok(Command::Unsub {
                    filter,
                    reference: only_reference(verb, options)?,
                })
            }
            Verb::Pub => self.publish(options),
            Verb::Auth => {
                let token = self.operand_string(verb)?;
                Ok(Command::Auth {
                    token,
                    reference: only_reference(verb, options)?,
                })
            }
            Verb::Ping => Ok(Command::Ping),
        }
    }

    fn verb(&self) -> Result<Verb, Refusal> {
        if self.count == 0 {
            return Err(Refusal::bad(
                r#"a command is an array with the verb first, as in ["sub","news/#"]; got an empty one"#,
            ));
        }
        let raw = self.elements[0];
        let Some(word) = string(raw) else {
            return Err(Refusal::bad(format!(
                "the verb, the first element, is a string; got {}",
                type_name(raw)
            )));
        };
        Verb::parse(&word).ok_or_else(|| {
            let known: Vec<_> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
            let start: String = word.chars().take(32).collect();
            Refusal {
                code: Code::UnknownVerb,
                text: format!("unknown verb {start:?}; known are {}", known.join(", ")).into(),
            }
        })
    }

    /// The first operand, a string.
    fn operand_string(&self, verb: Verb) -> Result<Cow<'a, str>, Refusal> {
        let raw = self.elements[1];
        string(raw).ok_or_else(|| {
            let got = if raw.starts_with('"') {
                "one with half a surrogate pair"
            } else {
                type_name(raw)
            };
            let what = verb.operands()[0].trim_start_matches("a ");
            Refusal::bad(format!(
                "\"{}\" takes a {what} string as its second element, got {got}",
                verb.as_str()
            ))
        })
    }

    fn sub(&self, raw_options: &'a str) -> Result<Command<'a>, Refusal> {
        let filter = self.operand_string(Verb::Sub)?;
        let (mut reference, mut since, mut slow) = (None, None, None);
        options(Verb::Sub, raw_options, |name, raw| {
            match name {
                "ref" => reference = Some(as_reference(raw)?),
                "since" => since = Some(as_since(raw)?),
                "slow" => slow = Some(as_slow_policy(raw)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(Command::Sub {
            filter,
            reference,
            since,
            slow,
        })
    }

    fn publish(&self, raw_options: &'a str) -> Result<Command<'a>, Refusal> {
        let topic = self.operand_string(Verb::Pub)?;
        let (mut reference, mut key, mut id) = (None, None, None);
        let (mut retain, mut echo, mut kind) = (false, true, Kind::Json);
        options(Verb::Pub, raw_options, |name, raw| {
            match name {
                "ref" => reference = Some(as_reference(raw)?),
                "retain" => retain = as_boolean("retain", raw)?,
                "echo" => echo = as_boolean("echo", raw)?,
                "kind" => kind = as_kind(raw)?,
                "key" => key = Some(as_string("key", raw)?),
                "id" => id = Some(as_string("id", raw)?),
                _ => {}
            }
            Ok(())
        })?;
        let payload = Payload {
            kind,
            bytes: payload_bytes(kind, self.elements[2])?,
        };
        Ok(Command::Pub {
            topic,
            payload,
            reference,
            retain,
            echo,
            key,
            id,
        })
    }
}

fn payload_bytes(kind: Kind, raw: &str) -> Result<Cow<'_, [u8]>, Refusal> {
    if kind == Kind::Json {
        return Ok(Cow::Borrowed(raw.as_bytes()));
    }
    let Some(text) = string(raw) else {
        let got = if raw.starts_with('"') {
            "one with half a surrogate pair"
        } else {
            type_name(raw)
        };
        return Err(Refusal::bad(format!(
            "with kind {:?} the payload is a string; got {got}",
            kind.as_str()
        )));
    };
    if kind == Kind::Binary {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|error| {
            Refusal::bad(format!(
                "with kind \"binary\" the payload is base64 in the alphabet with + and /; this is not: {error}"
            ))
        })?;
        return Ok(Cow::Owned(bytes));
    }
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

/// Shows `each` the options, name and value as written. Of an option given twice the last one counts, as in JavaScript.
fn options<'a>(
    verb: Verb,
    raw: &'a str,
    mut each: impl FnMut(&str, &'a str) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if raw.is_empty() {
        return Ok(());
    }
    let Some(mut members) = Scanner::new(raw).object() else {
        return Err(Refusal::bad(format!(
            "the last element of \"{}\" is an object of options; got {}",
            verb.as_str(),
            type_name(raw)
        )));
    };
    while let Some((name, value)) = members.next()? {
        // A name that is no text is none of ours.
        if let Some(name) = string(name) {
            each(&name, value)?;
        }
    }
    Ok(())
}

fn only_reference<'a>(verb: Verb, raw: &'a str) -> Result<Option<Reference<'a>>, Refusal> {
    let mut reference = None;
    options(verb, raw, |name, value| {
        if name == "ref" {
            reference = Some(as_reference(value)?);
        }
        Ok(())
    })?;
    Ok(reference)
}

fn as_reference(raw: &str) -> Result<Reference<'_>, Refusal> {
    Reference::from_json(raw).ok_or_else(|| {
        if raw.len() > Reference::MAX_BYTES {
            Refusal::bad(format!(
                "\"ref\" is at most {} bytes long; got {}",
                Reference::MAX_BYTES,
                raw.len()
            ))
        } else {
            Refusal::bad(format!("\"ref\" is a number or a string; got {}", type_name(raw)))
        }
    })
}

fn as_boolean(name: &str, raw: &str) -> Result<bool, Refusal> {
    boolean(raw).ok_or_else(|| Refusal::bad(format!("{name:?} is true or false; got {}", type_name(raw))))
}

fn as_string<'a>(name: &str, raw: &'a str) -> Result<Cow<'a, str>, Refusal> {
    string(raw).ok_or_else(|| Refusal::bad(format!("{name:?} is a string; got {}", type_name(raw))))
}

fn as_kind(raw: &str) -> Result<Kind, Refusal> {
    string(raw)
        .and_then(|word| Kind::parse(&word))
        .ok_or_else(|| Refusal::bad(r#""kind" is "json", "text" or "binary""#))
}

fn as_slow_policy(raw: &str) -> Result<SlowPolicy, Refusal> {
    string(raw)
        .and_then(|word| SlowPolicy::parse(&word))
        .ok_or_else(|| Refusal::bad(r#""slow" is "close", "drop-new", "drop-old" or "latest""#))
}

fn as_since(raw: &str) -> Result<Since<'_>, Refusal> {
    since(raw).ok_or_else(|| Refusal::bad(r#""since" is "all", "<epoch>:<offset>" or {"last":n}"#))
}

/// A `since` as its JSON is written.
pub(crate) fn since(raw: &str) -> Option<Since<'_>> {
    if let Some(mut members) = Scanner::new(raw).object() {
        let mut last = None;
        while let Ok(Some((name, value))) = members.next() {
            if string(name).as_deref() == Some("last") {
                last = Some(whole_number(value)?);
            }
        }
        return last.map(Since::Last);
    }
    Since::parse(string(raw)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (Code, Option<String>, String) {
        let error = parse(text).expect_err(text);
        (
            error.code,
            error.reference.map(|r| r.as_json().to_owned()),
            error.text.into_owned(),
        )
    }

    #[test]
    fn a_plain_publish_borrows_everything_and_keeps_the_payload_byte_for_byte() {
        let Ok(Command::Pub {
            topic: Cow::Borrowed("news/a"),
            payload,
            reference: None,
            retain: false,
            echo: true,
            ..
        }) = parse(r#" [ "pub" , "news/a" ,  {"b": 1.50,  "a":"\u00e9"} ] "#)
        else {
            panic!("a borrowed publish")
        };
        assert_eq!(payload.kind, Kind::Json);
        assert!(matches!(payload.bytes, Cow::Borrowed(bytes) if bytes == br#"{"b": 1.50,  "a":"\u00e9"}"#));
    }

    #[test]
    fn every_verb_with_every_option_is_read() {
        assert_eq!(
            parse(r#"["sub","a/+",{"ref":1,"since":"e:p:7","slow":"latest","later":[]}]"#),
            Ok(Command::Sub {
                filter: "a/+".into(),
                reference: Reference::from_json("1"),
                since: Some(Since::After {
                    epoch: "e:p".into(),
                    offset: 7
                }),
                slow: Some(SlowPolicy::Latest),
            })
        );
        assert_eq!(
            parse(r#"["unsub","a\/b",{"ref":"x\n"}]"#),
            Ok(Command::Unsub {
                filter: "a/b".into(),
                reference: Reference::from_json(r#""x\n""#)
            })
        );
        assert_eq!(
            parse(r#"["pub","t","aGk",{"ref":-1.5,"retain":true,"echo":false,"kind":"binary","key":"k","id":"i"}]"#),
            Ok(Command::Pub {
                topic: "t".into(),
                payload: Payload {
                    kind: Kind::Binary,
                    bytes: b"hi".into()
                },
                reference: Reference::from_json("-1.5"),
                retain: true,
                echo: false,
                key: Some("k".into()),
                id: Some("i".into()),
            })
        );
        assert_eq!(
            parse(r#"["auth","secret",{}]"#),
            Ok(Command::Auth {
                token: "secret".into(),
                reference: None
            })
        );
        assert_eq!(parse(r#"["ping"]"#), Ok(Command::Ping));
    }

    #[test]
    fn a_text_payload_is_unescaped() {
        let Ok(Command::Pub { payload, .. }) = parse(r#"["pub","t","a\"\u00e9",{"kind":"text"}]"#) else {
            panic!("a publish")
        };
        assert_eq!(payload.text().as_deref(), Some("a\"é"));
    }

    #[test]
    fn since_takes_three_forms() {
        assert_eq!(since(r#""all""#), Some(Since::All));
        assert_eq!(since(r#"{"last":10}"#), Some(Since::Last(10)));
        assert_eq!(
            since(r#""e:0""#),
            Some(Since::After {
                epoch: "e".into(),
                offset: 0
            })
        );
        assert_eq!(
            since(r#""\u0065:5""#),
            Some(Since::After {
                epoch: "e".into(),
                offset: 5
            })
        );
        for bad in [
            "1",
            "null",
            "{}",
            r#""""#,
            r#""e""#,
            r#"":1""#,
            r#""e:""#,
            r#""e:-1""#,
            r#""e:+1""#,
            r#"{"last":-1}"#,
        ] {
            assert_eq!(since(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do() {
        for (text, says) in [
            ("", "expected a JSON value at byte 0"),
            ("{}", "got an object"),
            ("[]", "got an empty one"),
            ("[1]", "the verb, the first element, is a string; got a number"),
            (r#"["sub"]"#, r#""sub" takes a filter"#),
            (r#"["pub","t"]"#, r#""pub" takes a topic and a payload"#),
            (
                r#"["sub",1]"#,
                r#""sub" takes a filter string as its second element, got a number"#,
            ),
            (r#"["sub","\ud800"]"#, "half a surrogate pair"),
            (
                r#"["sub","a",1]"#,
                r#"the last element of "sub" is an object of options; got a number"#,
            ),
            (
                r#"["sub","a",{},1]"#,
                r#""sub" takes at most an options object after a filter"#,
            ),
            (r#"["ping",{}]"#, r#""ping" takes nothing after the verb"#),
            (r#"["pub","t",1,{},1,2,3]"#, "at most an options object after a payload"),
            (
                r#"["pub","t",1,{"kind":"xml"}]"#,
                r#""kind" is "json", "text" or "binary""#,
            ),
            (
                r#"["pub","t",1,{"kind":"text"}]"#,
                "the payload is a string; got a number",
            ),
            (r#"["pub","t","a_b=",{"kind":"binary"}]"#, "base64"),
            (
                r#"["pub","t",1,{"echo":1}]"#,
                r#""echo" is true or false; got a number"#,
            ),
            (
                r#"["sub","a",{"ref":null}]"#,
                r#""ref" is a number or a string; got null"#,
            ),
            (r#"["sub","a",{"slow":"no"}]"#, "drop-new"),
            (
                r#"["sub","a""#,
                "the message is not JSON: expected `,` or `]` at byte 10",
            ),
        ] {
            let (code, _, reason) = refused(text);
            assert_eq!(code, Code::BadMessage, "{text}");
            assert!(reason.contains(says), "{text}: {reason}");
        }
        let (code, _, reason) = refused(r#"["subscribe","a"]"#);
        assert_eq!(code, Code::UnknownVerb);
        assert_eq!(
            reason,
            r#"unknown verb "subscribe"; known are sub, unsub, pub, auth, ping"#
        );
    }

    #[test]
    fn the_ref_of_a_refused_command_is_recovered_and_an_operand_is_not_taken_for_options() {
        for text in [
            r#"["sub",5,{"ref":"r"}]"#,
            r#"["sub","a",{"slow":1,"ref":"r"}]"#,
            r#"["nope",1,2,3,4,5,{"ref":"r"}]"#,
            r#"["pub","t",1,{"kind":"text","ref":"r"}]"#,
            r#"["ping",{"ref":"r"}]"#,
            r#"[7,{"ref":"r"}]"#,
        ] {
            assert_eq!(refused(text).1.as_deref(), Some(r#""r""#), "{text}");
        }
        for text in [
            r#"["pub",5,{"ref":"r"}]"#,
            r#"["sub",5]"#,
            r#"["sub",5,{"ref":[]}]"#,
            r#"["sub",{"ref":1}]"#,
        ] {
            assert_eq!(refused(text).1, None, "{text}");
        }
    }
}
