//! Plain HTTP beside WebSocket: publishing with POST, and how requests follow each other on a connection.

#[path = "auth/mod.rs"]
mod auth;
#[path = "http/mod.rs"]
mod http;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use auth::Directory;
use http::*;
use support::*;
use tidecast_client::Message;

#[test]
fn what_is_posted_is_delivered_as_what_its_content_type_says() {
    let broker = Broker::start(&[]);
    let mut raw = client(&broker.ws("/t/a%2Fb?mode=sub"));
    let mut json = json_client(&broker);
    assert_eq!(ask(&mut json, r#"["sub","a/b",{"ref":1}]"#), r#"["ok",1,{}]"#);
    let mut events = Events::open(&broker, "/t/a/b", "");
    let mut peer = Peer::connect(&broker);
    for (content_type, body, in_json, in_events) in [
        (
            "application/json; charset=utf-8",
            r#"{ "x": 1.0 }"#,
            r#"["msg","a/b",{ "x": 1.0 }]"#,
            r#"data: { "x": 1.0 }"#,
        ),
        (
            "text/plain",
            "say \"hi\"",
            r#"["msg","a/b","say \"hi\""]"#,
            "data: say \"hi\"",
        ),
        (
            "application/octet-stream",
            "bytes",
            r#"["msg","a/b","Ynl0ZXM=",null,"base64"]"#,
            "event: binary\ndata: Ynl0ZXM=",
        ),
        ("", "", r#"["msg","a/b","",null,"base64"]"#, "event: binary\ndata: "),
    ] {
        let answer = peer.asks(&post("a%2Fb", &format!("Content-Type: {content_type}\r\n"), body));
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.body, r#"{"topic":"a/b"}"#);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(text(&mut json), in_json);
        assert_eq!(events.event(), in_events);
        match raw.receive(Some(Instant::now() + DEADLINE)).unwrap().unwrap() {
            Message::Text(heard) => assert_eq!(heard, body),
            Message::Binary(heard) => assert_eq!(heard, body.as_bytes()),
        }
    }
    let totals = broker.stop();
    assert_eq!((totals.get("posts"), totals.get("events_opened")), (4, 1));
    assert_eq!(totals.get("accepted"), 4, "all of them came on one connection");
}

#[test]
fn a_body_is_what_it_says_or_is_refused_and_the_connection_stays() {
    let broker = Broker::start(&["--max-message", "1000"]);
    let mut peer = Peer::connect(&broker);
    for (content_type, body, word) in [
        ("application/json", "{\"a\":", "one JSON value"),
        ("application/json", "1 2", "one JSON value"),
        ("application/problem+json", "", "one JSON value"),
    ] {
        let answer = peer.asks(&post("a", &format!("Content-Type: {content_type}\r\n"), body));
        assert_eq!((answer.status, answer.code()), (400, "bad_message"), "{answer:?}");
        assert!(answer.body.contains(word), "{answer:?}");
        assert_eq!(answer.header("Connection"), None);
    }
    peer.say(b"POST /t/a HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n\xce\xff");
    assert!(peer.answer().body.contains("UTF-8"));
    let reserved = peer.asks(&post("$SYS/x", TEXT, "x"));
    assert_eq!((reserved.status, reserved.code()), (403, "forbidden"), "{reserved:?}");
    assert_eq!(
        peer.asks(&post("a", TEXT, "x")).status,
        202,
        "it is the same connection"
    );
    assert_eq!(broker.stop().get("commands_refused"), 5);
}

/// What three requests, of which the second is refused, and then a WebSocket are answered with.
fn assert_is_served_in_order(peer: &mut Peer) {
    let page = peer.answer();
    assert_eq!((page.status, page.header("Connection")), (200, None));
    assert!(page.body.contains("<!doctype html>"));
    assert_eq!(peer.answer().code(), "bad_message");
    assert_eq!(peer.answer().body, r#"{"topic":"chain"}"#);
    let head = peer.answer();
    assert_eq!((head.status, head.body.as_str()), (204, ""));
    assert!(peer.head().starts_with("HTTP/1.1 101 "));
    peer.hears(b"\x81\x05frame");
}

#[test]
fn requests_on_one_connection_are_answered_in_order_and_the_last_may_become_a_websocket() {
    let broker = Broker::start(&[]);
    let mut requests = [
        request("GET /", "", ""),
        post("chain", "Content-Type: application/json\r\n", "{"),
        post("chain", "Transfer-Encoding: chunked\r\n", "").replace("\r\n\r\n", "\r\n\r\n2;x\r\nhi\r\n0\r\n\r\n"),
        request("OPTIONS /t/chain", "", ""),
        upgrade("/t/chain", "Sec-WebSocket-Version: 13\r\n"),
    ]
    .concat()
    .into_bytes();
    requests.extend(masked(0x81, b"frame"));
    let mut whole = Peer::connect(&broker);
    whole.say(&requests);
    assert_is_served_in_order(&mut whole);
    for size in [1, 7, 100] {
        let mut cut = Peer::connect(&broker);
        for piece in requests.chunks(size) {
            cut.say(piece);
        }
        assert_is_served_in_order(&mut cut);
    }
    // Clients of 2011 lose what comes in one read with the 101.
    let mut old = Peer::connect(&broker);
    let switch = upgrade("/t/chain", "Sec-WebSocket-Version: 7\r\n");
    old.say(&[request("GET /", "", "").repeat(3), switch].concat().into_bytes());
    for _ in 0..3 {
        assert_eq!(old.answer().status, 200);
    }
    assert!(old.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(asked(&broker, &post("chain", TEXT, "to all")).status, 202);
    old.hears(b"\x81\x06to all");
    // The last one to be asked for may be a stream, and one that has said all may close its side.
    let mut peer = Peer::connect(&broker);
    peer.say(&request("GET /", "", "").repeat(3).into_bytes());
    peer.0.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..3 {
        assert_eq!(peer.answer().status, 200);
    }
    assert_eq!(peer.rest(), b"");
    let mut peer = Peer::connect(&broker);
    peer.say(request("GET /", "", "").as_bytes());
    assert_eq!(peer.answer().status, 200);
    let mut events = Events::of(peer, "/t/chain", "");
    assert_eq!(asked(&broker, &post("chain", TEXT, "to all")).status, 202);
    assert_eq!(events.event(), "data: to all");
    broker.stop();
}

#[test]
fn who_asks_for_more_than_it_takes_waits_and_who_takes_nothing_is_closed() {
    const COUNT: usize = 3000;
    let broker = Broker::start(&["--handshake-timeout", "2s"]);
    let mut subscriber = client(&broker.ws("/t/numbers?mode=sub"));
    let peer = Peer::connect(&broker);
    let mut writer = Peer(peer.0.try_clone().unwrap());
    let says = std::thread::spawn(move || {
        for number in 0..COUNT {
            let requests = request("GET /", "", "") + &post("numbers", TEXT, &number.to_string());
            writer.say(requests.as_bytes());
        }
    });
    // Pages are large, so that many more are asked for than the sockets hold.
    let mut reader = peer;
    for number in 0..COUNT {
        assert_eq!(reader.answer().status, 200, "page {number}");
        assert_eq!(reader.answer().status, 202, "message {number}");
        assert_eq!(text(&mut subscriber), number.to_string());
    }
    says.join().unwrap();

    let mut glutton = Peer::connect(&broker);
    glutton.0.set_nonblocking(true).unwrap();
    let page = request("GET /", "", "");
    eventually("a client that reads nothing is closed", || {
        match glutton.0.write(page.as_bytes()) {
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => Some(()),
        }
    });
    broker.stop();
}

#[test]
fn what_two_readers_could_understand_differently_is_refused_and_ends_the_connection() {
    let broker = Broker::start(&[]);
    let mut subscriber = client(&broker.ws("/t/%23?mode=sub"));
    let hidden = post("hidden", TEXT, "smuggled");
    for (what, headers, status) in [
        ("two lengths", "Content-Length: 0\r\nContent-Length: 5\r\n", 400),
        ("a list of lengths", "Content-Length: 0, 5\r\n", 400),
        ("a length with a sign", "Content-Length: +0\r\n", 400),
        (
            "a length and chunks",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            400,
        ),
        (
            "chunks and a length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            400,
        ),
        ("another coding", "Transfer-Encoding: xchunked\r\n", 501),
        ("two codings", "Transfer-Encoding: chunked, identity\r\n", 501),
        (
            "chunks twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            501,
        ),
        ("a coding on two lines", "Transfer-Encoding:\r\n chunked\r\n", 400),
        ("a folded line", "X: a\r\n\tb\r\nContent-Length: 0\r\n", 400),
        ("a space before the colon", "Content-Length : 0\r\n", 400),
        ("a line without CR", "X: a\nContent-Length: 0\r\n", 400),
        ("a CR alone", "X: a\rContent-Length: 0\r\n", 400),
        ("a NUL", "X: a\0b\r\n", 400),
        ("two hosts", "Host: other\r\n", 400),
    ] {
        let mut peer = Peer::connect(&broker);
        peer.say(format!("POST /t/open HTTP/1.1\r\nHost: h\r\n{headers}\r\n0\r\n\r\n{hidden}").as_bytes());
        let answer = peer.answer();
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.header("Connection"), Some("close"), "{what}");
        assert_eq!(peer.rest(), b"", "{what}: nothing else is answered");
    }
    for chunks in [
        "5\nhello\r\n",
        "5\r\nhello\n",
        "5\r\nhelloX\r\n",
        "-5\r\n",
        "5 \r\nhello0\r\n\r\n",
        "g\r\n",
    ] {
        let mut peer = Peer::connect(&broker);
        peer.say(post("open", "Transfer-Encoding: chunked\r\n", "").as_bytes());
        peer.say(format!("{chunks}0\r\n\r\n{hidden}").as_bytes());
        let answer = peer.answer();
        assert_eq!((answer.status, answer.code()), (400, "bad_message"), "{chunks:?}");
        assert_eq!(peer.rest(), b"", "{chunks:?}");
    }
    // Bodies where none belong: what is in them is no request.
    for head in [
        request("GET /", "", &hidden),
        upgrade(
            "/t/open",
            &format!("Sec-WebSocket-Version: 13\r\nContent-Length: {}\r\n", hidden.len()),
        ) + &hidden,
    ] {
        let mut peer = Peer::connect(&broker);
        peer.say(head.as_bytes());
        assert_eq!(peer.answer().header("Connection"), Some("close"));
        assert_eq!(peer.rest(), b"");
    }
    assert_eq!(asked(&broker, &post("open", TEXT, "heard")).status, 202);
    assert_eq!(text(&mut subscriber), "heard", "nothing of the others was published");
    broker.stop();
}

#[test]
fn bodies_have_limits_that_are_told_before_they_come() {
    let directory = Directory::new("posts");
    let file = directory.file(
        "tidecast.toml",
        "[limits]\nmax_message = \"1000\"\n[[topics]]\npattern = \"small/#\"\nmax_payload = \"10\"\n",
    );
    let broker = Broker::start(&["--config", &file]);
    let expecting = |topic: &str, length: usize| {
        post(
            topic,
            &format!("{TEXT}Expect: 100-continue\r\nContent-Length: {length}\r\n"),
            "",
        )
    };
    for (topic, length, most) in [("a", 1001, "1000"), ("small/a", 11, "10")] {
        let mut peer = Peer::connect(&broker);
        let answer = peer.asks(&expecting(topic, length));
        assert_eq!((answer.status, answer.code()), (413, "too_large"), "{answer:?}");
        assert!(answer.body.contains(most), "{answer:?}");
        assert_eq!(peer.rest(), b"");
        let mut peer = Peer::connect(&broker);
        peer.say(post(topic, "Transfer-Encoding: chunked\r\n", "").as_bytes());
        peer.say(format!("{:x}\r\n", length).as_bytes());
        assert_eq!(peer.answer().code(), "too_large");
    }
    for (topic, length) in [("a", 1000), ("small/a", 10)] {
        let mut peer = Peer::connect(&broker);
        let go_on = peer.asks(&expecting(topic, length));
        assert_eq!(go_on.status, 100, "{go_on:?}");
        peer.say("x".repeat(length).as_bytes());
        assert_eq!(peer.answer().status, 202);
    }
    let answer = asked(&broker, &post("a", "Expect: miracles\r\n", "x"));
    assert_eq!(answer.status, 417, "{answer:?}");
    broker.stop();
}

#[test]
fn who_posts_too_much_is_told_when_to_come_again() {
    let broker = Broker::start(&["--message-rate", "2", "--message-burst", "2"]);
    let mut peer = Peer::connect(&broker);
    let answers: Vec<_> = (0..5).map(|_| peer.asks(&post("a", TEXT, "x"))).collect();
    assert_eq!(answers[0].status, 202);
    let limited = answers
        .iter()
        .find(|answer| answer.status != 202)
        .expect("five are too many");
    assert_eq!((limited.status, limited.code()), (429, "rate_limited"), "{limited:?}");
    assert!(
        limited
            .header("Retry-After")
            .is_some_and(|seconds| seconds.parse::<u64>().is_ok())
    );
    eventually("it is heard again", || {
        (peer.asks(&post("a", TEXT, "x")).status == 202).then_some(())
    });
    assert!(broker.stop().get("rate_limited") > 0);
}

#[test]
fn a_body_that_does_not_go_on_is_given_up_and_a_connection_that_says_nothing_is_closed() {
    let broker = Broker::start(&["--message-timeout", "1s", "--handshake-timeout", "1s"]);
    let mut slow = Peer::connect(&broker);
    slow.say(post("a", "Content-Length: 100\r\n", "").as_bytes());
    slow.say(b"begun");
    let answer = slow.answer();
    assert_eq!(answer.status, 408, "{answer:?}");
    assert_eq!(slow.rest(), b"");
    let mut silent = Peer::connect(&broker);
    assert_eq!(silent.asks(&request("GET /", "", "")).status, 200);
    assert_eq!(
        silent.rest(),
        b"",
        "an answer to nothing would be taken for that of the next request"
    );
    let mut begun = Peer::connect(&broker);
    assert_eq!(begun.asks(&request("GET /", "", "")).status, 200);
    begun.say(b"GET / HTT");
    assert_eq!(begun.answer().status, 408);
    assert_eq!(broker.stop().get("requests_timed_out"), 2);
}

#[test]
fn connections_are_kept_open_only_for_those_who_can_and_want_to_use_them() {
    let broker = Broker::start(&[]);
    for (request, stays) in [
        (request("GET /", "", ""), true),
        (request("GET /", "Connection: close\r\n", ""), false),
        (request("GET /", "Connection: keep-alive, Close\r\n", ""), false),
        (request("GET /", "", "").replace("1.1", "1.0"), false),
        (
            request("GET /", "Connection: keep-alive\r\n", "").replace("1.1", "1.0"),
            false,
        ),
        (post("a", TEXT, "x"), true),
        (post("a", "Connection: close\r\n", "x"), false),
        (post("a", TEXT, "x").replace("1.1", "1.0"), false),
        (request("OPTIONS /t/a", "", ""), true),
        (request("PUT /t/a", "", "x"), false),
        (request("GET /nowhere", "", ""), false),
    ] {
        let mut peer = Peer::connect(&broker);
        let answer = peer.asks(&request);
        assert_eq!(
            answer.header("Connection"),
            (!stays).then_some("close"),
            "{request}: {answer:?}"
        );
        if stays {
            assert_eq!(peer.asks(&post("a", TEXT, "x")).status, 202, "after {request}");
        } else {
            assert_eq!(peer.rest(), b"", "after {request}");
        }
    }
    let mut peer = Peer::connect(&broker);
    peer.say(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(peer.head().contains("\r\nContent-Length: "), "and no body comes");
    assert_eq!(peer.asks(&post("a", TEXT, "x")).status, 202);
    broker.stop();
}

#[test]
fn requests_come_with_credentials_as_handshakes_do() {
    let directory = Directory::new("requests");
    let broker = auth::broker(
        &directory,
        "cookie = \"session\"\nquery_parameter = \"token\"\n[[topics]]\npattern = \"open/#\"\npublish = \"anyone\"\n",
    );
    let token = auth::token(
        &directory,
        &["--sub", "ann", "--publish", "own/#", "--subscribe", "news/#"],
    );
    let events = |path: &str, headers: &str| {
        request(
            &format!("GET {path}"),
            &format!("Accept: text/event-stream\r\n{headers}"),
            "",
        )
    };
    for (bearer, query) in [
        (format!("Authorization: Bearer {token}\r\n"), String::new()),
        (format!("Cookie: a=b; session={token}\r\n"), String::new()),
        (String::new(), format!("?token={token}")),
    ] {
        let publishes = asked(&broker, &post(&format!("own/a{query}"), &bearer, "x"));
        assert_eq!(publishes.status, 202, "{publishes:?}");
        let may_not = asked(&broker, &post(&format!("news/a{query}"), &bearer, "x"));
        assert_eq!((may_not.status, may_not.code()), (403, "forbidden"), "{may_not:?}");
        Events::open(&broker, &format!("/t/news%2F%23{query}"), &bearer);
        let may_not = asked(&broker, &events(&format!("/t/%23{query}"), &bearer));
        assert_eq!((may_not.status, may_not.code()), (403, "forbidden"), "{may_not:?}");
    }
    for request in [
        post("own/a", "", "x"),
        post("own/a", "Authorization: Bearer wrong\r\n", "x"),
        events("/t/news%2Fa", ""),
    ] {
        let refused = asked(&broker, &request);
        assert_eq!((refused.status, refused.code()), (401, "unauthorized"), "{refused:?}");
        assert_eq!(refused.header("WWW-Authenticate"), Some("Bearer"));
        assert_eq!(refused.header("Connection"), Some("close"));
    }
    assert_eq!(asked(&broker, &post("open/a", "", "x")).status, 202, "anyone may");
    // On one connection each request is judged by what it brings.
    let mut peer = Peer::connect(&broker);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(peer.asks(&post("own/a", &bearer, "x")).status, 202);
    assert_eq!(peer.asks(&post("own/a", "", "x")).status, 401);
    let totals = broker.stop();
    assert_eq!(totals.get("denied"), 3 + 6 + 1);
}

#[test]
fn pages_are_told_what_they_may_and_strangers_do_nothing() {
    const STRANGER: &str = "Origin: https://evil.example\r\n";
    let broker = Broker::start(&["--origins", "https://app.example"]);
    let mut subscriber = client(&broker.ws("/t/a?mode=sub"));
    let page = "Origin: https://app.example\r\n";
    let preflight =
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n";
    let answer = asked(&broker, &request("OPTIONS /t/a", &format!("{page}{preflight}"), ""));
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("Access-Control-Allow-Origin", "https://app.example"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"),
        (
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type, Last-Event-ID",
        ),
        ("Access-Control-Max-Age", "600"),
        ("Vary", "Origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
        assert_eq!(answer.head.matches(&format!("\r\n{name}: ")).count(), 1, "{answer:?}");
    }
    for request in [
        post("a", &format!("{TEXT}{page}"), "from a page"),
        post("$SYS/a", page, "x"),
    ] {
        let answer = asked(&broker, &request);
        assert_eq!(
            answer.header("Access-Control-Allow-Origin"),
            Some("https://app.example"),
            "{answer:?}"
        );
        assert_eq!(answer.header("Vary"), Some("Origin"));
    }
    let mut events = Events::open(&broker, "/t/a", page);
    assert!(
        events
            .head
            .contains("\r\nAccess-Control-Allow-Origin: https://app.example\r\n"),
        "{}",
        events.head
    );
    let events_of = |headers: &str| request("GET /t/a", &format!("Accept: text/event-stream\r\n{headers}"), "");
    let strangers = [
        request("OPTIONS /t/a", &format!("{STRANGER}{preflight}"), ""),
        post("a", &format!("{TEXT}{STRANGER}"), "from a stranger"),
        events_of(STRANGER),
        events_of("Origin: null\r\n"),
    ];
    for request in &strangers {
        let answer = asked(&broker, request);
        assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{answer:?}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{answer:?}");
    }
    let plain = asked(&broker, &post("a", TEXT, "from no page"));
    assert_eq!(plain.header("Access-Control-Allow-Origin"), None);
    for word in ["from a page", "from no page"] {
        assert_eq!(text(&mut subscriber), word);
    }
    assert_eq!(events.event(), "data: from no page");
    drop(events);
    assert_eq!(broker.stop().get("origins_refused"), strangers.len() as u64);
}

#[test]
fn whoever_comes_through_a_proxy_is_counted_once_for_all_that_it_asks() {
    let broker = Broker::start(&[
        "--allow-anonymous",
        "--trusted-proxies",
        "127.0.0.1",
        "--connection-rate",
        "2",
        "--connection-burst",
        "2",
    ]);
    let mut proxy = Peer::connect(&broker);
    for _ in 0..20 {
        let answer = proxy.asks(&post("a", &format!("{TEXT}X-Forwarded-For: 192.0.2.1\r\n"), "x"));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    broker.stop();
}

#[test]
fn a_connection_that_a_proxy_keeps_counts_for_a_client_only_while_it_is_served() {
    let proxies = ["--allow-anonymous", "--trusted-proxies", "127.0.0.1"];
    let limits = [
        "--max-connections-per-ip",
        "2",
        "--connection-rate",
        "10",
        "--connection-burst",
        "10",
    ];
    let broker = Broker::start(&[&proxies[..], &limits].concat());
    let of = |client: &str| format!("X-Forwarded-For: 192.0.2.{client}\r\n");
    let mut pool: Vec<Peer> = (0..5).map(|_| Peer::connect(&broker)).collect();
    for proxy in &mut pool {
        assert_eq!(proxy.asks(&post("a", &of("1"), "x")).status, 202);
    }
    // They open none, in turns on one that is there.
    for client in ["1", "2"].iter().cycle().take(100) {
        assert_eq!(pool[0].asks(&post("a", &of(client), "x")).status, 202);
    }
    let streams: Vec<Events> = pool
        .drain(..2)
        .map(|proxy| Events::of(proxy, "/t/a", &of("1")))
        .collect();
    let refused = pool[0].asks(&post("a", &of("1"), "x"));
    assert_eq!(refused.status, 429, "two are being served: {refused:?}");
    assert_eq!(pool[1].asks(&post("a", &of("2"), "x")).status, 202);
    drop(streams);
    eventually("they are gone", || {
        let mut proxy = Peer::connect(&broker);
        (proxy.asks(&post("a", &of("1"), "x")).status == 202).then_some(())
    });
}

#[test]
fn what_comes_after_the_stop_is_not_waited_for() {
    let broker = Broker::start(&[]);
    let mut idle = Peer::connect(&broker);
    assert_eq!(idle.asks(&request("GET /", "", "")).status, 200);
    let mut begun = Peer::connect(&broker);
    begun.say(post("a", "Content-Length: 100\r\n", "").as_bytes());
    let mut events = Events::open(&broker, "/t/a", "");
    assert_eq!(asked(&broker, &post("a", TEXT, "last")).status, 202);
    assert_eq!(events.event(), "data: last");
    let totals = broker.stop();
    assert_eq!((totals.get("stopped"), totals.get("events_opened")), (1, 1));
    assert_eq!(idle.rest(), b"");
    assert_eq!(begun.answer().status, 503);
    let mut sink = Vec::new();
    begun.0.read_to_end(&mut sink).unwrap();
    let bye = events.rest();
    assert_eq!(bye.len(), 1, "{bye:?}");
    assert!(
        bye[0].starts_with("retry: ") && bye[0].contains("\nevent: bye\ndata: {\"code\":1001,"),
        "{bye:?}"
    );
}
