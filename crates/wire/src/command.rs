//! What a client says, whatever the encoding.

use std::borrow::Cow;

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes that are one JSON value.
    Json,
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

impl Kind {
    /// The kind as it is written in options: `json`, `text` or `binary`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Json => "json",
            Kind::Text => "text",
            Kind::Binary => "binary",
        }
    }

    /// The kind written `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Kind> {
        match word {
            "json" => Some(Kind::Json),
            "text" => Some(Kind::Text),
            "binary" => Some(Kind::Binary),
            _ => None,
        }
    }
}

/// What is published: bytes, and what they are.
///
/// The bytes are those a subscriber gets, whatever the encoding they came in: base64 is decoded, a text is unescaped, a
/// JSON value is exactly as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<'a> {
    /// What the bytes are.
    pub kind: Kind,
    /// The bytes; borrowed from the message wherever they stand in it as they are.
    pub bytes: Cow<'a, [u8]>,
}

impl Payload<'_> {
    /// The text of a payload of kind `text`, or of a JSON payload that is a string; `None` for anything else.
    ///
    /// A text is delivered by the JSON encoding as a JSON string, so this is how a client reads one.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        let text = std::str::from_utf8(&self.bytes).ok()?;
        match self.kind {
            Kind::Text => Some(Cow::Borrowed(text)),
            Kind::Json => crate::json::string(text),
            Kind::Binary => None,
        }
    }
}

/// A client's `ref`: the JSON text of a number or a string, given back in the reply byte for byte.
///
/// At most [`Reference::MAX_BYTES`] long as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference<'a>(Cow<'a, str>);

impl<'a> Reference<'a> {
    /// The longest `ref`, in bytes of its JSON text.
    pub const MAX_BYTES: usize = 256;

    /// A number as a `ref`.
    #[must_use]
    pub fn number(number: u64) -> Reference<'static> {
        Reference(Cow::Owned(number.to_string()))
    }

    /// The `ref` whose JSON text is `raw`; `None` unless that is one number or string of at most
    /// [`Reference::MAX_BYTES`], without white space around it.
    #[must_use]
    pub fn from_json(raw: &'a str) -> Option<Reference<'a>> {
        let scalar = matches!(raw.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'));
        let one_value = scalar && raw.len() <= Self::MAX_BYTES && crate::json::is_one_value(raw);
        one_value.then_some(Reference(Cow::Borrowed(raw)))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The same `ref`, independent of the message it came in.
    #[must_use]
    pub fn into_owned(self) -> Reference<'static> {
        Reference(Cow::Owned(self.0.into_owned()))
    }
}

/// From where a subscription replays before it goes live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since<'a> {
    /// Everything the history holds: `"all"`.
    All,
    /// The last so many messages: `{"last":10}`.
    Last(u64),
    /// What came after this offset: `"<epoch>:<offset>"`.
    After {
        /// The epoch the offset belongs to; not empty.
        epoch: Cow<'a, str>,
        /// The offset of the last message the client has.
        offset: u64,
    },
}

impl<'a> Since<'a> {
    /// `all` or `<epoch>:<offset>`.
    pub(crate) fn parse(text: Cow<'a, str>) -> Option<Self> {
        if text == "all" {
            return Some(Since::All);
        }
        // An epoch is opaque and may hold a colon of its own; an offset cannot.
        let colon = text.rfind(':').filter(|&colon| colon > 0)?;
        let offset = crate::json::whole_number(&text[colon + 1..])?;
        let epoch = match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..colon]),
            Cow::Owned(mut text) => {
                text.truncate(colon);
                Cow::Owned(text)
            }
        };
        Some(Since::After { epoch, offset })
    }
}

/// What to do with messages for a subscriber whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlowPolicy {
    /// Close the connection with [`close::SLOW_CONSUMER`](crate::close::SLOW_CONSUMER).
    Close,
    /// Drop the message that does not fit.
    DropNew,
    /// Drop the oldest messages that wait.
    DropOld,
    /// Keep only the latest message of each `key`.
    Latest,
}

impl SlowPolicy {
    /// The policy as it is written in options.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SlowPolicy::Close => "close",
            SlowPolicy::DropNew => "drop-new",
            SlowPolicy::DropOld => "drop-old",
            SlowPolicy::Latest => "latest",
        }
    }

    /// The policy written `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<SlowPolicy> {
        match word {
            "close" => Some(SlowPolicy::Close),
            "drop-new" => Some(SlowPolicy::DropNew),
            "drop-old" => Some(SlowPolicy::DropOld),
            "latest" => Some(SlowPolicy::Latest),
            _ => None,
        }
    }
}

/// What a client asks for.
///
/// Strings borrow from the message wherever they were written without escapes. Topics and filters are not judged here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// Deliver what is published to topics the filter matches.
    Sub {
        /// The filter.
        filter: Cow<'a, str>,
        /// The client's `ref`.
        reference: Option<Reference<'a>>,
        /// What to replay first.
        since: Option<Since<'a>>,
        /// What to do when this subscriber is slow.
        slow: Option<SlowPolicy>,
    },
    /// Deliver no longer.
    Unsub {
        /// The filter of the subscription, as it was written in the `sub`.
        filter: Cow<'a, str>,
        /// The client's `ref`.
        reference: Option<Reference<'a>>,
    },
    /// Deliver a payload to the subscribers of a topic.
    Pub {
        /// The topic.
        topic: Cow<'a, str>,
        /// What to deliver.
        payload: Payload<'a>,
        /// The client's `ref`.
        reference: Option<Reference<'a>>,
        /// Whether later subscribers get it too.
        retain: bool,
        /// Whether the publisher's own matching subscriptions get it; true unless the client says otherwise.
        echo: bool,
        /// What this message is the latest state of, for [`SlowPolicy::Latest`].
        key: Option<Cow<'a, str>>,
        /// By which a repeated publish is known.
        id: Option<Cow<'a, str>>,
    },
    /// Replace the connection's credentials.
    Auth {
        /// The bearer token. Not for logs.
        token: Cow<'a, str>,
        /// The client's `ref`.
        reference: Option<Reference<'a>>,
    },
    /// Answer `pong`.
    Ping,
}

impl<'a> Command<'a> {
    /// The client's `ref`, if the command carries one.
    #[must_use]
    pub fn reference(&self) -> Option<&Reference<'a>> {
        match self {
            Command::Sub { reference, .. }
            | Command::Unsub { reference, .. }
            | Command::Pub { reference, .. }
            | Command::Auth { reference, .. } => reference.as_ref(),
            Command::Ping => None,
        }
    }
}

macro_rules! verbs {
    ($($name:ident = $word:literal ($($operand:literal),*), options $options:literal;)+) => {
        /// The verbs a client may use.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Verb {
            $(
                #[doc = concat!("`", $word, "`")]
                $name,
            )+
        }

        impl Verb {
            /// Every verb, in the order of the protocol's reference.
            pub const ALL: &[Verb] = &[$(Verb::$name),+];

            /// The verb as it is written.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Verb::$name => $word,)+
                }
            }

            /// The verb written `word`.
            #[must_use]
            pub fn parse(word: &str) -> Option<Verb> {
                match word {
                    $($word => Some(Verb::$name),)+
                    _ => None,
                }
            }

            /// What stands after the verb and before the options.
            #[must_use]
            pub const fn operands(self) -> &'static [&'static str] {
                match self {
                    $(Verb::$name => &[$($operand),*],)+
                }
            }

            /// Whether an options object may follow the operands.
            #[must_use]
            pub const fn takes_options(self) -> bool {
                match self {
                    $(Verb::$name => $options,)+
                }
            }
        }
    };
}

verbs! {
    Sub = "sub" ("a filter"), options true;
    Unsub = "unsub" ("a filter"), options true;
    Pub = "pub" ("a topic", "a payload"), options true;
    Auth = "auth" ("a token"), options true;
    Ping = "ping" (), options false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_tables_is_read_back() {
        for &verb in Verb::ALL {
            assert_eq!(Verb::parse(verb.as_str()), Some(verb));
        }
        for kind in [Kind::Json, Kind::Text, Kind::Binary] {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        for policy in [
            SlowPolicy::Close,
            SlowPolicy::DropNew,
            SlowPolicy::DropOld,
            SlowPolicy::Latest,
        ] {
            assert_eq!(SlowPolicy::parse(policy.as_str()), Some(policy));
        }
        assert_eq!(
            (Verb::parse("SUB"), Kind::parse(""), SlowPolicy::parse("drop")),
            (None, None, None)
        );
    }

    #[test]
    fn a_reference_is_one_number_or_string_of_bounded_length() {
        for good in ["0", "-1.5e3", r#""""#, r#""a\u0041""#] {
            assert_eq!(
                Reference::from_json(good).map(|r| r.as_json().to_owned()).as_deref(),
                Some(good)
            );
        }
        for bad in [
            "", "null", "true", "[1]", "{}", "01", "1 ", " 1", "1,2", r#""a"#, r#""a"b"#,
        ] {
            assert_eq!(Reference::from_json(bad), None, "{bad}");
        }
        let longest = format!("\"{}\"", "x".repeat(Reference::MAX_BYTES - 2));
        assert!(Reference::from_json(&longest).is_some());
        let too_long = format!("\"{}\"", "x".repeat(Reference::MAX_BYTES - 1));
        assert_eq!(Reference::from_json(&too_long), None);
        assert_eq!(
            Reference::number(7).into_owned(),
            Reference::from_json("7").expect("a number")
        );
    }
}
