//! Server-sent events: the same topics as raw WebSockets, for whoever has no WebSocket.

#[path = "auth/mod.rs"]
mod auth;
#[path = "http/mod.rs"]
mod http;
mod support;

use auth::Directory;
use http::*;
use support::*;
use tidecast_client::Client;

#[test]
fn events_are_what_raw_subscribers_hear_line_by_line() {
    let broker = Broker::start(&[]);
    let mut exact = Events::open(&broker, "/t/a%2Fb", "");
    let mut wild = Events::open(&broker, "/t/a%2F%23", "");
    let mut raw = client(&broker.ws("/t/a%2Fb"));
    for (said, heard) in [
        ("one line", "data: one line"),
        ("", "data: "),
        ("two\nlines", "data: two\ndata: lines"),
        ("ends\n", "data: ends\ndata: "),
        ("data: x", "data: data: x"),
    ] {
        raw.send_text(said).unwrap();
        assert_eq!(text(&mut raw), said);
        assert_eq!(exact.event(), heard);
        assert_eq!(wild.event(), heard);
    }
    raw.send_binary(&[0, 1]).unwrap();
    assert_eq!(exact.event(), "event: binary\ndata: AAE=");
    assert_eq!(wild.event(), "event: binary\ndata: AAE=");
    assert_eq!(broker.stop().get("events_opened"), 2);
}

#[test]
fn many_streams_of_two_workers_hear_each_message_once() {
    let broker = Broker::start(&[]);
    let mut streams: Vec<_> = (0..40).map(|_| Events::open(&broker, "/t/all", "")).collect();
    let mut members: Vec<_> = (0..4)
        .map(|_| Events::open(&broker, "/t/$share%2Fg%2Fall", ""))
        .collect();
    let mut publisher = Peer::connect(&broker);
    for number in 0..40 {
        assert_eq!(publisher.asks(&post("all", TEXT, &number.to_string())).status, 202);
    }
    for stream in &mut streams {
        for number in 0..40 {
            assert_eq!(stream.event(), format!("data: {number}"));
        }
    }
    // They take turns.
    let mut shared: Vec<_> = members
        .iter_mut()
        .flat_map(|member| (0..10).map(|_| member.event()).collect::<Vec<_>>())
        .collect();
    shared.sort_by_key(|event| event[6..].parse::<u32>().unwrap());
    let all: Vec<_> = (0..40).map(|number| format!("data: {number}")).collect();
    assert_eq!(shared, all);
    broker.stop();
}

#[test]
fn a_quiet_stream_is_kept_alive_by_comments() {
    let broker = Broker::start(&["--ping-interval", "100ms"]);
    let mut events = Events::open(&broker, "/t/a", "");
    for _ in 0..5 {
        assert_eq!(events.next().as_deref(), Some(":"));
    }
    assert_eq!(asked(&broker, &post("a", TEXT, "x")).status, 202);
    assert_eq!(events.event(), "data: x");
    broker.stop();
}

/// Publishes to topic `a`, and then that it is all: so much more than sockets hold that whoever does not read is behind, though some
/// of it is still on its way.
fn flood(broker: &Broker, count: usize) -> Client {
    let mut publisher = client(&broker.ws("/t/a?mode=pub"));
    let padding = "x".repeat(10_000);
    for number in 0..count {
        publisher.send_text(&format!("{number} {padding}")).unwrap();
    }
    publisher.send_text("all").unwrap();
    publisher
}

#[test]
fn who_does_not_read_is_closed_with_a_goodbye_or_misses_what_it_asked_to() {
    let broker = Broker::start(&[
        "--workers",
        "1",
        "--max-pending",
        "256K",
        "--max-pending-messages",
        "10",
    ]);
    let strict = Events::open(&broker, "/t/a", "");
    let mut lax = Events::open(&broker, "/t/a?slow=drop-old", "");
    let _publisher = flood(&broker, 3000);
    // What it had been sent in part is still whole: every chunk is checked.
    let heard = strict.rest();
    let bye = heard.last().unwrap();
    assert!(
        bye.contains("event: bye\ndata: {\"code\":4000,\"text\":\"slow consumer\","),
        "{bye:?}"
    );
    assert!(heard.len() < 3000);
    let mut numbers = Vec::new();
    loop {
        let event = lax.event();
        if event == "data: all" {
            break;
        }
        let number = event.strip_prefix("data: ").and_then(|data| data.split(' ').next());
        numbers.push(number.unwrap().parse::<usize>().unwrap());
    }
    assert!(numbers.is_sorted() && numbers.len() < 3000, "{}", numbers.len());
    drop(lax);
    let totals = broker.stop();
    assert_eq!(totals.get("slow_consumers"), 1);
    assert!(totals.get("dropped") > 0);
}

#[test]
fn streams_end_with_their_credentials_and_by_age() {
    let directory = Directory::new("events");
    let broker = auth::broker(&directory, "");
    let token = auth::token(&directory, &["--sub", "ann", "--subscribe", "#", "--expires-in", "2s"]);
    let over = Events::open(&broker, "/t/a", &format!("Authorization: Bearer {token}\r\n")).rest();
    assert!(over[0].contains("\"code\":4103"), "{over:?}");
    assert_eq!(broker.stop().get("expired"), 1);
    let broker = Broker::start(&["--max-age", "1s"]);
    let old = Events::open(&broker, "/t/a", "").rest();
    assert!(old[0].contains("\"code\":1001"), "{old:?}");
    assert_eq!(broker.stop().get("aged"), 1);
}

#[test]
fn clients_are_told_at_different_times_to_come_back() {
    let broker = Broker::start(&[]);
    let streams: Vec<_> = (0..20).map(|_| Events::open(&broker, "/t/a", "")).collect();
    assert_eq!(broker.stop().get("stopped"), 20);
    let mut retries: Vec<u64> = streams
        .into_iter()
        .map(|stream| {
            let bye = stream.rest().pop().unwrap();
            let retry = bye.lines().next().unwrap().strip_prefix("retry: ").unwrap();
            assert!(bye.ends_with(&format!("\"retry_ms\":{retry}}}")), "{bye}");
            retry.parse().unwrap()
        })
        .collect();
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 10, "{retries:?}");
}

#[test]
fn a_stream_takes_about_as_much_memory_as_a_websocket() {
    const COUNT: usize = 2000;
    let held = |pid: u32| -> usize {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    };
    let grown = |open: &dyn Fn(&Broker) -> Peer| {
        let broker = Broker::start(&["--workers", "1"]);
        // What comes once, as the tables of slots, does not count.
        let first: Vec<_> = (0..COUNT).map(|_| open(&broker)).collect();
        let before = held(broker.pid());
        let second: Vec<_> = (0..COUNT).map(|_| open(&broker)).collect();
        let after = held(broker.pid());
        drop((first, second));
        after.saturating_sub(before) / COUNT
    };
    let websocket = grown(&|broker| Peer::open(broker, "/t/a?mode=sub", 13));
    let stream = grown(&|broker| Events::open(broker, "/t/a", "").into_peer());
    assert!(
        stream < 2 * websocket + 1024,
        "{stream} bytes, and {websocket} of a WebSocket"
    );
}

#[test]
fn what_cannot_be_a_stream_is_refused() {
    let broker = Broker::start(&[]);
    let events = |path: &str, headers: &str| {
        request(
            &format!("GET {path}"),
            &format!("Accept: text/event-stream\r\n{headers}"),
            "",
        )
    };
    for (request, status, code, word) in [
        (events("/t/a%2F%23%2Fb", ""), 400, "bad_topic", "#"),
        (events("/t/%ff", ""), 400, "bad_topic", "UTF-8"),
        (events("/t/a?slow=never", ""), 400, "bad_topic", "slow=drop-new"),
        (events("/t/a?since=all", ""), 400, "bad_topic", "not available"),
        (events("/t/a", "").replace("1.1", "1.0"), 505, "bad_message", "HTTP/1.1"),
        (
            events("/t/a", "Content-Length: 3\r\n") + "abc",
            400,
            "bad_message",
            "no body",
        ),
    ] {
        let answer = asked(&broker, &request);
        assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
        assert!(answer.body.contains(word), "{answer:?}");
    }
    // The head alone can be had, and the connection then stays.
    let mut peer = Peer::connect(&broker);
    peer.say(events("/t/a", "").replace("GET", "HEAD").as_bytes());
    assert!(peer.head().contains("\r\nContent-Type: text/event-stream\r\n"));
    assert_eq!(peer.asks(&post("a", TEXT, "x")).status, 202);
    broker.stop();
}
