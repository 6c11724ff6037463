//! Asynchronous sessions against a broker that does as it is told.
#![cfg(feature = "tokio")]

mod double;

use std::time::{Duration, Instant};

use double::Double;
use tidecast_client::asynchronous::{Client, Session};
use tidecast_client::wire::{Code, Kind};
use tidecast_client::{Error, Event, Message, Options, Reconnect};

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(10))
}

const QUICKLY: Reconnect = Reconnect {
    first: Duration::from_millis(1),
    max: Duration::from_millis(20),
    attempts: Some(20),
    settled: Duration::from_secs(10),
};

async fn session(double: &Double, reconnect: Option<Reconnect>) -> Session {
    Session::connect(&double.url(), &Options::default(), reconnect)
        .await
        .unwrap()
}

async fn next(session: &mut Session) -> Event {
    session.receive(soon()).await.unwrap().expect("an event in time")
}

async fn next_payload(session: &mut Session) -> Vec<u8> {
    match next(session).await {
        Event::Message(message) => message.payload.bytes.into_owned(),
        other => panic!("{other:?} instead of a message"),
    }
}

#[tokio::test]
async fn what_is_published_to_a_subscribed_topic_is_received_as_it_was_said() {
    let double = Double::start();
    let mut session = session(&double, None).await;
    assert_eq!(session.hello().session, "s0");
    session.subscribe("a/+").await.unwrap();
    assert_eq!(session.subscriptions(), ["a/+"]);
    for (payload, kind) in [(&br#"{"x": [1]}"#[..], Kind::Json), (b"\xff\x00", Kind::Binary)] {
        assert_eq!(session.publish_confirmed("a/b", payload, kind).await.unwrap(), None);
        assert_eq!(next_payload(&mut session).await, payload);
    }
    session
        .publish("a/b", "grüß dich".as_bytes(), Kind::Text)
        .await
        .unwrap();
    match next(&mut session).await {
        Event::Message(message) => assert_eq!(message.payload.text().as_deref(), Some("grüß dich")),
        other => panic!("{other:?}"),
    }
    session.unsubscribe("a/+").await.unwrap();
    session.publish_confirmed("a/b", b"1", Kind::Json).await.unwrap();
    assert!(session.receive(Some(Instant::now())).await.unwrap().is_none());
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_the_error_of_who_waits_and_an_event_to_who_does_not() {
    let double = Double::start();
    let mut session = session(&double, None).await;
    match session.publish_confirmed(Double::FORBIDDEN, b"1", Kind::Json).await {
        Err(Error::Rejected(refusal)) => {
            assert_eq!((refusal.known(), &*refusal.text), (Some(Code::Forbidden), "not you"));
        }
        other => panic!("{other:?}"),
    }
    session.publish(Double::FORBIDDEN, b"1", Kind::Json).await.unwrap();
    assert!(matches!(next(&mut session).await, Event::Refused(refusal) if refusal.code == "forbidden"));
    session
        .publish_confirmed("a", b"1", Kind::Json)
        .await
        .expect("it goes on");
}

#[tokio::test]
async fn after_a_loss_a_session_comes_back_and_is_subscribed_to_what_it_was() {
    let double = Double::start();
    let mut session = session(&double, Some(QUICKLY)).await;
    session.subscribe("a").await.unwrap();
    session.subscribe(Double::FORBIDDEN).await.unwrap();
    session.publish(Double::DROP, b"1", Kind::Json).await.unwrap();
    assert!(matches!(
        next(&mut session).await,
        Event::Lost {
            error: Error::Lost(_),
            ..
        }
    ));
    assert!(matches!(next(&mut session).await, Event::Reconnected));
    assert_eq!(session.hello().session, "s1");
    session.publish_confirmed("a", b"7", Kind::Json).await.unwrap();
    assert!(matches!(next(&mut session).await, Event::Unsubscribed { filter, .. } if filter == Double::FORBIDDEN));
    assert_eq!(next_payload(&mut session).await, b"7");
    assert_eq!(session.subscriptions(), ["a"]);
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_command_without_an_answer_fails_with_the_connection_and_the_next_one_waits_for_another() {
    let double = Double::start();
    let mut session = session(&double, Some(QUICKLY)).await;
    let error = session
        .publish_confirmed(Double::DROP, b"1", Kind::Json)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    session.subscribe("a").await.unwrap();
    assert_eq!(session.hello().session, "s1");
}

#[tokio::test]
async fn a_bye_is_told_and_the_time_it_names_is_stayed_away() {
    let double = Double::start();
    let mut session = session(&double, Some(QUICKLY)).await;
    session.publish(Double::BYE, b"4001", Kind::Json).await.unwrap();
    let retry_is = Duration::from_millis(Double::RETRY_MS);
    assert!(matches!(next(&mut session).await, Event::Bye { code: 4001, retry, .. } if retry == retry_is));
    let before = Instant::now();
    match next(&mut session).await {
        Event::Lost {
            error: Error::Closed { code: Some(4001), .. },
            retry_at,
        } => assert!(retry_at >= before + retry_is),
        other => panic!("{other:?}"),
    }
    assert!(matches!(next(&mut session).await, Event::Reconnected));
}

#[tokio::test]
async fn a_broker_that_wants_something_changed_is_not_come_back_to() {
    let double = Double::start();
    let mut session = session(&double, Some(QUICKLY)).await;
    session.publish(Double::BYE, b"4100", Kind::Json).await.unwrap();
    assert!(matches!(next(&mut session).await, Event::Bye { code: 4100, .. }));
    for _ in 0..2 {
        let error = session.receive(soon()).await.unwrap_err();
        assert!(matches!(error, Error::Closed { code: Some(4100), .. }), "{error}");
    }
    assert!(session.subscribe("a").await.is_err());
}

#[tokio::test]
async fn a_wait_that_is_dropped_loses_nothing() {
    let double = Double::start();
    let mut session = session(&double, None).await;
    session.subscribe("a").await.unwrap();
    for number in 0..50 {
        let payload = number.to_string();
        session.publish("a", payload.as_bytes(), Kind::Json).await.unwrap();
        // Whatever the wait has come to by then, it is dropped, unless the message is already there.
        let event = tokio::select! {
            biased;
            event = session.receive(None) => Some(event.unwrap().unwrap()),
            () = tokio::task::yield_now() => None,
        };
        let event = match event {
            Some(event) => event,
            None => next(&mut session).await,
        };
        assert!(matches!(event, Event::Message(message) if *message.payload.bytes == *payload.as_bytes()));
    }
}

#[tokio::test]
async fn many_handshakes_with_one_address_are_made_one_after_the_other() {
    let double = Double::start();
    let url = double.url();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Client::connect(&url, &Options::default()).await.unwrap() })
        })
        .collect();
    let mut greetings = Vec::new();
    for task in tasks {
        match task.await.unwrap().receive(soon()).await.unwrap() {
            Some(Message::Text(text)) => greetings.push(text),
            other => panic!("{other:?}"),
        }
    }
    greetings.sort();
    greetings.dedup();
    assert_eq!(greetings.len(), 16);
}
