//! How to connect.

use std::fmt;
use std::time::Duration;

use tidecast_websocket::Version;

/// How a [`Client`](crate::Client) connects; the default suits a current broker.
///
/// ```
/// use tidecast_client::{Compression, Options};
///
/// let options = Options {
///     headers: vec![("Authorization".into(), "Bearer c2VjcmV0".into())],
///     compression: Some(Compression::default()),
///     ..Options::default()
/// };
/// assert!(!format!("{options:?}").contains("c2VjcmV0"), "what may be a secret is not shown");
/// ```
#[derive(Clone)]
pub struct Options {
    /// Subprotocols to offer, the preferred one first: tokens, each once. One that is `bearer.<token>` gives a broker
    /// credentials. A [`Session`](crate::Session) offers the one it speaks instead.
    pub protocols: Vec<String>,
    /// How long the whole opening may take, from looking the name up to the end of the handshake; also how long one
    /// write, the answer to a command and the closing handshake may take.
    pub timeout: Duration,
    /// The version of WebSocket to speak.
    pub version: Version,
    /// The origin to claim, as a browser does for its page.
    pub origin: Option<String>,
    /// More headers for the request, for example `Authorization`. Those of the handshake itself, `Host` or `Origin` for
    /// example, cannot be among them.
    pub headers: Vec<(String, String)>,
    /// The largest message to accept, in bytes, inflated if it comes compressed.
    pub max_message: u32,
    /// Compression to offer; none by default. The server decides whether it is used:
    /// [`Client::is_compressed`](crate::Client::is_compressed).
    pub compression: Option<Compression>,
    /// The HTTP proxy to go through; none by default. The environment is not looked at.
    pub proxy: Option<Proxy>,
    /// Silence of the server after which it is sent a Ping; after as much again without a sign of it the connection is
    /// given up with [`Error::TimedOut`](crate::Error::TimedOut). Silence counts while a message is waited for.
    ///
    /// The default of 30 s lies above the 25 s after which a broker pings by itself, so usually none is sent.
    pub keep_alive: Option<Duration>,
    /// Whether this process may have several handshakes under way with one address at the same time. RFC 6455 forbids
    /// that to clients, so a second one waits for the first; a tool that tests a server may want otherwise.
    pub concurrent_handshakes: bool,
    /// What TLS to `wss://` URLs is spoken with; without it they are an error.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::TlsConnector>,
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
            compression: None,
            proxy: None,
            keep_alive: Some(Duration::from_secs(30)),
            concurrent_handshakes: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl fmt::Debug for Options {
    /// Names the headers, and tells what else is no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocols: Vec<_> = self.protocols.iter().map(|name| shown(name)).collect();
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Options")
            .field("protocols", &protocols)
            .field("timeout", &self.timeout)
            .field("version", &self.version)
            .field("origin", &self.origin)
            .field("headers", &headers)
            .field("max_message", &self.max_message)
            .field("compression", &self.compression)
            .field("proxy", &self.proxy)
            .field("keep_alive", &self.keep_alive)
            .field("concurrent_handshakes", &self.concurrent_handshakes)
            .finish()
    }
}

/// The name of a subprotocol without the credentials it may carry.
fn shown(protocol: &str) -> &str {
    const BEARER: &str = "bearer.";
    if protocol.starts_with(BEARER) { BEARER } else { protocol }
}

/// Compression of messages: permessage-deflate (RFC 7692), or deflate-stream for versions 6 and 7 of WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// How hard to try when sending: 1 (fast) to 9 (small).
    pub level: u8,
    /// Messages of fewer bytes are sent as they are.
    pub min_payload: usize,
    /// Whether a message that is sent may refer to those before it, where the server lets it: small ones that are alike
    /// become much smaller, at the price of up to 380 KB here and 48 KB at the server for as long as the connection
    /// lasts. A broker does not let it by default. Each message is compressed for itself otherwise, and with
    /// deflate-stream.
    pub context_takeover: bool,
}

impl Default for Compression {
    /// Level 1, which is twice as fast as 6 and for messages of a few KiB hardly larger; from 256 bytes on, where the
    /// work begins to pay; each message for itself.
    fn default() -> Compression {
        Compression {
            level: 1,
            min_payload: 256,
            context_takeover: false,
        }
    }
}

/// An HTTP proxy that opens tunnels with `CONNECT`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`, for example `Basic dXNlcjpwYXNzd29yZA==`.
    pub authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    /// Tells whether there are credentials, and not which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("authorization", &self.authorization.as_ref().map(|_| "..."))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_of_a_proxy_are_not_shown() {
        let proxy = Proxy {
            host: "proxy".into(),
            port: 3128,
            authorization: Some("Basic c2VjcmV0".into()),
        };
        let shown = format!("{proxy:?}");
        assert!(shown.contains("3128") && !shown.contains("c2VjcmV0"), "{shown}");
    }

    #[test]
    fn options_are_shown_without_what_may_be_a_secret() {
        let options = Options {
            protocols: vec!["bearer.c2VjcmV0".into(), "chat".into()],
            headers: vec![("Authorization".into(), "Bearer c2VjcmV0".into())],
            ..Options::default()
        };
        let shown = format!("{options:?}");
        assert!(shown.contains(r#"["bearer.", "chat"]"#), "{shown}");
        assert!(shown.contains(r#"["Authorization"]"#), "{shown}");
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    }
}
