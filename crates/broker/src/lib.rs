//! What a command means: sessions, subscriptions, publishing. No I/O, no clock, no threads.
//!
//! ```text
//!                 command                      ┌─ Output::reply      a reply for one session
//!   session ────────────────▶ ┌────────┐ ──────┼─ Output::encode     once per message and rendition
//!                             │ Broker │       ├─ Output::deliver    once per subscriber, with what encode gave
//!   other workers ──────────▶ └───┬────┘       ├─ Output::forward    once per message, to the workers that want it
//!            message              │            └─ Output::close
//!                     ┌───────────┴──────────┐
//!                     │ Shared: the router   │  filter ─▶ lists of workers, read without locks
//!                     └──────────────────────┘
//! ```
//!
//! There is one [`Broker`] per worker and one [`Shared`] per process. A broker knows the sessions of its worker and the
//! lists of those that subscribe to each filter; the shared router leads to such lists of all workers, and to the members
//! of groups that share a filter (`$share/<group>/<filter>`), of which the publishing worker picks one for each message.
//! What is done with replies and deliveries is the caller's business: it implements [`Output`].
//!
//! # What a connection costs
//!
//! In bytes on 64-bit machines, those of `malloc` included:
//!
//! | | |
//! |---|---:|
//! | a session | 56 |
//! | each of its subscriptions, by steps of two | 8 to 12 |
//! | the first subscriber of a worker to a filter: its list | 16 |
//! | and in the router | 24, the filter's text, and 5 to 10 for its part of a leaf |
//! | any other: its entry in the list | 12 to 24 |
//!
//! So ten subscriptions to filters of a connection's own, of 13 bytes each, take some 700 bytes: the text of an exact
//! filter lies in the router and nowhere else, and the broker keeps four bytes that lead to it. (A filter with wildcards has
//! about 100 bytes more, and as much again for each level that no other filter has.) The sizes are asserted where the types
//! are, and what all subscriptions take is to be had from [`Broker::memory`].
//!
//! Start reading at [`Broker::handle_text`], then [`Broker::handle_forwarded`].
#![forbid(unsafe_code)]

mod broker;
mod delivery;
mod directory;
mod encode;
mod index;
mod message;
mod permit;
mod routes;
mod rules;
mod run;
mod session;
mod shared;
mod shares;
mod slab;
mod slow;
mod subscriber;
mod tap;
mod target;
mod top;
mod workers;

pub use broker::{
    Allowance, Broker, FilterPage, Limits, Output, RENDITIONS, Refusal, SessionSummary, Stats, Subscription,
};
pub use encode::{Encoding, encode};
pub use message::{Kept, Message, OwnedMessage};
pub use permit::{Progress, Withheld};
pub use rules::{Access, BoundsId, MOST_RULES, Rule, Rules};
pub use session::{Language, SessionId};
pub use shared::Shared;
pub use slow::Slow;
pub use tap::{MOST_TAPS, Tap};
pub use target::{Mode, Target, TargetError};
pub use tidecast_auth as auth;
pub use tidecast_router::{Filter, Limits as TopicLimits, Strategy};
pub use tidecast_wire::{self as wire, SlowPolicy};
pub use top::TopicCount;
pub use workers::WorkerSet;
