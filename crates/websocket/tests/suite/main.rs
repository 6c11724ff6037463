//! The WebSocket crate from outside: what its users can rely on, in every version, however the octets are cut.

mod closing;
mod deflate_stream;
mod errors;
mod handshake;
mod masking;
mod messages;
mod oracle;
mod parts;
mod permessage;
mod pool;
mod roundtrip;
mod support;
mod timeouts;
mod urls;
mod vectors;
