//! Topics, filters and a lock-free topic router.
#![deny(unsafe_code)]

pub mod algorithm;
#[allow(unsafe_code)]
mod lockfree;
mod router;
mod sync;
mod topic;

pub use router::{Router, SubscriptionId};
pub use topic::{Filter, Levels, Limits, Topic, TopicError, TopicErrorKind};
