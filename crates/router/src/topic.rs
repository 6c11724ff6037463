//! Topics and filters: MQTT's grammar, checked once when a name comes in.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// How long topics and filters may be.
///
/// `max_levels` fits a byte so that whatever walks level by level may recurse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The longest topic or filter, in bytes of UTF-8.
    pub max_bytes: u16,
    /// The most levels; of a shared subscription, those of the filter in it.
    pub max_levels: u8,
}

impl Default for Limits {
    /// 255 bytes, 16 levels.
    fn default() -> Self {
        Limits {
            max_bytes: 255,
            max_levels: 16,
        }
    }
}

/// Where a topic or filter breaks the grammar, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (at byte {at})")]
pub struct TopicError {
    /// What is wrong.
    pub kind: TopicErrorKind,
    /// The offset of the first byte that is wrong.
    pub at: usize,
}

/// What is wrong with a topic or filter; its `Display` says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicErrorKind {
    /// There is nothing.
    Empty,
    /// More bytes than [`Limits::max_bytes`].
    TooLong {
        /// The limit.
        max: u16,
    },
    /// More levels than [`Limits::max_levels`].
    TooManyLevels {
        /// The limit.
        max: u8,
    },
    /// U+0000.
    Nul,
    /// A wildcard in a topic.
    Wildcard,
    /// A `+` that shares its level with other characters.
    PlusNotAlone,
    /// A `#` that shares its level with other characters.
    HashNotAlone,
    /// A `#` that is not the last level.
    HashNotLast,
    /// A shared subscription whose group is empty or holds a wildcard.
    ShareGroup,
    /// A shared subscription without a filter.
    ShareFilter,
}

impl fmt::Display for TopicErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty; name at least one level",
            Self::TooLong { max } => return write!(f, "too long; at most {max} bytes are allowed"),
            Self::TooManyLevels { max } => {
                return write!(f, "too many levels; at most {max} are allowed");
            }
            Self::Nul => "the character U+0000 is not allowed; remove it",
            Self::Wildcard => "a topic has no wildcards; `+` and `#` are for filters only",
            Self::PlusNotAlone => "`+` stands for one whole level; put `/` around it",
            Self::HashNotAlone => "`#` stands for whole levels; put `/` before it",
            Self::HashNotLast => "`#` stands for all levels below; remove what follows it",
            Self::ShareGroup => "`$share/` is followed by the name of a group without wildcards",
            Self::ShareFilter => "`$share/<group>/` is followed by a filter",
        })
    }
}

/// The levels of a topic or filter, in order.
#[derive(Debug, Clone)]
pub struct Levels<'a> {
    /// What is left; `None` after the last level, which may be empty.
    rest: Option<&'a str>,
}

impl<'a> Levels<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Levels { rest: Some(text) }
    }

    /// The levels that are left as they were written.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest.unwrap_or("")
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        // Levels are short: a loop beats what finds a byte in long texts.
        match rest.bytes().position(|byte| byte == b'/') {
            Some(at) => {
                self.rest = Some(&rest[at + 1..]);
                Some(&rest[..at])
            }
            None => self.rest.take(),
        }
    }
}

impl std::iter::FusedIterator for Levels<'_> {}

/// A valid topic: where a message is published.
///
/// Levels are separated by `/` and may be empty, as in MQTT: `/a` has two levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic<'a>(&'a str);

impl<'a> Topic<'a> {
    /// Checks that `text` is a topic.
    ///
    /// # Errors
    /// Where and how it is not.
    pub fn parse(text: &'a str, limits: &Limits) -> Result<Self, TopicError> {
        check_size(text, limits)?;
        let mut levels = 1;
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'/' => levels = next_level(levels, at, limits)?,
                0 => {
                    return Err(TopicError {
                        kind: TopicErrorKind::Nul,
                        at,
                    });
                }
                b'+' | b'#' => {
                    return Err(TopicError {
                        kind: TopicErrorKind::Wildcard,
                        at,
                    });
                }
                _ => {}
            }
        }
        Ok(Topic(text))
    }

    /// The topic as it was written.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels, at least one.
    #[must_use]
    pub fn levels(self) -> Levels<'a> {
        Levels::of(self.0)
    }

    /// Whether filters that start with a wildcard leave this topic out: it starts with `$`.
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A valid filter: which topics a subscriber wants.
///
/// `+` stands for exactly one level, a trailing `#` for the parent and everything below it. A
/// filter that starts with a wildcard does not match a topic that starts with `$`.
///
/// `$share/<group>/<filter>` is a shared subscription: [`matches`](Filter::matches),
/// [`covers`](Filter::covers), [`intersects`](Filter::intersects), [`levels`](Filter::levels) and
/// [`is_exact`](Filter::is_exact) are those of the filter in it, and two groups are two filters. Cheap
/// to clone.
#[derive(Clone)]
pub struct Filter {
    text: Arc<str>,
    /// Where the filter to match begins: behind the `/` after the group, or 0.
    start: u16,
}

const SHARE: &str = "$share";

impl Filter {
    /// Checks that `text` is a filter.
    ///
    /// # Errors
    /// Where and how it is not.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, TopicError> {
        check_size(text, limits)?;
        let start = shared_filter_start(text)?;
        let mut levels = 1;
        let bytes = text.as_bytes();
        for (at, &byte) in bytes.iter().enumerate().skip(start) {
            let begins = at == start || bytes[at - 1] == b'/';
            let ends = bytes.get(at + 1).is_none_or(|&next| next == b'/');
            let kind = match byte {
                b'/' => {
                    levels = next_level(levels, at, limits)?;
                    continue;
                }
                0 => TopicErrorKind::Nul,
                b'+' if !begins || !ends => TopicErrorKind::PlusNotAlone,
                b'#' if !begins || !ends => TopicErrorKind::HashNotAlone,
                b'#' if at + 1 < bytes.len() => TopicErrorKind::HashNotLast,
                _ => continue,
            };
            return Err(TopicError { kind, at });
        }
        let start = u16::try_from(start).expect("the text is at most u16::MAX bytes long");
        Ok(Filter {
            text: text.into(),
            start,
        })
    }

    /// A filter that was parsed before, has no wildcards and is not shared.
    pub(crate) fn of_exact(text: &str) -> Self {
        Filter {
            text: text.into(),
            start: 0,
        }
    }

    /// The filter as it was written, group and all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The group of a shared subscription.
    #[must_use]
    pub fn share_group(&self) -> Option<&str> {
        let group = SHARE.len() + 1;
        (self.start > 0).then(|| &self.text[group..usize::from(self.start) - 1])
    }

    /// The levels to match, at least one; wildcards among them are `"+"` and `"#"`.
    #[must_use]
    pub fn levels(&self) -> Levels<'_> {
        Levels::of(self.pattern())
    }

    /// Whether there are no wildcards, so that it matches the one topic of the same levels.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.pattern().contains(['+', '#'])
    }

    /// Whether a subscriber with this filter wants `topic`.
    #[must_use]
    pub fn matches(&self, topic: Topic<'_>) -> bool {
        if topic.is_reserved() && self.pattern().starts_with(['+', '#']) {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            if level == "#" {
                return true;
            }
            match names.next() {
                Some(name) if level == "+" || level == name => {}
                // `a/#` matches `a` too.
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// Whether every topic that `other` matches is matched by this filter too, so that whoever may have all that this one
    /// matches may have `other`. What holds for topics of any length is said; limits do not count.
    #[must_use]
    pub fn covers(&self, other: &Filter) -> bool {
        if self.leaves_out(other) {
            return false;
        }
        let mut others = other.levels_of_topics();
        for level in self.levels_of_topics() {
            if level == "#" {
                return true;
            }
            match others.next() {
                // `#` stands for the parent and for any number of levels, which no single level does.
                None | Some("#") => return false,
                Some(other) if level == "+" || level == other => {}
                Some(_) => return false,
            }
        }
        others.next().is_none()
    }

    /// Whether there is a topic that both filters match.
    #[must_use]
    pub fn intersects(&self, other: &Filter) -> bool {
        if self.leaves_out(other) || other.leaves_out(self) {
            return false;
        }
        let (mut levels, mut others) = (self.levels_of_topics(), other.levels_of_topics());
        loop {
            match (levels.next(), others.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(level), Some(other)) if level == other || level == "+" || other == "+" => {}
                _ => return false,
            }
        }
    }

    /// Whether all that `other` matches is left out here, for it starts with `$` and this filter with a wildcard.
    fn leaves_out(&self, other: &Filter) -> bool {
        self.pattern().starts_with(['+', '#']) && other.pattern().starts_with('$')
    }

    /// The same as [`levels`](Filter::levels) for every topic there is: none has no level, or is one empty level.
    fn levels_of_topics(&self) -> Levels<'_> {
        Levels::of(match self.pattern() {
            "#" => "+/#",
            "/#" => "/+/#",
            pattern => pattern,
        })
    }

    /// What is matched: the text without `$share/<group>/`.
    fn pattern(&self) -> &str {
        &self.text[usize::from(self.start)..]
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for Filter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Filter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

/// A filter in a map can be found by its text.
impl std::borrow::Borrow<str> for Filter {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_size(text: &str, limits: &Limits) -> Result<(), TopicError> {
    let max = limits.max_bytes;
    if text.is_empty() {
        Err(TopicError {
            kind: TopicErrorKind::Empty,
            at: 0,
        })
    } else if text.len() > usize::from(max) {
        Err(TopicError {
            kind: TopicErrorKind::TooLong { max },
            at: usize::from(max),
        })
    } else {
        Ok(())
    }
}

/// The number of levels behind the `/` at `at`.
fn next_level(levels: u8, at: usize, limits: &Limits) -> Result<u8, TopicError> {
    let max = limits.max_levels;
    if levels < max {
        Ok(levels + 1)
    } else {
        Err(TopicError {
            kind: TopicErrorKind::TooManyLevels { max },
            at,
        })
    }
}

/// Where in `text` the filter to match begins.
fn shared_filter_start(text: &str) -> Result<usize, TopicError> {
    let Some(rest) = text
        .strip_prefix(SHARE)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    else {
        return Ok(0);
    };
    let start = SHARE.len() + 1;
    let group = rest.get(1..).unwrap_or("").split('/').next().unwrap_or("");
    if let Some(at) = group.find('\0') {
        return Err(TopicError {
            kind: TopicErrorKind::Nul,
            at: start + at,
        });
    }
    if let Some(at) = group.find(['+', '#']) {
        return Err(TopicError {
            kind: TopicErrorKind::ShareGroup,
            at: start + at,
        });
    }
    if group.is_empty() {
        let at = start.min(text.len());
        return Err(TopicError {
            kind: TopicErrorKind::ShareGroup,
            at,
        });
    }
    let start = start + group.len() + 1;
    if start >= text.len() {
        return Err(TopicError {
            kind: TopicErrorKind::ShareFilter,
            at: text.len(),
        });
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic<'_> {
        Topic::parse(text, &Limits::default()).expect(text)
    }

    fn filter(text: &str) -> Filter {
        Filter::parse(text, &Limits::default()).expect(text)
    }

    #[test]
    fn filters_match_as_mqtt_says() {
        for (pattern, matching, others) in [
            ("a", vec!["a"], vec!["b", "a/", "/a", "A", "aa"]),
            ("a/b", vec!["a/b"], vec!["a", "a/b/c", "a/", "a//b"]),
            ("+", vec!["a", "é"], vec!["a/b", "/", "$SYS"]),
            ("/+", vec!["/a", "/"], vec!["a", "/a/b"]),
            ("+/+", vec!["/", "a/b", "/b"], vec!["a", "$SYS/a", "a/b/c"]),
            ("a/+/c", vec!["a/b/c", "a//c"], vec!["a/c", "a/b/b/c", "a/b"]),
            ("#", vec!["a", "a/b", "/", "a//"], vec!["$SYS", "$SYS/a"]),
            ("a/#", vec!["a", "a/", "a/b", "a/b/c"], vec!["ab", "b/a", "/a"]),
            ("+/#", vec!["a", "a/b", "/"], vec!["$a", "$a/b"]),
            ("$SYS/#", vec!["$SYS", "$SYS/a"], vec!["$SYSA", "SYS"]),
            ("$SYS/+", vec!["$SYS/a"], vec!["$SYS"]),
            ("a/+/#", vec!["a/b", "a/$b", "a/b/c"], vec!["a"]),
        ] {
            let pattern = filter(pattern);
            for text in matching {
                assert!(pattern.matches(topic(text)), "{pattern} {text}");
            }
            for text in others {
                assert!(!pattern.matches(topic(text)), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn an_error_points_at_the_byte() {
        use TopicErrorKind::*;
        for (text, kind, at) in [
            ("", Empty, 0),
            ("a\0", Nul, 1),
            ("a/+", Wildcard, 2),
            ("#", Wildcard, 0),
            (
                "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17",
                TooManyLevels { max: 16 },
                38,
            ),
        ] {
            let error = Topic::parse(text, &Limits::default());
            assert_eq!(error, Err(TopicError { kind, at }), "{text:?}");
        }
        for (text, kind, at) in [
            ("", Empty, 0),
            ("a/b+", PlusNotAlone, 3),
            ("+a", PlusNotAlone, 0),
            ("a/b#", HashNotAlone, 3),
            ("#a", HashNotAlone, 0),
            ("a/#/b", HashNotLast, 2),
            ("é/\0", Nul, 3),
            ("$share", ShareGroup, 6),
            ("$share/", ShareGroup, 7),
            ("$share//a", ShareGroup, 7),
            ("$share/g+/a", ShareGroup, 8),
            ("$share/g", ShareFilter, 8),
            ("$share/g/", ShareFilter, 9),
            ("$share/g/a+", PlusNotAlone, 10),
            ("$share/\0/a", Nul, 7),
        ] {
            let error = Filter::parse(text, &Limits::default());
            assert_eq!(error, Err(TopicError { kind, at }), "{text:?}");
        }
    }

    #[test]
    fn an_error_says_what_to_do() {
        let error = Filter::parse("a/b+", &Limits::default()).expect_err("half a level");
        assert_eq!(
            error.to_string(),
            "`+` stands for one whole level; put `/` around it (at byte 3)"
        );
    }

    #[test]
    fn the_limits_are_inclusive() {
        let limits = Limits {
            max_bytes: 5,
            max_levels: 3,
        };
        assert!(Topic::parse("a/b/c", &limits).is_ok());
        assert!(Filter::parse("+/b/#", &limits).is_ok());
        let at = 5;
        let too_long = TopicError {
            kind: TopicErrorKind::TooLong { max: 5 },
            at,
        };
        assert_eq!(Topic::parse("aaaaaa", &limits), Err(too_long));
        assert_eq!(Filter::parse("aaaaaa", &limits), Err(too_long));
        let too_many = TopicError {
            kind: TopicErrorKind::TooManyLevels { max: 3 },
            at: 2,
        };
        assert_eq!(Topic::parse("////", &limits), Err(too_many));
        assert_eq!(Filter::parse("////", &limits), Err(too_many));
    }

    #[test]
    fn a_shared_subscription_matches_with_the_filter_in_it() {
        let shared = filter("$share/group 1/a/+");
        assert_eq!(shared.share_group(), Some("group 1"));
        assert_eq!(shared.levels().collect::<Vec<_>>(), ["a", "+"]);
        assert!(shared.matches(topic("a/b")));
        assert!(!shared.is_exact());
        assert_ne!(shared, filter("a/+"));
        assert!(filter("$share/g/$SYS").is_exact());
        assert!(!filter("$share/g/#").matches(topic("$SYS")));
        let plain = filter("$shared/g/a");
        assert_eq!(plain.share_group(), None);
        assert!(plain.matches(topic("$shared/g/a")));
    }

    #[test]
    fn filters_cover_and_meet_each_other_as_their_topics_say() {
        // One level more than any filter has, so that `#` is told from as many `+`. A filter names at most one word per
        // level, so that three say as much as all the words there are.
        let topics = texts(&["", "a", "b", "$x"], 5, false);
        let topics: Vec<_> = topics.iter().map(|text| topic(text)).collect();
        let filters: Vec<_> = texts(&["", "a", "b", "$x", "+"], 4, true)
            .iter()
            .map(|text| filter(text))
            .collect();
        assert_eq!((topics.len(), filters.len()), (1363, 935));
        // A set of topics for each filter, 64 of them to a number.
        let matched: Vec<Vec<u64>> = filters
            .iter()
            .map(|filter| {
                let bits = |topics: &[Topic<'_>]| {
                    let bit = |(at, topic): (usize, &Topic<'_>)| u64::from(filter.matches(*topic)) << at;
                    topics.iter().enumerate().map(bit).sum()
                };
                topics.chunks(64).map(bits).collect()
            })
            .collect();
        for (one, ones) in filters.iter().zip(&matched) {
            for (other, others) in filters.iter().zip(&matched) {
                let mut sets = ones.iter().zip(others);
                let covers = sets.clone().all(|(ones, others)| others & !ones == 0);
                let intersects = sets.any(|(ones, others)| ones & others != 0);
                assert_eq!(one.covers(other), covers, "{one} covers {other}");
                assert_eq!(one.intersects(other), intersects, "{one} intersects {other}");
            }
        }
    }

    /// All texts of up to `most` of these levels, with and without a `#` behind them.
    fn texts(levels: &[&str], most: usize, below: bool) -> Vec<String> {
        let mut all = Vec::new();
        let mut longest = vec![String::new()];
        for count in 1..=most {
            let slash = if count > 1 { "/" } else { "" };
            let longer =
                |text: &String| -> Vec<String> { levels.iter().map(|level| format!("{text}{slash}{level}")).collect() };
            if below {
                all.extend(longest.iter().map(|text| format!("{text}{slash}#")));
            }
            longest = longest.iter().flat_map(longer).collect();
            all.extend(longest.iter().cloned());
        }
        all.retain(|text| !text.is_empty());
        all
    }

    #[test]
    fn a_shared_subscription_is_covered_as_the_filter_in_it() {
        let shared = filter("$share/g/a/+");
        assert!(filter("a/#").covers(&shared) && filter("#").covers(&shared));
        assert!(shared.covers(&filter("a/b")) && shared.intersects(&filter("+/b")));
        assert!(filter("$share/g/#").covers(&filter("$share/other/a")));
        for text in ["$share/g/$SYS/a", "$SYS/a"] {
            assert!(!filter("#").covers(&filter(text)) && !filter("#").intersects(&filter(text)));
            assert!(filter("$SYS/#").covers(&filter(text)));
        }
    }

    #[test]
    fn a_filter_in_a_map_is_found_by_its_text() {
        let map = std::collections::HashMap::from([(filter("a/#"), 1)]);
        assert_eq!(map.get("a/#"), Some(&1));
    }
}
