//! Messages arrive: all of them, in order, everywhere.

mod support;

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use support::*;
use tidecast_client::Message;

const PUBLISHERS: usize = 4;
const SUBSCRIBERS: usize = 200;
const MESSAGES: usize = 100_000;

#[test]
fn a_group_on_two_workers_gets_each_message_once_though_members_leave() {
    const MESSAGES: usize = 20_000;
    let broker = Broker::start(&["--workers", "2"]);
    let (sender, received) = mpsc::channel();
    let members: Vec<_> = (0..8).map(|_| json_client(&broker)).collect();
    let threads: Vec<_> = (0..)
        .zip(members)
        .map(|(number, mut member)| {
            assert_eq!(
                ask(&mut member, r#"["sub","$share/crew/jobs/+",{"ref":1}]"#),
                r#"["ok",1,{}]"#
            );
            let sender = sender.clone();
            thread::spawn(move || {
                let mut count = 0;
                // Until it has left, or the broker stops.
                while let Ok(Some(Message::Text(said))) = member.receive(Some(Instant::now() + DEADLINE)) {
                    if said == r#"["ok",2,{}]"# || said.starts_with(r#"["bye""#) {
                        break;
                    }
                    let job = said.rsplit([',', ']']).nth(1).and_then(|job| job.parse::<usize>().ok());
                    sender.send(job.unwrap_or_else(|| panic!("{said}"))).unwrap();
                    count += 1;
                    if number >= 5 && count == 100 * (number - 4) {
                        member.send_text(r#"["unsub","$share/crew/jobs/+",{"ref":2}]"#).unwrap();
                    }
                }
                count
            })
        })
        .collect();
    let leave = &threads[5..];
    let mut publisher = json_client(&broker);
    for job in 0..MESSAGES {
        if job == MESSAGES / 2 {
            // They leave while messages are on their way to them, and are gone before the second half.
            eventually("three have left", || {
                leave.iter().all(JoinHandle::is_finished).then_some(())
            });
        }
        publisher
            .queue_text(&format!(r#"["pub","jobs/{}",{job}]"#, job % 7))
            .unwrap();
        if job % 100 == 99 {
            publisher.flush().unwrap();
        }
    }
    let mut seen = vec![false; MESSAGES];
    for _ in 0..MESSAGES {
        let job = received.recv_timeout(DEADLINE).expect("another message");
        assert!(!std::mem::replace(&mut seen[job], true), "message {job} came twice");
    }
    let totals = broker.stop();
    assert_eq!(
        (totals.get("delivered"), totals.get("undelivered")),
        (MESSAGES as u64, 0)
    );
    let counts: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(counts[..5].iter().all(|&count| count >= MESSAGES / 8), "{counts:?}");
    assert!(
        counts[5..].iter().all(|&count| (100..=MESSAGES / 10).contains(&count)),
        "{counts:?}"
    );
}

#[test]
fn every_subscriber_gets_every_message_of_four_publishers_in_each_ones_order() {
    let broker = Broker::start(&["--workers", "2"]);
    // A raw subscription is in force once its handshake is answered.
    let subscribers: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| client(&broker.ws("/t/count?mode=sub")))
        .collect();
    let readers: Vec<_> = subscribers
        .into_iter()
        .map(|mut subscriber| {
            thread::spawn(move || {
                let mut next = [0u32; PUBLISHERS];
                for _ in 0..MESSAGES {
                    let payload = match subscriber.receive(Some(Instant::now() + DEADLINE)) {
                        Ok(Some(Message::Binary(payload))) => payload,
                        other => panic!("{other:?} after {next:?}"),
                    };
                    let publisher = usize::from(payload[0]);
                    let sequence = u32::from_be_bytes(payload[1..5].try_into().unwrap());
                    assert_eq!(sequence, next[publisher], "publisher {publisher}");
                    next[publisher] += 1;
                }
                assert_eq!(next, [(MESSAGES / PUBLISHERS) as u32; PUBLISHERS]);
            })
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS as u8)
        .map(|number| {
            let mut publisher = client(&broker.ws("/t/count?mode=pub"));
            thread::spawn(move || {
                for sequence in 0..(MESSAGES / PUBLISHERS) as u32 {
                    let mut payload = [number; 5];
                    payload[1..].copy_from_slice(&sequence.to_be_bytes());
                    publisher.queue_binary(&payload).unwrap();
                    if sequence % 100 == 99 {
                        publisher.flush().unwrap();
                    }
                }
                publisher.close(1000, "").unwrap();
            })
        })
        .collect();
    publishers.into_iter().for_each(|thread| thread.join().unwrap());
    readers.into_iter().for_each(|thread| thread.join().unwrap());
    let totals = broker.stop();
    assert_eq!(totals.get("published"), MESSAGES as u64);
    assert_eq!(totals.get("delivered"), (MESSAGES * SUBSCRIBERS) as u64);
    // Both workers had subscribers: every message crossed over from the worker of its publisher to the other.
    assert_eq!(totals.get("forwarded"), MESSAGES as u64);
}

#[test]
fn messages_to_several_topics_arrive_in_the_order_of_their_publisher() {
    for delay in ["0", "5ms"] {
        in_order(&Broker::start(&["--flush-delay", delay]));
    }
}

fn in_order(broker: &Broker) {
    let mut subscribers: Vec<_> = (0..16).map(|_| json_client(broker)).collect();
    for subscriber in &mut subscribers {
        for (reference, filter) in ["a/+", "b", "c/#", "#"].into_iter().enumerate() {
            let answer = ask(subscriber, &format!(r#"["sub","{filter}",{{"ref":{reference}}}]"#));
            assert_eq!(answer, format!(r#"["ok",{reference},{{}}]"#));
        }
    }
    let mut publisher = json_client(broker);
    let topics = ["a/1", "b", "c", "c/d/e", "z"];
    for i in 0..1000 {
        publisher
            .queue_text(&format!(r#"["pub","{}",{i}]"#, topics[i % topics.len()]))
            .unwrap();
    }
    publisher.flush().unwrap();
    for subscriber in &mut subscribers {
        for i in 0..1000 {
            assert_eq!(
                text(subscriber),
                format!(r#"["msg","{}",{i}]"#, topics[i % topics.len()])
            );
        }
    }
}

#[test]
fn messages_of_every_size_arrive_whole_on_both_workers() {
    let broker = Broker::start(&[]);
    let mut subscribers: Vec<_> = (0..16).map(|_| client(&broker.ws("/t/sizes?mode=sub"))).collect();
    let mut publisher = client(&broker.ws("/t/sizes?mode=pub"));
    let sizes = [
        0,
        1,
        125,
        126,
        127,
        4096,
        16_383,
        16_384,
        65_535,
        65_536,
        65_537,
        300_000,
        1 << 20,
    ];
    for (number, size) in sizes.into_iter().enumerate() {
        let payload: Vec<u8> = (0..size).map(|i| (i * 7 + number) as u8).collect();
        publisher.send_binary(&payload).unwrap();
        for subscriber in &mut subscribers {
            let received = subscriber.receive(Some(Instant::now() + DEADLINE)).unwrap();
            assert!(received == Some(Message::Binary(payload.clone())), "{size} bytes");
        }
    }
}

#[test]
fn a_publisher_faster_than_another_workers_mailbox_is_held_back_and_loses_nothing() {
    // What is read at once holds many messages, and the other worker is woken only after all of them: with room for
    // two, the publisher has to be stopped and resumed again and again.
    let broker = Broker::start(&["--max-pending", "256M", "--mailbox-messages", "2"]);
    let subscribers: Vec<_> = (0..32).map(|_| client(&broker.ws("/t/flood?mode=sub"))).collect();
    let count: u32 = 40_000;
    let readers: Vec<_> = subscribers
        .into_iter()
        .map(|mut subscriber| {
            thread::spawn(move || {
                for expected in 0..count {
                    match subscriber.receive(Some(Instant::now() + DEADLINE)).unwrap() {
                        Some(Message::Binary(payload)) => assert_eq!(payload[..4], expected.to_be_bytes()),
                        other => panic!("{other:?} instead of {expected}"),
                    }
                }
            })
        })
        .collect();
    let mut publisher = client(&broker.ws("/t/flood?mode=pub"));
    for sequence in 0..count {
        let mut payload = [0; 512];
        payload[..4].copy_from_slice(&sequence.to_be_bytes());
        publisher.queue_binary(&payload).unwrap();
        if sequence % 1000 == 999 {
            publisher.flush().unwrap();
        }
    }
    readers.into_iter().for_each(|thread| thread.join().unwrap());
    let totals = broker.stop();
    assert!(
        totals.get("publishers_paused") > 100,
        "{}",
        totals.get("publishers_paused")
    );
    assert_eq!(totals.get("published"), u64::from(count));
}
