//! WebSocket for server and client without I/O: hybi-06, hybi-07, 8 and RFC 6455.
#![forbid(unsafe_code)]

mod accept;
mod assembly;
pub mod code;
mod connection;
mod dialect;
mod error;
mod frame;
pub mod http;
mod input;
mod limits;
mod server;
mod state;
mod time;

pub use connection::{Connection, Event, MaskingKey, TimedOut};
pub use dialect::{Version, Versions};
pub use error::Error;
pub use frame::{HeaderBytes, MAX_CONTROL, MAX_HEADER, Opcode, encode_fragment, encode_frame, encode_header};
pub use input::Input;
pub use limits::Limits;
pub use server::{Upgrade, UpgradeError};
pub use state::State;
pub use time::{Millis, Timing};
