//! Whatever a client does wrong is answered by the book, counted, and nobody else notices.

mod support;

use std::thread;
use std::time::Instant;

use support::*;
use tidecast_client::Message;

/// Connections that go about their business while others misbehave.
struct Bystanders {
    subscribers: Vec<tidecast_client::Client>,
    publisher: tidecast_client::Client,
    count: u32,
}

impl Bystanders {
    fn new(broker: &Broker) -> Bystanders {
        Bystanders {
            // Enough to have some on each worker.
            subscribers: (0..8).map(|_| client(&broker.ws("/t/calm?mode=sub"))).collect(),
            publisher: client(&broker.ws("/t/calm?mode=pub")),
            count: 0,
        }
    }

    fn are_undisturbed(&mut self) {
        self.count += 1;
        let word = format!("calm {}", self.count);
        self.publisher.send_text(&word).unwrap();
        for subscriber in &mut self.subscribers {
            assert_eq!(text(subscriber), word);
        }
    }
}

#[test]
fn requests_that_break_the_rules_get_the_status_that_says_so() {
    let broker = Broker::start(&["--max-head", "2048", "--handshake-timeout", "1s"]);
    let mut bystanders = Bystanders::new(&broker);
    let version = "Sec-WebSocket-Version: 13\r\n";
    let good = upgrade("/ws", version);
    let table: Vec<(&str, String, &str)> = vec![
        ("not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".into(), "400"),
        ("no HTTP version", "GET /\r\n\r\n".into(), "400"),
        ("HTTP/2", "GET / HTTP/2.0\r\nHost: h\r\n\r\n".into(), "505"),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), "505"),
        ("wrong method", good.replace("GET", "PUT"), "405"),
        ("no Host", good.replace("Host: localhost\r\n", ""), "400"),
        (
            "two Hosts",
            good.replace("Host: localhost", "Host: a\r\nHost: b"),
            "400",
        ),
        ("no Upgrade", good.replace("Upgrade: websocket\r\n", ""), "426"),
        (
            "another Upgrade",
            good.replace("Upgrade: websocket", "Upgrade: h2c"),
            "426",
        ),
        ("no Connection", good.replace("Connection: Upgrade\r\n", ""), "400"),
        (
            "another Connection",
            good.replace("Connection: Upgrade", "Connection: close"),
            "400",
        ),
        (
            "no key",
            good.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            "400",
        ),
        (
            "a short key",
            good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
            "400",
        ),
        (
            "a key that is not base64",
            good.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhl!HNhbXBsZSBub25jZQ=="),
            "400",
        ),
        ("no version", upgrade("/ws", ""), "426"),
        ("version 12", upgrade("/ws", "Sec-WebSocket-Version: 12\r\n"), "426"),
        ("version x", upgrade("/ws", "Sec-WebSocket-Version: x\r\n"), "426"),
        ("nothing there", upgrade("/elsewhere", version), "404"),
        ("a bad filter", upgrade("/t/a%2F%23%2Fb", version), "400"),
        ("a topic that is not UTF-8", upgrade("/t/%ff", version), "400"),
        ("an unknown mode", upgrade("/t/a?mode=maybe", version), "400"),
        (
            "a head too long",
            upgrade("/ws", &format!("{version}X: {}\r\n", "x".repeat(3000))),
            "431",
        ),
        (
            "a head that never ends",
            format!("GET /ws HTTP/1.1\r\nX: {}", "x".repeat(3000)),
            "431",
        ),
        (
            "too many headers",
            upgrade("/ws", &format!("{version}{}", "X: y\r\n".repeat(70))),
            "431",
        ),
        ("a head that stops", "GET /ws HTTP/1.1\r\nHost: h\r\n".into(), "408"),
        ("silence", String::new(), "408"),
    ];
    let count = table.len() as u64;
    for (what, request, status) in table {
        let mut peer = Peer::connect(&broker);
        peer.say(request.as_bytes());
        let answer = String::from_utf8(peer.rest()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.contains("close\r\n"), "{what} ends the connection: {answer}");
        assert!(
            answer.split("\r\n\r\n").nth(1).is_some_and(|body| body.len() > 10),
            "{what} is explained: {answer}"
        );
        if status == "426" {
            assert!(
                answer.contains("Sec-WebSocket-Version: 13, 8, 7, 6\r\n"),
                "{what}: {answer}"
            );
        }
        bystanders.are_undisturbed();
    }
    let totals = broker.stop();
    assert_eq!(totals.get("requests_refused") + totals.get("requests_timed_out"), count);
    assert_eq!(totals.get("requests_timed_out"), 2);
}

#[test]
fn frames_that_break_the_rules_get_the_close_code_that_says_so() {
    let broker = Broker::start(&["--max-message", "100000"]);
    let mut bystanders = Bystanders::new(&broker);
    let large = masked(0x82, &vec![0; 100_001]);
    let table: Vec<(&str, Vec<u8>, u16)> = vec![
        ("not masked", hex("810548656c6c6f"), 1002),
        ("RSV1", masked(0xc1, b"x"), 1002),
        ("RSV2", masked(0xa1, b"x"), 1002),
        ("RSV3", masked(0x91, b"x"), 1002),
        ("a reserved data opcode", masked(0x83, b"x"), 1002),
        ("a reserved control opcode", masked(0x8b, b"x"), 1002),
        ("a fragmented ping", masked(0x09, b"x"), 1002),
        ("a long ping", masked(0x89, &[0; 126]), 1002),
        ("a long close", masked(0x88, &[3; 126]), 1002),
        ("a continuation of nothing", masked(0x80, b"x"), 1002),
        (
            "text within text",
            [masked(0x01, b"x"), masked(0x81, b"y")].concat(),
            1002,
        ),
        ("16 bits for a short length", hex("82fe0005 37fa213d 0000000000"), 1002),
        (
            "64 bits for a short length",
            hex("82ff0000000000000005 37fa213d 0000000000"),
            1002,
        ),
        (
            "the highest bit of a length",
            hex("82ff8000000000000000 37fa213d"),
            1002,
        ),
        ("text that is not UTF-8", masked(0x81, b"\xce\xba\xff"), 1007),
        (
            "fragments that are not UTF-8",
            [masked(0x01, b"\xce"), masked(0x80, b"\xce")].concat(),
            1007,
        ),
        ("a message too large", large, 1009),
        (
            "a header that announces too much",
            hex("82ff0000010000000000 37fa213d"),
            1009,
        ),
        (
            "fragments too large together",
            [masked(0x02, &[0; 60_000]), masked(0x80, &[0; 60_000])].concat(),
            1009,
        ),
        ("a close of one byte", masked(0x88, b"x"), 1002),
        (
            "a close code that is never sent",
            masked(0x88, &1005u16.to_be_bytes()),
            1002,
        ),
        ("a close reason that is not UTF-8", masked(0x88, b"\x03\xe8\xff"), 1007),
    ];
    let count = table.len() as u64;
    for (what, bytes, code) in table {
        let mut peer = Peer::open(&broker, "/t/wild?mode=pub", 13);
        peer.say(&bytes);
        let (first, payload) = peer.frame();
        assert_eq!(first, 0x88, "{what}: a Close");
        assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), code, "{what}");
        assert!(payload.len() > 2, "{what}: the reason is told");
        assert_eq!(peer.rest(), b"", "{what}: nothing after the Close");
        bystanders.are_undisturbed();
    }
    assert_eq!(broker.stop().get("protocol_errors"), count);
}

#[test]
fn a_raw_connection_is_told_why_it_may_not_say_that() {
    let broker = Broker::start(&[]);
    for (path, frame) in [
        ("/t/a?mode=sub", masked(0x81, b"x")),
        ("/t/a%2F%2B", masked(0x81, b"x")),
        ("/t/a?kind=json", masked(0x81, b"{")),
    ] {
        let mut peer = Peer::open(&broker, path, 13);
        peer.say(&frame);
        let (first, payload) = peer.frame();
        assert_eq!((first, &payload[..2]), (0x88, &4102u16.to_be_bytes()[..]), "{path}");
        assert!(payload.len() > 10, "{path}: the reason is told");
        peer.say(&masked(0x88, &payload[..2]));
        assert_eq!(peer.rest(), b"");
    }
    assert_eq!(broker.stop().get("commands_refused"), 3);
}

#[test]
fn commands_that_make_no_sense_are_answered_and_the_connection_goes_on() {
    let broker = Broker::start(&["--max-subscriptions", "2"]);
    let mut json = json_client(&broker);
    let table = [
        ("{", "bad_message"),
        ("[]", "bad_message"),
        (r#"["jump"]"#, "unknown_verb"),
        (r#"["sub"]"#, "bad_message"),
        (r#"["sub","a#"]"#, "bad_topic"),
        (r#"["pub","a/+",1]"#, "bad_topic"),
        (r#"["pub","$SYS/a",1]"#, "forbidden"),
        (r#"["pub","a",1,{"retain":true}]"#, "bad_message"),
        (r#"["sub","a",{"since":"all"}]"#, "bad_message"),
        (r#"["unsub","a"]"#, "not_found"),
        (r#"["auth","secret"]"#, "unauthorized"),
    ];
    for (command, code) in table {
        let answer = ask(&mut json, command);
        assert!(
            answer.starts_with(&format!(r#"["err",null,"{code}","#)),
            "{command}: {answer}"
        );
    }
    let deep = format!("[\"pub\",\"a\",{}1{}]", "[".repeat(100_000), "]".repeat(100_000));
    assert!(ask(&mut json, &deep).starts_with(r#"["err",null,"bad_message","#));
    json.send_binary(b"[\"ping\"]").unwrap();
    assert!(text(&mut json).starts_with(r#"["err",null,"bad_message","#));
    for filter in ["a", "b"] {
        assert_eq!(
            ask(&mut json, &format!(r#"["sub","{filter}",{{"ref":0}}]"#)),
            r#"["ok",0,{}]"#
        );
    }
    assert!(ask(&mut json, r#"["sub","c",{"ref":1}]"#).starts_with(r#"["err",1,"forbidden","#));
    assert_eq!(ask(&mut json, r#"["ping"]"#), r#"["pong"]"#);
    assert_eq!(broker.stop().get("commands_refused"), table.len() as u64 + 3);
}

#[test]
fn a_subscriber_that_stops_reading_is_closed_with_4000_and_the_others_get_everything() {
    let broker = Broker::start(&["--max-pending", "256K", "--close-timeout", "30s"]);
    let mut stuck: Vec<_> = (0..4).map(|_| Peer::open(&broker, "/t/much?mode=sub", 13)).collect();
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let mut subscriber = client(&broker.ws("/t/much?mode=sub"));
            thread::spawn(move || {
                let mut count = 0u32;
                loop {
                    match subscriber.receive(Some(Instant::now() + DEADLINE)).unwrap() {
                        Some(Message::Binary(payload)) => {
                            assert_eq!(payload[..4], count.to_be_bytes());
                            count += 1;
                        }
                        Some(Message::Text(end)) => {
                            assert_eq!(end, count.to_string());
                            return;
                        }
                        other => panic!("{other:?} after {count}"),
                    }
                }
            })
        })
        .collect();
    // A reader that keeps up: the publisher waits for it, so that only those who do not read at all are slow.
    let mut pace = client(&broker.ws("/t/much?mode=sub"));
    let mut publisher = client(&broker.ws("/t/much?mode=pub"));
    let mut payload = vec![7; 16 * 1024];
    let mut count = 0u32;
    let deadline = Instant::now() + DEADLINE;
    // A socket pair takes up to some 10 MiB before it is the broker that has to keep what is not read.
    for _ in 0..2000 {
        assert!(Instant::now() < deadline);
        payload[..4].copy_from_slice(&count.to_be_bytes());
        publisher.send_binary(&payload).unwrap();
        assert!(matches!(pace.receive(Some(deadline)), Ok(Some(Message::Binary(_)))));
        count += 1;
    }
    publisher.send_text(&count.to_string()).unwrap();
    readers.into_iter().for_each(|thread| thread.join().unwrap());
    for peer in &mut stuck {
        // Once it reads again: whole frames, in order, and then the reason.
        let mut next = 0u32;
        let code = loop {
            let (first, payload) = peer.frame();
            if first == 0x88 {
                break u16::from_be_bytes([payload[0], payload[1]]);
            }
            assert_eq!(payload[..4], next.to_be_bytes());
            next += 1;
        };
        assert_eq!(code, 4000);
        assert!(next < count);
        peer.say(&masked(0x88, &4000u16.to_be_bytes()));
        assert_eq!(peer.rest(), b"");
    }
    assert_eq!(broker.stop().get("slow_consumers"), 4);
}

#[test]
fn a_client_that_answers_no_ping_is_given_up() {
    let broker = Broker::start(&["--ping-interval", "100ms", "--pong-timeout", "200ms"]);
    let mut silent = Peer::open(&broker, "/t/a?mode=sub", 13);
    let (first, body) = silent.frame();
    assert_eq!(first, 0x89);
    assert!(!body.is_empty(), "clients of the drafts stall on an empty ping");
    // One that answers is kept: the client library does so by itself while it waits.
    let mut alive = client(&broker.ws("/t/a?mode=sub"));
    loop {
        let _ = alive.receive(Some(Instant::now() + std::time::Duration::from_millis(50)));
        silent.0.set_nonblocking(true).unwrap();
        let mut byte = [0];
        let open = matches!(silent.0.peek(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        silent.0.set_nonblocking(false).unwrap();
        if !open {
            break;
        }
    }
    assert_eq!(silent.frame().0, 0x88);
    let mut publisher = client(&broker.ws("/t/a?mode=pub"));
    publisher.send_text("still there").unwrap();
    assert_eq!(text(&mut alive), "still there");
    // The others are not listening any more, and may be given up in their turn.
    assert!(broker.stop().get("silent") >= 1);
}

#[test]
fn a_full_broker_leaves_newcomers_waiting_and_serves_them_when_somebody_goes() {
    let broker = Broker::start(&["--workers", "1", "--max-connections-per-worker", "3"]);
    let mut open: Vec<_> = (0..3).map(|_| Peer::open(&broker, "/t/a", 13)).collect();
    let mut waiting = Peer::connect(&broker);
    waiting.say(upgrade("/t/a", "Sec-WebSocket-Version: 13\r\n").as_bytes());
    open[0].say(&masked(0x81, b"x"));
    for peer in &mut open {
        peer.hears(b"\x81\x01x");
    }
    waiting.0.set_nonblocking(true).unwrap();
    assert!(waiting.0.peek(&mut [0]).is_err(), "there is no room yet");
    waiting.0.set_nonblocking(false).unwrap();
    drop(open.pop());
    let head = waiting.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[test]
fn newcomers_by_several_listeners_wait_for_a_full_worker_and_none_is_reset() {
    for most in ["2", "5"] {
        let arguments = [
            "--workers",
            "1",
            "--listen",
            "127.0.0.2:0",
            "--max-connections-per-worker",
            most,
        ];
        let broker = Broker::start(&arguments);
        let second = broker.line("listening on http://127.0.0.2:");
        let second = second.split("http://").nth(1).unwrap().split('/').next().unwrap();
        let addresses = [broker.address, second.parse().unwrap()];
        thread::scope(|scope| {
            for address in addresses.iter().cycle().take(32) {
                scope.spawn(|| {
                    let mut peer = Peer::to(*address);
                    peer.say(upgrade("/t/a", "Sec-WebSocket-Version: 13\r\n").as_bytes());
                    let head = peer.head();
                    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
                });
            }
        });
        assert_eq!(broker.errors("cannot be accepted"), [""; 0]);
        broker.stop();
    }
}

#[test]
fn a_request_is_answered_whose_client_has_closed_its_sending_side() {
    let broker = Broker::start(&["--workers", "1"]);
    // One after the other, so that each takes the slot of the last, which may still be on its way out.
    for _ in 0..1000 {
        let mut peer = Peer::connect(&broker);
        peer.say(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        peer.0.shutdown(std::net::Shutdown::Write).unwrap();
        let response = peer.rest();
        assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n") && response.ends_with(b"</html>\n"));
    }
    assert_eq!(broker.stop().get("connections"), 0);
}
