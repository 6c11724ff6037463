//! A client of draft-ietf-hybi-thewebsocketprotocol-07, written by hand after what period clients send.

mod support;

use std::io::Read;

use support::*;

/// What libwebsockets of May 2011 sends.
const REQUEST: &str = "GET /t/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: fSubVebxSKDmhLv9/jbFSg==\r\nSec-WebSocket-Origin: http://example.com\r\n\
     Sec-WebSocket-Protocol: lws-mirror-protocol\r\nSec-WebSocket-Extensions:\r\n\
     Sec-WebSocket-Version: 7\r\n\r\n";

fn connect(broker: &Broker) -> Peer {
    let mut peer = Peer::connect(broker);
    peer.say(REQUEST.as_bytes());
    let head = peer.head();
    // Such a client compares names as they are written, takes no other status line and no list in Connection, and
    // fails if its subprotocol is not answered.
    let lines: Vec<_> = head.split("\r\n").collect();
    assert_eq!(lines[0], "HTTP/1.1 101 Switching Protocols");
    for line in [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: B4WbEMTlqoCGXRoVXXsbuBkC/aQ=",
        "Sec-WebSocket-Protocol: lws-mirror-protocol",
    ] {
        assert!(lines.contains(&line), "{line} is missing in {head}");
    }
    assert!(
        !head.contains("Sec-WebSocket-Extensions"),
        "no extension was agreed on: {head}"
    );
    peer
}

#[test]
fn the_vectors_of_draft_07_are_understood_and_answered() {
    let broker = Broker::start(&["--origins", "*"]);
    let mut peer = connect(&broker);
    let dialogue = [
        ("text", "8185 37fa213d 7f9f4d5158", "810548656c6c6f"),
        (
            "two fragments",
            "0183 37fa213d 7f9f4d 8082 37fa213d 5b95",
            "810548656c6c6f",
        ),
        ("binary", "8283 37fa213d 37fb23", "8203000102"),
        ("a ping", "8985 37fa213d 7f9f4d5158", "8a0548656c6c6f"),
        (
            "a ping between fragments",
            "0183 37fa213d 7f9f4d 8985 37fa213d 7f9f4d5158",
            "8a0548656c6c6f",
        ),
        ("the last fragment", "8082 37fa213d 5b95", "810548656c6c6f"),
        (
            "an unsolicited pong, and text",
            "8a85 37fa213d 7f9f4d5158 8185 37fa213d 7f9f4d5158",
            "810548656c6c6f",
        ),
        ("the key 0", "8185 00000000 48656c6c6f", "810548656c6c6f"),
        ("close 1000", "8882 37fa213d 3412", "880203e8"),
    ];
    for (what, said, heard) in dialogue {
        eprintln!("{what}");
        peer.say(&hex(said));
        peer.hears(&hex(heard));
    }
    // Bytes after a Close are drained, not answered by a reset.
    peer.say(&hex("8a80 00000000"));
    assert_eq!(peer.rest(), b"");
}

#[test]
fn a_long_message_uses_both_forms_of_the_extended_length() {
    let broker = Broker::start(&["--origins", "*"]);
    let mut peer = connect(&broker);
    for size in [300, 65_536] {
        let payload: Vec<u8> = (b'a'..=b'z').cycle().take(size).collect();
        peer.say(&masked(0x81, &payload));
        assert_eq!(peer.frame(), (0x81, payload), "{size} bytes");
    }
}

#[test]
fn what_draft_07_forbids_is_closed_with_a_code_it_knows() {
    let broker = Broker::start(&["--max-message", "1000", "--origins", "*"]);
    for (what, said, code) in [
        ("an unmasked frame", hex("810548656c6c6f"), 1002),
        ("a reserved bit", masked(0xc1, b"x"), 1002),
        ("a reserved opcode", masked(0x83, b"x"), 1002),
        // 1007 came later; 1003 is a datum that cannot be accepted.
        ("text that is not UTF-8", masked(0x81, b"\xff"), 1003),
        // 1009 was 1004 then.
        ("a message too large", masked(0x82, &[0; 1001]), 1004),
    ] {
        let mut peer = connect(&broker);
        peer.say(&said);
        let (first, payload) = peer.frame();
        assert_eq!(
            (first, u16::from_be_bytes([payload[0], payload[1]])),
            (0x88, code),
            "{what}"
        );
        assert_eq!(peer.rest(), b"", "{what}");
    }
}

#[test]
fn a_close_code_laid_over_by_the_key_still_ends_in_order() {
    let broker = Broker::start(&["--origins", "*"]);
    let mut peer = connect(&broker);
    // libwebsockets masks the status of a close of its own wrongly: 62964 here.
    peer.say(&masked(0x88, &62_964u16.to_be_bytes()));
    let (first, payload) = peer.frame();
    assert_eq!((first, payload.len()), (0x88, 2));
    assert_eq!(peer.rest(), b"");
    assert_eq!(broker.stop().get("protocol_errors"), 0);
}

#[test]
fn no_frame_comes_in_one_read_with_the_response() {
    let broker = Broker::start(&["--origins", "*"]);
    let mut publisher = client(&broker.ws("/t/echo?mode=pub"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Something is always about to be delivered.
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                publisher.send_text("x").unwrap();
                std::thread::yield_now();
            }
        });
        for _ in 0..20 {
            let mut peer = Peer::connect(&broker);
            peer.say(REQUEST.as_bytes());
            let mut read = [0; 4096];
            let count = peer.0.read(&mut read).unwrap();
            assert!(
                read[..count].ends_with(b"\r\n\r\n"),
                "the response stands alone in what is read first"
            );
            peer.hears(b"\x81\x01x");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn clients_of_all_versions_on_both_workers_share_a_topic() {
    let broker = Broker::start(&["--origins", "*"]);
    let mut peers: Vec<_> = (0..24)
        .map(|i| Peer::open(&broker, "/t/mixed", [6, 7, 8, 13][i % 4]))
        .collect();
    peers[1].say(&hex("8185 37fa213d 7f9f4d5158"));
    for (i, peer) in peers.iter_mut().enumerate() {
        let hello = if i % 4 == 0 { "840548656c6c6f" } else { "810548656c6c6f" };
        peer.hears(&hex(hello));
    }
    assert_eq!(broker.stop().get("forwarded"), 1);
}

#[test]
fn a_client_that_leaves_right_behind_its_request_harms_nobody() {
    let broker = Broker::start(&["--workers", "1", "--origins", "*"]);
    let mut bystander = json_client(&broker);
    for _ in 0..300 {
        Peer::connect(&broker).say(upgrade("/t/a", "Sec-WebSocket-Version: 7\r\n").as_bytes());
    }
    assert_eq!(ask(&mut bystander, r#"["ping"]"#), r#"["pong"]"#);
    bystander.close(1000, "").unwrap();
    broker.stop();
}
