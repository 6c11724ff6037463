//! What threads share apart from the tree: a value with versions, a message, a ring of messages.
//!
//! Each file states the invariants its `unsafe` leans on; none leans on another's.

mod message;
mod ring;
pub(crate) mod sync;
mod versioned;

pub use message::Message;
pub(crate) use ring::{Handover, Join, Reader, Ring, Taken};
pub(crate) use versioned::Versioned;
