//! `ws:` and `wss:` URLs.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Where a WebSocket is: `ws://host[:port][/path][?query]`, or `wss:` where it runs over TLS. Always a valid one, so
/// whoever needs this to connect cannot connect to another.
///
//= RFC 6455#section-4.1
//# If any of the components are invalid, the client MUST _Fail the WebSocket Connection_ and abort these steps.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-3.3
//# A client MUST NOT attempt to make a connection to an invalid WebSocket URI.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-3.3
//# MUST NOT attempt to connect with such an unparsed URI
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//# If any of the requirements are not met, the client MUST fail the WebSocket connection and abort these steps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    secure: bool,
    host: String,
    port: u16,
    resource: String,
}

/// Why a text is not the URL of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Neither `ws:` nor `wss:`.
    #[error("a WebSocket URL begins with ws:// or wss://")]
    Scheme,
    /// A fragment (`#`) means nothing here.
    #[error("a WebSocket URL has no fragment")]
    Fragment,
    /// A user name or password (`@`) has no place in the handshake.
    #[error("a WebSocket URL has no user name or password")]
    Credentials,
    /// The host is missing, or an IPv6 address is not closed.
    #[error("the host is missing or malformed")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// White space, a control character or one beyond ASCII: they must be percent-encoded.
    #[error("the URL has characters that must be percent-encoded")]
    Character,
}

impl Url {
    /// Reads a URL.
    ///
    //= RFC 6455#section-3
    //# Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used on these URIs.
    ///
    /// # Errors
    /// The text is not the URL of a WebSocket.
    //= RFC 6455#section-4.1
    //# (/host/, /port/, /resource name/, and /secure/ flag) MUST be valid according to the specification of WebSocket
    //# URIs specified in Section 3.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
    //# MUST be valid according to Section 3.3.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let secure = match scheme {
            _ if scheme.eq_ignore_ascii_case("ws") => false,
            _ if scheme.eq_ignore_ascii_case("wss") => true,
            _ => return Err(UrlError::Scheme),
        };
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-3.3
        //# The /host/ MUST be ASCII-only (i.e. it MUST have been punycode-encoded [RFC3492] already if necessary, and
        //# MUST NOT contain any characters above U+007E).
        if !rest.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        //= RFC 6455#section-3
        //# the character "#", when not indicating the start of a fragment, MUST be escaped as %23.
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, resource) = rest.split_at(end);
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        let (host, port) = if authority.starts_with('[') {
            let end = authority.find(']').ok_or(UrlError::Host)? + 1;
            authority.split_at(end)
        } else {
            authority.split_at(authority.find(':').unwrap_or(authority.len()))
        };
        if host.is_empty() || host == "[]" {
            return Err(UrlError::Host);
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default_port(secure),
            None => return Err(UrlError::Host),
            Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) => match port.parse() {
                Ok(0) | Err(_) => return Err(UrlError::Port),
                Ok(port) => port,
            },
            Some(_) => return Err(UrlError::Port),
        };
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-3.3
        //# The /resource name/ string MUST be a non-empty string of characters in the range U+0021 to U+007E and MUST
        //# start with a U+002F SOLIDUS character (/).
        let slash = if resource.starts_with('/') { "" } else { "/" };
        Ok(Self {
            secure,
            host: host.to_ascii_lowercase(),
            port,
            resource: format!("{slash}{resource}"),
        })
    }

    /// Whether the WebSocket runs over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host to look up: a name, or an address; IPv6 addresses come without their brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&self.host)
    }

    /// The same as in the URL: IPv6 addresses in their brackets.
    pub(crate) fn bracketed_host(&self) -> &str {
        &self.host
    }

    /// The port to connect to: 80, or 443 over TLS, unless the URL names one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query: what to ask the server for.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The value of the `Host` header.
    ///
    //= draft-ietf-hybi-thewebsocketprotocol-06#section-5.1
    //# The request MUST contain a "Host" header whose value is equal to the authority component of the WebSocket URI.
    pub(crate) fn authority(&self) -> Authority<'_> {
        Authority(self)
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.resource)
    }
}

/// Host and port as in a URL: the port only where it is not the default.
pub(crate) struct Authority<'u>(&'u Url);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.host)?;
        if self.0.port == default_port(self.0.secure) {
            return Ok(());
        }
        write!(f, ":{}", self.0.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_tells_where_to_connect_and_what_to_ask_for() {
        let cases = [
            ("ws://Example.com", "example.com", 80, "/", "ws://example.com/"),
            ("wss://h/a?b=c", "h", 443, "/a?b=c", "wss://h/a?b=c"),
            ("WS://h:8080?q", "h", 8080, "/?q", "ws://h:8080/?q"),
            ("ws://[::1]:9/x", "::1", 9, "/x", "ws://[::1]:9/x"),
            ("wss://[FE80::1]", "fe80::1", 443, "/", "wss://[fe80::1]/"),
            ("wss://h:443/", "h", 443, "/", "wss://h/"),
        ];
        for (text, host, port, resource, shown) in cases {
            let url: Url = text.parse().unwrap();
            assert_eq!(
                (url.host(), url.port(), url.resource(), url.is_secure()),
                (host, port, resource, shown.starts_with("wss"))
            );
            assert_eq!(url.to_string(), shown);
            assert_eq!(Url::parse(shown).unwrap(), url);
        }
    }

    #[test]
    fn what_is_no_websocket_url_is_refused_with_its_reason() {
        let cases = [
            ("http://h/", UrlError::Scheme),
            ("h:80/", UrlError::Scheme),
            ("ws://h/#top", UrlError::Fragment),
            ("ws://u:p@h/", UrlError::Credentials),
            ("ws:///path", UrlError::Host),
            ("ws://:80/", UrlError::Host),
            ("ws://[::1/", UrlError::Host),
            ("ws://[]/", UrlError::Host),
            ("ws://[::1]80/", UrlError::Host),
            ("ws://h:0/", UrlError::Port),
            ("ws://h:/", UrlError::Port),
            ("ws://h:+80/", UrlError::Port),
            ("ws://h:65536/", UrlError::Port),
            ("ws://h/a b", UrlError::Character),
            ("ws://h/\r\nX: y", UrlError::Character),
            ("ws://h/ü", UrlError::Character),
        ];
        for (text, error) in cases {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }
}
