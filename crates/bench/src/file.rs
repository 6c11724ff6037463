//! Scenarios in files.
//!
//! ```toml
//! scenario = "churn"
//! protocol = "json"
//! connections = 200
//! rate = "100k"
//! fanout-subscribers = 100
//! core = [1]
//! ```
//!
//! The keys are the names that settings have on the command line, where they are explained; `_` is taken for `-`. What is
//! wrong is told with its line.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

/// A file that says what to run.
#[derive(Debug, PartialEq, Eq)]
pub struct ScenarioFile {
    /// The name of the scenario.
    pub scenario: String,
    /// The line that it stands in, from 1.
    pub line: usize,
    /// Everything else, in the order of the file.
    pub settings: Vec<Setting>,
}

/// One setting of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, as on the command line.
    pub name: String,
    /// Its values, as they would be written there; none for a switch that is on.
    pub values: Vec<String>,
    /// The line that it stands in, from 1.
    pub line: usize,
}

/// A file that cannot be read as a scenario.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct FileError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl ScenarioFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is no TOML, names no scenario, or has values that no setting has.
    pub fn parse(text: &str) -> Result<ScenarioFile, FileError> {
        let line_at = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let error = |line, reason: &str| FileError {
            line,
            reason: reason.to_owned(),
        };
        let table: BTreeMap<Spanned<String>, Value> =
            Deserialize::deserialize(toml::Deserializer::parse(text).map_err(|bad| FileError {
                line: bad.span().map_or(1, |span| line_at(span.start)),
                reason: bad.message().to_owned(),
            })?)
            .map_err(|bad: toml::de::Error| FileError {
                line: bad.span().map_or(1, |span| line_at(span.start)),
                reason: bad.message().to_owned(),
            })?;
        let (mut scenario, mut settings) = (None, Vec::new());
        for (key, value) in table {
            let line = line_at(key.span().start);
            let name = key.into_inner().replace('_', "-");
            if name == "scenario" {
                let Value::String(value) = value else {
                    return Err(error(line, "the scenario is a name in quotes"));
                };
                scenario = Some((value, line));
                continue;
            }
            let values = match value {
                Value::Boolean(true) => Vec::new(),
                // A switch that is off is one that is not there.
                Value::Boolean(false) => continue,
                Value::Array(values) => {
                    let values: Option<Vec<_>> = values.iter().map(word).collect();
                    match values {
                        Some(values) if !values.is_empty() => values,
                        _ => return Err(error(line, &format!("{name} is a list of words or numbers"))),
                    }
                }
                value => match word(&value) {
                    Some(word) => vec![word],
                    None => return Err(error(line, &format!("{name} is a word, a number or a list of those"))),
                },
            };
            settings.push(Setting { name, values, line });
        }
        settings.sort_by_key(|setting| setting.line);
        let Some((scenario, line)) = scenario else {
            return Err(error(
                1,
                "there is no scenario: add a line such as scenario = \"fanout\"",
            ));
        };
        Ok(ScenarioFile {
            scenario,
            line,
            settings,
        })
    }
}

/// A value as it is written on the command line.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The one of `names` that `word` most likely stands for, if one is near.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |name: &&str| distance(word, name) <= (word.len().max(name.len()) / 3).max(1);
    names.into_iter().filter(near).min_by_key(|name| distance(word, name))
}

/// Letters to add, take away or replace to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, &against) in other.iter().enumerate() {
            let replaced = corner + usize::from(letter != against);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_in_the_order_of_the_file_with_their_lines() {
        let text = "# a storm\nscenario = \"churn\"\nrate = \"100k\"\n\nserver_pid = 12\ncore = [1, 3]\njson = true\nx = false\nzipf = 1.5\n";
        let file = ScenarioFile::parse(text).unwrap();
        assert_eq!((&*file.scenario, file.line), ("churn", 2));
        let settings: Vec<_> = file
            .settings
            .iter()
            .map(|setting| (&*setting.name, setting.values.join(" "), setting.line))
            .collect();
        assert_eq!(
            settings,
            [
                ("rate", "100k".to_owned(), 3),
                ("server-pid", "12".to_owned(), 5),
                ("core", "1 3".to_owned(), 6),
                ("json", String::new(), 7),
                ("zipf", "1.5".to_owned(), 9),
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        for (text, line, words) in [
            ("rate = 1\n", 1, "no scenario"),
            ("\nscenario = 1\n", 2, "a name in quotes"),
            ("scenario = \"echo\"\nsize = \n", 2, ""),
            ("scenario = \"echo\"\n\nurl = {a = 1}\n", 3, "url is a word"),
            ("scenario = \"echo\"\ncore = []\n", 2, "core is a list"),
            ("scenario = \"echo\"\nsize = 1\nsize = 2\n", 3, "duplicate"),
        ] {
            let error = ScenarioFile::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(error.to_string().contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        let names = ["subscribers", "publishers", "size", "rate"];
        assert_eq!(nearest("subscriber", names), Some("subscribers"));
        assert_eq!(nearest("publisers", names), Some("publishers"));
        assert_eq!(nearest("rat", names), Some("rate"));
        assert_eq!(nearest("frobnicate", names), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
    }
}
