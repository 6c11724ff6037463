//! In-process publish/subscribe with MQTT's topics: a lock-free router, and a hub on top of it.
//!
//! ```text
//! &str ──► Filter::parse ──► Router::subscribe ─────► SubscriptionId
//! &str ──► Topic::parse ───► Router::for_each_match ──► every S whose filter matches,
//!                                                       one of every group that shares
//! ```
//!
//! A [`Router<S>`] maps filters with wildcards to subscribers of any small type: in the broker the
//! numbers of worker threads, in a program that embeds it whatever it delivers to. Matching takes
//! no lock and writes nothing shared, and an answer can be kept while
//! [`Router::generation`] stays the same. What a message is, and how it is delivered, is not known
//! there.
//!
//! A [`Hub<T>`] is a router whose subscribers have bounded queues, with a policy for each on what to
//! do when it is full, and who may block, poll, await or be called:
//!
//! ```text
//! Hub::publish ──► Message ──┬─► the ring of a filter ──► all Subscriptions that read it
//!   (topic, value)  (shared) ├─► a queue of its own ────► a Subscription
//!                            ├─► one of a group
//!                            └─► a callback
//! ```
//!
//! [`Topic`] and [`Filter`] hold MQTT's grammar; they are checked once, when the text comes in, so
//! that nothing behind them fails. Start reading at
//! [`Hub`] to use it, at [`Router`] and [`algorithm`] to understand it.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod algorithm;
mod group;
mod hub;
#[allow(unsafe_code)]
mod lockfree;
mod router;
mod sync;
mod topic;

// The oracle test is part of the unit tests too, and calls the crate by its name.
#[cfg(test)]
extern crate self as tidecast_router;
#[cfg(test)]
#[path = "../tests/oracle.rs"]
mod oracle;

pub use group::{Group, Load, SharedOptions, Strategy};
pub use hub::{
    Callback, Hub, HubOptions, Iter, Overflow, Publisher, Received, RecvError, RecvTimeoutError, RetainError,
    SubscribeOptions, Subscription, TryRecvError,
};
pub use lockfree::cells::Message;
pub use router::{FilterHash, Route, Router, SubscriptionId};
pub use topic::{Filter, Levels, Limits, Topic, TopicError, TopicErrorKind};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
