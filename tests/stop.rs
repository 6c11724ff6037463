//! A stop is announced, bounded in time, and ends with what was done.

#[path = "http/mod.rs"]
mod http;
mod support;

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use support::*;
use tidecast_client::Error;

#[test]
fn a_signal_says_bye_closes_with_1001_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let mut broker = Broker::start(&[]);
        let mut json: Vec<_> = (0..8).map(|_| json_client(&broker)).collect();
        let mut raw: Vec<_> = (0..8).map(|_| client(&broker.ws("/t/a"))).collect();
        let mut half = Peer::connect(&broker);
        half.say(b"GET /ws HTTP/1.1\r\n");
        // It is known to the broker once a later request has been answered.
        let mut page = Peer::connect(&broker);
        page.say(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        page.rest();
        broker.signal(signal);
        for client in &mut json {
            let bye = text(client);
            let retry = bye
                .strip_prefix(r#"["bye",1001,"the broker is stopping","#)
                .and_then(|rest| rest.strip_suffix(']'))
                .unwrap_or_else(|| panic!("{bye}"));
            assert!((1000..6000).contains(&retry.parse::<u32>().unwrap()), "{bye}");
        }
        for client in json.iter_mut().chain(&mut raw) {
            match client.receive(Some(Instant::now() + DEADLINE)) {
                Err(Error::Closed { code: Some(1001), .. }) => {}
                other => panic!("{other:?} is no close with 1001"),
            }
        }
        let refusal = String::from_utf8(half.rest()).unwrap();
        assert!(
            refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("Retry-After: "),
            "{refusal}"
        );
        assert!(broker.wait().success());
        assert!(TcpStream::connect(broker.address).is_err(), "nobody listens any more");
        assert!(broker.line("stopped: ").contains("opened 16"));
    }
}

#[test]
fn a_client_that_does_not_answer_the_close_is_waited_for_no_longer_than_configured() {
    let broker = Broker::start(&["--drain-timeout", "300ms"]);
    let _deaf = Peer::open(&broker, "/t/a", 13);
    let start = Instant::now();
    broker.stop();
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn each_client_that_answers_the_close_sees_the_end_without_waiting_for_the_others() {
    let mut broker = Broker::start(&["--drain-timeout", "10m", "--close-timeout", "10m"]);
    let mut peers: Vec<_> = (0..8).map(|_| Peer::open(&broker, "/t/a", 13)).collect();
    broker.signal("TERM");
    // One after the other: a worker that is done may not keep its peers until the others are.
    for peer in &mut peers {
        assert_eq!(peer.frame().0, 0x88);
        peer.say(&masked(0x88, &1001u16.to_be_bytes()));
        assert_eq!(peer.rest(), b"");
    }
    assert!(broker.wait().success());
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut broker = Broker::start(&["--drain-timeout", "10m"]);
    let mut deaf = Peer::open(&broker, "/t/a", 13);
    broker.signal("TERM");
    assert_eq!(deaf.frame().0, 0x88, "it says goodbye first");
    broker.signal("INT");
    assert_eq!(broker.wait().code(), Some(1));
}

#[test]
fn an_address_is_free_as_soon_as_the_broker_on_it_has_ended() {
    let arguments = ["--drain-timeout", "100ms"];
    let mut broker = Broker::start(&arguments);
    let address = broker.address.to_string();
    for round in 0..10 {
        let _closed_by_the_broker = Peer::open(&broker, "/t/a", 13);
        let mut open = client(&broker.ws("/t/a"));
        open.send_text("hello").unwrap();
        assert_eq!(text(&mut open), "hello");
        drop(open);
        broker.signal("TERM");
        assert!(broker.wait().success());
        // A broker that starts tries for a while; whoever does not finds it free too.
        TcpListener::bind(&address).unwrap_or_else(|error| panic!("round {round}: {error}"));
        broker = Broker::start_on(&address, &arguments);
        assert_eq!(broker.address.to_string(), address);
    }
}

#[test]
fn messages_published_before_the_stop_are_still_delivered() {
    let mut broker = Broker::start(&[]);
    let mut subscribers: Vec<_> = (0..16).map(|_| client(&broker.ws("/t/a?mode=sub"))).collect();
    let mut publisher = json_client(&broker);
    for i in 0..1000 {
        publisher
            .queue_text(&format!(r#"["pub","a",{i},{{"ref":{i}}}]"#))
            .unwrap();
    }
    publisher.flush().unwrap();
    for i in 0..1000 {
        assert_eq!(text(&mut publisher), format!(r#"["ok",{i},{{}}]"#));
    }
    broker.signal("TERM");
    for subscriber in &mut subscribers {
        for i in 0..1000 {
            assert_eq!(text(subscriber), i.to_string());
        }
    }
    drop((subscribers, publisher));
    assert!(broker.wait().success());
}

#[test]
fn a_client_that_says_nothing_is_closed_where_the_operator_wants_that_and_one_that_does_is_not() {
    let broker = Broker::start(&["--idle-timeout", "1s"]);
    let mut silent = client(&broker.ws("/t/idle?mode=sub"));
    let mut talking = client(&broker.ws("/t/idle?mode=pub"));
    let closed = eventually("the silent one is closed", || {
        talking.send_text("still here").unwrap();
        silent.receive(Some(Instant::now() + Duration::from_millis(50))).err()
    });
    assert!(matches!(closed, Error::Closed { code: Some(1001), .. }), "{closed:?}");
    drop(silent);
    talking.send_text("and here").unwrap();
    assert_eq!(broker.stop().get("idle"), 1);
}

/// Waits for slow readers much longer than for whoever does not answer a close.
const PATIENT: [&str; 6] = [
    "--close-timeout",
    "300ms",
    "--drain-timeout",
    "1m",
    "--max-pending",
    "64M",
];

#[test]
fn a_slow_client_is_given_what_waits_for_it_beyond_the_time_for_a_close() {
    let mut broker = Broker::start(&PATIENT);
    let mut slow = Peer::open(&broker, "/t/a?mode=sub", 13);
    let mut deaf = Peer::open(&broker, "/t/b?mode=sub", 13);
    let mut publisher = json_client(&broker);
    let payload = "x".repeat(500_000);
    for number in 0..40 {
        let answer = ask(
            &mut publisher,
            &format!(r#"["pub","a","{payload}",{{"ref":{number}}}]"#),
        );
        assert_eq!(answer, format!(r#"["ok",{number},{{}}]"#));
    }
    drop(publisher);
    broker.signal("TERM");
    // It does not answer the close, and is closed when the time for that is over.
    assert_eq!(deaf.frame().0, 0x88);
    deaf.rest();
    for _ in 0..40 {
        assert_eq!(slow.frame().1.len(), payload.len() + 2);
    }
    assert_eq!(slow.frame().0, 0x88);
    slow.say(&masked(0x88, &1001u16.to_be_bytes()));
    assert_eq!(slow.rest(), b"");
    assert!(broker.wait().success());
}

#[test]
fn a_slow_stream_of_events_is_given_what_waits_for_it_too() {
    let mut broker = Broker::start(&PATIENT);
    let mut slow = http::Events::open(&broker, "/t/a", "");
    let mut deaf = Peer::open(&broker, "/t/b?mode=sub", 13);
    let payload = "x".repeat(500_000);
    for number in 0..40 {
        let body = format!("{number} {payload}");
        assert_eq!(http::asked(&broker, &http::post("a", http::TEXT, &body)).status, 202);
    }
    broker.signal("TERM");
    // It does not answer the close: when it is given up, the time for that is over.
    deaf.rest();
    for number in 0..40 {
        assert!(slow.event() == format!("data: {number} {payload}"), "event {number}");
    }
    let bye = slow.event();
    assert!(bye.contains("\nevent: bye\n"), "{bye}");
    drop(slow);
    assert!(broker.wait().success());
}

#[test]
fn a_stop_during_the_start_is_no_less_prompt() {
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", silent.local_addr().unwrap());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--jwt-key-set-url", &url];
    let mut command = tidecast(&arguments);
    command.args(["--jwt-audience", "a", "--jwt-key-set-timeout", "60s"]);
    let mut broker = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It waits for its keys from here on.
    let _asking = silent.accept().unwrap();
    let begun = Instant::now();
    let killed = std::process::Command::new("kill")
        .args(["-s", "TERM", &broker.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    eventually("it ends", || broker.try_wait().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(30), "it has not waited for keys");
    let output = broker.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("SIGTERM: ending before anybody was served"),
        "{}",
        said(&output)
    );
}

#[test]
fn who_wants_something_of_a_broker_that_stops_is_told_that_it_does() {
    let broker = Broker::start(&["--admin", "127.0.0.1:0", "--drain-timeout", "10m"]);
    let admin = broker.admin();
    let mut deaf = Peer::open(&broker, "/t/a", 13);
    broker.signal("TERM");
    assert_eq!(deaf.frame().0, 0x88);
    for wish in ["reload", "upgrade", "drain"] {
        let answer = http::send(admin, "POST", &format!("/v1/{wish}"), &[], Some(""));
        assert_eq!(
            (answer.status, answer.code()),
            (503, "unavailable"),
            "{wish}: {answer:?}"
        );
    }
    let output = run(tidecast(&["upgrade", "--pid", &broker.pid().to_string()]), None);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("the broker stops"), "{}", said(&output));
}
