//! For whom an HTTP proxy asks: `X-Forwarded-For`, and `Forwarded` of RFC 7239.
//!
//! ```text
//!   X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2          the peer is 10.0.0.3
//!                    ▲        ▲            └── trusted, as is the peer: said by it, so true
//!                    │        └── said by a trusted proxy, and not one itself: the client
//!                    └── said by the client, and worth nothing
//! ```
//!
//! Each proxy adds to the right whom it got the request from. So the list is read from there, for as long as those who speak
//! are trusted.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tidecast_websocket::http::Request;

/// The header that trusted proxies write. It has to be said which: the other one goes through them unread, so that a client could
/// write into it what it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// None is believed.
    None,
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded`.
    Forwarded,
}

/// Whether one of `networks` has `address`.
pub(crate) fn is_among(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Trusted proxies have said something about the client that nobody can read: what the client wrote itself may have made it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// The client that asks: `peer`, unless it is one of the `trusted` proxies and says more.
///
/// # Errors
/// Whoever is trusted names nobody that could be read.
pub(crate) fn client(
    request: &Request<'_>,
    header: ForwardedHeader,
    peer: IpAddr,
    trusted: &[IpNet],
) -> Result<IpAddr, Unreadable> {
    if !is_among(peer, trusted) {
        return Ok(peer);
    }
    let name = match header {
        ForwardedHeader::None => return Ok(peer),
        ForwardedHeader::XForwardedFor => "X-Forwarded-For",
        ForwardedHeader::Forwarded => "Forwarded",
    };
    let fields = request.headers().filter(|(field, _)| field.eq_ignore_ascii_case(name));
    let fields: Vec<&[u8]> = fields.map(|(_, value)| value).collect();
    let mut hops: Vec<Option<IpAddr>> = Vec::new();
    for field in fields {
        match header {
            // Each on its own: a quote or an octet that is no text, which a client may write, spoils nothing behind it.
            ForwardedHeader::XForwardedFor => hops.extend(
                field
                    .split(|octet| *octet == b',')
                    .map(|hop| node(str::from_utf8(hop).ok()?.trim())),
            ),
            _ => match str::from_utf8(field) {
                Ok(list) => hops.extend(split(list, ',').map(forwarded_for)),
                Err(_) => hops.push(None),
            },
        }
    }
    let mut client = None;
    for (number, hop) in hops.into_iter().rev().enumerate() {
        match hop {
            Some(address) => client = Some(address),
            None if number == 0 => return Err(Unreadable),
            None => break,
        }
        if client.is_some_and(|client| !is_among(client, trusted)) {
            break;
        }
    }
    Ok(client.unwrap_or(peer))
}

/// The parts of `list` between separators that do not stand in quotes, without white space around them.
fn split(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |c| {
        let here = c == separator && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        here
    })
    .map(str::trim)
}

/// The address in an element of `Forwarded`: `for=192.0.2.43;proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = split(element, ';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    // An address has nothing that would have to be escaped.
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    node(unquoted.unwrap_or(value))
}

/// An address with or without a port; one of IPv6 in brackets if there is a port, and perhaps if there is none.
fn node(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let address = text.parse().ok().or_else(bare);
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asks, with these lines in the head, for a proxy at 10.0.0.3 in a network that is trusted.
    fn client_of(header: ForwardedHeader, peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:a::/48".parse().unwrap()];
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let (request, _) = Request::parse(head.as_bytes(), 8192).unwrap().unwrap();
        match client(&request, header, peer.parse().unwrap(), &trusted) {
            Ok(client) => client.to_string(),
            Err(Unreadable) => "unreadable".to_owned(),
        }
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted_is_the_client() {
        use ForwardedHeader::XForwardedFor;
        let cases: [(&[&str], &str); 14] = [
            (&[], "10.0.0.3"),
            (&["X-Forwarded-For: 203.0.113.7"], "203.0.113.7"),
            (&["X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (
                &["x-forwarded-for: 6.6.6.6", "X-FORWARDED-FOR: 203.0.113.7"],
                "203.0.113.7",
            ),
            (
                &["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 10.1.1.1,10.0.0.2"],
                "203.0.113.7",
            ),
            (&["X-Forwarded-For: 203.0.113.7:4711"], "203.0.113.7"),
            (&["X-Forwarded-For: 2001:db8::7"], "2001:db8::7"),
            (&["X-Forwarded-For: [2001:db8::7]:4711, 2001:db8:a::1"], "2001:db8::7"),
            (&["X-Forwarded-For: ::ffff:203.0.113.7"], "203.0.113.7"),
            // All trusted: a client inside.
            (&["X-Forwarded-For: 10.9.9.9, 10.0.0.2"], "10.9.9.9"),
            // Who is not named is not known, and neither is what stands before.
            (&["X-Forwarded-For: 203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["X-Forwarded-For: 203.0.113.7,"], "unreadable"),
            // What a client wrote before does not spoil what the proxy has added.
            (&["X-Forwarded-For: \", 203.0.113.7"], "203.0.113.7"),
            (&["X-Forwarded-For: \u{ff}, 203.0.113.7"], "203.0.113.7"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client_of(XForwardedFor, "10.0.0.3", lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn elements_of_forwarded_are_read_with_their_quotes() {
        use ForwardedHeader::Forwarded;
        for (line, expected) in [
            ("for=203.0.113.7", "203.0.113.7"),
            ("For=\"203.0.113.7:4711\";proto=https", "203.0.113.7"),
            ("by=\"a, for=6.6.6.6\";for=203.0.113.7, for=10.0.0.2", "203.0.113.7"),
            ("proto=http;FOR=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=6.6.6.6, for=203.0.113.7;by=\"\\\", for=6.6.6.6\"", "203.0.113.7"),
            ("for=203.0.113.7, for=_hidden", "unreadable"),
            ("for=203.0.113.7, proto=https", "unreadable"),
            // A quote that a client has left open takes in what the proxy added.
            ("for=\", for=203.0.113.7", "unreadable"),
        ] {
            let line = format!("Forwarded: {line}");
            assert_eq!(client_of(Forwarded, "10.0.0.3", &[&line]), expected, "{line}");
        }
    }

    #[test]
    fn nothing_is_believed_of_strangers_nor_of_the_header_that_no_proxy_writes() {
        let lines = ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.8"];
        for (header, peer, expected) in [
            (ForwardedHeader::XForwardedFor, "192.0.2.9", "192.0.2.9"),
            (ForwardedHeader::XForwardedFor, "10.0.0.3", "203.0.113.7"),
            (ForwardedHeader::Forwarded, "10.0.0.3", "203.0.113.8"),
            (ForwardedHeader::None, "10.0.0.3", "10.0.0.3"),
        ] {
            assert_eq!(client_of(header, peer, &lines), expected);
        }
    }
}
