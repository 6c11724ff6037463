//! What fuzz targets and property tests call: any octets in, a panic if a promise is broken.

use std::net::IpAddr;

use crate::proxy::{FIXED, Header, MOST_BINARY, SIGNATURE, parse};

/// A PROXY header is found where it ends and not before, however it is cut; so is what is wrong with one. Whom it names, a header
/// of either version can name.
pub fn proxy(octets: &[u8]) {
    let whole = parse(octets);
    for cut in 0..octets.len() {
        match parse(&octets[..cut]) {
            Ok(None) => {
                assert!(cut < MOST_BINARY, "no header is that long");
                assert!(!matches!(whole, Ok(Some(header)) if header.length <= cut), "{cut}");
            }
            Ok(Some(header)) => {
                assert!(header.length <= cut);
                assert_eq!(whole, Ok(Some(header)));
            }
            Err(error) => assert_eq!(whole, Err(error), "{cut}"),
        }
    }
    if let Ok(Some(Header { source, .. })) = whole {
        for write in [write_text, write_binary] {
            let mut again = Vec::new();
            write(source, &mut again);
            let length = again.len();
            assert_eq!(parse(&again), Ok(Some(Header { source, length })));
        }
    }
}

/// A header of version 1.
pub(crate) fn write_text(source: Option<IpAddr>, out: &mut Vec<u8>) {
    let line = match source {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some(IpAddr::V4(source)) => format!("PROXY TCP4 {source} 192.0.2.1 51000 443\r\n"),
        Some(IpAddr::V6(source)) => format!("PROXY TCP6 {source} 2001:db8::1 51000 443\r\n"),
    };
    out.extend(line.bytes());
}

/// A header of version 2.
pub(crate) fn write_binary(source: Option<IpAddr>, out: &mut Vec<u8>) {
    let (family, source) = match source {
        None => (0x00, Vec::new()),
        Some(IpAddr::V4(source)) => (0x11, source.octets().to_vec()),
        Some(IpAddr::V6(source)) => (0x21, source.octets().to_vec()),
    };
    let length = if source.is_empty() { 0 } else { 2 * source.len() + 4 };
    out.extend(SIGNATURE);
    out.extend([0x21, family]);
    out.extend((length as u16).to_be_bytes());
    out.extend(&source);
    out.resize(FIXED + length, 0);
}
