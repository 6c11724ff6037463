//! What a server owes to the connection below: answers to bad requests, and its end.

use crate::support::*;

/// The fields of a response by that name.
fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.split("\r\n").filter_map(|line| line.split_once(": "));
    fields
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value)
        .collect()
}

//= RFC 6455#section-4.2.2
//= type=test
//# If the requested service is not available, the server MUST send an appropriate HTTP error code (such as 404 Not
//# Found) and abort the WebSocket handshake.
//= RFC 6455#section-7.2.2
//= type=test
//# To do so, the server MUST simply _Close the WebSocket Connection_ (Section 7.1.1).
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.1
//= type=test
//# If the server, while reading the handshake, finds that the client did not send a handshake that matches the
//# description below, the server MUST abort the WebSocket connection.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
//= type=test
//# If this version does not match a version understood by the server, the server MUST abort the WebSocket connection.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-7.2.2
//= type=test
//# To do so, the server MUST simply _close the WebSocket connection_ (Section 7.1.1).
#[test]
fn a_handshake_is_aborted_by_a_status_and_the_end_of_the_connection() {
    let broker = Broker::start(&[]);
    for version in [6, 7, 8, 13] {
        let version = format!("Sec-WebSocket-Version: {version}\r\n");
        for (what, request, status) in [
            ("no such service", upgrade("/elsewhere", &version), "404"),
            ("no such topic", upgrade("/t/a%2F%23%2Fb", &version), "400"),
            (
                "no key",
                upgrade("/ws", &version).replace("Sec-WebSocket-Key", "X"),
                "400",
            ),
            ("no such version", upgrade("/ws", "Sec-WebSocket-Version: 5\r\n"), "426"),
        ] {
            let mut peer = Peer::connect(&broker);
            peer.say(request.as_bytes());
            let answer = String::from_utf8(peer.rest()).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        }
    }
}

//= RFC 6455#section-4.2.2
//= type=test
//# The value chosen MUST be derived from the client's handshake, specifically by selecting one of the values from the
//# |Sec-WebSocket-Protocol| field that the server is willing to use for this connection (if any).
//= RFC 6455#section-4.2.2
//= type=test
//# if the server does not wish to agree to one of the suggested subprotocols, it MUST NOT send back a
//# |Sec-WebSocket-Protocol| header field in its response
//= RFC 6455#section-11.3.3
//= type=test
//# The |Sec-WebSocket-Accept| header MUST NOT appear more than once in an HTTP response.
//= RFC 6455#section-11.3.4
//= type=test
//# the |Sec-WebSocket-Protocol| header field MUST NOT appear more than once in an HTTP response.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
//= type=test
//# If the server supports multiple subprotocols, then the value MUST be derived from the client's handshake,
//# specifically by selecting one of the values from the "Sec-WebSocket-Protocol" field.
#[test]
fn a_subprotocol_is_answered_with_one_that_was_offered_or_not_at_all() {
    let broker = Broker::start(&[]);
    for version in [6, 7, 8, 13] {
        for offer in [
            &[][..],
            &["tidecast.json.v1"],
            &["x", "tidecast.bin.v1", "tidecast.json.v1"],
            &["tidecast.json.v1", "tidecast.bin.v1", "x"],
        ] {
            let mut peer = Peer::connect(&broker);
            let headers = match offer {
                [] => String::new(),
                offer => format!("Sec-WebSocket-Protocol: {}\r\n", offer.join(", ")),
            };
            peer.say(upgrade("/ws", &format!("{headers}Sec-WebSocket-Version: {version}\r\n")).as_bytes());
            let head = peer.head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            let chosen = fields(&head, "Sec-WebSocket-Protocol");
            assert_eq!(chosen.len(), offer.len().min(1), "{version}, {offer:?}: {head}");
            assert!(chosen.iter().all(|chosen| offer.contains(chosen)), "{version}: {head}");
            assert_eq!(fields(&head, "Sec-WebSocket-Accept").len(), 1);
        }
    }
}

//= RFC 6455#section-5.5.1
//= type=test
//# After both sending and receiving a Close message, an endpoint considers the WebSocket connection closed and MUST
//# close the underlying TCP connection.
//= RFC 6455#section-5.5.1
//= type=test
//# The server MUST close the underlying TCP connection immediately
#[test]
fn after_both_closes_the_server_ends_the_connection_though_the_client_does_not() {
    let broker = Broker::start(&["--close-timeout", "30s"]);
    for version in [7, 8, 13] {
        // The client's Close is the first.
        let mut peer = Peer::open(&broker, "/t/a", version);
        peer.say(&masked(0x88, &1000u16.to_be_bytes()));
        peer.hears(b"\x88\x02\x03\xe8");
        assert_eq!(peer.rest(), b"");
        // The server's is, as nothing may be published here.
        let mut peer = Peer::open(&broker, "/t/a?mode=sub", version);
        peer.say(&masked(0x81, b"x"));
        let (first, payload) = peer.frame();
        assert_eq!((first, &payload[..2]), (0x88, &4102u16.to_be_bytes()[..]));
        peer.say(&masked(0x88, &payload[..2]));
        assert_eq!(peer.rest(), b"");
    }
}

//= RFC 6455#section-5.1
//= type=test
//# The server MUST close the connection upon receiving a frame that is not masked.
//= RFC 6455#section-6.1
//= type=test
//# The frame(s) that have been formed MUST be transmitted over the underlying network connection.
//= RFC 6455#section-7.1.7
//= type=test
//# Similarly, to do so, the server MUST _Close the WebSocket Connection_
//= RFC 6455#section-7.1.7
//= type=test
//# An endpoint MUST NOT continue to attempt to process data (including a responding Close frame) from the remote
//# endpoint after being instructed to _Fail the WebSocket Connection_.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.3
//= type=test
//# A server MUST close the connection upon receiving a frame with the MASK bit set to 0.
#[test]
fn a_frame_that_fails_the_connection_ends_it_and_nothing_behind_it_is_heard() {
    let broker = Broker::start(&[]);
    for version in [7, 8, 13] {
        let mut bystander = Peer::open(&broker, "/t/a?mode=sub", version);
        for bad in [hex("810548656c6c6f"), masked(0xc1, b"x"), masked(0x83, b"x")] {
            let mut peer = Peer::open(&broker, "/t/a", version);
            peer.say(&[bad, masked(0x81, b"behind it")].concat());
            let (first, payload) = peer.frame();
            assert_eq!((first, &payload[..2]), (0x88, &1002u16.to_be_bytes()[..]));
            assert_eq!(peer.rest(), b"");
        }
        let mut peer = Peer::open(&broker, "/t/a", version);
        peer.say(&masked(0x81, b"fine"));
        bystander.hears(b"\x81\x04fine");
    }
}
