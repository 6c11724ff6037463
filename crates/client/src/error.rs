//! What can go wrong, who is to blame, and what to do.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tidecast_wire::Code;

/// Why a call of a [`Client`](crate::Client) or a [`Session`](crate::Session) failed.
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
    /// The URL asks for TLS, and there is none to speak.
    #[error(
        "wss:// needs TLS, which this client was not given; give it in Options::tls (feature tls), use ws:// on a trusted \
         network, or through a proxy or tunnel that speaks TLS to {host}"
    )]
    Tls {
        /// The host of the URL.
        host: String,
    },
    /// The TLS handshake failed.
    #[error("{url}: {reason}")]
    Secure {
        /// What was asked for.
        url: String,
        /// Why, and what to do about it.
        reason: String,
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
    /// The server points elsewhere, where nobody said that it should be trusted.
    #[error("{url} answered {status}{}; redirects are not followed: connect there if you trust it", points(.location))]
    Redirected {
        /// What was asked for.
        url: String,
        /// The HTTP status, a 3xx.
        status: u16,
        /// Where to.
        location: Option<String>,
    },
    /// The server wants credentials, or others.
    #[error(
        "{url} answered 401: give credentials that it takes in an Authorization header{}{}",
        wants(.challenge),
        body(.excerpt)
    )]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// How the body of the answer begins: perhaps what is wrong with those that were given.
        excerpt: String,
        /// The `WWW-Authenticate` of the answer: which ones.
        challenge: Option<String>,
    },
    /// The proxy opened no tunnel.
    #[error("the proxy {proxy} does not let us through: {reason}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// The HTTP status that it answered, if it did.
        status: Option<u16>,
        /// What it did instead.
        reason: String,
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
    /// A header, a subprotocol or the credentials for a proxy cannot be sent as they were given. Nothing was sent.
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
    /// The server does not read what is sent, or does not answer a command, a Ping or a Close, in time.
    #[error("the server {what} within {timeout:?}")]
    TimedOut {
        /// What it did not do.
        what: &'static str,
        /// [`Options::timeout`](crate::Options::timeout), or for a Ping [`Options::keep_alive`](crate::Options::keep_alive).
        timeout: Duration,
    },
    /// The broker refused a command; the connection goes on.
    #[error("the broker refused it: {0}")]
    Rejected(Refusal),
    /// The broker says what is not `tidecast.json.v1`.
    #[error("the broker sent what cannot be read: {0}; is it a tidecast broker, and the path its /ws?")]
    Unreadable(String),
    /// The payload is not of the kind it is said to be, or larger than the broker takes.
    #[error("this cannot be published: {0}")]
    Payload(String),
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
            | Error::Secure { .. }
            | Error::Resolve { .. }
            | Error::Connect { .. }
            | Error::Refused { .. }
            | Error::Redirected { .. }
            | Error::Unauthorized { .. }
            | Error::Proxy { .. }
            | Error::Handshake { .. }
            | Error::HandshakeTimeout { .. }
            | Error::Request(_)
            | Error::Random(_) => true,
            Error::Closed { .. }
            | Error::Lost(_)
            | Error::Protocol(_)
            | Error::TimedOut { .. }
            | Error::Rejected(_)
            | Error::Unreadable(_)
            | Error::Payload(_) => false,
        }
    }

    /// Whether the same attempt may succeed later: the network, a timeout, a server that is not up or asks to be left
    /// alone for a while. False where something has to be changed first.
    pub fn is_temporary(&self) -> bool {
        match self {
            Error::Resolve { .. }
            | Error::Connect { .. }
            | Error::Handshake { .. }
            | Error::HandshakeTimeout { .. }
            | Error::Lost(_)
            | Error::TimedOut { .. } => true,
            Error::Refused { status, .. } => passes(*status),
            Error::Proxy { status, .. } => status.is_none_or(passes),
            // A Close without a code is 1005 to those who need one.
            Error::Closed { code, .. } => tidecast_wire::close::may_come_back(code.unwrap_or(1005)),
            Error::Rejected(refusal) => matches!(refusal.known(), Some(Code::RateLimited | Code::Overloaded)),
            Error::Url { .. }
            | Error::Tls { .. }
            | Error::Secure { .. }
            | Error::Redirected { .. }
            | Error::Unauthorized { .. }
            | Error::Request(_)
            | Error::Protocol(_)
            | Error::Unreadable(_)
            | Error::Payload(_)
            | Error::Random(_) => false,
        }
    }

    /// The server name that TLS to a `wss://` URL has to ask for (SNI), for whoever sets up the tunnel; none for an IP
    /// address, and for every other error.
    ///
    //= RFC 6066#section-3
    //# Literal IPv4 and IPv6 addresses are not permitted in "HostName".
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Error::Tls { host } if host.parse::<IpAddr>().is_err() => Some(host.strip_suffix('.').unwrap_or(host)),
            _ => None,
        }
    }

    /// The same once more, for the calls after the one that was told the error itself.
    pub(crate) fn again(&self) -> Error {
        match self {
            Error::Closed { code, reason } => Error::Closed {
                code: *code,
                reason: reason.clone(),
            },
            Error::Lost(source) => Error::Lost(io::Error::new(source.kind(), source.to_string())),
            other => Error::Lost(io::Error::new(io::ErrorKind::NotConnected, other.to_string())),
        }
    }
}

/// Whether the same request may be answered otherwise later, by an HTTP status.
fn passes(status: u16) -> bool {
    // Request Timeout, Too Early, Too Many Requests, and what the server has to do with itself.
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// What an `err` of the broker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its code; a newer broker may have more of them than [`Code`].
    pub code: String,
    /// The reason, for a person.
    pub text: String,
}

impl Refusal {
    /// The code, if this version knows it.
    pub fn known(&self) -> Option<Code> {
        Code::parse(&self.code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

fn points(location: &Option<String>) -> String {
    location
        .as_ref()
        .map_or_else(String::new, |location| format!(" and points to {location:?}"))
}

fn wants(challenge: &Option<String>) -> String {
    challenge
        .as_ref()
        .map_or_else(String::new, |challenge| format!(", as it asks for with {challenge:?}"))
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

    #[test]
    fn the_server_name_for_tls_is_the_host_unless_that_is_an_address() {
        //= RFC 6066#section-3
        //= type=test
        //# Literal IPv4 and IPv6 addresses are not permitted in "HostName".
        let table = [
            ("broker.example", Some("broker.example")),
            ("broker.example.", Some("broker.example")),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
        ];
        for (host, name) in table {
            assert_eq!(Error::Tls { host: host.into() }.server_name(), name);
        }
        assert_eq!(Error::Request(String::new()).server_name(), None);
    }

    #[test]
    fn what_may_pass_by_itself_is_temporary_and_what_must_be_changed_is_not() {
        let closed = |code| Error::Closed {
            code,
            reason: String::new(),
        };
        let refused = |status| Error::Refused {
            url: String::new(),
            status,
            excerpt: String::new(),
        };
        let proxied = |status| Error::Proxy {
            proxy: String::new(),
            status,
            reason: String::new(),
        };
        for error in [
            proxied(None),
            proxied(Some(502)),
            closed(Some(4001)),
            closed(Some(1012)),
            refused(503),
            refused(429),
            Error::Lost(io::ErrorKind::ConnectionReset.into()),
        ] {
            assert!(error.is_temporary(), "{error}");
        }
        for error in [
            closed(Some(4100)),
            closed(Some(1000)),
            closed(None),
            refused(404),
            proxied(Some(407)),
            proxied(Some(403)),
        ] {
            assert!(!error.is_temporary(), "{error}");
        }
    }
}
