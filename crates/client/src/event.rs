//! What a session says, and what is said to it.

use std::time::{Duration, Instant};

use tidecast_wire::{Kind, Payload};

use crate::error::{Error, Refusal};

/// What happens on a [`Session`](crate::Session), in the order it happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message that was published to a topic which a subscription matches.
    Message(Delivery),
    /// The broker dropped messages of the subscription `filter`, because this client is slow.
    Lag {
        /// The filter of the subscription.
        filter: String,
        /// How many.
        dropped: u64,
    },
    /// The broker refused something that nobody waited for: mostly a [`publish`](crate::Session::publish).
    Refused(Refusal),
    /// A subscription ended: the broker refused it after a reconnection.
    Unsubscribed {
        /// The filter of the subscription.
        filter: String,
        /// Why.
        refusal: Refusal,
    },
    /// The broker is about to close the connection.
    Bye {
        /// The close code that will follow, see [`wire::close`](tidecast_wire::close).
        code: u16,
        /// Why, for a person.
        text: String,
        /// How long it asks to be left alone.
        retry: Duration,
    },
    /// The connection was lost, or could not be had again; the session comes back. Commands without an answer failed, and
    /// what was published without confirmation may be lost.
    Lost {
        /// Why.
        error: Error,
        /// When it will try again.
        retry_at: Instant,
    },
    /// The connection is back, and all subscriptions are on their way to the broker. What was published in the meantime was
    /// not received.
    Reconnected,
}

/// A message, as it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The topic it was published to.
    pub topic: String,
    /// What was published. A text arrives as a JSON string, see [`Payload::text`].
    pub payload: Payload<'static>,
    /// The offset in the topic's history, if it keeps one.
    pub offset: Option<u64>,
}

/// What the broker said of itself when the connection came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name of this connection at the broker, for logs and support.
    pub session: String,
    /// The largest message the broker takes, in bytes.
    pub max_message: u64,
    /// How often the broker pings.
    pub ping: Duration,
}

/// A message to publish, with all that can be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The bytes.
    pub payload: &'a [u8],
    /// What they are.
    pub kind: Kind,
    /// Whether later subscribers get it too.
    pub retain: bool,
    /// Whether this session's own subscriptions get it.
    pub echo: bool,
    /// What this is the latest state of, for subscribers that are slow and want only that.
    pub key: Option<&'a str>,
    /// By which a repetition is known.
    pub id: Option<&'a str>,
}

impl<'a> Publish<'a> {
    /// An ordinary message: not retained, echoed, without key and id.
    pub fn new(topic: &'a str, payload: &'a [u8], kind: Kind) -> Publish<'a> {
        Publish {
            topic,
            payload,
            kind,
            retain: false,
            echo: true,
            key: None,
            id: None,
        }
    }
}
