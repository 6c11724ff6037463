//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the command line: the flag, and its value if it has one.
    Flag(String),
    /// In the environment: the variable.
    Variable(String),
    /// In a file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// The key, with the section before it.
        key: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(flag) => f.write_str(flag),
            Place::Variable(name) => f.write_str(name),
            Place::File {
                path,
                line,
                column,
                key,
            } => {
                write!(f, "{}:{line}:{column}", path.display())?;
                if key.is_empty() { Ok(()) } else { write!(f, ": {key}") }
            }
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; nowhere in particular, if there is no place.
    pub place: Option<Place>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// A configuration that cannot be used: everything that is wrong with it, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

impl ConfigError {
    /// One problem.
    pub(crate) fn one(place: Option<Place>, message: impl Into<String>) -> ConfigError {
        ConfigError(vec![Problem {
            place,
            message: message.into(),
        }])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n  ")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
