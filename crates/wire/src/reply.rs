//! What the broker says, as a client reads it.

use std::borrow::Cow;

use crate::command::{Payload, Reference};

/// What an `ok` reply tells beside the `ref`; nothing, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details<'a> {
    /// The epoch of the topic's history.
    pub epoch: Option<Cow<'a, str>>,
    /// The offset of the published message, or the latest one of the subscribed topic.
    pub offset: Option<u64>,
    /// Whether the replay that was asked for was complete.
    pub recovered: Option<bool>,
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The first message of every multiplexed connection.
    Hello {
        /// The name of this connection at the broker, for logs and support.
        session: Cow<'a, str>,
        /// The largest message the broker takes, in bytes.
        max_message: u64,
        /// How often the broker pings, in milliseconds.
        ping_ms: u64,
    },
    /// A delivery.
    Message {
        /// The topic it was published to.
        topic: Cow<'a, str>,
        /// What was published. The JSON encoding does not tell a text from a JSON string: both arrive here as
        /// [`Kind::Json`](crate::Kind::Json), to be read with [`Payload::text`].
        payload: Payload<'a>,
        /// The offset in the topic's history, if it keeps one.
        offset: Option<u64>,
    },
    /// A command with a `ref` was carried out.
    Ok {
        /// The `ref` of the command.
        reference: Reference<'a>,
        /// More about it.
        details: Details<'a>,
    },
    /// A command was refused.
    Err {
        /// The `ref` of the command, if it had a readable one.
        reference: Option<Reference<'a>>,
        /// The code, to be compared with [`Code`](crate::Code); a newer broker may use others.
        code: Cow<'a, str>,
        /// The reason, for a person.
        text: Cow<'a, str>,
    },
    /// Messages of a subscription were dropped by its slow policy.
    Lag {
        /// The filter of the subscription.
        filter: Cow<'a, str>,
        /// How many were dropped.
        dropped: u64,
    },
    /// The broker is about to close the connection.
    Bye {
        /// The close code that will follow, see [`close`](crate::close).
        code: u16,
        /// The reason, for a person.
        text: Cow<'a, str>,
        /// How long to wait before coming back, in milliseconds; already spread at random.
        retry_ms: u64,
    },
    /// The answer to `ping`.
    Pong,
}
