//! The binary encoding: the same messages, in packets.

mod support;

use std::time::Instant;

use support::*;
use tidecast_client::wire::Kind;
use tidecast_client::{Error, Event, Message, Options, Session};

const HELLO: u8 = 0x08;

fn session(broker: &Broker, protocol: &str) -> Session {
    let options = Options {
        protocols: vec![protocol.to_owned()],
        ..Options::default()
    };
    Session::connect(&broker.ws("/ws"), &options, None).unwrap()
}

/// The next delivery: topic, kind and bytes.
fn next(session: &mut Session) -> (String, Kind, Vec<u8>) {
    match session.receive(Some(Instant::now() + DEADLINE)) {
        Ok(Some(Event::Message(message))) => {
            let payload = message.payload;
            (message.topic, payload.kind, payload.bytes.into_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn packets_json_and_raw_clients_on_two_workers_hear_each_other() {
    let broker = Broker::start(&["--workers", "2"]);
    let mut in_packets: Vec<_> = (0..4).map(|_| session(&broker, "tidecast.bin.v1")).collect();
    let mut in_json: Vec<_> = (0..4).map(|_| session(&broker, "tidecast.json.v1")).collect();
    for session in in_packets.iter_mut().chain(&mut in_json) {
        session.subscribe("house/+").unwrap();
    }
    let payloads = [
        (Kind::Json, &br#"{"a": [1, 2.50]}"#[..]),
        (Kind::Text, "grüß \"dich\"".as_bytes()),
        (Kind::Binary, &[0, 255, 7, 10]),
    ];
    for publisher in 0..2 {
        for (kind, payload) in payloads {
            let by_packets = publisher == 0;
            let from = if by_packets {
                &mut in_packets[0]
            } else {
                &mut in_json[0]
            };
            from.publish_confirmed("house/attic", payload, kind).unwrap();
            for session in &mut in_packets {
                assert_eq!(next(session), ("house/attic".to_owned(), kind, payload.to_vec()));
            }
            for session in &mut in_json {
                let (topic, as_kind, bytes) = next(session);
                assert_eq!(topic, "house/attic");
                match kind {
                    // In JSON a text is a string.
                    Kind::Text => assert_eq!((as_kind, &*bytes), (Kind::Json, r#""grüß \"dich\"""#.as_bytes())),
                    _ => assert_eq!((as_kind, &*bytes), (kind, payload)),
                }
            }
        }
    }
    let mut raw = client(&broker.ws("/t/house%2Fcellar"));
    raw.send_binary(&[1, 2, 3]).unwrap();
    let heard = next(&mut in_packets[3]);
    assert_eq!(heard, ("house/cellar".to_owned(), Kind::Binary, vec![1, 2, 3]));
    in_packets[3].unsubscribe("house/+").unwrap();
    let refused = in_packets[3].unsubscribe("house/+").unwrap_err();
    assert!(matches!(refused, Error::Rejected(refusal) if refusal.code == "not_found"));
}

#[test]
fn many_packets_are_one_message_and_a_flood_of_them_loses_nothing() {
    // Mailboxes so small that publishers of one worker wait for the other all the time.
    let broker = Broker::start(&["--workers", "2", "--mailbox-messages", "4"]);
    let mut subscribers: Vec<_> = (0..4).map(|_| client(&broker.ws("/t/flood?mode=sub"))).collect();
    let options = Options {
        protocols: vec!["tidecast.bin.v1".to_owned()],
        ..Options::default()
    };
    let mut publisher = tidecast_client::Client::connect(&broker.ws("/ws"), &options).unwrap();
    let hello = publisher.receive(Some(Instant::now() + DEADLINE)).unwrap();
    assert!(matches!(hello, Some(Message::Binary(packet)) if packet[0] == HELLO));
    let mut number = 0_u32;
    for _ in 0..50 {
        let mut packets = Vec::new();
        for _ in 0..100 {
            packets.extend(b"\x02\x0d\x00\x00\x05flood\x02".iter().chain(&number.to_be_bytes()));
            number += 1;
        }
        // A PING behind them, so that the last one is known to be read.
        packets.extend(b"\x0a\x00");
        publisher.send_binary(&packets).unwrap();
    }
    for subscriber in &mut subscribers {
        for expected in 0..number {
            let message = subscriber.receive(Some(Instant::now() + DEADLINE)).unwrap();
            assert_eq!(message, Some(Message::Binary(expected.to_be_bytes().to_vec())));
        }
    }
    for _ in 0..50 {
        let pong = publisher.receive(Some(Instant::now() + DEADLINE)).unwrap();
        assert_eq!(pong, Some(Message::Binary(vec![0x0b, 0])));
    }
    let totals = broker.stop();
    assert_eq!(totals.get("published"), u64::from(number));
}
