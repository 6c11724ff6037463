//! A pattern as it is written: a filter in which `{sub}` stands for who asks.

use std::borrow::Cow;

use tidecast_router::{Filter, Limits, TopicError};

/// How much of a pattern an error shows.
const SHOWN: usize = 80;

/// A filter with names in braces, each of which stands for a part of a level that is known only when somebody asks.
///
/// `{{` and `}}` are the braces themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing is left open.
    Closed(Filter),
    Open {
        text: Box<str>,
        parts: Box<[Part]>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Name(Box<str>),
}

/// Why a pattern says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It breaks the grammar of filters, or a limit.
    #[error("the pattern {pattern:?} is not valid: {error}")]
    Grammar {
        /// The pattern, or its start.
        pattern: String,
        /// What is wrong and where.
        error: TopicError,
    },
    /// It is a shared subscription.
    #[error("the pattern {pattern:?} names a group; leave $share/<group>/ out: who may subscribe may share")]
    Shared {
        /// The pattern, or its start.
        pattern: String,
    },
    /// A brace without its other half.
    #[error("the pattern {pattern:?} has a brace alone; write {{sub}}, or {{{{ and }}}} for the characters themselves")]
    Brace {
        /// The pattern, or its start.
        pattern: String,
    },
    /// A name that stands for nothing.
    #[error("the pattern {pattern:?} needs {name:?}, which is not known of this client or is no text")]
    Missing {
        /// The pattern, or its start.
        pattern: String,
        /// The name in braces.
        name: String,
    },
    /// What a name stands for would change what the pattern means.
    #[error("the pattern {pattern:?} cannot be used with this {name:?}, which {problem}")]
    Value {
        /// The pattern, or its start.
        pattern: String,
        /// The name in braces.
        name: String,
        /// What is wrong with the value.
        problem: &'static str,
    },
    /// More patterns than anybody looks through.
    #[error("there are {count} patterns, {most} are the most; use wildcards")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

impl Template {
    /// Checks that `text` is a pattern.
    ///
    /// # Errors
    /// It is no filter, whatever its names stand for, or its braces do not match.
    pub fn parse(text: &str, limits: &Limits) -> Result<Template, PatternError> {
        let parts = split(text)?;
        let names = parts.iter().any(|part| matches!(part, Part::Name(_)));
        let template = Template(Kind::Open {
            text: text.into(),
            parts: parts.into_boxed_slice(),
        });
        // One character for each name: whatever is wrong then is wrong with any value.
        let filter = template.expand(|_| Some("x"), limits)?;
        Ok(if names {
            template
        } else {
            Template(Kind::Closed(filter))
        })
    }

    /// Whether it says the same for everybody.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.0, Kind::Closed(_))
    }

    /// The filter, `value` giving what a name stands for.
    ///
    /// A value fills its part of a level and nothing else, or it is an error: it is not empty, has no `/`, `+`, `#` or
    /// U+0000, and does not make the topic one that starts with `$`.
    ///
    /// # Errors
    /// There is no value for a name, or it is none that can be used, or the filter becomes too long.
    pub fn expand<'v>(&self, value: impl Fn(&str) -> Option<&'v str>, limits: &Limits) -> Result<Filter, PatternError> {
        let (text, parts) = match &self.0 {
            Kind::Closed(filter) => return Ok(filter.clone()),
            Kind::Open { text, parts } => (text, parts),
        };
        let mut expanded = String::new();
        for part in parts {
            match part {
                Part::Text(text) => expanded.push_str(text),
                Part::Name(name) => {
                    let error = |problem| PatternError::Value {
                        pattern: shown(text),
                        name: shown(name),
                        problem,
                    };
                    let value = value(name).ok_or_else(|| PatternError::Missing {
                        pattern: shown(text),
                        name: shown(name),
                    })?;
                    if value.is_empty() {
                        return Err(error("is empty"));
                    } else if value.contains(['/', '+', '#', '\0']) {
                        return Err(error("contains one of / + # and U+0000"));
                    } else if expanded.is_empty() && value.starts_with('$') {
                        return Err(error("starts with $, as only the broker's own topics do"));
                    }
                    expanded.push_str(value);
                }
            }
        }
        let filter = Filter::parse(&expanded, limits).map_err(|error| PatternError::Grammar {
            pattern: shown(&expanded),
            error,
        })?;
        if filter.share_group().is_some() {
            return Err(PatternError::Shared {
                pattern: shown(&expanded),
            });
        }
        Ok(filter)
    }
}

/// The parts of a pattern, none of them empty.
fn split(text: &str) -> Result<Vec<Part>, PatternError> {
    let alone = || PatternError::Brace { pattern: shown(text) };
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        if let Some(behind) = behind.strip_prefix(&rest[at..=at]) {
            literal.push_str(&rest[at..=at]);
            rest = behind;
            continue;
        }
        let (name, behind) = behind.split_once('}').ok_or_else(alone)?;
        if rest[at..].starts_with('}') || name.is_empty() || name.contains('{') {
            return Err(alone());
        }
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal).into()));
        }
        parts.push(Part::Name(name.into()));
        rest = behind;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(parts)
}

/// As much of a text as is good to read.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: Cow<'_, str> = text.into();
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        shown = format!("{}…", &text[..end]).into();
    }
    shown.into_owned()
}

#[cfg(test)]
mod tests {
    use tidecast_router::TopicErrorKind;

    use super::*;

    fn expand(pattern: &str, value: Option<&str>) -> Result<String, PatternError> {
        let template = Template::parse(pattern, &Limits::default())?;
        let filter = template.expand(|name| value.filter(|_| name == "sub"), &Limits::default())?;
        Ok(filter.as_str().to_owned())
    }

    #[test]
    fn names_in_braces_stand_for_their_values() {
        for (pattern, value, expected) in [
            ("users/{sub}/#", "ann", "users/ann/#"),
            ("{sub}", "ann", "ann"),
            ("u-{sub}.{sub}/+", "é", "u-é.é/+"),
            ("a/{sub}", "$x", "a/$x"),
            ("a/{{sub}}/}}", "ann", "a/{sub}/}"),
            ("+/#", "ann", "+/#"),
            ("a/{sub}", "{sub}", "a/{sub}"),
        ] {
            assert_eq!(expand(pattern, Some(value)).as_deref(), Ok(expected), "{pattern}");
        }
        assert!(
            Template::parse("a/{{b}}", &Limits::default())
                .expect("closed")
                .is_closed()
        );
    }

    #[test]
    fn a_value_never_makes_a_pattern_wider() {
        for value in ["", "/", "a/b", "+", "#", "a#", "a\0", "$share", "$SYS"] {
            let error = expand("{sub}/a", Some(value)).expect_err(value);
            assert!(matches!(error, PatternError::Value { .. }), "{value}: {error}");
        }
        assert!(matches!(expand("{sub}/a", None), Err(PatternError::Missing { .. })));
        assert!(matches!(
            expand("{subject}/a", Some("x")),
            Err(PatternError::Missing { .. })
        ));
        let long = "x".repeat(300);
        let error = expand("users/{sub}", Some(&long)).expect_err("too long");
        assert!(
            matches!(&error, PatternError::Grammar { error, .. } if error.kind == TopicErrorKind::TooLong { max: 255 })
        );
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[test]
    fn what_is_no_pattern_is_refused_whoever_may_ask() {
        for pattern in ["", "a#", "#/a", "a\0", "{sub}+", "{sub}#", "a/b+"] {
            let error = Template::parse(pattern, &Limits::default()).expect_err(pattern);
            assert!(matches!(error, PatternError::Grammar { .. }), "{pattern}: {error}");
        }
        for pattern in ["{", "}", "a/{sub", "a/sub}", "{}", "{{sub}", "{a{b}", "}a}", "{a}}"] {
            let error = Template::parse(pattern, &Limits::default()).expect_err(pattern);
            assert!(matches!(error, PatternError::Brace { .. }), "{pattern}: {error}");
        }
        let shared = Template::parse("$share/g/a", &Limits::default()).expect_err("a group");
        assert!(matches!(shared, PatternError::Shared { .. }), "{shared}");
        assert!(
            Template::parse("$share/{sub}/a", &Limits::default()).is_err(),
            "also where the group is open"
        );
    }
}
