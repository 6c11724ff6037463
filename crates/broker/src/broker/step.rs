//! What comes after a command, and what is said about one that is refused.

use std::borrow::Cow;

use tidecast_router::TopicError;
use tidecast_wire::Code;

use crate::permit::{Progress, Withheld};
use crate::target::describe;

/// What comes after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next one.
    Next,
    /// The same one again, once it is known whether it is permitted.
    Wait,
    /// Nothing: the session is to be closed.
    End,
}

impl Step {
    /// What comes after a command that is not carried out.
    pub(super) fn withheld(withheld: Withheld, code: Code) -> Result<Step, Refusal> {
        match withheld {
            Withheld::Refused(reason) => Err(Refusal::new(code, reason)),
            Withheld::Full(reason) => Err(Refusal::new(Code::Overloaded, reason)),
            Withheld::Unknown => Ok(Step::Wait),
        }
    }
}

impl From<Step> for Progress {
    /// Of a message that is one command.
    fn from(step: Step) -> Progress {
        match step {
            Step::Next | Step::End => Progress::Done,
            Step::Wait => Progress::WaitsAt(0),
        }
    }
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub code: Code,
    /// The same for people, and what to do about it.
    pub text: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            code,
            text: text.into(),
        }
    }

    pub(super) fn topic(text: &str, error: TopicError) -> Refusal {
        Refusal::new(Code::BadTopic, describe(text, error))
    }
}
