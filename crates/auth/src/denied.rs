//! Why credentials are refused.

use crate::algorithm::Algorithm;
use crate::template::PatternError;
use crate::when::UnixSeconds;

/// What is wrong with credentials. `Display` says so to whoever presented them, without repeating them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// More bytes than any token has.
    #[error("the token has {bytes} bytes, {most} are the most")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// It is no token that was handed out here, and no JSON Web Token either or none is taken.
    #[error("the token is not known")]
    UnknownToken,
    /// It is no JSON Web Token, or a broken one.
    #[error("the token is not whole: {0}")]
    Malformed(&'static str),
    /// It was signed in a way that no key here is for.
    #[error("the token is signed with {given:?}, which is not allowed here: {}", one_of_algorithms(.allowed))]
    Algorithm {
        /// What its header says, or the start of it.
        given: String,
        /// What could be allowed.
        allowed: Vec<Algorithm>,
    },
    /// Its header demands what is not understood.
    #[error("the token has critical header parameters (crit), and none are understood here")]
    Critical,
    /// None of the keys has the name that its header gives.
    #[error("the token is signed with the key {kid:?}, which is none of the {known} known keys")]
    UnknownKey {
        /// The `kid` of the header, or its start.
        kid: String,
        /// How many keys are known.
        known: usize,
    },
    /// Nobody who has one of the keys signed it like this.
    #[error("the signature of the token is wrong")]
    Signature,
    /// It is over.
    #[error("the token expired at {at}; it is {now}")]
    Expired {
        /// When it ended.
        at: UnixSeconds,
        /// The time here.
        now: UnixSeconds,
    },
    /// It is for later.
    #[error("the token is not valid before {from}; it is {now}")]
    NotYet {
        /// When it begins.
        from: UnixSeconds,
        /// The time here.
        now: UnixSeconds,
    },
    /// It would never be over.
    #[error("the token has no expiry (exp), which is required here")]
    NoExpiry,
    /// It is for somebody else.
    #[error("the token is for the audience {given:?}, and {}", one_of_names(.expected, "no audience is expected here"))]
    Audience {
        /// Its audiences; empty if it names none.
        given: Vec<String>,
        /// Those that are expected here.
        expected: Vec<String>,
    },
    /// It is from somebody else.
    #[error("the token is from the issuer {given:?}, and {}", one_of_names(.expected, "any is taken here"))]
    Issuer {
        /// Its issuer, if it names one.
        given: Option<String>,
        /// Those that are expected here.
        expected: Vec<String>,
    },
    /// A claim is not what it has to be.
    #[error("the claim {claim:?} of the token {problem}")]
    Claim {
        /// Its name.
        claim: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What it may do cannot be understood.
    #[error("what the token permits to {what} cannot be granted: {error}")]
    Patterns {
        /// `publish` or `subscribe`.
        what: &'static str,
        /// Why.
        error: PatternError,
    },
    /// It was good when it was shown, and is not any more.
    #[error(transparent)]
    Withdrawn(#[from] Withdrawn),
    /// No rule is for this certificate.
    #[error("no rule is for the certificate of {0:?}")]
    Certificate(String),
}

/// What credentials rested on, and settings have taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Withdrawn {
    /// The token itself, which was handed out.
    #[error("the token has been withdrawn")]
    Token,
    /// The key that signed it, or tokens of its kind at all.
    #[error("the key that signed the token is not trusted any more")]
    Key,
    /// Whom it is from.
    #[error("the issuer of the token is not trusted any more")]
    Issuer,
    /// Whom it is for.
    #[error("the audience of the token is not expected here any more")]
    Audience,
    /// That it has no end.
    #[error("tokens without an end are not taken any more")]
    Endless,
}

fn one_of_algorithms(algorithms: &[Algorithm]) -> String {
    match algorithms {
        [] => "there are no keys".to_owned(),
        [one] => format!("it has to be {one}"),
        several => format!(
            "it has to be one of {}",
            several.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn one_of_names(names: &[String], none: &str) -> String {
    match names {
        [] => none.to_owned(),
        [one] => format!("{one:?} is expected"),
        several => format!("one of {several:?} is expected"),
    }
}
