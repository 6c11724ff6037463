//! Load generator for WebSocket publish/subscribe brokers.
//!
//! ```text
//!   Plan ──▶ run ──▶ thread × n                                                        ──▶ Report
//!                    │ Publisher: what goes out now, by its Schedule (window or rate)
//!                    │ Exchange:  the ring and its connections, bytes out and in
//!                    │ Tally:     every delivery checked (Checker), counted (Ledger) and timed
//!                    └ Landings:  which messages every thread's subscribers have, shared by atomics
//! ```
//!
//! What it is: connections on io_uring, as many as asked for, that publish to one topic and check that every subscriber
//! receives every message once and in order. A message carries its publisher, its number and its intended time of
//! sending; a delivery costs a few dozen nanoseconds and no allocation, so that the broker is what is measured.
//! Latencies are taken from the intended time: a message that had to wait to be sent does not escape ("coordinated
//! omission").
//!
//! What it is not: a benchmark suite. It measures one [`Plan`]; comparing is up to the caller.
//!
//! Start reading at [`run`], then `thread.rs`.
#![forbid(unsafe_code)]

mod check;
mod clock;
mod error;
mod exchange;
mod ledger;
mod payload;
mod peer;
mod plan;
mod process;
mod progress;
mod publisher;
mod recall;
mod report;
mod run;
mod schedule;
mod shared;
mod tally;
mod thread;

pub use check::Faults;
pub use error::Error;
pub use plan::{Compression, Extent, Load, Plan, PlanError, Protocol};
pub use progress::Bar;
pub use report::{Generator, Latency, Report, Server, Setup};
pub use run::{Progress, run};
pub use tidecast_websocket::Version;
