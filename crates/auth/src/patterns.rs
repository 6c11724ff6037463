//! What may be published or subscribed to.

use tidecast_router::{Filter, Limits, Topic};

use crate::settings::SettingsError;
use crate::template::{PatternError, Template};

/// The most patterns of one list: each publish to a new topic looks at them one by one.
const MOST_PATTERNS: usize = 256;

/// Topics, said by filters: those that one of them matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Filters(Box<[Filter]>),
}

impl Patterns {
    /// Every topic, also those that start with `$` and that no filter matches together with others.
    #[must_use]
    pub fn all() -> Patterns {
        Patterns(Kind::All)
    }

    /// No topic.
    #[must_use]
    pub fn none() -> Patterns {
        Patterns::from_iter([])
    }

    /// Those that are written at `place`, with `identity` for `{sub}`.
    ///
    /// # Errors
    /// One of them is no pattern, or the identity cannot stand in it, or there are too many; the place of the error is
    /// `place[0]` for example.
    pub fn new(
        place: &str,
        texts: &[String],
        identity: Option<&str>,
        topics: &Limits,
    ) -> Result<Patterns, SettingsError> {
        let templates = templates(place, texts, topics)?;
        let expanded = templates.iter().enumerate().map(|(number, template)| {
            template
                .expand(|name| identity.filter(|_| name == "sub"), topics)
                .map_err(|error| SettingsError::new(format!("{place}[{number}]"), error))
        });
        expanded.collect()
    }

    /// Whether `topic` is among them.
    #[must_use]
    pub fn permits_topic(&self, topic: Topic<'_>) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Filters(filters) => filters.iter().any(|filter| filter.matches(topic)),
        }
    }

    /// Whether every topic that `filter` matches is among them, and one pattern alone says so. A shared subscription is
    /// judged by the filter in it.
    #[must_use]
    pub fn permits_filter(&self, filter: &Filter) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Filters(patterns) => patterns.iter().any(|pattern| pattern.covers(filter)),
        }
    }

    /// Whether it is every topic.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self.0, Kind::All)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(&self.0, Kind::Filters(filters) if filters.is_empty())
    }

    /// The filters; `None` if it is every topic.
    #[must_use]
    pub fn filters(&self) -> Option<&[Filter]> {
        match &self.0 {
            Kind::All => None,
            Kind::Filters(filters) => Some(filters),
        }
    }
}

impl FromIterator<Filter> for Patterns {
    fn from_iter<I: IntoIterator<Item = Filter>>(filters: I) -> Patterns {
        Patterns(Kind::Filters(filters.into_iter().collect()))
    }
}

/// The patterns that are written at `place`.
pub(crate) fn templates(place: &str, texts: &[String], topics: &Limits) -> Result<Vec<Template>, SettingsError> {
    check_count(texts.len()).map_err(|error| SettingsError::new(place, error))?;
    let parse = |(number, text): (usize, &String)| {
        Template::parse(text, topics).map_err(|error| SettingsError::new(format!("{place}[{number}]"), error))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// Whether there may be that many patterns in a list.
pub(crate) fn check_count(count: usize) -> Result<(), PatternError> {
    if count > MOST_PATTERNS {
        return Err(PatternError::TooMany {
            count,
            most: MOST_PATTERNS,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::parse(text, &Limits::default()).expect(text)
    }

    fn permits(patterns: &Patterns, topic: &str) -> bool {
        patterns.permits_topic(Topic::parse(topic, &Limits::default()).expect(topic))
    }

    #[test]
    fn a_subscription_is_permitted_if_one_pattern_covers_it() {
        let patterns: Patterns = ["public/#", "chat/+/in"].map(filter).into_iter().collect();
        for text in ["public", "public/+/x", "$share/g/public/a", "chat/1/in", "chat/+/in"] {
            assert!(patterns.permits_filter(&filter(text)), "{text}");
        }
        for text in ["#", "+", "+/+/in", "chat/#", "chat/+/+", "$share/g/#", "$SYS/#"] {
            assert!(!patterns.permits_filter(&filter(text)), "{text}");
        }
        assert!(permits(&patterns, "chat/1/in") && !permits(&patterns, "chat/1/out"));
    }

    #[test]
    fn all_is_more_than_the_widest_filter_and_none_is_nothing() {
        let widest: Patterns = [filter("#")].into_iter().collect();
        assert!(permits(&widest, "a") && !permits(&widest, "$SYS/a"));
        assert!(permits(&Patterns::all(), "$SYS/a") && Patterns::all().permits_filter(&filter("$SYS/#")));
        assert!(!permits(&Patterns::none(), "a") && !Patterns::none().permits_filter(&filter("a")));
        assert!(Patterns::none().is_none() && !widest.is_none() && !Patterns::all().is_none());
    }
}
