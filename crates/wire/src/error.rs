//! Why a command was refused, as the client is told.

use std::borrow::Cow;

use crate::command::Reference;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// The code of an `err` reply.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Code] = &[$(Code::$name),+];

            /// The code as it is written on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $word,)+
                }
            }

            /// The code written `word`; `None` for one this version does not know.
            #[must_use]
            pub fn parse(word: &str) -> Option<Code> {
                match word {
                    $($word => Some(Code::$name),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// The message is not JSON, or not a command of the right shape.
    BadMessage = "bad_message",
    /// The first element names no command of this version.
    UnknownVerb = "unknown_verb",
    /// The topic or filter breaks the grammar or a limit.
    BadTopic = "bad_topic",
    /// The credentials do not permit this.
    Forbidden = "forbidden",
    /// The credentials are missing, wrong or expired.
    Unauthorized = "unauthorized",
    /// The message, or something in it, is larger than the broker takes.
    TooLarge = "too_large",
    /// Too many commands in too short a time.
    RateLimited = "rate_limited",
    /// What the command refers to does not exist.
    NotFound = "not_found",
    /// The broker cannot take this now.
    Overloaded = "overloaded",
    /// The broker failed; the client is not to blame.
    Internal = "internal",
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that was refused: what an `err` reply is made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct Error<'a> {
    /// What kind of refusal it is.
    pub code: Code,
    /// The `ref` of the refused command, when it could be read.
    pub reference: Option<Reference<'a>>,
    /// What was wrong and what to do about it, for a person.
    pub text: Cow<'static, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back_from_its_word() {
        for &code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
        assert_eq!(Code::parse("no_such_code"), None);
    }
}
