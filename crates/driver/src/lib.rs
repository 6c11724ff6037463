//! Completion I/O, on io_uring or on epoll: the only system calls of tidecast's data plane.
//!
//! ```text
//!                       Driver: slots, tokens, turn()
//!                 ┌────────────────┴────────────────┐
//!      uring      │ queued, one enter per turn      │      epoll     one call for each, readiness remembered
//!                 │ kernel fills provided buffers   │                a filler fills the same buffers
//!                 └────────────────┬────────────────┘
//!                  Completion { token, result, data: Lease }
//! ```
//!
//! What it is: a [`Driver`] per thread, on io_uring where there is one and on epoll elsewhere ([`Kind::best`]). Both accept and tell
//! who the peer is, receive into buffers shared by all connections, send in batches, and are woken by other threads. An idle
//! connection holds no buffer.
//!
//! What it is not: an async runtime. Nothing here allocates per operation, owns connections or knows protocols.
//!
//! The invariant that keeps it simple: **no memory of the caller is visible to the kernel once [`Driver::turn`] has
//! returned.** Sends are attempted at once and never parked in the kernel; what did not fit is reported and sent again when
//! the socket is writable.
//!
//! Start reading at [`Driver::turn`]; then at `uring.rs`, or at `epoll.rs`, which has nothing that the other needs.

mod accepts;
mod buffers;
mod cores;
mod driver;
mod epoll;
mod error;
mod socket;
mod token;
mod uring;
mod wake;

pub use buffers::Lease;
pub use cores::{allowed_cores, descriptor_limit, pin_to_core, thread_cpu_time};
pub use driver::{Completion, Config, Driver, Kind, Wait};
pub use error::{SetupError, SystemFacts};
pub use socket::{ListenError, Listener, listen};
pub use token::{Op, Token};
pub use wake::Waker;
