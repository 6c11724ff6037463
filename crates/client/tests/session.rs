//! Sessions against a broker that does as it is told.

mod double;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use double::Double;
use tidecast_client::wire::{Code, Kind};
use tidecast_client::{Error, Event, Options, Publish, Reconnect, Session};
use tidecast_websocket::http::Request;
use tidecast_websocket::{Upgrade, Versions};

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(10))
}

const QUICKLY: Reconnect = Reconnect {
    first: Duration::from_millis(1),
    max: Duration::from_millis(20),
    attempts: Some(20),
    settled: Duration::from_secs(10),
};

fn session(double: &Double, reconnect: Option<Reconnect>) -> Session {
    Session::connect(&double.url(), &Options::default(), reconnect).unwrap()
}

fn next(session: &mut Session) -> Event {
    session.receive(soon()).unwrap().expect("an event in time")
}

fn next_payload(session: &mut Session) -> Vec<u8> {
    match next(session) {
        Event::Message(message) => message.payload.bytes.into_owned(),
        other => panic!("{other:?} instead of a message"),
    }
}

#[test]
fn what_is_published_to_a_subscribed_topic_is_received_as_it_was_said() {
    let double = Double::start();
    let mut session = session(&double, None);
    assert_eq!(session.hello().session, "s0");
    session.subscribe("a/+").unwrap();
    assert_eq!(session.subscriptions(), ["a/+"]);
    for (payload, kind) in [(&br#"{"x": [1]}"#[..], Kind::Json), (b"\xff\x00", Kind::Binary)] {
        assert_eq!(session.publish_confirmed("a/b", payload, kind).unwrap(), None);
        assert_eq!(next_payload(&mut session), payload);
    }
    session.publish("a/b", "grüß dich".as_bytes(), Kind::Text).unwrap();
    match next(&mut session) {
        Event::Message(message) => assert_eq!(message.payload.text().as_deref(), Some("grüß dich")),
        other => panic!("{other:?}"),
    }
    session.unsubscribe("a/+").unwrap();
    session.publish_confirmed("a/b", b"1", Kind::Json).unwrap();
    assert!(session.receive(Some(Instant::now())).unwrap().is_none());
    session.close().unwrap();
}

#[test]
fn all_that_can_be_said_about_a_message_reaches_the_broker() {
    let double = Double::start();
    let mut session = session(&double, None);
    let publish = Publish {
        retain: true,
        echo: false,
        key: Some("k"),
        id: Some("i"),
        ..Publish::new("a", b"1", Kind::Json)
    };
    session.publish_with(&publish).unwrap();
    let said = &double.said()[0];
    for words in [r#""retain":true"#, r#""echo":false"#, r#""key":"k""#, r#""id":"i""#] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_refusal_is_the_error_of_who_waits_and_an_event_to_who_does_not() {
    let double = Double::start();
    let mut session = session(&double, None);
    match session.publish_confirmed(Double::FORBIDDEN, b"1", Kind::Json) {
        Err(Error::Rejected(refusal)) => {
            assert_eq!((refusal.known(), &*refusal.text), (Some(Code::Forbidden), "not you"));
        }
        other => panic!("{other:?}"),
    }
    session.publish(Double::FORBIDDEN, b"1", Kind::Json).unwrap();
    assert!(matches!(next(&mut session), Event::Refused(refusal) if refusal.code == "forbidden"));
    session.publish_confirmed("a", b"1", Kind::Json).expect("it goes on");
}

#[test]
fn a_payload_that_is_not_what_it_is_said_to_be_or_too_large_is_not_sent() {
    let double = Double::start();
    let mut session = session(&double, None);
    let large = vec![b'1'; Double::MAX_MESSAGE as usize];
    for (payload, kind) in [(&b"{"[..], Kind::Json), (b"\xff", Kind::Text), (&large, Kind::Json)] {
        let error = session.publish("a", payload, kind).unwrap_err();
        assert!(matches!(error, Error::Payload(_)), "{error}");
    }
    session.publish_confirmed("b", b"1", Kind::Json).unwrap();
    assert_eq!(double.said().len(), 1);
}

#[test]
fn after_a_loss_a_session_comes_back_and_is_subscribed_to_what_it_was() {
    let double = Double::start();
    let mut session = session(&double, Some(QUICKLY));
    session.subscribe("a").unwrap();
    session.subscribe(Double::FORBIDDEN).unwrap();
    session.publish(Double::DROP, b"1", Kind::Json).unwrap();
    assert!(matches!(
        next(&mut session),
        Event::Lost {
            error: Error::Lost(_),
            ..
        }
    ));
    assert!(matches!(next(&mut session), Event::Reconnected));
    assert_eq!(session.hello().session, "s1");
    session.publish_confirmed("a", b"7", Kind::Json).unwrap();
    assert!(matches!(next(&mut session), Event::Unsubscribed { filter, .. } if filter == Double::FORBIDDEN));
    assert_eq!(next_payload(&mut session), b"7");
    assert_eq!(session.subscriptions(), ["a"]);
    session.close().unwrap();
}

#[test]
fn a_command_without_an_answer_fails_with_the_connection_and_the_next_one_waits_for_another() {
    let double = Double::start();
    let mut session = session(&double, Some(QUICKLY));
    let error = session.publish_confirmed(Double::DROP, b"1", Kind::Json).unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    session.subscribe("a").unwrap();
    assert_eq!(session.hello().session, "s1");
}

#[test]
fn a_bye_is_told_and_the_time_it_names_is_stayed_away() {
    let double = Double::start();
    let mut session = session(&double, Some(QUICKLY));
    session.publish(Double::BYE, b"4001", Kind::Json).unwrap();
    let retry_is = Duration::from_millis(Double::RETRY_MS);
    assert!(matches!(next(&mut session), Event::Bye { code: 4001, retry, .. } if retry == retry_is));
    let before = Instant::now();
    match next(&mut session) {
        Event::Lost {
            error: Error::Closed { code: Some(4001), .. },
            retry_at,
        } => assert!(retry_at >= before + retry_is),
        other => panic!("{other:?}"),
    }
    assert!(matches!(next(&mut session), Event::Reconnected));
}

#[test]
fn a_broker_that_wants_something_changed_is_not_come_back_to() {
    let double = Double::start();
    let mut session = session(&double, Some(QUICKLY));
    session.publish(Double::BYE, b"4100", Kind::Json).unwrap();
    assert!(matches!(next(&mut session), Event::Bye { code: 4100, .. }));
    for _ in 0..2 {
        let error = session.receive(soon()).unwrap_err();
        assert!(matches!(error, Error::Closed { code: Some(4100), .. }), "{error}");
    }
    assert!(session.subscribe("a").is_err());
}

#[test]
fn without_settings_for_it_a_session_does_not_come_back() {
    let double = Double::start();
    let mut session = session(&double, None);
    let error = session.publish_confirmed(Double::DROP, b"1", Kind::Json).unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    assert!(matches!(session.receive(soon()), Err(Error::Lost(_))));
}

#[test]
fn a_session_gives_up_after_the_attempts_it_was_allowed() {
    let double = Double::start();
    let settings = Reconnect {
        attempts: Some(1),
        ..QUICKLY
    };
    let mut session = session(&double, Some(settings));
    // The second loss comes before the connection settled, so it is one too many.
    for _ in 0..2 {
        session.publish(Double::DROP, b"1", Kind::Json).unwrap();
        while session.hello().session == "s0" {
            session.receive(soon()).unwrap();
        }
    }
    let error = loop {
        match session.receive(soon()) {
            Ok(event) => assert!(event.is_some(), "it neither gave up nor said anything"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Lost(_)), "{error}");
}

#[test]
fn a_server_without_a_hello_is_no_broker() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", silent.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = silent.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let (request, _) = Request::parse(&head, 4096).unwrap().unwrap();
        let mut response = Vec::new();
        Upgrade::from_request(&request, Versions::ALL)
            .unwrap()
            .write_response(Some("tidecast.json.v1"), &mut response);
        stream.write_all(&response).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let options = Options {
        timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let error = Session::connect(&url, &options, Some(QUICKLY)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server opened a WebSocket, but said no hello within 200ms"
    );
    server.join().unwrap();
}
