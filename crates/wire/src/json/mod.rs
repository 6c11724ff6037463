//! The JSON encoding, subprotocol `tidecast.json.v1`: one JSON array per text message, the verb first.
//!
//! A payload is skipped over once, checked on the way and passed on byte for byte; it is never turned into a value and
//! back. So the scanner is our own ([RFC 8259] grammar, iterative, bounded depth, no allocation); everything with
//! escapes in it goes through `serde_json`.
//!
//! [RFC 8259]: https://www.rfc-editor.org/rfc/rfc8259

mod encode;
mod parse;
mod reply;
mod scan;

pub use encode::{bye, command, err, hello, lag, message, ok, pong, published, request_error};
pub(crate) use encode::{bye_object, details_object, hello_object};
pub use parse::parse;
pub(crate) use parse::since;
pub use reply::parse_reply;
pub(crate) use reply::{details, hello as parse_hello};

use std::borrow::Cow;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The name of this encoding as a WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "tidecast.json.v1";

/// How deep arrays and objects may stand in each other in a payload.
///
/// A delivery wraps the payload in one array more, and many parsers, `serde_json` among them, give up at 128 levels: what is
/// accepted from a publisher must be readable for every subscriber.
pub const MAX_DEPTH: u32 = 120;

/// The standard alphabet; padding is written, and not insisted upon when reading.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether `bytes` are one JSON value, in UTF-8, nested at most [`MAX_DEPTH`] deep; white space around it is allowed.
#[must_use]
pub fn is_valid(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut scanner = scan::Scanner::new(text);
    scanner.value().is_ok() && scanner.end().is_ok()
}

/// Whether `text` is one JSON value and nothing else, not even white space.
pub(crate) fn is_one_value(text: &str) -> bool {
    scan::Scanner::new(text)
        .value()
        .is_ok_and(|value| value.len() == text.len())
}

/// The string whose JSON text, quotes included, is `raw`; `None` if `raw` is no string, or one whose escapes name half a
/// surrogate pair and so no character.
pub(crate) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// What the JSON text `raw` is, for error messages.
fn type_name(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) => "a number",
        None => "nothing",
    }
}

/// A whole number of at most 64 bits, in digits alone.
pub(crate) fn whole_number(raw: &str) -> Option<u64> {
    raw.parse().ok().filter(|_| !raw.starts_with('+'))
}

fn boolean(raw: &str) -> Option<bool> {
    match raw {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_value_with_white_space_around_it() {
        assert!(is_valid(b" {\"a\":[1,2.5e-3,true,null,\"\\u00e9\"]}\r\n\t"));
        assert!(!is_valid(b""));
        assert!(!is_valid(b"1 2"));
        assert!(!is_valid(b"\"\xff\""));
    }

    #[test]
    fn a_string_without_escapes_is_borrowed_and_half_a_surrogate_pair_is_none() {
        assert!(matches!(string(r#""abc""#), Some(Cow::Borrowed("abc"))));
        assert_eq!(string(r#""a\n\ud83d\ude00""#).as_deref(), Some("a\n😀"));
        assert_eq!(string(r#""\ud83d""#), None);
        assert_eq!(string("\""), None);
        assert_eq!(string("12"), None);
    }
}
