//! The binary encoding, subprotocol `tidecast.bin.v1`: packets, of which a binary message holds one or more.
//!
//! ```text
//!   message   packet packet …
//!   packet    type: u8 · length: varint · body          varint: LEB128, at most 64 bits
//!   string    length: varint · UTF-8
//! ```
//!
//! What a payload is stands in one byte before it, so nothing is escaped and nothing scanned but JSON payloads, which
//! are checked when they are published. A `ref` is a number here, and 0 stands for none.
//!
//! Start reading at [`Packets`], then [`parse`].

mod encode;
mod parse;
mod read;

pub use encode::{bye, command, err, hello, lag, message, ok, pong};
pub use parse::{parse, parse_reply};
pub use read::{Packet, Packets};

use crate::command::{Kind, SlowPolicy};

/// The name of this encoding as a WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "tidecast.bin.v1";

macro_rules! types {
    ($($name:ident = $number:literal,)+) => {
        /// What a packet is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Type {
            $($name = $number,)+
        }

        impl Type {
            /// The type of this number; `None` for one that this version does not know.
            fn of(number: u8) -> Option<Type> {
                match number {
                    $($number => Some(Type::$name),)+
                    _ => None,
                }
            }
        }
    };
}

types! {
    Msg = 0x01,
    Pub = 0x02,
    Sub = 0x03,
    Unsub = 0x04,
    Ok = 0x05,
    Err = 0x06,
    Lag = 0x07,
    Hello = 0x08,
    Bye = 0x09,
    Ping = 0x0a,
    Pong = 0x0b,
    Auth = 0x0c,
}

/// Kinds by their numbers.
const KINDS: [Kind; 3] = [Kind::Json, Kind::Text, Kind::Binary];

/// Slow policies by their numbers; 0 leaves the choice to the broker, whose own is `close`.
const SLOW: [Option<SlowPolicy>; 4] = [
    None,
    Some(SlowPolicy::DropNew),
    Some(SlowPolicy::DropOld),
    Some(SlowPolicy::Latest),
];

/// Flags of PUB.
const RETAIN: u64 = 1;
const NO_ECHO: u64 = 2;
const KEY: u64 = 4;
const ID: u64 = 8;

/// Flags of SUB: the slow policy stands in two bits above the first.
const SINCE: u64 = 1;
const SLOW_SHIFT: u32 = 1;
