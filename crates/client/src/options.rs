//! How to connect.

use std::time::Duration;

use tidecast_websocket::Version;

/// How a [`Client`](crate::Client) connects; the default suits a current broker.
#[derive(Debug, Clone)]
pub struct Options {
    /// Subprotocols to offer, the preferred one first.
    pub protocols: Vec<String>,
    /// How long the whole opening may take, from looking the name up to the end of the handshake; also how long one
    /// write and the closing handshake may take.
    pub timeout: Duration,
    /// The version of WebSocket to speak.
    pub version: Version,
    /// The origin to claim, as a browser does for its page.
    pub origin: Option<String>,
    /// More headers for the request, for example `Authorization`.
    pub headers: Vec<(String, String)>,
    /// The largest message to accept, in bytes.
    pub max_message: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            protocols: Vec::new(),
            timeout: Duration::from_secs(10),
            version: Version::V13,
            origin: None,
            headers: Vec::new(),
            // The broker's own limit can be set higher than its default of 1 MiB; a client has one connection to spend
            // memory on.
            max_message: 64 << 20,
        }
    }
}
