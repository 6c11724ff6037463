//! Completion I/O on io_uring: the only system calls of tidecast's data plane.
//!
//! ```text
//!            operations queued                 one enter per turn
//!   accept ─┐                              ┌──────────────────────────┐
//!   receive ┼─▶ submission queue ──turn()─▶│ kernel: sends run inline, │─▶ Completion { token, result, data }
//!   close ──┘        ▲                     │ receives fill provided    │        │
//!                    └── sends (borrowed)  │ buffers                   │        └─ Lease: a filled buffer that
//!                                          └──────────────────────────┘           goes home when dropped
//! ```
//!
//! What it is: a [`Ring`] per thread over *direct descriptors* (slots of the ring's own file table, which do not count
//! against the process's descriptor limit), accepts that tell who the peer is, multishot receive, a ring of provided buffers
//! shared by all connections, batched sends, and wake-ups across threads.
//!
//! What it is not: an async runtime. Nothing here allocates per operation, owns connections or knows protocols.
//!
//! The invariant that keeps it simple: **no memory of the caller is visible to the kernel once [`Ring::turn`] has
//! returned.** Sends are attempted at once and never parked in the kernel (`MSG_DONTWAIT`); what did not fit is
//! reported and sent again when the socket is writable. Only provided buffers and places for peers' addresses, which the
//! driver owns, stay with the kernel.
//!
//! Start reading at [`Ring::turn`].

mod accepts;
mod buffers;
mod cores;
mod error;
mod ring;
mod socket;
mod token;
mod wake;

pub use buffers::Lease;
pub use cores::{allowed_cores, descriptor_limit, pin_to_core, thread_cpu_time};
pub use error::{SetupError, SystemFacts};
pub use ring::{Completion, Config, Ring, Wait};
pub use socket::{ListenError, Listener, listen};
pub use token::{Op, Token};
pub use wake::{RingHandle, Waker};
