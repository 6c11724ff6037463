//! Where a client may be sent, and what it asks for there.

use tidecast_websocket::{ClientHandshake, Url, UrlError, Version};

//= RFC 6455#section-3
//= type=test
//# Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used on these URIs.
//= RFC 6455#section-3
//= type=test
//# the character "#", when not indicating the start of a fragment, MUST be escaped as %23.
//= RFC 6455#section-4.1
//= type=test
//# (/host/, /port/, /resource name/, and /secure/ flag) MUST be valid according to the specification of WebSocket URIs
//# specified in Section 3.
//= RFC 6455#section-4.1
//= type=test
//# The "Request-URI" part of the request MUST match the /resource name/ defined in Section 3
//= draft-ietf-hybi-thewebsocketprotocol-07#section-3.3
//= type=test
//# The /host/ MUST be ASCII-only (i.e. it MUST have been punycode-encoded [RFC3492] already if necessary, and MUST NOT
//# contain any characters above U+007E).
//= draft-ietf-hybi-thewebsocketprotocol-07#section-3.3
//= type=test
//# The /resource name/ string MUST be a non-empty string of characters in the range U+0021 to U+007E and MUST start
//# with a U+002F SOLIDUS character (/).
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# MUST be valid according to Section 3.3.
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
