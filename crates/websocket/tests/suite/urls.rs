//! Where a client may be sent, and what it asks for there.

use tidecast_websocket::{ClientHandshake, Url, UrlError, Version};

#[test]
fn what_a_url_cannot_hold_is_refused_and_its_escape_is_asked_for_as_it_is_written() {
    for (text, error) in [
        ("ws://h/a#b", UrlError::Fragment),
        ("ws://h/a?b=#", UrlError::Fragment),
        ("ws://h/\u{fc}", UrlError::Character),
        ("ws://h\u{fc}/", UrlError::Character),
        ("ws://h/a b", UrlError::Character),
    ] {
        assert_eq!(Url::parse(text), Err(error), "{text}");
    }
    for (text, resource) in [
        ("ws://h/a%23b?c=%23", "/a%23b?c=%23"),
        ("ws://xn--h-xka/%C3%BC", "/%C3%BC"),
        ("ws://h", "/"),
        ("ws://h?q", "/?q"),
    ] {
        let url = Url::parse(text).unwrap();
        let handshake = ClientHandshake {
            url: &url,
            version: Version::V13,
            key: [7; 16],
            protocols: &[],
            extensions: &[],
            origin: None,
            headers: &[],
        };
        let mut request = Vec::new();
        handshake.write_request(&mut request).unwrap();
        let line = format!("GET {resource} HTTP/1.1\r\n");
        assert!(request.starts_with(line.as_bytes()), "{text}");
    }
}
