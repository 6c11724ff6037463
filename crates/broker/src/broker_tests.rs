use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use tidecast_router::Filter;

use super::*;
use crate::encode::{Encoding, encode};
use crate::message::OwnedMessage;
use crate::session::Language;
use crate::target::Target;

const RAW: u8 = 0;
const JSON: u8 = 1;
const PACKETS: u8 = 2;

/// What is not text, to be compared as text.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Several workers' brokers, with forwarded messages carried by hand, and everything they said.
pub(super) struct House {
    pub(super) brokers: Vec<Broker<Part>>,
    pub(super) outs: Vec<Said>,
}

#[derive(Default)]
pub(super) struct Said {
    to: BTreeMap<SessionId, Vec<String>>,
    pub(super) closed: BTreeMap<SessionId, (u16, String)>,
    forwarded: Vec<(WorkerSet, Arc<OwnedMessage>)>,
    /// The policy of the last delivery.
    pub(super) slow: BTreeMap<SessionId, Slow>,
    /// What was encoded, by rendition.
    encoded: [Vec<String>; 3],
    /// How often somebody was handed messages.
    steps: usize,
    /// How many of them were not taken over from another worker.
    made: usize,
    /// What is answered to those who want to say something; without an answer they may.
    allowances: VecDeque<Allowance>,
    /// Whether the last message was to be compressed.
    pub(super) compressed: bool,
    /// The limits by which the last delivery was made.
    pub(super) bounds: BTreeMap<SessionId, BoundsId>,
    /// What others say about an event and its topic; everything else is permitted.
    pub(super) withheld: BTreeMap<String, Withheld>,
    /// What bearers of tokens may do.
    pub(super) grants: BTreeMap<String, Arc<Grant>>,
}

/// Messages of one rendition, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    rendition: u8,
    from: usize,
    to: usize,
}

impl Said {
    fn encoded(&mut self, rendition: u8, text: String) -> Part {
        let log = &mut self.encoded[usize::from(rendition)];
        log.push(text);
        Part {
            rendition,
            from: log.len() - 1,
            to: log.len(),
        }
    }
}

/// So many messages fit into a segment, and only such can be joined.
const SEGMENT: usize = 4;

impl Output for Said {
    type Encoded = Part;

    fn spend(&mut self, _session: SessionId, _octets: usize) -> Allowance {
        self.allowances.pop_front().unwrap_or(Allowance::Within)
    }

    fn reply(&mut self, session: SessionId, payload: &[u8], text: bool) {
        let said = if text {
            String::from_utf8(payload.to_vec()).unwrap()
        } else {
            hex(payload)
        };
        self.to.entry(session).or_default().push(said);
    }

    fn encode(&mut self, rendition: u8, message: &Message<'_>, kept: Option<&Kept>, compress: bool) -> Part {
        self.compressed = compress;
        let shown = |bytes: &[u8]| {
            if rendition == PACKETS {
                hex(bytes)
            } else {
                String::from_utf8_lossy(bytes).into_owned()
            }
        };
        if let Some(bytes) = kept.and_then(|kept| kept.get(rendition)) {
            return self.encoded(rendition, shown(bytes));
        }
        let encoding = Encoding::ALL[usize::from(rendition)];
        let mut scratch = Vec::new();
        let (bytes, _) = encode(message, encoding, &mut scratch);
        let part = self.encoded(rendition, shown(bytes));
        self.made += 1;
        if let Some(kept) = kept {
            kept.keep(rendition, bytes);
        }
        part
    }

    fn join(earlier: Part, later: Part) -> Option<Part> {
        assert_eq!(earlier.rendition, later.rendition);
        let adjoins = earlier.to == later.from && !later.from.is_multiple_of(SEGMENT);
        adjoins.then_some(Part {
            to: later.to,
            ..earlier
        })
    }

    fn deliver(
        &mut self,
        session: SessionId,
        whole: Part,
        messages: u32,
        parts: impl Iterator<Item = (Part, Slow)>,
        bounds: BoundsId,
    ) {
        self.bounds.insert(session, bounds);
        let (mut at, mut count) = (whole.from, 0);
        for (part, slow) in parts {
            count += 1;
            assert_eq!(
                (part.rendition, part.from),
                (whole.rendition, at),
                "the parts are the whole"
            );
            at = part.to;
            self.slow.insert(session, slow);
        }
        assert_eq!((at, count), (whole.to, messages), "the parts are the whole");
        self.steps += 1;
        let log = &self.encoded[usize::from(whole.rendition)];
        let said = self.to.entry(session).or_default();
        said.extend(log[whole.from..whole.to].iter().cloned());
    }

    fn forward(&mut self, workers: WorkerSet, message: Arc<OwnedMessage>) {
        assert!(!workers.is_empty());
        self.forwarded.push((workers, message));
    }

    fn try_forward(&mut self, worker: u16, message: Arc<OwnedMessage>) -> bool {
        let mut workers = WorkerSet::EMPTY;
        workers.insert(worker);
        self.forward(workers, message);
        true
    }

    fn permit(&mut self, _session: SessionId, event: Event, name: &str, _grant: &Grant) -> Result<(), Withheld> {
        let withheld = self.withheld.get(&format!("{} {name}", event.as_str()));
        withheld.cloned().map_or(Ok(()), Err)
    }

    fn authenticate(&mut self, _session: SessionId, token: &str) -> Result<Arc<Grant>, Withheld> {
        let withheld = self.withheld.get(&format!("connect {token}"));
        withheld.cloned().map_or(Ok(()), Err)?;
        let unknown = || Withheld::Refused("who are you?".into());
        self.grants.get(token).cloned().ok_or_else(unknown)
    }

    fn close(&mut self, session: SessionId, code: u16, reason: &str) {
        self.closed.insert(session, (code, reason.to_owned()));
    }
}

pub(super) fn limits() -> Limits {
    Limits {
        topics: tidecast_router::Limits::default(),
        subscriptions: 3,
        all_subscriptions: 1000,
        slow: SlowPolicy::Close,
        message: 1000,
        ping_ms: 25_000,
        rules: Arc::default(),
    }
}

impl House {
    pub(super) fn new(workers: u16) -> House {
        let shared = Arc::new(Shared::new());
        House {
            brokers: (0..workers)
                .map(|worker| Broker::new(worker, limits(), Arc::clone(&shared)))
                .collect(),
            outs: (0..workers).map(|_| Said::default()).collect(),
        }
    }

    fn json(&mut self, worker: usize, id: u32) -> (usize, SessionId) {
        self.json_for(worker, id, Grant::everything())
    }

    pub(super) fn json_for(&mut self, worker: usize, id: u32, grant: Grant) -> (usize, SessionId) {
        let id = SessionId(id);
        self.brokers[worker].handle_open(id, Language::Json, JSON, Arc::new(grant), "s", &mut self.outs[worker]);
        assert_eq!(
            self.heard((worker, id)),
            [r#"["hello",{"session":"s","max_message":1000,"ping_ms":25000}]"#]
        );
        (worker, id)
    }

    pub(super) fn packets(&mut self, worker: usize, id: u32) -> (usize, SessionId) {
        let id = SessionId(id);
        let grant = Arc::new(Grant::everything());
        self.brokers[worker].handle_open(id, Language::Packets, PACKETS, grant, "s", &mut self.outs[worker]);
        assert!(self.heard((worker, id))[0].starts_with("08"));
        (worker, id)
    }

    pub(super) fn sends(&mut self, (worker, id): (usize, SessionId), message: &[u8]) -> Progress {
        let progress = self.brokers[worker].handle_binary(id, message, &mut self.outs[worker]);
        self.carry();
        progress
    }

    fn raw(&mut self, worker: usize, id: u32, topic: &str, query: &[(&str, &str)]) -> (usize, SessionId) {
        self.raw_for(worker, id, (topic, query), Grant::everything())
    }

    pub(super) fn raw_for(
        &mut self,
        worker: usize,
        id: u32,
        (topic, query): (&str, &[(&str, &str)]),
        grant: Grant,
    ) -> (usize, SessionId) {
        let target = Target::new(topic, query.iter().copied(), &limits().topics).unwrap();
        self.brokers[worker].handle_open_raw(SessionId(id), RAW, Arc::new(grant), &target, &mut self.outs[worker]);
        (worker, SessionId(id))
    }

    pub(super) fn says(&mut self, (worker, id): (usize, SessionId), text: &str) -> Progress {
        let progress = self.brokers[worker].handle_text(id, text, &mut self.outs[worker]);
        self.carry();
        progress
    }

    pub(super) fn settle(&mut self) {
        for (broker, out) in self.brokers.iter_mut().zip(&mut self.outs) {
            broker.settle(out);
        }
    }

    /// Takes what was forwarded to where it belongs.
    pub(super) fn carry(&mut self) {
        for from in 0..self.outs.len() {
            for (workers, message) in std::mem::take(&mut self.outs[from].forwarded) {
                for to in workers.iter() {
                    assert_ne!(usize::from(to), from, "a worker does not forward to itself");
                    let to = usize::from(to);
                    self.brokers[to].handle_forwarded(&message, &mut self.outs[to]);
                }
            }
        }
        self.brokers.iter().for_each(Broker::check);
    }

    pub(super) fn closes(&mut self, (worker, id): (usize, SessionId)) {
        self.brokers[worker].handle_close(id, &mut self.outs[worker]);
    }

    pub(super) fn heard(&mut self, (worker, id): (usize, SessionId)) -> Vec<String> {
        self.settle();
        self.outs[worker].to.remove(&id).unwrap_or_default()
    }
}

#[test]
fn a_message_reaches_the_subscribers_of_every_worker_in_their_own_encoding() {
    let mut house = House::new(3);
    let publisher = house.json(0, 0);
    let here = house.json(0, 1);
    let there = house.json(1, 0);
    let raw = house.raw(2, 0, "room/+", &[]);
    house.says(here, r#"["sub","room/1",{"ref":1}]"#);
    house.says(there, r##"["sub","room/#",{"ref":"a"}]"##);
    assert_eq!(house.heard(here), [r#"["ok",1,{}]"#]);
    assert_eq!(house.heard(there), [r#"["ok","a",{}]"#]);
    house.says(publisher, r#"["pub","room/1",{"x": 1},{"ref":2}]"#);
    assert_eq!(house.heard(publisher), [r#"["ok",2,{}]"#]);
    for subscriber in [here, there] {
        assert_eq!(house.heard(subscriber), [r#"["msg","room/1",{"x": 1}]"#]);
    }
    assert_eq!(house.heard(raw), [r#"{"x": 1}"#]);
}

#[test]
fn packets_say_the_same_as_json_and_several_of_them_are_one_message() {
    let mut house = House::new(2);
    let packets = house.packets(0, 0);
    let json = house.json(1, 0);
    house.says(json, r#"["sub","t"]"#);
    // SUB t with ref 1, SUB u with ref 2, PING: answered by one message.
    house.sends(packets, b"\x03\x04\x01\x00\x01t\x03\x04\x02\x00\x01u\x0a\x00");
    assert_eq!(house.heard(packets), ["050401027b7d050402027b7d0b00"]);
    // Two publishes and an UNSUB: what the first says is heard before what the others are answered.
    house.sends(
        packets,
        b"\x02\x06\x03\x00\x01t\x007\x02\x06\x00\x02\x01t\x018\x04\x03\x05\x01u",
    );
    assert_eq!(house.heard(packets), ["01050174000037", "050403027b7d", "050405027b7d"]);
    assert_eq!(house.heard(json), [r#"["msg","t",7]"#, r#"["msg","t","8"]"#]);
    house.says(json, r#"["pub","t","AAE=",{"kind":"binary"}]"#);
    assert_eq!(house.heard(packets), ["0106017400020001"]);
}

#[test]
fn a_broken_packet_is_refused_and_those_before_it_are_not() {
    let mut house = House::new(1);
    let client = house.packets(0, 0);
    house.sends(client, b"\x0a\x00\x40\x01\x09\x03\x7f");
    let heard = house.heard(client);
    let words = |text: &str| hex(text.as_bytes());
    assert_eq!(heard.len(), 1);
    assert!(heard[0].starts_with("0b0006"), "{heard:?}");
    for expected in ["unknown_verb", "0x40", "bad_message", "says it has 127 bytes"] {
        assert!(heard[0].contains(&words(expected)), "{expected}: {heard:?}");
    }
    house.says(client, "[\"ping\"]");
    assert!(house.heard(client)[0].contains(&words("binary messages")));
    house.brokers[0].say_bye(client.1, 1001, "going", 5, &mut house.outs[0]);
    assert_eq!(
        house.heard(client),
        ["0909e907".to_owned() + "05" + &words("going") + "05"]
    );
}

#[test]
fn a_message_is_encoded_once_per_rendition_however_many_subscribe() {
    let mut house = House::new(1);
    for id in 0..100 {
        house.raw(0, id, "t", &[]);
    }
    let publisher = house.json(0, 100);
    house.says(publisher, r#"["sub","t"]"#);
    house.says(publisher, r#"["pub","t",1]"#);
    house.settle();
    assert_eq!(house.outs[0].encoded.each_ref().map(Vec::len), [1, 1, 0]);
    assert_eq!(house.brokers[0].stats().delivered, 101);
}

#[test]
fn messages_that_follow_each_other_are_handed_over_in_one_step_and_nobody_notices() {
    let mut house = House::new(1);
    // One list of two renditions. Which of the publishers it is makes no difference.
    let (raw, json) = (house.raw(0, 0, "t", &[]), house.json(0, 1));
    house.says(json, r#"["sub","t"]"#);
    let publishers = [2, 3].map(|id| house.raw(0, id, "t", &[("mode", "pub")]));
    let steps = |house: &House| house.outs[0].steps;
    let before = steps(&house);
    for (number, publisher) in publishers.iter().cycle().take(SEGMENT).enumerate() {
        house.says(*publisher, &number.to_string());
    }
    assert_eq!(steps(&house), before, "all of it waits");
    assert!(!house.brokers[0].is_settled());
    assert_eq!(house.heard(raw), ["0", "1", "2", "3"]);
    let heard = [0, 1, 2, 3].map(|number| format!(r#"["msg","t","{number}"]"#));
    assert_eq!(house.heard(json), heard);
    assert_eq!(steps(&house), before + 2);
    assert_eq!(house.brokers[0].stats().delivered, 2 * SEGMENT as u64);
}

#[test]
fn whoever_is_answered_or_comes_or_goes_has_heard_what_was_published_before() {
    let mut house = House::new(1);
    let [old, new, publisher] = [0, 1, 2].map(|id| house.json(0, id));
    house.says(old, r#"["sub","t"]"#);
    house.says(publisher, r#"["pub","t",1]"#);
    house.says(new, r#"["sub","t"]"#);
    house.says(publisher, r#"["pub","t",2]"#);
    house.says(old, r#"["unsub","t",{"ref":1}]"#);
    house.says(publisher, r#"["pub","t",3]"#);
    house.says(new, r#"["ping"]"#);
    house.says(publisher, r#"["pub","t",4]"#);
    assert_eq!(
        house.heard(old),
        [r#"["msg","t",1]"#, r#"["msg","t",2]"#, r#"["ok",1,{}]"#]
    );
    let heard = [
        r#"["msg","t",2]"#,
        r#"["msg","t",3]"#,
        r#"["pong"]"#,
        r#"["msg","t",4]"#,
    ];
    assert_eq!(house.heard(new), heard);
    // Another topic's message does not overtake.
    house.says(new, r#"["sub","u"]"#);
    house.says(publisher, r#"["pub","t",5]"#);
    house.says(publisher, r#"["pub","u",6]"#);
    house.says(publisher, r#"["pub","t",7]"#);
    let heard = [r#"["msg","t",5]"#, r#"["msg","u",6]"#, r#"["msg","t",7]"#];
    assert_eq!(house.heard(new), heard);
    house.closes(new);
    house.says(publisher, r#"["pub","t",8]"#);
    assert!(house.brokers[0].is_settled(), "nobody is left");
}

#[test]
fn what_one_worker_made_of_a_message_serves_the_others() {
    let mut house = House::new(3);
    let subscribers: Vec<_> = (0..3).map(|worker| house.raw(worker, 0, "t", &[])).collect();
    let publisher = house.json(1, 1);
    house.says(publisher, r#"["pub","t",1]"#);
    assert!(
        subscribers
            .into_iter()
            .all(|subscriber| house.heard(subscriber) == ["1"])
    );
    assert_eq!(house.outs.iter().map(|out| out.made).sum::<usize>(), 1);
}

#[test]
fn a_connection_gets_a_message_once_however_many_of_its_filters_match() {
    let mut house = House::new(2);
    let subscriber = house.json(1, 0);
    for filter in ["a/b", "a/+", "#"] {
        house.says(subscriber, &format!(r#"["sub","{filter}"]"#));
    }
    let publisher = house.json(0, 0);
    for _ in 0..2 {
        house.says(publisher, r#"["pub","a/b",true]"#);
        assert_eq!(house.heard(subscriber), [r#"["msg","a/b",true]"#]);
    }
}

#[test]
fn a_publisher_can_leave_itself_out() {
    let mut house = House::new(1);
    let json = house.json(0, 0);
    house.says(json, r#"["sub","t"]"#);
    let quiet = house.raw(0, 1, "t", &[("echo", "0")]);
    let loud = house.raw(0, 2, "t", &[]);
    house.says(json, r#"["pub","t",1,{"echo":false}]"#);
    house.says(quiet, "2");
    house.says(loud, "3");
    assert_eq!(house.heard(json), [r#"["msg","t","2"]"#, r#"["msg","t","3"]"#]);
    assert_eq!(house.heard(quiet), ["1", "3"]);
    assert_eq!(house.heard(loud), ["1", "2", "3"]);
}

#[test]
fn what_was_unsubscribed_is_not_delivered_and_cannot_be_unsubscribed_again() {
    let mut house = House::new(2);
    let subscriber = house.json(1, 0);
    let publisher = house.json(0, 0);
    house.says(subscriber, r#"["sub","t"]"#);
    house.says(subscriber, r#"["unsub","t",{"ref":7}]"#);
    house.says(publisher, r#"["pub","t",1]"#);
    assert_eq!(house.heard(subscriber), [r#"["ok",7,{}]"#]);
    house.says(subscriber, r#"["unsub","t",{"ref":8}]"#);
    let answer = house.heard(subscriber);
    assert!(answer[0].starts_with(r#"["err",8,"not_found","#), "{answer:?}");
    assert_eq!(house.brokers[1].shared.filters(), 0);
}

#[test]
fn subscribing_twice_is_subscribing_once() {
    let mut house = House::new(1);
    let client = house.json(0, 0);
    house.says(client, r#"["sub","t"]"#);
    house.says(client, r#"["sub","t",{"ref":1}]"#);
    house.says(client, r#"["pub","t",1]"#);
    assert_eq!(house.heard(client), [r#"["ok",1,{}]"#, r#"["msg","t",1]"#]);
    house.says(client, r#"["unsub","t"]"#);
    house.says(client, r#"["pub","t",1]"#);
    assert!(house.heard(client).is_empty());
}

#[test]
fn every_bad_command_is_answered_with_its_code_and_the_session_goes_on() {
    let table = [
        ("nonsense", "null", "bad_message"),
        (r#"{"sub":"t"}"#, "null", "bad_message"),
        (r#"["fly","t",{"ref":1}]"#, "1", "unknown_verb"),
        (r#"["sub",{"ref":1}]"#, "null", "bad_message"),
        (r#"["sub","a/#/b",{"ref":1}]"#, "1", "bad_topic"),
        (r#"["sub","",{"ref":1}]"#, "1", "bad_topic"),
        (r#"["pub","a/+",1,{"ref":1}]"#, "1", "bad_topic"),
        (r#"["pub","$SYS/x",1,{"ref":1}]"#, "1", "forbidden"),
        (r#"["pub","$share/g/x",1,{"ref":1}]"#, "1", "forbidden"),
        (r#"["sub","$share/g",{"ref":1}]"#, "1", "bad_topic"),
        (r#"["sub","t",{"ref":1,"since":"all"}]"#, "1", "bad_message"),
        (r#"["sub","$share/g/t",{"ref":1,"slow":"latest"}]"#, "1", "bad_message"),
        (r#"["pub","t",1,{"ref":1,"retain":true}]"#, "1", "bad_message"),
        (r#"["auth","token",{"ref":1}]"#, "1", "unauthorized"),
        (r#"["unsub","t",{"ref":1}]"#, "1", "not_found"),
    ];
    let mut house = House::new(1);
    let client = house.json(0, 0);
    for (said, reference, code) in table {
        house.says(client, said);
        let answer = house.heard(client);
        let expected = format!(r#"["err",{reference},"{code}","#);
        assert!(
            answer.len() == 1 && answer[0].starts_with(&expected),
            "{said}: {answer:?}"
        );
    }
    house.brokers[0].handle_binary(client.1, b"[\"ping\"]", &mut house.outs[0]);
    assert!(house.heard(client)[0].starts_with(r#"["err",null,"bad_message","#));
    assert_eq!(house.brokers[0].stats().refused, table.len() as u64 + 1);
    house.says(client, r#"["ping"]"#);
    assert_eq!(house.heard(client), [r#"["pong"]"#]);
}

#[test]
fn a_delivery_says_what_to_do_should_its_subscriber_be_slow() {
    let mut house = House::new(2);
    let publisher = house.json(0, 0);
    let subscriber = house.json(1, 0);
    let mut slow_of = |command: &str, publish: &str| {
        house.says(subscriber, command);
        house.says(publisher, publish);
        house.heard(subscriber);
        house.outs[1].slow[&subscriber.1]
    };
    assert_eq!(slow_of(r#"["sub","t"]"#, r#"["pub","t",1]"#), Slow::Close);
    let Slow::DropOld { list } = slow_of(r#"["sub","t",{"slow":"drop-old"}]"#, r#"["pub","t",1]"#) else {
        panic!("the policy is changed by subscribing again");
    };
    assert_eq!(
        slow_of(r#"["sub","t",{"slow":"drop-new"}]"#, r#"["pub","t",1]"#),
        Slow::DropNew { list }
    );
    let latest = |publish| slow_of(r#"["sub","t",{"slow":"latest"}]"#, publish);
    let keys = [
        r#"["pub","t",1]"#,
        r#"["pub","t",2]"#,
        r#"["pub","t",3,{"key":""}]"#,
        r#"["pub","t",4,{"key":"a"}]"#,
        r#"["pub","t",5,{"key":"a"}]"#,
        r#"["pub","t",6,{"key":"b"}]"#,
    ]
    .map(latest);
    assert!(keys[0] == keys[1] && keys[3] == keys[4]);
    let distinct: BTreeSet<_> = keys.iter().map(|slow| format!("{slow:?}")).collect();
    assert_eq!(distinct.len(), 4);

    // What was missed is told with the filter, as long as it is subscribed to.
    house.brokers[1].say_lag(subscriber.1, list, 7, &mut house.outs[1]);
    assert_eq!(house.heard(subscriber), [r#"["lag","t",7]"#]);
    house.says(subscriber, r#"["unsub","t"]"#);
    house.brokers[1].say_lag(subscriber.1, list, 7, &mut house.outs[1]);
    assert!(house.heard(subscriber).is_empty());
}

#[test]
fn a_raw_address_says_what_to_do_when_it_is_slow() {
    let mut house = House::new(1);
    let raw = house.raw(0, 0, "t", &[("slow", "latest")]);
    house.says(raw, "x");
    house.settle();
    assert!(matches!(house.outs[0].slow[&raw.1], Slow::Latest { .. }));
}

/// Members of `$share/g/t` on both workers, and a publisher.
fn members(house: &mut House) -> ([(usize, SessionId); 4], (usize, SessionId)) {
    let members = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(worker, id)| house.json(worker, id));
    for member in members {
        house.says(member, r#"["sub","$share/g/t",{"ref":1}]"#);
        assert_eq!(house.heard(member), [r#"["ok",1,{}]"#]);
    }
    (members, house.json(0, 9))
}

#[test]
fn a_group_gets_each_message_once_and_its_members_take_turns() {
    let mut house = House::new(2);
    let (members, publisher) = members(&mut house);
    let raw = house.raw(1, 5, "$share/other/#", &[]);
    for _ in 0..40 {
        house.says(publisher, r#"["pub","t",1]"#);
    }
    for member in members {
        assert_eq!(house.heard(member).len(), 10);
    }
    assert_eq!(house.heard(raw).len(), 40, "another group gets them too");
}

#[test]
fn a_member_of_a_group_that_subscribes_besides_gets_a_message_once() {
    let mut house = House::new(2);
    let publisher = house.json(0, 9);
    let member = house.json(1, 0);
    for filter in ["$share/g/t", "$share/h/+", "t", "#"] {
        house.brokers[1].limits.subscriptions = 4;
        house.says(member, &format!(r#"["sub","{filter}"]"#));
    }
    house.says(publisher, r#"["pub","t",1]"#);
    assert_eq!(house.heard(member), [r#"["msg","t",1]"#]);
}

#[test]
fn a_group_gets_what_one_of_it_publishes_also_without_echo() {
    let mut house = House::new(1);
    let only = house.json(0, 0);
    house.says(only, r#"["sub","$share/g/t"]"#);
    house.says(only, r#"["pub","t",1,{"echo":false}]"#);
    assert_eq!(house.heard(only), [r#"["msg","t",1]"#]);
}

#[test]
fn who_leaves_a_group_gets_no_more_and_the_last_one_ends_it() {
    let mut house = House::new(2);
    let (members, publisher) = members(&mut house);
    house.says(members[0], r#"["unsub","$share/g/t",{"ref":2}]"#);
    assert_eq!(house.heard(members[0]), [r#"["ok",2,{}]"#]);
    house.says(members[0], r#"["unsub","$share/g/t",{"ref":3}]"#);
    assert!(house.heard(members[0])[0].starts_with(r#"["err",3,"not_found""#));
    house.closes(members[3]);
    for _ in 0..10 {
        house.says(publisher, r#"["pub","t",1]"#);
    }
    let heard = members.map(|member| house.heard(member).len());
    assert_eq!(heard, [0, 5, 5, 0]);
    for (worker, id) in [members[1], members[2]] {
        house.closes((worker, id));
    }
    house.says(publisher, r#"["pub","t",1]"#);
    assert_eq!(house.brokers[0].shared.filters(), 0);
    assert!(house.brokers.iter().all(|broker| broker.stats().subscriptions == 0));
}

#[test]
fn a_message_for_a_member_that_has_left_meanwhile_goes_to_another_one() {
    let mut house = House::new(3);
    let publisher = house.json(0, 9);
    for survivor in [(1, 1), (2, 0)] {
        let picked = house.json(1, 0);
        house.says(picked, r#"["sub","$share/g/t"]"#);
        // On its way to the member that is alone in its group ...
        house.brokers[0].handle_text(publisher.1, r#"["pub","t",1]"#, &mut house.outs[0]);
        let survivor = house.json(survivor.0, survivor.1);
        house.brokers[survivor.0].handle_text(survivor.1, r#"["sub","$share/g/t"]"#, &mut house.outs[survivor.0]);
        house.closes(picked);
        // ... whose number another connection has by now, which also subscribes.
        let stranger = house.json(1, 0);
        house.brokers[1].handle_text(stranger.1, r#"["sub","other"]"#, &mut house.outs[1]);
        house.carry();
        house.carry();
        assert_eq!(house.heard(survivor), [r#"["msg","t",1]"#]);
        assert!(house.heard(stranger).is_empty());
        house.closes(stranger);
        house.closes(survivor);
    }
    assert_eq!(house.brokers[1].stats().undelivered, 0);
    let picked = house.json(1, 0);
    house.says(picked, r#"["sub","$share/g/t"]"#);
    house.brokers[0].handle_text(publisher.1, r#"["pub","t",1]"#, &mut house.outs[0]);
    house.closes(picked);
    house.carry();
    assert_eq!(house.brokers[1].stats().undelivered, 1, "nobody is left");
}

#[test]
fn subscriptions_of_a_connection_are_limited() {
    let mut house = House::new(1);
    let client = house.json(0, 0);
    for i in 0..3 {
        house.says(client, &format!(r#"["sub","t/{i}"]"#));
    }
    house.says(client, r#"["sub","t/3",{"ref":1}]"#);
    assert!(house.heard(client)[0].starts_with(r#"["err",1,"forbidden","this connection has 3 subscriptions"#));
    house.says(client, r#"["unsub","t/0"]"#);
    house.says(client, r#"["sub","t/3",{"ref":2}]"#);
    assert_eq!(house.heard(client), [r#"["ok",2,{}]"#]);
}

#[test]
fn a_raw_connection_that_may_not_publish_is_closed_when_it_does() {
    let mut house = House::new(1);
    let table = [
        ("t", &[("mode", "sub")][..], "mode=sub"),
        ("t/+", &[], "wildcards"),
        ("$SYS/load", &[], "$SYS"),
        ("$share/g/t", &[], "$share"),
    ];
    for (id, (topic, query, word)) in table.into_iter().enumerate() {
        let client = house.raw(0, id as u32, topic, query);
        house.says(client, "x");
        let (code, reason) = house.outs[0].closed.remove(&client.1).expect("it is closed");
        assert!(code == 4102 && reason.contains(word), "{code} {reason}");
    }
}

#[test]
fn a_raw_connection_of_kind_json_takes_nothing_else() {
    let mut house = House::new(1);
    let client = house.raw(0, 0, "t", &[("kind", "json")]);
    house.says(client, "[1, 2]");
    assert_eq!(house.heard(client), ["[1, 2]"]);
    house.says(client, "[1, 2");
    assert_eq!(house.outs[0].closed[&client.1].0, 4102);
}

#[test]
fn an_address_is_refused_with_the_reason() {
    type Query = &'static [(&'static str, &'static str)];
    let table: [(&str, Query, &str); 8] = [
        ("a", &[("slow", "never")], "slow=drop-old"),
        ("", &[], "topic"),
        ("a/#/b", &[], "#"),
        ("a/+", &[("mode", "pub")], "+"),
        ("a", &[("mode", "up")], "mode=sub"),
        ("a", &[("echo", "no")], "echo=0"),
        ("a", &[("kind", "xml")], "kind=json"),
        ("a", &[("since", "all")], "not available"),
    ];
    for (topic, query, word) in table {
        let error = Target::new(topic, query.iter().copied(), &limits().topics)
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{topic:?} {query:?}: {error}");
    }
    Target::new("a", [("token", "application's own")], &limits().topics).unwrap();
}

#[test]
fn a_closed_session_leaves_nothing_behind_and_its_number_is_used_again() {
    let mut house = House::new(2);
    for round in 0..3 {
        let client = house.json(0, 5);
        for filter in ["a", "b/#"] {
            house.says(client, &format!(r#"["sub","{filter}"]"#));
        }
        let other = house.json(1, round);
        house.says(other, r#"["pub","a",1]"#);
        assert_eq!(house.heard(client).len(), 1);
        house.closes(client);
        house.says(other, r#"["pub","a",1]"#);
        assert!(house.heard(client).is_empty());
        assert_eq!(house.brokers[0].stats().subscriptions, 0);
        assert_eq!(house.brokers[0].shared.filters(), 0);
    }
}

#[test]
fn bye_is_said_to_those_who_know_the_word() {
    let mut house = House::new(1);
    let json = house.json(0, 0);
    let raw = house.raw(0, 1, "t", &[]);
    for (_, id) in [json, raw] {
        house.brokers[0].say_bye(id, 1001, "going away", 1500, &mut house.outs[0]);
    }
    assert_eq!(house.heard(json), [r#"["bye",1001,"going away",1500]"#]);
    assert!(house.heard(raw).is_empty());
}

const FILTERS: [&str; 6] = ["a", "a/b", "a/+", "a/#", "#", "+/b"];
const TOPICS: [&str; 4] = ["a", "a/b", "c/b", "$x"];

proptest! {
    /// Any subscribing, unsubscribing, closing and publishing, against a set of pairs.
    #[test]
    fn deliveries_are_those_a_plain_set_of_subscriptions_gives(
        steps in prop::collection::vec((0..5u8, 0..2usize, 0..4u32, 0..FILTERS.len(), 0..TOPICS.len()), 1..120)
    ) {
        let mut house = House::new(2);
        house.brokers.iter_mut().for_each(|broker| broker.limits.subscriptions = 100);
        for worker in 0..2 {
            for id in 0..4 {
                house.json(worker, id);
            }
        }
        let mut subscribed: BTreeSet<(usize, u32, &str)> = BTreeSet::new();
        for (step, worker, id, filter, topic) in steps {
            let client = (worker, SessionId(id));
            let filter = FILTERS[filter];
            match step {
                0 | 1 => {
                    house.says(client, &format!(r#"["sub","{filter}"]"#));
                    subscribed.insert((worker, id, filter));
                }
                2 => {
                    house.says(client, &format!(r#"["unsub","{filter}"]"#));
                    let there = subscribed.remove(&(worker, id, filter));
                    prop_assert_eq!(house.heard(client).is_empty(), there);
                }
                3 => {
                    house.closes((worker, client.1));
                    subscribed.retain(|(w, i, _)| (*w, *i) != (worker, id));
                    house.json(worker, id);
                }
                _ => {
                    let topic = TOPICS[topic];
                    house.says(client, &format!(r#"["pub","{topic}",0]"#));
                    let parsed = tidecast_router::Topic::parse(topic, &limits().topics).unwrap();
                    let expected: BTreeSet<(usize, u32)> = subscribed
                        .iter()
                        .filter(|(_, _, filter)| Filter::parse(filter, &limits().topics).unwrap().matches(parsed))
                        .map(|(worker, id, _)| (*worker, *id))
                        .collect();
                    for worker in 0..2 {
                        for id in 0..4 {
                            let heard = house.heard((worker, SessionId(id)));
                            prop_assert_eq!(heard.len(), usize::from(expected.contains(&(worker, id))));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn whoever_says_too_much_is_told_for_each_command_and_then_closed() {
    use Allowance::{Beyond, Spent, Within};
    let mut house = House::new(1);
    let (json, packets) = (house.json(0, 0), house.packets(0, 1));
    house.outs[0].allowances.extend([Within, Beyond, Beyond, Beyond, Spent]);
    house.says(json, r#"["ping"]"#);
    house.says(json, r#"["sub","t",{"ref":"a"}]"#);
    house.says(json, "no command at all");
    house.sends(json, b"nor this");
    let heard = house.heard(json);
    assert_eq!(heard.len(), 4, "{heard:?}");
    assert!(heard[1].starts_with(r#"["err","a","rate_limited","#), "{heard:?}");
    assert!(
        heard[2..]
            .iter()
            .all(|said| said.starts_with(r#"["err",null,"rate_limited","#)),
        "{heard:?}"
    );
    house.says(json, r#"["pub","t",1]"#);
    assert_eq!(house.outs[0].closed.remove(&json.1).map(|(code, _)| code), Some(4002));
    assert_eq!(house.heard(json), [] as [&str; 0]);
    // Each packet of a message is a command, and nothing is done about those behind the last straw.
    house.outs[0].allowances.extend([Within, Beyond, Spent]);
    house.sends(packets, &b"\x0a\x00".repeat(10));
    let heard = house.heard(packets);
    assert!(
        heard[0].starts_with("0b0006") && !heard[0][2..].contains("0b00"),
        "{heard:?}"
    );
    assert_eq!(house.outs[0].closed.get(&packets.1).map(|(code, _)| *code), Some(4002));
    assert!(house.outs[0].allowances.is_empty());
    // Raw, there are no words but the reason.
    let raw = house.raw(0, 2, "t", &[]);
    house.outs[0].allowances.push_back(Beyond);
    house.says(raw, "x");
    assert_eq!(house.outs[0].closed.get(&raw.1).map(|(code, _)| *code), Some(4002));
    assert_eq!(house.brokers[0].stats().published, 0);
}

#[test]
fn there_are_only_so_many_subscriptions_in_all_and_who_leaves_makes_room() {
    let mut house = House::new(2);
    house
        .brokers
        .iter_mut()
        .for_each(|broker| broker.limits.all_subscriptions = 12);
    let clients: Vec<_> = (0..4).map(|id| house.json(usize::from(id % 2 == 1), id)).collect();
    for client in &clients {
        for filter in ["a", "+", "$share/g/a"] {
            house.says(*client, &format!(r#"["sub","{filter}",{{"ref":1}}]"#));
        }
        assert_eq!(house.heard(*client).len(), 3);
    }
    let one_more = house.json(0, 9);
    house.says(one_more, r#"["sub","a",{"ref":2}]"#);
    assert!(house.heard(one_more)[0].starts_with(r#"["err",2,"overloaded","#));
    let raw = house.raw(1, 10, "a", &[]);
    assert_eq!(house.outs[1].closed.get(&raw.1).map(|(code, _)| *code), Some(4003));
    // What one has already takes no more room.
    house.says(clients[0], r#"["sub","a",{"ref":3}]"#);
    assert_eq!(house.heard(clients[0]), [r#"["ok",3,{}]"#]);
    house.says(clients[0], r#"["unsub","$share/g/a"]"#);
    house.says(one_more, r#"["sub","a",{"ref":4}]"#);
    assert_eq!(house.heard(one_more), [r#"["ok",4,{}]"#]);
    house.closes(clients[1]);
    for filter in ["b", "c"] {
        house.says(one_more, &format!(r#"["sub","{filter}",{{"ref":5}}]"#));
        assert_eq!(house.heard(one_more), [r#"["ok",5,{}]"#]);
    }
}

#[test]
fn subscriptions_take_only_so_much_memory_and_what_is_given_back_is_taken_again() {
    let mut house = House::new(1);
    let (first, second) = (house.json(0, 0), house.json(0, 1));
    house.says(first, r#"["sub","a/+"]"#);
    let wild = house.brokers[0].memory();
    house.says(second, r#"["sub","a/+"]"#);
    let member = house.brokers[0].memory() - wild;
    assert!(0 < member && member < wild, "{member} beside {wild}");
    house.says(first, r#"["sub","$share/g/a"]"#);
    let all = house.brokers[0].memory();
    assert!(all > wild + member);

    house.brokers[0].set_most_memory(all);
    for filter in ["b", "+", "$share/h/a"] {
        house.says(second, &format!(r#"["sub","{filter}",{{"ref":1}}]"#));
        let heard = house.heard(second);
        assert!(
            heard[0].starts_with(r#"["err",1,"overloaded","the broker has no memory"#),
            "{heard:?}"
        );
    }
    let raw = house.raw(0, 2, "b", &[]);
    assert_eq!(house.outs[0].closed.get(&raw.1).map(|(code, _)| *code), Some(4003));
    house.says(first, r#"["unsub","a/+"]"#);
    house.says(first, r#"["sub","a/+",{"ref":2}]"#);
    assert_eq!(house.heard(first), [r#"["ok",2,{}]"#], "a place in a list is small");
    house.closes(first);
    house.says(second, r#"["sub","$share/h/a",{"ref":3}]"#);
    assert_eq!(house.heard(second), [r#"["ok",3,{}]"#]);
    house.closes(second);
    assert_eq!(house.brokers[0].memory(), 0);
}
