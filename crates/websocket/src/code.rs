//! The close codes by name.
//!
//= RFC 6455#section-7.4.1
//# Endpoints MAY use the following pre-defined status codes when sending a Close frame.

/// The purpose for which the connection was opened is fulfilled.
pub const NORMAL: u16 = 1000;
/// The server is going down, or the browser has left the page.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// The peer sent a type of data that is not accepted here.
pub const UNSUPPORTED: u16 = 1003;
/// "Too large" in the versions before 13; reserved since.
pub const DRAFT_TOO_BIG: u16 = 1004;
/// The data does not fit the type of its message: text that is not UTF-8.
pub const INVALID_PAYLOAD: u16 = 1007;
/// The message violates a policy; for want of a better code.
pub const POLICY: u16 = 1008;
/// The message is larger than is accepted here.
pub const TOO_BIG: u16 = 1009;
/// The client needs an extension that the server did not accept.
pub const EXTENSION_NEEDED: u16 = 1010;
/// The server met a condition it did not expect.
pub const INTERNAL_ERROR: u16 = 1011;
/// The service restarts: come back with back-off.
pub const SERVICE_RESTART: u16 = 1012;
/// The service is overloaded: come back later.
pub const TRY_AGAIN_LATER: u16 = 1013;
