//! What a token claims, once its signature is known to be right.

use serde_json::{Map, Value};

use crate::denied::Denied;
use crate::template::shown;
use crate::when::UnixSeconds;

/// The claims of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Claims<'a> {
    /// The claim of this name. Where no claim is called `a.b`, the `b` of the object `a` is meant: names that are
    /// addresses have dots too.
    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        let Claims(object) = self;
        object.get(name).or_else(|| {
            let mut dots = name.match_indices('.');
            dots.find_map(|(at, _)| Claims(object.get(&name[..at])?.as_object()?).get(&name[at + 1..]))
        })
    }

    /// A claim that is text, if it is there.
    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, Denied> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "is no string")),
        }
    }

    /// A claim that is a string or a list of strings, if it is there.
    pub(crate) fn texts(self, name: &str) -> Result<Option<Vec<&'a str>>, Denied> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text])),
            Some(Value::Array(items)) => {
                let texts: Option<_> = items.iter().map(Value::as_str).collect();
                texts
                    .map(Some)
                    .ok_or_else(|| wrong(name, "has an item that is no string"))
            }
            Some(_) => Err(wrong(name, "is neither a string nor a list of strings")),
        }
    }

    /// A claim that is a moment, if it is there. Fractions of a second are allowed, and cut off.
    pub(crate) fn moment(self, name: &str) -> Result<Option<UnixSeconds>, Denied> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        // As an `f64` a moment before the year 9999 is exact to less than a millisecond.
        let seconds = value.as_f64().ok_or_else(|| wrong(name, "is no number of seconds"))?;
        if seconds < 0.0 {
            Err(wrong(name, "is before 1970"))
        } else if seconds > UnixSeconds::LAST.0 as f64 {
            Err(wrong(
                name,
                "is past the year 9999: it counts seconds, not milliseconds",
            ))
        } else {
            Ok(Some(UnixSeconds(seconds as u64)))
        }
    }
}

fn wrong(claim: &str, problem: &'static str) -> Denied {
    Denied::Claim {
        claim: shown(claim),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(json: &str, read: impl FnOnce(Claims<'_>) -> T) -> T {
        read(Claims(&serde_json::from_str(json).expect("an object")))
    }

    #[test]
    fn a_name_with_dots_is_a_claim_or_a_way_to_one() {
        let json = r#"{"a":{"b":{"c":"deep"},"b.d":"dotted"},"https://x.org/t":{"y":"address"},"a.e":"whole"}"#;
        for (name, value) in [
            ("a.b.c", Some("deep")),
            ("a.b.d", Some("dotted")),
            ("a.e", Some("whole")),
            ("https://x.org/t.y", Some("address")),
            ("a.x", None),
            ("a.b.c.d", None),
            (".", None),
            ("", None),
        ] {
            let found = with(json, |claims| claims.text(name).map(|text| text.map(str::to_owned)));
            assert_eq!(found, Ok(value.map(str::to_owned)), "{name}");
        }
    }

    #[test]
    fn claims_of_another_type_are_refused_by_their_name() {
        let json = r#"{"n":1,"l":["a",1],"o":{},"f":1700000000.9,"past":-1,"ms":1700000000000,"s":"1","null":null}"#;
        with(json, |claims| {
            assert_eq!(claims.moment("f"), Ok(Some(UnixSeconds(1_700_000_000))));
            assert_eq!(claims.moment("n"), Ok(Some(UnixSeconds(1))));
            for name in ["past", "ms", "s", "o", "null"] {
                let error = claims.moment(name).expect_err(name).to_string();
                assert!(error.contains(&format!("{name:?}")), "{error}");
            }
            for name in ["n", "l", "o", "null"] {
                assert!(claims.text(name).is_err() && claims.texts(name).is_err(), "{name}");
            }
            assert_eq!(claims.texts("s"), Ok(Some(vec!["1"])));
            assert_eq!(claims.texts("missing"), Ok(None));
        });
    }
}
