//! A list of what one specification requires.

use serde::Deserialize;

/// The words that make a sentence a requirement (RFC 2119).
const KEYWORDS: [&str; 3] = ["MUST", "SHALL", "REQUIRED"];

/// One specification.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// What citations call it.
    pub(crate) name: String,
    /// The numbers of its sections.
    pub(crate) sections: Vec<String>,
    #[serde(rename = "requirement")]
    pub(crate) requirements: Vec<Requirement>,
}

/// One thing it requires.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requirement {
    /// Unique in its document.
    pub(crate) id: String,
    pub(crate) section: String,
    pub(crate) binds: Side,
    /// The specification's own words.
    pub(crate) words: String,
    /// Why no test can prove it, or why it does not concern us.
    pub(crate) exception: Option<String>,
    /// Why it is not met.
    pub(crate) gap: Option<String>,
    /// Why no line of code quotes it, though it is met.
    pub(crate) nowhere: Option<String>,
}

/// Who has to do what is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Client,
    Server,
    Both,
    /// Neither: intermediaries, and authors of extensions.
    Others,
}

impl Document {
    /// Reads a list.
    pub(crate) fn parse(list: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(list)
    }
}

/// Whether `words` require something.
pub(crate) fn requires(words: &str) -> bool {
    words
        .split(|c: char| !c.is_ascii_alphabetic())
        .any(|word| KEYWORDS.contains(&word))
}

/// `words` with single spaces, as lines are broken anywhere.
pub(crate) fn normalised(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
