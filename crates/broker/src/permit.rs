//! Commands that somebody else has a say in.

use std::borrow::Cow;

/// Why a command that the client's grant permits is not carried out, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It is refused, for this reason.
    Refused(Cow<'static, str>),
    /// There is no room for it, for this reason; later there may be.
    Full(Cow<'static, str>),
    /// Whether it is permitted is not known yet.
    Unknown,
}

/// How far a message was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To its end.
    Done,
    /// Up to this octet, where a command begins of which is not [known](Withheld::Unknown) whether it is permitted. Nothing of
    /// it was done: what is left of the message is to be handled again once it is known, and nothing that the session sends
    /// before that.
    WaitsAt(usize),
}
