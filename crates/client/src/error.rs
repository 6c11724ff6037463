//! What can go wrong, who is to blame, and what to do.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a call of a [`Client`](crate::Client) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is none of a WebSocket.
    #[error("{url:?} is not the URL of a WebSocket: {reason}")]
    Url {
        /// As given.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The URL asks for TLS.
    #[error(
        "wss:// needs TLS, which this version does not have; use ws:// on a trusted network, or through a proxy or \
         tunnel that speaks TLS to {host}"
    )]
    Tls {
        /// The host of the URL.
        host: String,
    },
    /// The host has no address.
    #[error("cannot find an address of {host}: {source}; check the name")]
    Resolve {
        /// The host of the URL.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the host accepted a connection.
    #[error("cannot connect to {address}: {source}{}", remedy(.source))]
    Connect {
        /// The last address that was tried.
        address: String,
        /// Why that failed.
        source: io::Error,
    },
    /// The connection was refused by HTTP.
    #[error("{url} answered {status}, not 101, to the WebSocket handshake{}", body(.excerpt))]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How the body of the answer begins.
        excerpt: String,
    },
    /// The answer to the handshake is not one of a WebSocket server.
    #[error("{url} is not answered by a WebSocket server as it should be: {reason}")]
    Handshake {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The connection was open in time, but not answered.
    #[error("{url} did not answer the WebSocket handshake within {timeout:?}")]
    HandshakeTimeout {
        /// What was asked for.
        url: String,
        /// [`Options::timeout`](crate::Options::timeout).
        timeout: Duration,
    },
    /// A header cannot be sent.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// The server closed the connection.
    #[error("the server closed the connection{}", close(*.code, .reason))]
    Closed {
        /// Why; none if the Close said nothing.
        code: Option<u16>,
        /// Why, in words; often empty.
        reason: String,
    },
    /// The connection ended without a Close.
    #[error("the connection was lost: {0}")]
    Lost(#[source] io::Error),
    /// The server broke the WebSocket protocol; it was told so.
    #[error("the server broke the WebSocket protocol: {0}")]
    Protocol(#[from] tidecast_websocket::Error),
    /// The server does not read what is sent, or does not answer a Close, in time.
    #[error("the server {what} within {timeout:?}")]
    TimedOut {
        /// What it did not do.
        what: &'static str,
        /// [`Options::timeout`](crate::Options::timeout).
        timeout: Duration,
    },
    /// The kernel has no random numbers for this process.
    #[error("no random numbers can be had for the masking of frames: {0}")]
    Random(#[from] getrandom::Error),
}

impl Error {
    /// Whether there never was a connection: the name, the network or the handshake failed.
    pub fn is_connect(&self) -> bool {
        match self {
            Error::Url { .. }
            | Error::Tls { .. }
            | Error::Resolve { .. }
            | Error::Connect { .. }
            | Error::Refused { .. }
            | Error::Handshake { .. }
            | Error::HandshakeTimeout { .. }
            | Error::Request(_)
            | Error::Random(_) => true,
            Error::Closed { .. } | Error::Lost(_) | Error::Protocol(_) | Error::TimedOut { .. } => false,
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "; is the broker running there, and listening on that address and port?",
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "; is a firewall in the way?",
        io::ErrorKind::AddrNotAvailable => "; all local ports towards it are in use",
        _ => "",
    }
}

/// Something that is left out when there is nothing to say.
struct Suffix<'a> {
    number: Option<u16>,
    words: &'a str,
}

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.number {
            write!(f, " with {number}")?;
        }
        if !self.words.is_empty() {
            write!(f, ": {}", self.words)?;
        }
        Ok(())
    }
}

fn body(excerpt: &str) -> Suffix<'_> {
    Suffix {
        number: None,
        words: excerpt.trim(),
    }
}

fn close(code: Option<u16>, reason: &str) -> Suffix<'_> {
    Suffix {
        number: code,
        words: reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_who_is_to_blame_and_what_to_do() {
        let url = || "ws://h/ws".to_owned();
        let table = [
            (
                Error::Connect {
                    address: "127.0.0.1:1".into(),
                    source: io::ErrorKind::ConnectionRefused.into(),
                },
                "cannot connect to 127.0.0.1:1: connection refused; is the broker running there, and listening on that \
                 address and port?",
            ),
            (
                Error::Refused {
                    url: url(),
                    status: 404,
                    excerpt: "no such path\n".into(),
                },
                "ws://h/ws answered 404, not 101, to the WebSocket handshake: no such path",
            ),
            (
                Error::Refused {
                    url: url(),
                    status: 503,
                    excerpt: String::new(),
                },
                "ws://h/ws answered 503, not 101, to the WebSocket handshake",
            ),
            (
                Error::Closed {
                    code: Some(4000),
                    reason: "slow consumer".into(),
                },
                "the server closed the connection with 4000: slow consumer",
            ),
            (
                Error::Closed {
                    code: None,
                    reason: String::new(),
                },
                "the server closed the connection",
            ),
            (
                Error::TimedOut {
                    what: "did not answer the closing handshake",
                    timeout: Duration::from_secs(5),
                },
                "the server did not answer the closing handshake within 5s",
            ),
        ];
        for (error, words) in table {
            assert_eq!(error.to_string(), words);
        }
    }
}
