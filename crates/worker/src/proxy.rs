//! The PROXY protocol, versions 1 and 2: a proxy that passes octets on as they are says before the first of them for whom.
//!
//! ```text
//!   PROXY TCP4 203.0.113.7 192.0.2.1 51000 443⏎                                    version 1, 107 octets at most
//!   ␍␊␍␊␀␍␊QUIT␊ │ 2, command │ family │ length │ addresses │ more, skipped        version 2, binary
//! ```
//!
//! Whoever sends such a header can claim to be anybody, so it is read only from peers that are trusted, and only on listeners
//! where every connection begins with one: to guess would let a client say it in a proxy's stead.
//!
//! Why not the crate ppp (2.3.0): fed `PROXY TCP4 192.0.2.1 192.0.2.2 80 ` it reports an error where more is to come, so it cannot be
//! fed as octets arrive; and it wants the up to 64 KiB of a version 2 header in one piece.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest line of version 1, line break included.
const MOST_TEXT: usize = 107;
/// The longest header of version 2 that is accepted, in octets. Addresses take up to 216; what proxies add (a TLS client's
/// certificate name, a cloud's endpoint) some hundreds.
pub(crate) const MOST_BINARY: usize = 4096;

const PREFIX: &[u8] = b"PROXY ";
pub(crate) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of a version 2 header before the addresses.
pub(crate) const FIXED: usize = 16;

/// What a header said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Who connected to the proxy; nobody if it speaks for itself, as in a health check, or does not know.
    pub(crate) source: Option<IpAddr>,
    /// Octets of the header: what follows is the client's.
    pub(crate) length: usize,
}

/// Why octets are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the PROXY header is longer than {0} octets")]
    TooLong(usize),
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads a header from the start of `octets`. None as long as it is not complete, which it is within [`MOST_BINARY`] octets.
pub(crate) fn parse(octets: &[u8]) -> Result<Option<Header>, ProxyError> {
    let begins = |with: &[u8]| octets.iter().zip(with).all(|(octet, expected)| octet == expected);
    if begins(SIGNATURE) {
        binary(octets)
    } else if begins(PREFIX) {
        text(octets)
    } else {
        Err(ProxyError::Missing)
    }
}

fn text(octets: &[u8]) -> Result<Option<Header>, ProxyError> {
    let line = &octets[..octets.len().min(MOST_TEXT)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if octets.len() < MOST_TEXT {
            Ok(None)
        } else {
            Err(ProxyError::TooLong(MOST_TEXT))
        };
    };
    let malformed = ProxyError::Malformed("it is not TCP4 or TCP6, two addresses and two ports, or UNKNOWN");
    let line = str::from_utf8(&line[PREFIX.len()..end]).map_err(|_| malformed)?;
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    let source = match family {
        "TCP4" => Some(source::<Ipv4Addr>(rest).ok_or(malformed)?.into()),
        "TCP6" => Some(source::<Ipv6Addr>(rest).ok_or(malformed)?.into()),
        // Whatever follows is to be ignored.
        "UNKNOWN" => None,
        _ => return Err(malformed),
    };
    let length = end + 2;
    Ok(Some(Header { source, length }))
}

/// The first of two addresses, which two ports follow.
fn source<A: FromStr>(words: &str) -> Option<A> {
    let mut words = words.split(' ');
    let mut address = || words.next()?.parse::<A>().ok();
    let (source, _) = (address()?, address()?);
    // What else `parse` would take: a sign, and zeros in front.
    let is_plain = |port: &&str| *port == "0" || port.starts_with(|digit: char| ('1'..='9').contains(&digit));
    let mut port = || words.next().filter(is_plain)?.parse::<u16>().ok();
    port()?;
    port()?;
    words.next().is_none().then_some(source)
}

fn binary(octets: &[u8]) -> Result<Option<Header>, ProxyError> {
    let Some((fixed, rest)) = octets.split_at_checked(FIXED) else {
        return Ok(None);
    };
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Malformed("neither LOCAL nor PROXY of version 2")),
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED + length > MOST_BINARY {
        return Err(ProxyError::TooLong(MOST_BINARY));
    }
    let short = ProxyError::Malformed("it ends before its addresses do");
    let addresses = match fixed[13] {
        // The proxy itself, whatever the rest says.
        _ if is_local => 0,
        // TCP over IPv4 and IPv6: two addresses, two ports.
        0x11 => 12,
        0x21 => 36,
        // Not known, or a local socket.
        0x00 | 0x31 => 0,
        _ => return Err(ProxyError::Malformed("it is not about a TCP connection")),
    };
    if length < addresses {
        return Err(short);
    }
    let Some(rest) = rest.get(..length) else {
        return Ok(None);
    };
    let source = match addresses {
        12 => rest.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        36 => rest.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    };
    let length = FIXED + length;
    Ok(Some(Header { source, length }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::{proxy as fuzz, write_binary, write_text};

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut octets = SIGNATURE.to_vec();
        octets.extend([command, family]);
        octets.extend((body.len() as u16).to_be_bytes());
        octets.extend(body);
        octets
    }

    fn source(octets: &[u8]) -> Result<Option<Option<IpAddr>>, ProxyError> {
        parse(octets).map(|header| {
            header.map(|header| {
                assert_eq!(header.length, octets.len());
                header.source
            })
        })
    }

    #[test]
    fn headers_of_both_versions_name_the_client() {
        let known = |address: &str| Ok(Some(Some(address.parse().unwrap())));
        let four = [203, 0, 113, 7, 192, 0, 2, 1, 0xc7, 0x38, 1, 0xbb];
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        six[15] = 7;
        let with_more = [&four[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        let table: [(&[u8], _); 10] = [
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 51000 443\r\n", known("203.0.113.7")),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 0 65535\r\n", known("203.0.113.7")),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n",
                known("2001:db8::7"),
            ),
            (b"PROXY UNKNOWN\r\n", Ok(Some(None))),
            (b"PROXY UNKNOWN ffff::1 whatever\r\n", Ok(Some(None))),
            (&v2(0x21, 0x11, &four), known("203.0.113.7")),
            (&v2(0x21, 0x21, &six), known("2001:db8::7")),
            (&v2(0x21, 0x11, &with_more), known("203.0.113.7")),
            (&v2(0x20, 0x11, &four), Ok(Some(None))),
            (&v2(0x21, 0x00, &[1, 2, 3]), Ok(Some(None))),
        ];
        for (octets, expected) in table {
            assert_eq!(source(octets), expected, "{octets:02x?}");
            fuzz(octets);
            fuzz(&[octets, b"GET / HTTP/1.1\r\n\r\n"].concat());
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_certain() {
        let missing = Err(ProxyError::Missing);
        assert_eq!(parse(b"G"), missing);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), missing);
        assert_eq!(parse(b"PROXY\r\n"), missing);
        assert_eq!(parse(b"\x16\x03\x01"), missing);
        assert_eq!(parse(b"\r\n\r\n\0\r\nQUIX"), missing);
        for line in [
            "TCP4 203.0.113.7 192.0.2.1 51000",
            "TCP4 203.0.113.7 192.0.2.1 51000 443 1",
            "TCP4 203.0.113.7 192.0.2.1 51000 0443",
            "TCP4 203.0.113.7 192.0.2.1 +51000 443",
            "TCP4 203.0.113.7 192.0.2.1 51000 65536",
            "TCP4 203.0.113.07 192.0.2.1 51000 443",
            "TCP4 203.0.113.7  192.0.2.1 51000 443",
            "TCP4 2001:db8::7 2001:db8::1 51000 443",
            "TCP6 203.0.113.7 192.0.2.1 51000 443",
            "tcp4 203.0.113.7 192.0.2.1 51000 443",
            "UDP4 203.0.113.7 192.0.2.1 51000 443",
            "",
        ] {
            let octets = format!("PROXY {line}\r\n");
            assert!(
                matches!(parse(octets.as_bytes()), Err(ProxyError::Malformed(_))),
                "{line}"
            );
            fuzz(octets.as_bytes());
        }
        let long = [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat();
        assert_eq!(parse(&long[..MOST_TEXT - 1]), Ok(None));
        assert_eq!(parse(&long), Err(ProxyError::TooLong(MOST_TEXT)));
        for octets in [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x12, &[0; 12]),
        ] {
            assert!(matches!(parse(&octets), Err(ProxyError::Malformed(_))), "{octets:02x?}");
            fuzz(&octets);
        }
        let most = v2(0x21, 0x11, &[0; MOST_BINARY - FIXED]);
        assert!(source(&most).is_ok());
        let more = v2(0x21, 0x11, &[0; MOST_BINARY - FIXED + 1]);
        assert_eq!(parse(&more[..FIXED]), Err(ProxyError::TooLong(MOST_BINARY)));
    }

    proptest! {
        #[test]
        fn every_client_is_found_wherever_its_header_is_cut(
            source: Option<IpAddr>,
            more in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            for write in [write_text, write_binary] {
                let mut octets = Vec::new();
                write(source, &mut octets);
                let length = octets.len();
                octets.extend(&more);
                prop_assert_eq!(parse(&octets), Ok(Some(Header { source, length })));
                fuzz(&octets);
            }
        }

        #[test]
        fn garbage_is_read_the_same_wherever_it_is_cut(
            first in prop_oneof![Just(&b""[..]), Just(PREFIX), Just(SIGNATURE)],
            rest in proptest::collection::vec(any::<u8>(), 0..128),
        ) {
            fuzz(&[first, &rest].concat());
        }

        #[test]
        fn a_header_with_some_octets_changed_is_read_the_same_wherever_it_is_cut(
            source: Option<IpAddr>,
            changes in proptest::collection::vec((0usize..80, any::<u8>()), 1..4),
        ) {
            for write in [write_text, write_binary] {
                let mut octets = Vec::new();
                write(source, &mut octets);
                for &(place, octet) in &changes {
                    let place = place % octets.len();
                    octets[place] = octet;
                }
                fuzz(&octets);
            }
        }
    }
}
