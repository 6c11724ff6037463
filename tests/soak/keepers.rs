//! Connections that stay from the first message to the last, in every way there is to listen, and those who publish to them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tidecast_client::wire::Kind;
use tidecast_client::{Client, Compression, Event, Message, Options, Session};
use tidecast_websocket::Version;

use super::Run;
use super::http::{Events, post};
use super::support::*;

/// Topics, each with one publisher.
pub(crate) const TOPICS: usize = 3;
/// Connections of each kind.
const EACH: usize = 4;
/// From one message of a topic to the next.
const PERIOD: Duration = Duration::from_millis(10);
/// Letters in a message, in turn: from one of many in a send to one that takes several.
const SIZES: [usize; 8] = [1, 100, 10, 1000, 1, 10_000, 300, 100_000];

enum Ears {
    Frames(Box<Client>),
    Packets(Box<Session>),
    Events(Events),
}

/// A connection and what it has to hear next of each topic; nothing of those it does not listen to.
pub(crate) struct Keeper {
    ears: Ears,
    kind: String,
    next: [Option<u64>; TOPICS],
}

/// So many of each kind: over all topics, and on one of them.
pub(crate) fn all(broker: &Broker) -> Vec<Keeper> {
    let mut keepers = Vec::new();
    let compressed = Options {
        compression: Some(Compression::default()),
        ..Options::default()
    };
    let draft = |version| Options {
        version,
        ..compressed.clone()
    };
    for number in 0..EACH {
        let topic = number % TOPICS;
        let mut keep = |kind: &str, ears: Ears, topic: Option<usize>| {
            let next = std::array::from_fn(|at| topic.is_none_or(|topic| topic == at).then_some(0));
            let kind = format!("{kind} {number}");
            keepers.push(Keeper { ears, kind, next });
        };
        for (kind, options) in [("json", &Options::default()), ("json, compressed", &compressed)] {
            let mut json = Client::connect(&broker.ws("/ws"), options).unwrap();
            assert!(text(&mut json).starts_with(r#"["hello""#));
            // Both match; a message comes once.
            for filter in ["soak/+", "soak/#"] {
                let answer = ask(&mut json, &format!(r#"["sub","{filter}",{{"ref":1}}]"#));
                assert_eq!(answer, r#"["ok",1,{}]"#);
            }
            keep(kind, Ears::Frames(Box::new(json)), None);
        }
        let options = Options {
            protocols: vec!["tidecast.bin.v1".into()],
            ..Options::default()
        };
        let mut session = Session::connect(&broker.ws("/ws"), &options, None).unwrap();
        session.subscribe("soak/+").unwrap();
        keep("binary", Ears::Packets(Box::new(session)), None);
        let path = format!("/t/soak%2F{topic}?mode=sub");
        for (kind, options) in [
            ("raw", Options::default()),
            ("raw, compressed", compressed.clone()),
            ("draft 7, deflate-stream", draft(Version::V7)),
            ("draft 6, deflate-stream", draft(Version::V6)),
            ("draft 8", draft(Version::V8)),
        ] {
            let raw = Client::connect(&broker.ws(&path), &options).unwrap();
            keep(kind, Ears::Frames(Box::new(raw)), Some(topic));
        }
        let events = Events::open(broker, "/t/soak%2F%2B", "");
        keep("events", Ears::Events(events), None);
    }
    keepers
}

impl Keeper {
    fn hear(&mut self) -> String {
        let deadline = Some(Instant::now() + DEADLINE);
        match &mut self.ears {
            Ears::Frames(client) => match client.receive(deadline) {
                Ok(Some(Message::Text(text))) => text,
                other => panic!("{}: {other:?} after {:?}", self.kind, self.next),
            },
            Ears::Packets(session) => match session.receive(deadline) {
                Ok(Some(Event::Message(delivery))) => String::from_utf8(delivery.payload.bytes.into_owned()).unwrap(),
                other => panic!("{}: {other:?} after {:?}", self.kind, self.next),
            },
            Ears::Events(events) => events.event(),
        }
    }

    /// Hears every message of every topic it listens to, in order and once, up to the last.
    pub(crate) fn listen(mut self, run: &Run) {
        while self.next.iter().any(Option::is_some) {
            let said = self.hear();
            let (topic, number, is_last) = parse(&said).unwrap_or_else(|| panic!("{}: {said:.200}", self.kind));
            let next = self.next[topic].as_mut();
            let next = next.unwrap_or_else(|| panic!("{}: {said:.200} is not for it", self.kind));
            assert_eq!(number, *next, "{}: the next of topic {topic}", self.kind);
            *next += 1;
            run.heard.fetch_add(1, Relaxed);
            if is_last {
                self.next[topic] = None;
            }
        }
    }
}

/// Topic, number and whether it is the last, of a message wrapped in whatever.
fn parse(said: &str) -> Option<(usize, u64, bool)> {
    let mut parts = said[said.rfind('[')? + 1..].split([',', ']']);
    let (topic, number, letters) = (parts.next()?, parts.next()?, parts.next()?);
    Some((topic.parse().ok()?, number.parse().ok()?, letters == r#""last""#))
}

/// Publishes numbers to a topic, each confirmed, until the run is over: in JSON, in binary packets, or by requests.
pub(crate) fn publish(run: &Run, topic: usize) {
    let options = |protocol: &str| Options {
        protocols: vec![protocol.to_owned()],
        ..Options::default()
    };
    let session = |protocol| Session::connect(&run.broker.ws("/ws"), &options(protocol), None).unwrap();
    let mut say: Box<dyn FnMut(&str)> = match topic {
        0 | 1 => {
            let mut session = session(["tidecast.json.v1", "tidecast.bin.v1"][topic]);
            Box::new(move |payload| {
                let offset = session.publish_confirmed(&format!("soak/{topic}"), payload.as_bytes(), Kind::Json);
                assert!(offset.is_ok(), "{offset:?}");
            })
        }
        _ => {
            let mut peer = Peer::connect(&run.broker);
            Box::new(move |payload| {
                let request = post(
                    &format!("soak%2F{topic}"),
                    "Content-Type: application/json\r\n",
                    payload,
                );
                let answer = peer.asks(&request);
                assert_eq!(answer.status, 202, "{answer:?}");
            })
        }
    };
    let letters = "x".repeat(SIZES[SIZES.len() - 1]);
    let mut next = Instant::now();
    for number in 0.. {
        let is_last = run.is_over();
        let letters = if is_last {
            "last"
        } else {
            &letters[..SIZES[number % SIZES.len()]]
        };
        say(&format!(r#"[{topic},{number},"{letters}"]"#));
        run.published[topic].fetch_add(1, Relaxed);
        if is_last {
            return;
        }
        run.pace(&mut next, PERIOD);
    }
}
