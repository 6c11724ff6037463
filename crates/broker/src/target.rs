//! What a raw connection's address asks for: `/t/<topic>?mode=…&echo=…&kind=…`.

use tidecast_auth::Grant;
use tidecast_router::{Filter, Limits, Topic, TopicError};
use tidecast_wire::{Kind, SlowPolicy};

use crate::rules::Rules;

/// The directions of a raw connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It receives what is published and publishes what it sends.
    Both,
    /// It only receives.
    Subscribe,
    /// It only publishes.
    Publish,
}

/// A valid raw address.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) filter: Filter,
    pub(crate) mode: Mode,
    pub(crate) echo: bool,
    pub(crate) text_kind: Kind,
    pub(crate) slow: Option<SlowPolicy>,
}

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The topic or filter breaks the grammar or a limit.
    #[error("{0}")]
    Topic(String),
    /// A parameter has a value that it cannot have.
    #[error("{parameter}={value:?}: {expected}")]
    Parameter {
        /// The parameter's name.
        parameter: &'static str,
        /// What was given.
        value: String,
        /// What may be given.
        expected: &'static str,
    },
    /// Part of the protocol that this version does not speak.
    #[error("{0} is not available in this version of tidecast")]
    Unsupported(&'static str),
}

/// For what was found to be within its limits before.
const PARSED: Limits = Limits {
    max_bytes: u16::MAX,
    max_levels: u8::MAX,
};

impl Target {
    /// The topic or filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether the connection is to receive.
    pub fn receives(&self) -> bool {
        self.mode != Mode::Publish
    }

    /// Whether `grant` is enough for what is asked.
    ///
    /// # Errors
    /// It is not, for this reason.
    pub fn check(&self, rules: &Rules, grant: &Grant) -> Result<(), &'static str> {
        let limits = &PARSED;
        let name = self.filter.as_str();
        let may_subscribe = || rules.permit_subscribe(&self.filter, grant);
        let may_publish = || {
            let topic = Topic::parse(name, limits);
            topic.is_ok_and(|topic| rules.permit_publish(rules.of_topic(topic), name, limits, grant))
        };
        match self.mode {
            Mode::Publish if !may_publish() => Err("these credentials do not permit publishing to this topic"),
            Mode::Subscribe if !may_subscribe() => Err("these credentials do not permit this subscription"),
            Mode::Both if !may_subscribe() && may_publish() => {
                Err("these credentials only permit publishing to this topic: connect with ?mode=pub")
            }
            Mode::Both if !may_subscribe() => Err("these credentials do not permit this subscription"),
            _ => Ok(()),
        }
    }

    /// The topic of a publication by itself.
    ///
    /// # Errors
    /// What is wrong with the topic.
    pub fn publication(topic: &str, limits: &Limits) -> Result<Target, TargetError> {
        Target::new(topic, [("mode", "pub")], limits)
    }

    /// A subscription by itself: of the parameters only those count that are about receiving.
    ///
    /// # Errors
    /// What is wrong with the filter or with a parameter.
    pub fn subscription<'a>(
        filter: &str,
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
        limits: &Limits,
    ) -> Result<Target, TargetError> {
        let receiving = parameters
            .into_iter()
            .filter(|(parameter, _)| ["slow", "since"].contains(parameter));
        Target::new(filter, receiving.chain([("mode", "sub")]), limits)
    }

    /// The largest payload that may be published to it by `rules`, in bytes, if they say so.
    pub fn max_payload(&self, rules: &Rules) -> Option<usize> {
        let topic = Topic::parse(self.filter.as_str(), &PARSED).ok()?;
        rules.get(rules.of_topic(topic))?.max_payload
    }

    /// Reads the decoded `topic` of the path and the decoded parameters of the query. Parameters that are not the
    /// broker's are left to the application.
    ///
    /// # Errors
    /// What is wrong with the topic or with a parameter.
    pub fn new<'a>(
        topic: &str,
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
        limits: &Limits,
    ) -> Result<Target, TargetError> {
        let filter = Filter::parse(topic, limits).map_err(|error| TargetError::Topic(describe(topic, error)))?;
        let (mut mode, mut echo, mut text_kind, mut slow) = (Mode::Both, true, Kind::Text, None);
        for (parameter, value) in parameters {
            let wrong = |parameter, expected| TargetError::Parameter {
                parameter,
                value: value.to_owned(),
                expected,
            };
            match parameter {
                "mode" => {
                    mode = match value {
                        "sub" => Mode::Subscribe,
                        "pub" => Mode::Publish,
                        "both" => Mode::Both,
                        _ => return Err(wrong("mode", "give mode=sub, mode=pub, or leave it out for both")),
                    }
                }
                "echo" => {
                    echo = match value {
                        "0" => false,
                        "1" => true,
                        _ => {
                            return Err(wrong(
                                "echo",
                                "give echo=0 to leave out what this connection sent itself",
                            ));
                        }
                    }
                }
                "kind" => {
                    text_kind = match value {
                        "text" => Kind::Text,
                        "json" => Kind::Json,
                        _ => return Err(wrong("kind", "give kind=json or kind=text, the kind of text frames")),
                    }
                }
                "slow" => {
                    let policy = SlowPolicy::parse(value);
                    let expected = "give slow=close, slow=drop-new, slow=drop-old or slow=latest";
                    slow = Some(policy.ok_or_else(|| wrong("slow", expected))?);
                }
                "since" => return Err(TargetError::Unsupported("replay (since=...)")),
                _ => {}
            }
        }
        if mode == Mode::Publish {
            Topic::parse(topic, limits).map_err(|error| TargetError::Topic(describe(topic, error)))?;
        }
        Ok(Target {
            filter,
            mode,
            echo,
            text_kind,
            slow,
        })
    }
}

/// What is wrong with a topic or filter, with as much of it as is good to read.
pub(crate) fn describe(text: &str, error: TopicError) -> String {
    const SHOWN: usize = 80;
    if text.len() <= SHOWN {
        format!("the topic or filter {text:?} is not valid: {error}")
    } else {
        let start: String = text.chars().take(SHOWN).collect();
        format!("the topic or filter that starts with {start:?} is not valid: {error}")
    }
}
