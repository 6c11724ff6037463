//! Load generator for WebSocket publish/subscribe brokers: ours, and any that speaks one of the protocols here.
//!
//! ```text
//!   Plan ──▶ run ──▶ thread × n                                                        ──▶ Report
//!    │               │ Dialer:    TCP connections, from as many addresses as it takes
//!    Scenario        │ Exchange:  the driver and its connections, bytes out and in
//!    Protocol        │ Session:   TLS, if any, between the two
//!    Load            │ Publisher, Churner: what goes out now, each by its Schedule (window, rate, steps)
//!                    │ Probe:     what was taken in where nobody receives, by pings
//!                    │ Tally:     every delivery checked (Checker), counted (Ledger) and timed, by step (Timeline)
//!                    └ Landings:  which messages every thread's subscribers have, shared by atomics
//! ```
//!
//! What it is: connections on io_uring (on epoll where there is none), as many as asked for, and a check that every subscriber receives every message once
//! and in order. A message carries its publisher, its number and its intended time of sending; a delivery costs a few
//! dozen nanoseconds and no allocation, so that the broker is what is measured. Latencies are taken from the intended time:
//! a message that had to wait to be sent does not escape ("coordinated omission").
//!
//! What it is not: a benchmark suite. It measures one [`Plan`]; [`compare`] puts two reports side by side.
//!
//! Start reading at [`Scenario`] and [`run`], then `thread.rs`. A new protocol is a row in `protocol.rs`.
#![forbid(unsafe_code)]

mod agenda;
mod check;
mod churner;
mod clock;
mod compare;
mod compression;
mod connector;
mod dial;
mod effort;
mod error;
mod exchange;
mod file;
mod gate;
mod hearing;
mod ledger;
mod load;
mod machine;
mod mqtt;
mod nats;
mod operations;
mod page;
mod payload;
mod peer;
mod plan;
mod probe;
mod process;
mod progress;
mod protocol;
mod publisher;
mod pulse;
mod recall;
mod report;
mod run;
mod scenario;
mod schedule;
mod shared;
mod slow;
mod summary;
mod tally;
mod text;
mod thread;
mod timeline;
mod tls;

pub use check::Faults;
pub use compare::{CompareError, compare};
pub use compression::Compression;
pub use error::Error;
pub use file::{FileError, ScenarioFile, Setting, nearest};
pub use gate::Gate;
pub use load::{Load, Segment};
pub use machine::Machine;
pub use plan::{Extent, Plan, PlanError, Token};
pub use progress::Bar;
pub use protocol::Protocol;
pub use report::{
    Generator, Latency, Opening, OperationsReport, Report, Server, Setup, StepOperations, StepReport, Tick,
};
pub use run::{Progress, run};
pub use scenario::{Beside, Scenario};
pub use slow::SlowReport;
pub use tidecast_client::{Tls, TlsError, TlsVersion, Trust};
pub use tidecast_websocket::Version;
pub use tidecast_wire::SlowPolicy;
pub use tls::TlsReport;
