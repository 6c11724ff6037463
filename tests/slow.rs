//! Subscribers that do not read: what they miss is what they asked for, and nobody else misses anything.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::*;
use tidecast_client::{Client, Message};

/// More than the sockets between broker and client hold.
const MESSAGES: usize = 20_000;
const PADDING: usize = 1000;
/// Silence after which it is tried again.
const PATIENCE: Duration = Duration::from_millis(200);
// One worker: once a reader has heard a message, what becomes of it for whoever sleeps is decided.
const ARGUMENTS: &[&str] = &[
    "--workers",
    "1",
    "--max-pending",
    "256K",
    "--max-pending-messages",
    "100",
];

/// Subscribes, and reads nothing from then on until told to.
fn sleeper(broker: &Broker, options: &str) -> Client {
    let mut sleeper = json_client(broker);
    let answer = ask(&mut sleeper, &format!(r#"["sub","ticks/+",{{"ref":1{options}}}]"#));
    assert_eq!(answer, r#"["ok",1,{}]"#);
    sleeper
}

/// Publishes numbers to eight topics in turn, with padding, no faster than `pace` reads them.
fn publish(broker: &Broker, pace: &mut Client) {
    let mut publisher = json_client(broker);
    let padding = "x".repeat(PADDING);
    for number in 0..MESSAGES {
        let topic = number % 8;
        publisher
            .queue_text(&format!(
                r#"["pub","ticks/{topic}",[{number},"{padding}"],{{"key":"{}"}}]"#,
                number % 3
            ))
            .unwrap();
        if number % 100 == 99 {
            publisher.flush().unwrap();
            for expected in number - 99..=number {
                assert_eq!(number_of(&text(pace)), Some(expected), "a reader misses nothing");
            }
        }
    }
}

/// The number in a delivery.
fn number_of(said: &str) -> Option<usize> {
    let start = said.find(",[")? + 2;
    said[start..].split(',').next()?.parse().ok()
}

/// What a subscriber that wakes up hears, up to the answer to its ping: numbers, and how many it is told to have missed in
/// all, by where that was told.
fn wake(sleeper: &mut Client) -> (Vec<usize>, Vec<(usize, u64)>) {
    let (mut numbers, mut lags) = (Vec::new(), Vec::new());
    loop {
        let said = text(sleeper);
        if let Some(lag) = said.strip_prefix(r#"["lag","ticks/+","#) {
            lags.push((numbers.len(), lag.trim_end_matches(']').parse().unwrap()));
        } else if let Some(number) = number_of(&said) {
            numbers.push(number);
        } else {
            panic!("{said}");
        }
        let missed: u64 = lags.iter().map(|(_, missed)| missed).sum();
        if numbers.len() as u64 + missed == MESSAGES as u64 {
            return (numbers, lags);
        }
    }
}

#[test]
fn drop_old_hears_the_first_and_the_last_and_how_many_it_missed_between() {
    let broker = Broker::start(ARGUMENTS);
    let mut sleeper = sleeper(&broker, r#","slow":"drop-old""#);
    let mut reader = self::sleeper(&broker, "");
    publish(&broker, &mut reader);
    let (numbers, lags) = wake(&mut sleeper);
    assert!(numbers.is_sorted() && numbers[0] == 0 && numbers.last() == Some(&(MESSAGES - 1)));
    // One gap, where it was told.
    let [(place, missed)] = lags[..] else {
        panic!("{lags:?}")
    };
    assert_eq!(numbers[place] - numbers[place - 1], missed as usize + 1);
    assert!(numbers[..place].windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert!(numbers[place..].windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert!(numbers.len() - place <= 101, "what waited is bounded");
    let totals = broker.stop();
    assert_eq!((totals.get("dropped"), totals.get("slow_consumers")), (missed, 0));
}

#[test]
fn drop_new_hears_the_first_and_is_told_how_many_it_missed_behind_them() {
    let broker = Broker::start(ARGUMENTS);
    let mut sleeper = sleeper(&broker, r#","slow":"drop-new""#);
    let mut reader = self::sleeper(&broker, "");
    publish(&broker, &mut reader);
    let (numbers, lags) = wake(&mut sleeper);
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    let [(place, _)] = lags[..] else { panic!("{lags:?}") };
    assert_eq!(place, numbers.len());
    // What comes from now on is heard again.
    ask(&mut reader, r#"["pub","ticks/0",[77777]]"#);
    assert_eq!(number_of(&text(&mut sleeper).replace(']', ",")), Some(77_777));
}

#[test]
fn latest_hears_the_last_of_every_topic_and_key() {
    let broker = Broker::start(ARGUMENTS);
    let mut sleeper = sleeper(&broker, r#","slow":"latest""#);
    let mut reader = self::sleeper(&broker, "");
    publish(&broker, &mut reader);
    let (numbers, lags) = wake(&mut sleeper);
    assert!(numbers.is_sorted());
    let [(place, _)] = lags[..] else { panic!("{lags:?}") };
    // Eight topics with three keys each, each at its last: 24 is a multiple of both.
    assert_eq!(numbers[place..], (MESSAGES - 24..MESSAGES).collect::<Vec<_>>());
}

#[test]
fn close_closes_with_4000_and_says_bye() {
    let broker = Broker::start(ARGUMENTS);
    let mut sleeper = sleeper(&broker, r#","slow":"close""#);
    let mut reader = self::sleeper(&broker, "");
    publish(&broker, &mut reader);
    let mut last = String::new();
    while let Ok(Some(Message::Text(said))) = sleeper.receive(Some(Instant::now() + DEADLINE)) {
        last = said;
    }
    assert!(last.starts_with(r#"["bye",4000,"#), "{last}");
    assert_eq!(broker.stop().get("slow_consumers"), 1);
}

#[test]
fn a_policy_is_that_of_the_broker_where_the_subscription_says_nothing_and_raw_ones_have_it_too() {
    let broker = Broker::start(&[ARGUMENTS, &["--slow", "drop-old"]].concat());
    let mut json = sleeper(&broker, "");
    let mut raw = BTreeMap::new();
    for slow in ["drop-new", "drop-old", "latest"] {
        raw.insert(
            slow,
            client(&broker.ws(&format!("/t/ticks%2F%2B?mode=sub&slow={slow}"))),
        );
    }
    let mut reader = sleeper(&broker, r#","slow":"close""#);
    publish(&broker, &mut reader);
    let (numbers, _) = wake(&mut json);
    assert_eq!(numbers.last(), Some(&(MESSAGES - 1)));
    for (slow, client) in &mut raw {
        let mut numbers = Vec::new();
        // Nothing tells the end of what was kept: the first of what comes now does, once there is room for it.
        eventually("the end of what waited", || {
            reader.send_text(r#"["pub","ticks/9",[99999,0]]"#).unwrap();
            while let Some(message) = client.receive(Some(Instant::now() + PATIENCE)).unwrap() {
                let Message::Text(said) = message else {
                    panic!("{message:?}")
                };
                let number = number_of(&format!(",{said}")).unwrap();
                if number == 99_999 {
                    return Some(());
                }
                numbers.push(number);
            }
            None
        });
        assert!(numbers.is_sorted() && numbers.len() < MESSAGES, "{slow}");
        assert_eq!(numbers.last() == Some(&(MESSAGES - 1)), *slow != "drop-new", "{slow}");
    }
    assert_eq!(broker.stop().get("slow_consumers"), 0);
}
