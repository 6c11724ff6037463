//! What subscriptions are counted as is what they take.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use tidecast_broker::auth::{Event, Grant};
use tidecast_broker::{
    Allowance, BoundsId, Broker, Kept, Language, Limits, Message, Output, OwnedMessage, Rules, SessionId, Shared, Slow,
    SlowPolicy, TopicLimits, Withheld, WorkerSet,
};

/// Drops everything.
struct Nowhere;

impl Output for Nowhere {
    type Encoded = ();

    fn spend(&mut self, _session: SessionId, _octets: usize) -> Allowance {
        Allowance::Within
    }

    fn reply(&mut self, _session: SessionId, payload: &[u8], _text: bool) {
        assert!(
            !payload.starts_with(b"[\"err\""),
            "{}",
            String::from_utf8_lossy(payload)
        );
    }

    fn encode(&mut self, _rendition: u8, _message: &Message<'_>, _kept: Option<&Kept>, _compress: bool) {}

    fn join((): (), (): ()) -> Option<()> {
        None
    }

    fn deliver(
        &mut self,
        _session: SessionId,
        (): (),
        _messages: u32,
        _parts: impl Iterator<Item = ((), Slow)>,
        _bounds: BoundsId,
    ) {
    }

    fn forward(&mut self, _workers: WorkerSet, _message: Arc<OwnedMessage>) {}

    fn try_forward(&mut self, _worker: u16, _message: Arc<OwnedMessage>) -> bool {
        true
    }

    fn permit(&mut self, _session: SessionId, _event: Event, _name: &str, _grant: &Grant) -> Result<(), Withheld> {
        Ok(())
    }

    fn authenticate(&mut self, _session: SessionId, _token: &str) -> Result<Arc<Grant>, Withheld> {
        Err(Withheld::Unknown)
    }

    fn close(&mut self, session: SessionId, code: u16, reason: &str) {
        panic!("{session:?} is closed with {code}: {reason}");
    }
}

/// Octets of the process that are in memory.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

const SESSIONS: u32 = 2_000;
const EACH: usize = 50;

/// A name, the filter of a session by its number, and within how much the count may be more than what is taken.
type Scenario = (&'static str, fn(u32, usize) -> String, std::ops::Range<f64>);

/// Many that are all alike. Of filters the most is counted, for levels that no other filter has.
const SCENARIOS: [Scenario; 7] = [
    ("common", |_, n| format!("common/{n}"), 0.9..1.5),
    ("exact", |session, n| format!("t/{session:05}/{n:05}"), 0.9..1.6),
    (
        "long",
        |session, n| format!("{}/{session:05}/{n:05}", "x".repeat(200)),
        0.9..1.3,
    ),
    ("wild", |session, n| format!("t/{session:05}/{n:05}/#"), 0.9..2.5),
    (
        "wild, with levels of their own",
        |session, n| format!("{session:05}{n:05}/+/c/+/d/e"),
        0.8..1.3,
    ),
    ("shared", |_, n| format!("$share/g/t/{n}"), 0.9..2.5),
    (
        "shared, with groups of their own",
        |session, n| format!("$share/g{session}/t/{n}"),
        0.8..1.4,
    ),
];

/// What the subscriptions of a scenario are counted as, by what they take.
fn measure(filter: fn(u32, usize) -> String) -> f64 {
    let limits = Limits {
        topics: TopicLimits::default(),
        subscriptions: u32::MAX,
        all_subscriptions: usize::MAX,
        slow: SlowPolicy::Close,
        message: 1 << 20,
        ping_ms: 25_000,
        rules: Arc::new(Rules::default()),
    };
    let mut broker = Broker::new(0, limits, Arc::new(Shared::new()));
    let out = &mut Nowhere;
    let grant = Arc::new(Grant::everything());
    for id in 0..SESSIONS {
        broker.handle_open(SessionId(id), Language::Json, 0, Arc::clone(&grant), "name", out);
    }
    let before = resident();
    for id in 0..SESSIONS {
        for n in 0..EACH {
            broker.handle_text(SessionId(id), &format!(r#"["sub","{}"]"#, filter(id, n)), out);
        }
    }
    let taken = resident() - before;
    let counted = broker.memory() as f64;
    for id in 0..SESSIONS {
        broker.handle_close(SessionId(id), out);
    }
    assert_eq!(broker.memory(), 0);
    counted / taken as f64
}

#[test]
fn subscriptions_are_counted_as_what_they_take() {
    const ASKED: &str = "TIDECAST_TEST_SCENARIO";
    if let Ok(asked) = std::env::var(ASKED) {
        let (_, filter, range) = &SCENARIOS[asked.parse::<usize>().unwrap()];
        let ratio = measure(*filter);
        assert!(range.contains(&ratio), "counted as {ratio:.2} of what they take");
        return;
    }
    // Each in a process of its own, where no memory lies about that another has given back.
    for (number, (name, ..)) in SCENARIOS.iter().enumerate() {
        let child = Command::new(std::env::current_exe().unwrap())
            .env(ASKED, number.to_string())
            .output()
            .unwrap();
        assert!(
            child.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&child.stdout)
        );
    }
}
