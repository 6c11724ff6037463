use tidecast_auth::{Grant, Patterns};
use tidecast_router::{Filter, Limits as TopicLimits};
use tidecast_wire::{Kind, SlowPolicy};

use super::super::tests::{House, limits};
use super::*;
use crate::message::Message;
use crate::permit::{Progress, Withheld};
use crate::rules::{Access, Rule, Rules};
use crate::slow::Slow;
use crate::target::Target;

pub(in crate::broker) fn filter(text: &str) -> Filter {
    Filter::parse(text, &TopicLimits::default()).expect(text)
}

fn patterns(texts: &[&str]) -> Patterns {
    texts.iter().map(|text| filter(text)).collect()
}

pub(in crate::broker) fn grant(publish: &[&str], subscribe: &[&str]) -> Grant {
    Grant {
        identity: Some("alice".into()),
        publish: patterns(publish),
        subscribe: patterns(subscribe),
        ..Grant::nothing()
    }
}

/// The broker of the first worker gets these rules, and has looked at all its sessions.
fn set_rules(house: &mut House, rules: Vec<Rule>) {
    let limits = super::super::Limits {
        rules: Arc::new(Rules::new(rules)),
        ..limits()
    };
    let (broker, out) = (&mut house.brokers[0], &mut house.outs[0]);
    broker.set_limits(limits, out);
    broker.review(usize::MAX, out, |_, _, grant| Ok(Arc::clone(grant)));
    assert!(broker.is_reviewed());
}

#[test]
fn a_client_may_do_what_its_grant_says_and_is_told_what_not() {
    let mut house = House::new(1);
    let alice = house.json_for(0, 0, grant(&["up/+"], &["down/#"]));
    let all = house.json_for(0, 1, Grant::everything());
    house.says(all, r##"["sub","#"]"##);
    house.says(alice, r##"["sub","down/#",{"ref":1}]"##);
    house.says(alice, r#"["pub","up/1",1,{"ref":2}]"#);
    assert_eq!(house.heard(alice), [r#"["ok",1,{}]"#, r#"["ok",2,{}]"#]);
    for (command, text) in [
        (
            r##"["sub","#",{"ref":3}]"##,
            r##"\"alice\" may not subscribe to \"#\""##,
        ),
        (
            r#"["sub","up/1",{"ref":3}]"#,
            r#"\"alice\" may not subscribe to \"up/1\""#,
        ),
        (
            r##"["sub","$share/g/#",{"ref":3}]"##,
            r##"\"alice\" may not subscribe to \"$share/g/#\""##,
        ),
        (
            r#"["pub","down/1",1,{"ref":3}]"#,
            r#"\"alice\" may not publish to \"down/1\""#,
        ),
    ] {
        house.says(alice, command);
        assert_eq!(house.heard(alice), [format!(r#"["err",3,"forbidden","{text}"]"#)]);
    }
    assert_eq!(house.heard(all), [r#"["msg","up/1",1]"#]);
}

#[test]
fn without_credentials_nothing_is_done_until_they_are_sent() {
    let mut house = House::new(1);
    let newcomer = house.json_for(0, 0, Grant::nothing());
    house.says(newcomer, r#"["sub","a",{"ref":1}]"#);
    assert!(house.heard(newcomer)[0].starts_with(r#"["err",1,"unauthorized","credentials are needed to subscribe"#));
    house.says(newcomer, r#"["auth","guess",{"ref":2}]"#);
    assert_eq!(house.heard(newcomer), [r#"["err",2,"unauthorized","who are you?"]"#]);
    house.outs[0]
        .grants
        .insert("secret".to_owned(), Arc::new(Grant::everything()));
    house.says(newcomer, r#"["auth","secret",{"ref":3}]"#);
    house.says(newcomer, r#"["sub","a",{"ref":4}]"#);
    assert_eq!(house.heard(newcomer), [r#"["ok",3,{}]"#, r#"["ok",4,{}]"#]);
}

#[test]
fn other_credentials_end_the_subscriptions_that_they_do_not_permit() {
    let mut house = House::new(1);
    let client = house.json_for(0, 0, Grant::everything());
    for topic in ["a", "b", "$share/g/b"] {
        house.says(client, &format!(r#"["sub","{topic}"]"#));
    }
    house.outs[0]
        .grants
        .insert("less".to_owned(), Arc::new(grant(&["#"], &["a"])));
    house.says(client, r#"["auth","less",{"ref":1}]"#);
    let ended = |filter: &str| {
        format!(
            r#"["err",null,"forbidden","the subscription to \"{filter}\" has ended: it is not permitted any more"]"#
        )
    };
    assert_eq!(
        house.heard(client),
        [ended("b"), ended("$share/g/b"), r#"["ok",1,{}]"#.to_owned()]
    );
    for topic in ["a", "b"] {
        house.says(client, &format!(r#"["pub","{topic}",1]"#));
    }
    assert_eq!(house.heard(client), [r#"["msg","a",1]"#]);
    assert_eq!(house.brokers[0].stats().subscriptions, 1);
}

#[test]
fn a_raw_connection_that_may_not_publish_is_closed_when_it_does() {
    let mut house = House::new(1);
    let reader = house.raw_for(0, 0, ("a", &[]), grant(&[], &["a"]));
    house.says(reader, "x");
    assert_eq!(house.outs[0].closed[&reader.1].0, close::FORBIDDEN);
    assert_eq!(house.heard(reader), [] as [&str; 0]);
}

#[test]
fn rules_come_before_grants_and_hold_from_the_next_command_on() {
    let mut house = House::new(1);
    let nobody = house.json_for(0, 0, Grant::nothing());
    let all = house.json_for(0, 1, Grant::everything());
    house.says(all, r##"["sub","#",{"ref":1}]"##);
    set_rules(
        &mut house,
        vec![
            Rule {
                publish: Access::Nobody,
                subscribe: Access::Nobody,
                ..Rule::new(filter("internal/#"))
            },
            Rule {
                publish: Access::Anyone,
                subscribe: Access::Anyone,
                max_payload: Some(3),
                ..Rule::new(filter("public/#"))
            },
        ],
    );
    let heard = house.heard(all);
    assert!(
        heard[1].contains(r##"subscription to \"#\" has ended"##),
        "it reached what is forbidden now: {heard:?}"
    );
    house.says(nobody, r#"["sub","public/1",{"ref":1}]"#);
    house.says(nobody, r#"["pub","public/1",123,{"ref":2}]"#);
    assert_eq!(
        house.heard(nobody),
        [r#"["ok",1,{}]"#, r#"["msg","public/1",123]"#, r#"["ok",2,{}]"#]
    );
    house.says(nobody, r#"["pub","public/1",1234,{"ref":3}]"#);
    assert!(house.heard(nobody)[0].starts_with(r#"["err",3,"too_large","payloads for \"public/1\" may have 3 bytes"#));
    house.says(all, r#"["pub","internal/1",1,{"ref":2}]"#);
    assert!(house.heard(all)[0].starts_with(r#"["err",2,"forbidden""#));
}

#[test]
fn a_subscription_has_the_policy_and_the_limits_of_its_rule_unless_it_says_otherwise() {
    let mut house = House::new(1);
    let prices = Rule {
        slow: Some(SlowPolicy::DropOld),
        compress: false,
        ..Rule::new(filter("prices/#"))
    };
    set_rules(&mut house, vec![Rule::new(filter("first")), prices.clone()]);
    let client = house.json_for(0, 0, Grant::everything());
    house.says(client, r#"["sub","prices/+"]"#);
    house.says(client, r#"["pub","prices/1",1]"#);
    house.settle();
    assert!(matches!(house.outs[0].slow[&client.1], Slow::DropOld { .. }));
    assert_eq!(house.outs[0].bounds[&client.1].number, 2);
    assert!(!house.outs[0].compressed);
    // The rule has another number now, and the subscription its limits.
    set_rules(&mut house, vec![prices]);
    house.says(client, r#"["sub","other",{"slow":"drop-new"}]"#);
    house.says(client, r#"["pub","prices/1",1]"#);
    house.settle();
    assert_eq!(house.outs[0].bounds[&client.1].number, 1);
    house.says(client, r#"["pub","other",1]"#);
    house.settle();
    assert!(matches!(house.outs[0].slow[&client.1], Slow::DropNew { .. }));
    assert_eq!(house.outs[0].bounds[&client.1].number, 0);
    assert!(house.outs[0].compressed);
}

#[test]
fn a_command_that_others_decide_about_waits_and_is_done_once_they_have() {
    let mut house = House::new(1);
    let client = house.json_for(0, 0, Grant::everything());
    let withhold = |house: &mut House, what: &str, why| house.outs[0].withheld.insert(what.to_owned(), why);
    for what in ["subscribe a", "publish a"] {
        withhold(&mut house, what, Withheld::Unknown);
    }
    let commands = [r#"["sub","a",{"ref":1}]"#, r#"["pub","a",1,{"ref":2}]"#];
    for command in commands {
        assert_eq!(house.says(client, command), Progress::WaitsAt(0));
    }
    assert_eq!(
        house.heard(client),
        [] as [&str; 0],
        "nothing was done, and nothing said"
    );
    assert_eq!(house.brokers[0].stats().subscriptions, 0);
    house.outs[0].withheld.clear();
    for command in commands {
        assert_eq!(house.says(client, command), Progress::Done);
    }
    assert_eq!(
        house.heard(client),
        [r#"["ok",1,{}]"#, r#"["msg","a",1]"#, r#"["ok",2,{}]"#]
    );
    for what in ["subscribe b", "publish a"] {
        withhold(&mut house, what, Withheld::Refused("not today".into()));
    }
    for command in [r#"["sub","b",{"ref":3}]"#, r#"["pub","a",2,{"ref":3}]"#] {
        assert_eq!(house.says(client, command), Progress::Done);
        assert_eq!(house.heard(client), [r#"["err",3,"forbidden","not today"]"#]);
    }
    // Nobody is asked about what is not permitted anyway.
    withhold(&mut house, "publish a", Withheld::Unknown);
    let limited = house.json_for(0, 1, grant(&[], &[]));
    assert_eq!(house.says(limited, r#"["pub","a",1]"#), Progress::Done);
    assert!(house.heard(limited)[0].contains("forbidden"));
}

#[test]
fn packets_before_one_that_waits_are_done_and_those_behind_it_are_not() {
    let mut house = House::new(1);
    let client = house.packets(0, 0);
    house.outs[0]
        .withheld
        .insert("subscribe u".to_owned(), Withheld::Unknown);
    // SUB t with ref 1, SUB u with ref 2, PING.
    let message = b"\x03\x04\x01\x00\x01t\x03\x04\x02\x00\x01u\x0a\x00";
    let progress = house.sends(client, message);
    assert_eq!(progress, Progress::WaitsAt(6));
    assert_eq!(house.heard(client), ["050401027b7d"]);
    house.outs[0].withheld.clear();
    assert_eq!(house.sends(client, &message[6..]), Progress::Done);
    assert_eq!(house.heard(client), ["050402027b7d0b00"]);
}

#[test]
fn a_payload_that_others_decide_about_waits_or_ends_the_raw_connection() {
    let mut house = House::new(1);
    let client = house.raw_for(0, 0, ("a", &[]), Grant::everything());
    house.outs[0].withheld.insert("publish a".to_owned(), Withheld::Unknown);
    assert_eq!(house.says(client, "x"), Progress::WaitsAt(0));
    assert_eq!(house.sends(client, b"x"), Progress::WaitsAt(0));
    assert_eq!(house.heard(client), [] as [&str; 0]);
    let refused = Withheld::Refused("not today".into());
    house.outs[0].withheld.insert("publish a".to_owned(), refused);
    assert_eq!(house.says(client, "x"), Progress::Done);
    assert_eq!(
        house.outs[0].closed[&client.1],
        (close::FORBIDDEN, "not today".to_owned())
    );
}

#[test]
fn other_credentials_count_once_others_have_decided_about_them() {
    let mut house = House::new(1);
    let newcomer = house.json_for(0, 0, Grant::nothing());
    let everything = Arc::new(Grant::everything());
    house.outs[0].grants.insert("secret".to_owned(), everything);
    let about = "connect secret".to_owned();
    house.outs[0].withheld.insert(about.clone(), Withheld::Unknown);
    let command = r#"["auth","secret",{"ref":1}]"#;
    assert_eq!(house.says(newcomer, command), Progress::WaitsAt(0));
    assert_eq!(
        house.brokers[0].grant(newcomer.1).map(|grant| grant.publish.is_none()),
        Some(true)
    );
    house.outs[0]
        .withheld
        .insert(about, Withheld::Refused("not you".into()));
    assert_eq!(house.says(newcomer, command), Progress::Done);
    assert_eq!(house.heard(newcomer), [r#"["err",1,"unauthorized","not you"]"#]);
    house.outs[0].withheld.clear();
    house.says(newcomer, command);
    assert_eq!(house.heard(newcomer), [r#"["ok",1,{}]"#]);
}

#[test]
fn a_raw_session_is_closed_when_its_subscription_ends_and_only_then() {
    let mut house = House::new(1);
    let shared = house.raw_for(0, 0, ("$share/g/a", &[]), Grant::everything());
    let both = house.raw_for(0, 1, ("a", &[]), Grant::everything());
    let publisher = house.raw_for(0, 2, ("a", &[("mode", "pub")]), Grant::everything());
    set_rules(&mut house, vec![Rule::new(filter("other"))]);
    assert!(house.outs[0].closed.is_empty(), "the rule is about something else");
    set_rules(
        &mut house,
        vec![Rule {
            subscribe: Access::Nobody,
            ..Rule::new(filter("a"))
        }],
    );
    for session in [shared, both] {
        assert_eq!(house.outs[0].closed[&session.1].0, close::FORBIDDEN);
    }
    assert!(!house.outs[0].closed.contains_key(&publisher.1));
}

#[test]
fn a_request_publishes_what_its_own_credentials_permit_and_its_body_has_to_be_what_it_says() {
    let mut house = House::new(1);
    let listener = house.json_for(0, 0, Grant::everything());
    house.says(listener, r##"["sub","#"]"##);
    let mut request = |topic, kind, payload: &[u8], grant: &Grant| {
        let message = Message {
            topic,
            payload,
            kind,
            key: None,
        };
        let (broker, out) = (&mut house.brokers[0], &mut house.outs[0]);
        let published = broker.publish_for_request(SessionId(9), grant, &message, out);
        published.map_err(|refusal| refusal.code)
    };
    let all = Grant::everything();
    for (topic, kind, payload, grant, expected) in [
        ("a", Kind::Json, &b"[1]"[..], &all, Ok(Progress::Done)),
        ("a", Kind::Json, b"[1", &all, Err(Code::BadMessage)),
        ("a", Kind::Json, b"", &all, Err(Code::BadMessage)),
        ("a", Kind::Text, b"\xff", &all, Err(Code::BadMessage)),
        ("a", Kind::Binary, b"\xff", &all, Ok(Progress::Done)),
        ("a/#", Kind::Binary, b"", &all, Err(Code::BadTopic)),
        ("$SYS/a", Kind::Binary, b"", &all, Err(Code::Forbidden)),
        ("a", Kind::Binary, b"", &Grant::nothing(), Err(Code::Unauthorized)),
    ] {
        assert_eq!(request(topic, kind, payload, grant), expected, "{topic} {payload:?}");
    }
    assert_eq!(house.brokers[0].stats().refused, 6);
    house.outs[0].withheld.insert("publish a".to_owned(), Withheld::Unknown);
    let message = Message {
        topic: "a",
        payload: b"later",
        kind: Kind::Text,
        key: None,
    };
    let (broker, out) = (&mut house.brokers[0], &mut house.outs[0]);
    let waits = broker.publish_for_request(SessionId(9), &all, &message, out);
    assert_eq!(waits, Ok(Progress::WaitsAt(0)));
    house.outs[0].withheld.clear();
    let (broker, out) = (&mut house.brokers[0], &mut house.outs[0]);
    let done = broker.publish_for_request(SessionId(9), &all, &message, out);
    assert_eq!(done, Ok(Progress::Done));
    assert_eq!(
        house.heard(listener),
        [
            r#"["msg","a",[1]]"#,
            r#"["msg","a","/w==",null,"base64"]"#,
            r#"["msg","a","later"]"#
        ]
    );
}

#[test]
fn a_request_is_about_publishing_or_about_receiving() {
    let limits = TopicLimits::default();
    let parameters = [("mode", "pub"), ("kind", "wrong"), ("slow", "latest"), ("token", "x")];
    let stream = Target::subscription("a/#", parameters, &limits).unwrap();
    assert!(stream.receives());
    assert_eq!(stream.slow, Some(SlowPolicy::Latest));
    assert!(Target::subscription("a", [("slow", "never")], &limits).is_err());
    assert!(Target::subscription("a", [("since", "all")], &limits).is_err());
    let message = Target::publication("a/b", &limits).unwrap();
    assert!(!message.receives());
    assert!(Target::publication("a/#", &limits).is_err());
    let rule = |pattern, max_payload| Rule {
        max_payload,
        ..Rule::new(Filter::parse(pattern, &limits).unwrap())
    };
    let rules = Rules::new(vec![rule("a/+", Some(7)), rule("#", None)]);
    assert_eq!(message.max_payload(&rules), Some(7));
    let other = Target::publication("c", &limits).unwrap();
    assert_eq!(other.max_payload(&rules), None);
}
