//! The closing handshake, begun by either side, in every version.

use tidecast_websocket::{Opcode, State, Version, code};

use crate::support::{NOW, Said, Segmentation, client, everywhere, listen, masked, plain, plain_close, server, text};

//= RFC 6455#section-5.5.1
//= type=test
//# If an endpoint receives a Close frame and did not previously send a Close frame, the endpoint MUST send a Close
//# frame in response.
//= RFC 6455#section-7.1.2
//= type=test
//# an endpoint MUST send a Close control frame, as described in Section 5.5.1, whose status code is set to /code/ and
//# whose close reason is set to /reason/.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.1
//= type=test
//# If an endpoint receives a Close message and that endpoint did not previously send a Close message, the endpoint MUST
//# send a Close message in response.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-7.1.2
//= type=test
//# To _start the WebSocket closing handshake_, an endpoint MUST send a Close control frame, as described in Section
//# 4.5.1.
//= draft-ietf-hybi-thewebsocketprotocol-06#section-7.1.2
//= type=test
//# To _start the WebSocket closing handshake_, and endpoint MUST send a Close control frame, as described in Section
//# 4.5.1.
#[test]
fn a_close_by_either_side_ends_with_both_draining_and_the_code_known_to_both() {
    for (version, segmentation) in everywhere() {
        let (mut client, mut server) = (client(version), server(version));
        let mut request = Vec::new();
        client.close(code::GOING_AWAY, "tide's out", NOW, &mut request);
        assert_eq!(client.state(), State::CloseSent);
        let at_server = listen(&mut server, &request, segmentation);
        assert_eq!(at_server.said, [Said::Close(Some(1001), "tide's out".into())]);
        assert_eq!(server.state(), State::Draining);
        let at_client = listen(&mut client, &at_server.out, segmentation);
        assert_eq!(at_client.said, [Said::Close(Some(1001), String::new())]);
        assert_eq!(at_client.out, [], "a close is answered once");
        assert_eq!(client.state(), State::Draining);
        client.handle_end();
        assert_eq!(client.state(), State::Closed);
    }
}

#[test]
fn closes_that_cross_are_each_others_answer() {
    for (version, segmentation) in everywhere() {
        let (mut client, mut server) = (client(version), server(version));
        let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
        client.close(code::NORMAL, "", NOW, &mut from_client);
        server.close(code::GOING_AWAY, "", NOW, &mut from_server);
        let at_server = listen(&mut server, &from_client, segmentation);
        let at_client = listen(&mut client, &from_server, segmentation);
        assert_eq!((at_server.out.len(), at_client.out.len()), (0, 0));
        assert_eq!(server.state(), State::Draining);
        assert_eq!(client.state(), State::Draining);
    }
}

//= RFC 6455#section-5.5.1
//= type=test
//# The application MUST NOT send any more data frames after sending a Close frame.
//= RFC 6455#section-6.1
//= type=test
//# The endpoint MUST ensure the WebSocket connection is in the OPEN state (cf. Sections 4.1 and 4.2.2.)
//= RFC 6455#section-6.1
//= type=test
//# If at any point the state of the WebSocket connection changes, the endpoint MUST abort the following steps.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.1
//= type=test
//# The application MUST NOT send any more data frames after sending a close message.
//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.5.1
//= type=test
//# The application MUST NOT send any more data messages after sending a close message.
#[test]
fn nothing_is_sent_after_our_close_but_what_the_peer_had_sent_is_heard() {
    for (version, segmentation) in everywhere() {
        let mut server = server(version);
        let mut out = Vec::new();
        assert!(server.send(Opcode::Text, b"last words", &mut out));
        server.close(4000, "slow consumer", NOW, &mut out);
        let sent = out.len();
        assert!(!server.send(Opcode::Text, b"one more thing", &mut out));
        server.close(4001, "", NOW, &mut out);
        assert_eq!(out.len(), sent);
        let octets = [
            masked(version, Opcode::Text, true, b"on its way"),
            masked(version, Opcode::Ping, true, b"alive?"),
            masked(version, Opcode::Close, true, &4000_u16.to_be_bytes()),
            masked(
                version,
                Opcode::Pong,
                true,
                b"sent after the close, as pywebsocket does",
            ),
        ]
        .concat();
        let heard = listen(&mut server, &octets, segmentation);
        let said = [
            text("on its way"),
            Said::Ping(b"alive?".into()),
            Said::Close(Some(4000), String::new()),
        ];
        assert_eq!(heard.said, said);
        assert_eq!(heard.out, []);
    }
}

#[test]
fn a_ping_before_the_close_is_answered_before_the_close() {
    for version in Version::ALL {
        let octets = [
            masked(version, Opcode::Ping, true, b"?"),
            masked(version, Opcode::Close, true, &1000_u16.to_be_bytes()),
        ]
        .concat();
        let heard = listen(&mut server(version), &octets, Segmentation::Whole);
        let answer = [plain(version, Opcode::Pong, true, b"?"), plain_close(version, 1000, "")];
        assert_eq!(heard.out, answer.concat());
    }
}

//= RFC 6455#section-5.5.1
//= type=test
//# If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer (in network byte order)
//# representing a status code with value /code/ defined in Section 7.4.
//= RFC 6455#section-7.4.1
//= type=test
//# 1005 is a reserved value and MUST NOT be set as a status code in a Close control frame by an endpoint.
//= RFC 6455#section-7.4.1
//= type=test
//# 1006 is a reserved value and MUST NOT be set as a status code in a Close control frame by an endpoint.
//= RFC 6455#section-7.4.1
//= type=test
//# 1015 is a reserved value and MUST NOT be set as a status code in a Close control frame by an endpoint.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.1
//= type=test
//# If there is a body, the first two bytes of the body MUST be a 2-byte integer (in network byte order) representing a
//# status code defined in Section 7.4.
#[test]
fn the_peer_gets_the_code_its_version_has_for_ours() {
    let table = [
        (code::NORMAL, [1000, 1000, 1000, 1000]),
        (code::GOING_AWAY, [1001, 1001, 1001, 1001]),
        (code::PROTOCOL_ERROR, [1002, 1002, 1002, 1002]),
        (code::UNSUPPORTED, [1003, 1003, 1003, 1003]),
        (code::DRAFT_TOO_BIG, [1004, 1004, 1004, 1009]),
        (code::INVALID_PAYLOAD, [1003, 1003, 1007, 1007]),
        (code::POLICY, [1003, 1003, 1003, 1008]),
        (code::TOO_BIG, [1004, 1004, 1004, 1009]),
        (code::EXTENSION_NEEDED, [1002, 1002, 1002, 1010]),
        (code::INTERNAL_ERROR, [1001, 1001, 1001, 1011]),
        (code::SERVICE_RESTART, [1001, 1001, 1001, 1012]),
        (code::TRY_AGAIN_LATER, [1001, 1001, 1001, 1013]),
        (3000, [3000, 3000, 3000, 3000]),
        (4103, [4103, 4103, 4103, 4103]),
        (1005, [1000, 1000, 1000, 1000]),
        (1006, [1000, 1000, 1000, 1000]),
        (1015, [1000, 1000, 1000, 1000]),
    ];
    for (ours, sent) in table {
        for (version, sent) in Version::ALL.into_iter().zip(sent) {
            let mut out = Vec::new();
            server(version).close(ours, "", NOW, &mut out);
            assert_eq!(out, plain_close(version, sent, ""), "{ours} in version {version}");
        }
    }
}

#[test]
fn any_code_from_a_draft_client_ends_in_an_orderly_close() {
    // libwebsockets of 2011 laid the masking key over its code.
    for garbage in [62_964, 50_847, 31_673, 0, 999, 1005, 2999] {
        for version in [Version::V6, Version::V7, Version::V8] {
            let body = u16::to_be_bytes(garbage);
            let octets = masked(version, Opcode::Close, true, &body);
            let heard = listen(&mut server(version), &octets, Segmentation::Whole);
            assert_eq!(heard.said, [Said::Close(Some(garbage), String::new())]);
            assert_eq!(heard.out, plain_close(version, 1000, ""));
        }
    }
}

#[test]
fn an_empty_close_is_answered_with_a_code() {
    for (version, segmentation) in everywhere() {
        let empty = masked(version, Opcode::Close, true, b"");
        let heard = listen(&mut server(version), &empty, segmentation);
        assert_eq!(heard.said, [Said::Close(None, String::new())]);
        assert_eq!(heard.out, plain_close(version, 1000, ""));
    }
}

//= RFC 6455#section-5.5
//= type=test
//# All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5
//= type=test
//# All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
#[test]
fn a_long_reason_is_cut_between_characters() {
    for (reason, kept) in [("x".repeat(200), 123), ("€".repeat(60), 123), ("ü".repeat(90), 122)] {
        let mut out = Vec::new();
        server(Version::V13).close(1000, &reason, NOW, &mut out);
        assert_eq!(out, plain_close(Version::V13, 1000, &reason[..kept]));
    }
}
