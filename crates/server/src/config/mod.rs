//! Settings: what there is, where it comes from, and what it comes to.
//!
//! ```text
//!   settings: name, kind, default, range, documentation ──▶ flags, variables, the help, the example file
//!        │
//!   file ◀ environment ◀ flags ──▶ Loaded: values, and where each was written ──▶ Resolved: all is decided
//! ```

mod admission;
pub(crate) mod field;
pub mod kind;
mod listen;
mod network;
mod outside;
mod problem;
mod resolve;
mod settings;
mod show;
mod source;

pub use field::Meta;
pub use kind::{Shape, parse_bytes, parse_time};
pub use listen::{Listen, Origin};
pub use network::Network;
pub use problem::{ConfigError, Place, Problem};
pub use resolve::Machine;
pub(crate) use resolve::Resolved;
pub use settings::{
    Auth, ClientTable, Config, LISTS, Limits, ListenerTable, LogFormat, LogLevel, SECTIONS, Section, Server, Timeouts,
    TlsTable, TokenTable, TopicTable, WebSocket,
};
pub use show::{Flag, example, flags};
pub use source::{FILE_VARIABLE, Loaded, Sources};

#[cfg(test)]
mod tests;
