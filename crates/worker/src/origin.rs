//! Which pages may connect.
//!
//! A browser says with each handshake where the page comes from, and lets a page connect anywhere: it is up to the server
//! to refuse pages that are not its own. Other clients need not say, and can say what they like: this is no way to know
//! who somebody is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Pages that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// All.
    Any,
    /// Those of the host that the request is for.
    Same,
    /// The same, if the host is an address or this machine: a name may be anybody's, and lead anywhere.
    SameAddress,
    /// Those of this machine, on any port.
    Localhost,
    /// Those without an origin: files, and what runs in a sandbox.
    Null,
    /// Those of a site, or of the sites below it.
    Site {
        /// `http` or `https`, or what else a browser may know.
        scheme: String,
        /// The host; without `*.` before it.
        host: String,
        /// `*.` stood before it: all hosts below it, and not it itself.
        below: bool,
        /// The port.
        port: Port,
    },
}

/// Ports of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// All of them.
    Any,
    /// That of the scheme, which is not written.
    Default,
    /// This one.
    Number(u16),
}

/// Why something names no pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not scheme and host.
    #[error(
        "{0:?} is no origin: give scheme and host as in https://example.com or https://*.example.com, or same, localhost, null or *"
    )]
    Form(String),
    /// More than an origin.
    #[error("{0:?} is more than an origin: leave out what follows the host")]
    Path(String),
    /// Wildcards where there can be none.
    #[error("{0:?}: a * can only be all that stands before the first dot, or the port")]
    Wildcard(String),
    /// No port.
    #[error("{0:?}: the port has to be a number from 1 to 65535, or *")]
    Port(String),
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Origin, OriginError> {
        let error = |kind: fn(String) -> OriginError| kind(text.to_owned());
        match text {
            "*" => return Ok(Origin::Any),
            "same" => return Ok(Origin::Same),
            "localhost" => return Ok(Origin::Localhost),
            "null" => return Ok(Origin::Null),
            _ => {}
        }
        let (scheme, authority) = text.split_once("://").ok_or_else(|| error(OriginError::Form))?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return Err(error(OriginError::Form));
        }
        if authority.contains(['/', '?', '#', '@']) {
            return Err(error(OriginError::Path));
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => Port::Default,
            Some("*") => Port::Any,
            Some(digits) => match digits.parse() {
                Ok(number) if number > 0 => Port::Number(number),
                _ => return Err(error(OriginError::Port)),
            },
        };
        let (below, host) = match host.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, host),
        };
        if host.contains('*') {
            return Err(error(OriginError::Wildcard));
        }
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(error(OriginError::Form));
        }
        let scheme = scheme.to_ascii_lowercase();
        Ok(Origin::Site {
            port: if Some(port) == default_port(&scheme).map(Port::Number) {
                Port::Default
            } else {
                port
            },
            scheme,
            host: host.to_ascii_lowercase(),
            below,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Any => f.write_str("*"),
            Origin::Same | Origin::SameAddress => f.write_str("same"),
            Origin::Localhost => f.write_str("localhost"),
            Origin::Null => f.write_str("null"),
            Origin::Site {
                scheme,
                host,
                below,
                port,
            } => {
                write!(f, "{scheme}://{}{host}", if *below { "*." } else { "" })?;
                match port {
                    Port::Any => f.write_str(":*"),
                    Port::Default => Ok(()),
                    Port::Number(number) => write!(f, ":{number}"),
                }
            }
        }
    }
}

impl Origin {
    /// Whether a page of `origin`, as a browser names it, is one of these; `host` is what the request is for.
    #[must_use]
    pub fn permits(&self, origin: &str, host: Option<&str>) -> bool {
        if let Origin::Any = self {
            return true;
        }
        if origin == "null" {
            return *self == Origin::Null;
        }
        let Some((scheme, authority)) = origin.split_once("://") else {
            return false;
        };
        let (name, written) = split_port(authority);
        let number = match written {
            None => default_port(scheme),
            Some(digits) => match digits.parse() {
                Ok(number) => Some(number),
                Err(_) => return false,
            },
        };
        match self {
            Origin::Any | Origin::Null => false,
            Origin::SameAddress => {
                let bare = name
                    .strip_prefix('[')
                    .and_then(|name| name.strip_suffix(']'))
                    .unwrap_or(name);
                bare.parse::<IpAddr>().is_ok() && Origin::Same.permits(origin, host)
            }
            Origin::Same => host.is_some_and(|host| {
                let (host, port) = split_port(host);
                let port = port.map_or(default_port(scheme), |digits| digits.parse().ok());
                host.eq_ignore_ascii_case(name) && port == number
            }),
            Origin::Localhost => ["localhost", "127.0.0.1", "[::1]"]
                .iter()
                .any(|local| local.eq_ignore_ascii_case(name)),
            Origin::Site {
                scheme: own_scheme,
                host: own_host,
                below,
                port,
            } => {
                let is_port = match port {
                    Port::Any => true,
                    Port::Default => number == default_port(own_scheme),
                    Port::Number(own) => number == Some(*own),
                };
                let is_host = if *below {
                    let start = name.len().checked_sub(own_host.len() + 1);
                    // Compared as bytes: a browser's origin is ASCII, and a client may send anything.
                    start.is_some_and(|start| {
                        let (sub, rest) = name.as_bytes().split_at(start);
                        !sub.is_empty() && rest[0] == b'.' && rest[1..].eq_ignore_ascii_case(own_host.as_bytes())
                    })
                } else {
                    name.eq_ignore_ascii_case(own_host)
                };
                is_port && is_host && scheme.eq_ignore_ascii_case(own_scheme)
            }
        }
    }
}

/// Host and port of an authority; an IPv6 address stands in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(pattern: &str, origin: &str) -> bool {
        let pattern: Origin = pattern.parse().unwrap();
        pattern.permits(origin, Some("broker.example:8080"))
    }

    #[test]
    fn pages_are_told_by_scheme_host_and_port() {
        for (pattern, origin, expected) in [
            ("*", "https://evil.example", true),
            ("*", "null", true),
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "https://EXAMPLE.com", true),
            ("HTTPS://Example.COM", "https://example.com", true),
            ("https://example.com", "https://example.com:443", true),
            ("https://example.com:443", "https://example.com", true),
            ("https://example.com", "http://example.com", false),
            ("https://example.com", "https://example.com:8443", false),
            ("https://example.com", "https://example.com.evil.example", false),
            ("https://example.com", "https://notexample.com", false),
            ("https://example.com:*", "https://example.com:8443", true),
            ("https://example.com:8443", "https://example.com:8443", true),
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com", "https://a.example.com:1", false),
            ("app://*.example.com", "app://x.example.com", true),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("null", "null", true),
            ("null", "https://example.com", false),
            ("same", "http://broker.example:8080", true),
            ("same", "https://broker.example:8080", true),
            ("same", "http://broker.example", false),
            ("same", "http://other.example:8080", false),
            ("localhost", "http://localhost:3000", true),
            ("localhost", "http://127.0.0.1", true),
            ("localhost", "https://[::1]:1", true),
            ("localhost", "http://localhost.evil.example", false),
            ("localhost", "null", false),
            ("https://example.com", "garbage", false),
            ("https://example.com", "https://example.com:port", false),
            ("https://*.example.com", "https://é.example.com", true),
            ("https://*.xample.com", "https://é", false),
        ] {
            assert_eq!(permits(pattern, origin), expected, "{pattern} and {origin}");
        }
    }

    #[test]
    fn where_only_this_machine_listens_a_name_is_not_the_same_host() {
        let permits = |host: &str| Origin::SameAddress.permits(&format!("http://{host}"), Some(host));
        assert!(permits("127.0.0.1:8080") && permits("[::1]:8080"));
        assert!(
            !permits("evil.example:8080"),
            "its owner can have it lead to this machine"
        );
    }

    #[test]
    fn the_same_host_is_known_with_and_without_the_port_of_the_scheme() {
        assert!(Origin::Same.permits("https://example.com", Some("example.com")));
        assert!(Origin::Same.permits("https://example.com", Some("example.com:443")));
        assert!(Origin::Same.permits("http://[::1]:80", Some("[::1]")));
        assert!(!Origin::Same.permits("https://example.com", None));
        assert!(!Origin::Same.permits("https://example.com", Some("example.com:444")));
    }

    #[test]
    fn what_names_no_pages_is_refused_with_what_to_give() {
        for (text, word) in [
            ("example.com", "scheme and host"),
            ("", "scheme and host"),
            ("https://", "scheme and host"),
            ("://x", "scheme and host"),
            ("https://example.com/", "more than an origin"),
            ("https://example.com/app", "more than an origin"),
            ("https://user@example.com", "more than an origin"),
            ("https://a.*.com", "before the first dot"),
            ("https://*", "before the first dot"),
            ("https://*example.com", "before the first dot"),
            ("https://example.com:0", "port"),
            ("https://example.com:http", "port"),
        ] {
            let error = text.parse::<Origin>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_pattern_is_written_as_it_is_read() {
        for text in [
            "*",
            "same",
            "localhost",
            "null",
            "https://example.com",
            "https://*.example.com:*",
            "http://[::1]:3000",
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
    }
}
