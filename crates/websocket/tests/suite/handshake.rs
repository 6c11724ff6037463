//! The opening handshake: real ones of 2011, the two sides of this crate against each other, and every bad one.

use tidecast_websocket::http::Request;
use tidecast_websocket::{
    Accept, Accepted, ClientHandshake, ClientHandshakeError, ClientWindow, Extension, Offer, Params, PerMessageOffer,
    Upgrade, UpgradeError, Url, Version, Versions,
};

/// A request's head, from lines.
fn head(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\r\n")).collect::<String>() + "\r\n"
}

/// The answer to a request, with the subprotocol it offers first.
fn answer(request: &str, accepted: Versions) -> Result<String, UpgradeError> {
    let (request, _) = Request::parse(request.as_bytes(), 8192).unwrap().unwrap();
    let upgrade = Upgrade::from_request(&request, accepted)?;
    let mut out = Vec::new();
    upgrade.write_response(upgrade.protocols().next(), &mut out);
    Ok(String::from_utf8(out).unwrap())
}

const GOOD: [&str; 6] = [
    "GET /chat HTTP/1.1",
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The answer to a request, with the subprotocol it offers first and the extension agreed on.
fn answer_with(request: &str, accept: &Accept) -> Result<(String, Option<Extension>), UpgradeError> {
    let (request, _) = Request::parse(request.as_bytes(), 8192).unwrap().unwrap();
    let upgrade = Upgrade::from_request(&request, Versions::ALL)?;
    let extension = upgrade.negotiate(accept)?;
    let mut out = Vec::new();
    upgrade.write_response_with(upgrade.protocols().next(), extension, &mut out);
    Ok((String::from_utf8(out).unwrap(), extension))
}

//= RFC 6455#section-11.3.2
//= type=test
//# the |Sec-WebSocket-Extensions| header field MUST NOT appear more than once in an HTTP response.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
//= type=test
//# the server MUST complete the following steps to accept the connection and send the server's opening handshake.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
//= type=test
//# If the server chooses to accept the incoming connection, it MUST reply with a valid HTTP response indicating the
//# following.
#[test]
fn libwebsockets_of_2011_is_let_in_with_its_subprotocol_and_its_extension_if_that_is_accepted() {
    let request = head(&[
        "GET /echo HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: fSubVebxSKDmhLv9/jbFSg==",
        "Sec-WebSocket-Origin: http://example.com",
        "Sec-WebSocket-Protocol: lws-mirror-protocol",
        "Sec-WebSocket-Extensions: deflate-stream",
        "Sec-WebSocket-Version: 7",
    ]);
    let response = head(&[
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: B4WbEMTlqoCGXRoVXXsbuBkC/aQ=",
        "Sec-WebSocket-Protocol: lws-mirror-protocol",
    ]);
    assert_eq!(answer(&request, Versions::ALL).unwrap(), response);
    let (with, extension) = answer_with(&request, &Accept::default()).unwrap();
    assert_eq!(extension, Some(Extension::DeflateStream));
    let line = "Sec-WebSocket-Extensions: deflate-stream\r\n\r\n";
    assert_eq!(with, format!("{}\r\n{line}", response.trim_end()));
    assert_eq!(answer_with(&request, &Accept::NONE), Ok((response, None)));
    let (request, _) = Request::parse(request.as_bytes(), 8192).unwrap().unwrap();
    let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
    assert_eq!(upgrade.version(), Version::V7);
    assert_eq!(upgrade.origin(), Some("http://example.com"));
}

//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.1
//= type=test
//# Unknown headers MUST be ignored.
#[test]
fn pywebsocket_of_2011_is_let_in_and_its_origin_is_known() {
    let request = head(&[
        "GET /echo HTTP/1.1",
        "Host: localhost:19801",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Origin: http://localhost",
        "Sec-WebSocket-Key: 3U/RcOW2ywW28mpbCkjgIA==",
        "Sec-WebSocket-Version: 7",
        "Sec-WebSocket-Extensions: deflate-stream",
    ]);
    let response = answer(&request, Versions::ALL).unwrap();
    assert!(response.contains("\r\nSec-WebSocket-Accept: LES4r4N5rQImnKVOvl+sZI0Kzkc=\r\n"));
    assert!(!response.contains("Extensions"));
    let (request, _) = Request::parse(request.as_bytes(), 8192).unwrap().unwrap();
    let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
    assert_eq!(upgrade.origin(), Some("http://localhost"));
    assert_eq!(upgrade.protocols().count(), 0);
}

//= RFC 6455#section-1.3
//= type=test
//# Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
//= RFC 6455#section-4.2.2
//= type=test
//# the server MUST complete the following steps to accept the connection and send the server's opening handshake.
//= RFC 6455#section-4.2.2
//= type=test
//# If the server chooses to accept the incoming connection, it MUST reply with a valid HTTP response indicating the
//# following.
#[test]
fn the_answer_is_the_same_to_every_spelling_that_means_the_same() {
    assert_eq!(answer(&head(&GOOD), Versions::ALL).unwrap(), ACCEPTED);
    let spelled = head(&[
        "GET /chat HTTP/1.1",
        "host: server.example.com",
        "UPGRADE: h2c, WebSocket",
        "connection: keep-alive",
        "CONNECTION: foo,, UPGRADE",
        "sec-websocket-key:   dGhlIHNhbXBsZSBub25jZQ==  ",
        "sec-websocket-version: 13",
        "Sec-WebSocket-Protocol:",
        "Sec-WebSocket-Extensions:",
    ]);
    assert_eq!(answer(&spelled, Versions::ALL).unwrap(), ACCEPTED);
}

#[test]
fn subprotocols_are_read_from_repeated_and_joined_headers_in_order() {
    let mut lines = GOOD.to_vec();
    lines.extend([
        "Sec-WebSocket-Protocol: a, ,b ,",
        "Sec-WebSocket-Protocol:",
        "sec-websocket-protocol: bearer.x",
    ]);
    let request = head(&lines);
    let (request, _) = Request::parse(request.as_bytes(), 8192).unwrap().unwrap();
    let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["a", "b", "bearer.x"]);
}

#[test]
fn the_origin_of_an_rfc_client_is_in_its_own_header_only() {
    let mut lines = GOOD.to_vec();
    lines.push("Sec-WebSocket-Origin: http://liar.example");
    let request = head(&lines);
    let (request, _) = Request::parse(request.as_bytes(), 8192).unwrap().unwrap();
    let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
    assert_eq!(upgrade.origin(), None);
}

//= RFC 6455#section-4.2.1
//= type=test
//# the server MUST stop processing the client's handshake and return an HTTP response with an appropriate error code
//# (such as 400 Bad Request).
//= RFC 6455#section-10.7
//= type=test
//# Incoming data MUST always be validated by both clients and servers.
//= RFC 6455#section-11.3.1
//= type=test
//# The |Sec-WebSocket-Key| header field MUST NOT appear more than once in an HTTP request.
//= RFC 6455#section-11.3.5
//= type=test
//# the |Sec-WebSocket-Version| header field MUST NOT appear more than once in an HTTP request.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.1
//= type=test
//# If the server, while reading the handshake, finds that the client did not send a handshake that matches the
//# description below, the server MUST abort the WebSocket connection.
#[test]
fn every_bad_request_is_told_what_is_wrong_with_it() {
    let accepted = Versions::ALL;
    // What to replace in the good request, by line; an empty line is left out.
    let cases: [(usize, &str, UpgradeError, u16); 25] = [
        (0, "POST /chat HTTP/1.1", UpgradeError::Method, 405),
        (0, "get /chat HTTP/1.1", UpgradeError::Method, 405),
        (0, "GET /chat HTTP/1.0", UpgradeError::HttpVersion, 505),
        (1, "", UpgradeError::Host, 400),
        (1, "Host: a\r\nHost: b", UpgradeError::Host, 400),
        (2, "", UpgradeError::NotWebSocket { accepted }, 426),
        (2, "Upgrade: h2c", UpgradeError::NotWebSocket { accepted }, 426),
        (3, "", UpgradeError::Connection, 400),
        (3, "Connection: close", UpgradeError::Connection, 400),
        (4, "", UpgradeError::Key, 400),
        (4, "Sec-WebSocket-Key:", UpgradeError::Key, 400),
        (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", UpgradeError::Key, 400),
        (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j", UpgradeError::Key, 400),
        (
            4,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAAAA==",
            UpgradeError::Key,
            400,
        ),
        (
            4,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            UpgradeError::Key,
            400,
        ),
        (5, "", UpgradeError::Version { accepted }, 426),
        (5, "Sec-WebSocket-Version:", UpgradeError::Version { accepted }, 426),
        (5, "Sec-WebSocket-Version: 12", UpgradeError::Version { accepted }, 426),
        (5, "Sec-WebSocket-Version: 269", UpgradeError::Version { accepted }, 426),
        (5, "Sec-WebSocket-Version: -13", UpgradeError::Version { accepted }, 426),
        (
            5,
            "Sec-WebSocket-Version: 13, 8",
            UpgradeError::Version { accepted },
            426,
        ),
        (5, "Sec-WebSocket-Version: +13", UpgradeError::Version { accepted }, 426),
        (5, "Sec-WebSocket-Version: 013", UpgradeError::Version { accepted }, 426),
        (5, "Sec-WebSocket-Version: 0", UpgradeError::Version { accepted }, 426),
        (
            5,
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8",
            UpgradeError::SeveralVersions,
            400,
        ),
    ];
    let versions = Version::ALL.map(|version| format!("Sec-WebSocket-Version: {version}"));
    for ((line, replacement, error, status), version) in cases
        .into_iter()
        .flat_map(|case| versions.iter().map(move |version| (case, version)))
    {
        let mut lines = GOOD.to_vec();
        lines[5] = version;
        lines[line] = replacement;
        lines.retain(|line| !line.is_empty());
        let refused = answer(&head(&lines), accepted).unwrap_err();
        assert_eq!(refused, error, "{replacement}");
        assert_eq!(refused.status(), status, "{replacement}");
        let mut out = Vec::new();
        refused.write_response(&mut out);
        let response = String::from_utf8(out).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")));
        assert!(response.ends_with(&format!("\r\n\r\n{error}\n")));
    }
}

//= RFC 6455#section-4.2.2
//= type=test
//# If this version does not match a version understood by the server, the server MUST abort the WebSocket handshake
//# described in this section and instead send an appropriate HTTP error code (such as 426 Upgrade Required) and a
//# |Sec-WebSocket-Version| header field indicating the version(s) the server is capable of understanding.
//= RFC 6455#section-4.4
//= type=test
//# If the server doesn't support the requested version, it MUST respond with a |Sec-WebSocket-Version| header field (or
//# multiple |Sec-WebSocket-Version| header fields) containing all versions it is willing to use.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
//= type=test
//# If this version does not match a version understood by the server, the server MUST abort the WebSocket connection.
#[test]
fn a_version_not_accepted_is_answered_with_those_that_are() {
    for (accepted, listed) in [
        (Versions::ALL, "13, 8, 7, 6"),
        (Versions::RFC_6455, "13"),
        (Versions::only(Version::V7).with(Version::V13), "13, 7"),
    ] {
        let mut lines = GOOD;
        lines[5] = "Sec-WebSocket-Version: 4";
        let refused = answer(&head(&lines), accepted).unwrap_err();
        let mut out = Vec::new();
        refused.write_response(&mut out);
        let response = String::from_utf8(out).unwrap();
        assert!(response.starts_with("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n"));
        assert!(response.contains(&format!("\r\nSec-WebSocket-Version: {listed}\r\n")));
    }
    let mut lines = GOOD;
    lines[5] = "Sec-WebSocket-Version: 8";
    assert!(answer(&head(&lines), Versions::RFC_6455).is_err());
    assert!(answer(&head(&lines), Versions::ALL).is_ok());
}

fn handshake<'a>(url: &'a Url, version: Version) -> ClientHandshake<'a> {
    ClientHandshake {
        url,
        version,
        key: *b"the sample nonce",
        protocols: &["tidecast.bin.v1", "tidecast.json.v1"],
        extensions: &[],
        origin: Some("http://example.com"),
        headers: &[("Authorization", "Bearer x")],
    }
}

//= RFC 6455#section-4.1
//= type=test
//# the client MUST send an opening handshake to the server
//= RFC 6455#section-4.1
//= type=test
//# The handshake MUST be a valid HTTP request as specified by [RFC2616].
//= RFC 6455#section-4.1
//= type=test
//# The method of the request MUST be GET, and the HTTP version MUST be at least 1.1.
//= RFC 6455#section-4.1
//= type=test
//# The "Request-URI" part of the request MUST match the /resource name/ defined in Section 3
//= RFC 6455#section-4.1
//= type=test
//# The request MUST contain a |Host| header field whose value contains /host/ plus optionally ":" followed by /port/
//# (when not using the default port).
//= RFC 6455#section-4.1
//= type=test
//# The request MUST contain an |Upgrade| header field whose value MUST include the "websocket" keyword.
//= RFC 6455#section-4.1
//= type=test
//# The request MUST contain a |Connection| header field whose value MUST include the "Upgrade" token.
//= RFC 6455#section-4.1
//= type=test
//# The request MUST include a header field with the name |Sec-WebSocket-Key|.
//= RFC 6455#section-4.1
//= type=test
//# The request MUST include a header field with the name |Sec-WebSocket-Version|.
//= RFC 6455#section-4.1
//= type=test
//# The value of this header field MUST be 13.
//= RFC 6455#section-11.3.1
//= type=test
//# The |Sec-WebSocket-Key| header field MUST NOT appear more than once in an HTTP request.
//= RFC 6455#section-11.3.5
//= type=test
//# the |Sec-WebSocket-Version| header field MUST NOT appear more than once in an HTTP request.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# the client MUST send a handshake to the server.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The handshake MUST be a valid HTTP request as specified by [RFC2616].
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The Method of the request MUST be GET and the HTTP version MUST be at least 1.1.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The request MUST contain a "Request-URI" as part of the GET method. This MUST match the /resource name/ Section 3.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The request MUST contain an "Upgrade" header whose value is equal to "websocket".
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The request MUST contain a "Connection" header whose value MUST include the "Upgrade" token.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The request MUST include a header with the name "Sec-WebSocket-Key".
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The request MUST include a header with the name "Sec-WebSocket-Version". The value of this header MUST be 7.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The request MUST contain a "Host" header whose value is equal to /host/
//= draft-ietf-hybi-thewebsocketprotocol-06#section-5.1
//= type=test
//# The request MUST contain a "Host" header whose value is equal to the authority component of the WebSocket URI.
#[test]
fn our_client_and_our_server_agree_in_every_version() {
    let url = Url::parse("ws://[::1]:8080/t/a%2Fb?mode=sub").unwrap();
    for version in Version::ALL {
        let handshake = handshake(&url, version);
        let mut request = Vec::new();
        handshake.write_request(&mut request).unwrap();
        let text = std::str::from_utf8(&request).unwrap();
        let host = if version == Version::V7 { "[::1]" } else { "[::1]:8080" };
        let first = format!("GET /t/a%2Fb?mode=sub HTTP/1.1\r\nHost: {host}\r\n");
        assert!(text.starts_with(&first), "{text}");

        let (request, length) = Request::parse(text.as_bytes(), 8192).unwrap().unwrap();
        assert_eq!(length, text.len());
        assert_eq!(request.header("authorization"), Some("Bearer x"));
        let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
        assert_eq!(upgrade.version(), version);
        assert_eq!(upgrade.origin(), Some("http://example.com"));
        let mut response = Vec::new();
        upgrade.write_response(Some("tidecast.json.v1"), &mut response);

        let length = response.len();
        response.extend_from_slice(b"\x81\x00");
        for cut in 0..length {
            assert_eq!(handshake.check_response(&response[..cut]), Ok(None));
        }
        let accepted = Accepted {
            protocol: Some("tidecast.json.v1".into()),
            extension: None,
        };
        assert_eq!(handshake.check_response(&response), Ok(Some((accepted, length))));
    }
}

//= RFC 6455#section-4.1
//= type=test
//# The client MUST validate the server's response as follows
//= RFC 6455#section-4.1
//= type=test
//# If the response lacks an |Upgrade| header field or the |Upgrade| header field contains a value that is not an ASCII
//# case-insensitive match for the value "websocket", the client MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-4.1
//= type=test
//# If the response lacks a |Connection| header field or the |Connection| header field doesn't contain a token that is
//# an ASCII case-insensitive match for the value "Upgrade", the client MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-4.1
//= type=test
//# If the response lacks a |Sec-WebSocket-Accept| header field or the |Sec-WebSocket-Accept| contains a value other
//# than the base64-encoded SHA-1 of the concatenation of the |Sec-WebSocket-Key| (as a string, not base64-decoded) with
//# the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" but ignoring any leading and trailing whitespace, the client MUST
//# _Fail the WebSocket Connection_.
//= RFC 6455#section-4.1
//= type=test
//# If the response includes a |Sec-WebSocket-Extensions| header field and this header field indicates the use of an
//# extension that was not present in the client's handshake (the server has indicated an extension not requested by the
//# client), the client MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-4.1
//= type=test
//# If the response includes a |Sec-WebSocket-Protocol| header field and this header field indicates the use of a
//# subprotocol that was not present in the client's handshake (the server has indicated a subprotocol not requested by
//# the client), the client MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-4.1
//= type=test
//# If the server's response does not conform to the requirements for the server's handshake as defined in this section
//# and in Section 4.2.2, the client MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-10.7
//= type=test
//# Incoming data MUST always be validated by both clients and servers.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The client MUST validate the server's response as follows
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# If the response lacks an Upgrade header or the Upgrade header contains a value that is not an ASCII case-insensitive
//# match for the value "websocket", the client MUST fail the WebSocket connection.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# If the response lacks a Connection header or the Connection header contains a value that is not an ASCII
//# case-insensitive match for the value "Upgrade", the client MUST fail the WebSocket connection.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# If the response lacks a Sec-WebSocket-Accept header or the Sec-WebSocket-Accept contains a value other than the
//# base64-encoded SHA-1 of the concatenation of the Sec-WebSocket-Key (as a string, not base64-decoded) with the string
//# "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", the client MUST fail the WebSocket connection.
#[test]
fn a_client_takes_no_answer_that_does_not_prove_itself() {
    const ANSWER: [&str; 4] = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ];
    use ClientHandshakeError as E;
    let cases = [
        (1, "", E::NotSwitched("Upgrade")),
        (1, "Upgrade: h2c", E::NotSwitched("Upgrade")),
        (1, "Upgrade: h2c, websocket", E::NotSwitched("Upgrade")),
        (1, "Upgrade: websocket\r\nUpgrade: websocket", E::NotSwitched("Upgrade")),
        (2, "", E::NotSwitched("Connection")),
        (2, "Connection: close", E::NotSwitched("Connection")),
        (3, "", E::WrongAccept),
        (3, "Sec-WebSocket-Accept: B4WbEMTlqoCGXRoVXXsbuBkC/aQ=", E::WrongAccept),
        (3, "Sec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO=", E::WrongAccept),
        (
            3,
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt",
            E::ProtocolNotOffered("mqtt".into()),
        ),
        (
            3,
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: x; y=1",
            E::ExtensionNotOffered("x; y=1".into()),
        ),
    ];
    let url = Url::parse("ws://h/").unwrap();
    for version in Version::ALL {
        let handshake = handshake(&url, version);
        let (accepted, _) = handshake.check_response(head(&ANSWER).as_bytes()).unwrap().unwrap();
        assert_eq!(accepted.protocol, None, "a server need not choose");
        for (line, replacement, error) in &cases {
            let mut lines = ANSWER.to_vec();
            lines[*line] = replacement;
            lines.retain(|line| !line.is_empty());
            let refused = handshake.check_response(head(&lines).as_bytes());
            assert_eq!(refused.as_ref(), Err(error), "{version}: {replacement}");
        }
    }
}

//= draft-ietf-hybi-thewebsocketprotocol-06#section-5.1
//= type=test
//# If the status code received from the server is not 101, the client MUST fail the WebSocket connection.
#[test]
fn a_refusal_is_reported_with_its_status_and_its_words() {
    let url = Url::parse("ws://h/").unwrap();
    for version in Version::ALL {
        let mut response = Vec::new();
        tidecast_websocket::http::Response::new(&mut response, 401).text("who are you?");
        let refused = handshake(&url, version).check_response(&response).unwrap_err();
        assert_eq!(refused.to_string(), "the server answered 401: who are you?");
    }
}

#[test]
fn a_client_writes_no_header_that_would_end_early() {
    let url = Url::parse("ws://h/").unwrap();
    let good = handshake(&url, Version::V13);
    let bad = [
        ClientHandshake {
            headers: &[("X", "a\r\nY: b")],
            ..good
        },
        ClientHandshake {
            headers: &[("X: a", "b")],
            ..good
        },
        ClientHandshake {
            headers: &[("", "b")],
            ..good
        },
        ClientHandshake {
            origin: Some("a\nb"),
            ..good
        },
    ];
    for handshake in bad {
        let mut out = Vec::new();
        let refused = handshake.write_request(&mut out).unwrap_err();
        assert!(matches!(refused, ClientHandshakeError::InvalidHeader { .. }));
        assert_eq!(out, []);
    }
}

//= RFC 6455#section-11.3.1
//= type=test
//# The |Sec-WebSocket-Key| header field MUST NOT appear more than once in an HTTP request.
//= RFC 6455#section-11.3.5
//= type=test
//# the |Sec-WebSocket-Version| header field MUST NOT appear more than once in an HTTP request.
#[test]
fn a_caller_cannot_add_a_header_that_the_handshake_has_already_or_one_of_a_body() {
    let url = Url::parse("ws://h/").unwrap();
    for name in [
        "Host",
        "upgrade",
        "CONNECTION",
        "sec-websocket-key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Origin",
        "Sec-WebSocket-Origin",
        "Content-Length",
        "transfer-encoding",
    ] {
        let handshake = ClientHandshake {
            headers: &[("Cookie", "a=b"), (name, "x")],
            ..handshake(&url, Version::V13)
        };
        let mut out = Vec::new();
        let refused = handshake.write_request(&mut out);
        assert_eq!(refused, Err(ClientHandshakeError::ReservedHeader { name: name.into() }));
        assert_eq!(out, []);
    }
}

//= RFC 6455#section-4.1
//= type=test
//# The elements that comprise this value MUST be non-empty strings with characters in the range U+0021 to U+007E not
//# including separator characters as defined in [RFC2616] and MUST all be unique strings.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The elements that comprise this value MUST be non-empty strings with characters in the range U+0021 to U+007E and
//# MUST all be unique strings.
#[test]
fn only_tokens_are_offered_as_subprotocols_and_each_once() {
    use ClientHandshakeError as E;
    let url = Url::parse("ws://h/").unwrap();
    let write = |version, protocols: &[&str]| {
        let handshake = ClientHandshake {
            protocols,
            ..handshake(&url, version)
        };
        let mut out = Vec::new();
        let written = handshake.write_request(&mut out);
        assert!(written.is_ok() || out.is_empty());
        written.map(|()| String::from_utf8(out).unwrap())
    };
    for version in Version::ALL {
        assert_eq!(write(version, &["a", ""]), Err(E::EmptyProtocol { number: 2 }));
        assert_eq!(
            write(version, &["a", "b", "A", "a", "b"]),
            Err(E::RepeatedProtocol { number: 4 })
        );
        // What RFC 2616 calls separators, then controls, then what is no ASCII.
        for character in "()<>@,;:\\\"/[]?={} \t\r\n\0\u{7f}\u{80}\u{e9}\u{141}\u{1f30a}".chars() {
            let refused = write(version, &["a", &format!("b{character}c")]);
            assert_eq!(refused, Err(E::ProtocolCharacter { number: 2, character }));
        }
        let all: String = ('!'..='~').filter(|c| !"()<>@,;:\\\"/[]?={}".contains(*c)).collect();
        let request = write(version, &["a", "A", &all]).unwrap();
        let line = format!("\r\nSec-WebSocket-Protocol: a, A, {all}\r\n");
        assert!(request.contains(&line), "{request}");
    }
    let told = write(Version::V13, &["bearer.c2VjcmV0="]).unwrap_err().to_string();
    assert!(told.contains("'='") && !told.contains("c2VjcmV0"), "{told}");
}

//= RFC 6455#section-4.2.2
//= type=test
//# Extensions not listed by the client MUST NOT be listed.
//= RFC 6455#section-9
//= type=test
//# A server MUST NOT respond with any extension not requested by the client.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
//= type=test
//# Extensions not listed by the client MUST NOT be listed.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-8
//= type=test
//# A server MUST NOT respond with any extension not requested by the client.
#[test]
fn a_browser_gets_what_it_offers_and_what_the_server_asks_for() {
    let with = |offer: &str| {
        let mut lines = GOOD.to_vec();
        lines.push(offer);
        head(&lines)
    };
    // As Chrome and Firefox offer it, and Safari.
    let offers = [
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ];
    let answers = [
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=15",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    ];
    for (offer, expected) in offers.into_iter().zip(answers) {
        let (response, extension) = answer_with(&with(offer), &Accept::default()).unwrap();
        assert!(response.ends_with(&format!("\r\nSec-WebSocket-Extensions: {expected}\r\n\r\n")));
        assert_eq!(extension.unwrap().to_string(), expected);
    }
    for nothing in [
        "Sec-WebSocket-Extensions:",
        "Sec-WebSocket-Extensions: x-webkit-deflate-frame",
    ] {
        for version in Version::ALL {
            let request = with(nothing).replace("Version: 13", &format!("Version: {version}"));
            let (response, extension) = answer_with(&request, &Accept::default()).unwrap();
            assert_eq!((&*response, extension), (ACCEPTED, None), "{version}");
        }
    }
}

//= RFC 6455#section-9.1
//= type=test
//# If a value is received by either the client or the server during negotiation that does not conform to the ABNF
//# below, the recipient of such malformed data MUST immediately _Fail the WebSocket Connection_.
#[test]
fn malformed_offers_are_a_bad_request_since_the_rfc_and_nothing_before() {
    for version in Version::ALL {
        let mut lines = GOOD.to_vec();
        let number = format!("Sec-WebSocket-Version: {version}");
        lines[5] = &number;
        lines.push("Sec-WebSocket-Extensions: permessage-deflate; =, deflate-stream");
        let answered = answer_with(&head(&lines), &Accept::default());
        if version == Version::V13 {
            assert_eq!(answered, Err(UpgradeError::Extensions));
            assert_eq!(UpgradeError::Extensions.status(), 400);
        } else {
            assert_eq!(answered.unwrap().1, None);
        }
    }
}

//= RFC 6455#section-5.8
//= type=test
//# The endpoints of a connection MUST negotiate the use of any extensions during the opening handshake.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.8
//= type=test
//# The endpoints of a connection MUST negotiate the use of any extensions during the handshake.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
//= type=test
//# If the server supports multiple extensions, then the value MUST be derived from the client's handshake, specifically
//# by selecting one or more of the values from the "Sec-WebSocket-Extensions" field.
#[test]
fn our_client_and_our_server_agree_on_an_extension_in_every_version() {
    let url = Url::parse("ws://h/").unwrap();
    let offer = PerMessageOffer {
        server_no_context_takeover: true,
        client_no_context_takeover: false,
        server_max_window_bits: Some(12),
        client_max_window_bits: ClientWindow::Limitable,
    };
    let agreed = Extension::PerMessageDeflate(Params {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: Some(12),
        client_max_window_bits: Some(15),
    });
    let stream = Extension::DeflateStream;
    for (version, expected) in Version::ALL.into_iter().zip([stream, stream, agreed, agreed]) {
        let handshake = ClientHandshake {
            extensions: &[Offer::PerMessageDeflate(offer), Offer::DeflateStream],
            ..handshake(&url, version)
        };
        let mut request = Vec::new();
        handshake.write_request(&mut request).unwrap();
        let request = String::from_utf8(request).unwrap();
        let line = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
            server_max_window_bits=12; client_max_window_bits, deflate-stream\r\n";
        assert!(request.contains(line), "{request}");
        let (response, extension) = answer_with(&request, &Accept::default()).unwrap();
        assert_eq!(extension, Some(expected));
        let (accepted, _) = handshake.check_response(response.as_bytes()).unwrap().unwrap();
        assert_eq!(accepted.extension, Some(expected));

        // Who offered nothing takes nothing, and who offered this takes nothing else.
        let nothing = ClientHandshake {
            extensions: &[],
            ..handshake
        };
        let refused = nothing.check_response(response.as_bytes()).unwrap_err();
        assert_eq!(refused, ClientHandshakeError::ExtensionNotOffered(expected.to_string()));
        let other = response.replace("Extensions: ", "Extensions: foo, ");
        let refused = handshake.check_response(other.as_bytes()).unwrap_err();
        assert_eq!(refused, ClientHandshakeError::ExtensionNotOffered("foo".into()));
        let twice = response.replace("Extensions: ", "Extensions: deflate-stream, ");
        let refused = handshake.check_response(twice.as_bytes()).unwrap_err();
        assert_eq!(refused, ClientHandshakeError::UnfitExtension(expected.to_string()));
    }
}
