use std::collections::BTreeMap;

use tidecast_auth::Grant;
use tidecast_wire::Kind;

use super::super::tests::House;
use super::*;
use crate::message::Message;

/// All filters of a worker, read so many places at a time, and how many subscribe to each.
fn filters(house: &House, step: usize) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let page = house.brokers[0].filters(at, step);
        for (filter, count) in page.filters {
            *found.entry(filter.as_str().to_owned()).or_default() += count;
        }
        from = page.next;
    }
    found
}

#[test]
fn every_filter_is_told_with_its_subscribers_however_few_are_looked_at_at_a_time() {
    let mut house = House::new(1);
    for slot in 0..3 {
        let id = house.json_for(0, slot, Grant::everything());
        house.says(id, r##"["sub","rooms/#"]"##);
        house.says(id, &format!(r#"["sub","own/{slot}"]"#));
        house.says(id, r#"["sub","$share/g/jobs"]"#);
    }
    let first = house.json_for(0, 3, Grant::everything());
    house.says(first, r#"["sub","gone"]"#);
    house.says(first, r#"["unsub","gone"]"#);
    let all = [
        ("$share/g/jobs", 3),
        ("own/0", 1),
        ("own/1", 1),
        ("own/2", 1),
        ("rooms/#", 3),
    ];
    let all: BTreeMap<String, usize> = all.map(|(filter, count)| (filter.to_owned(), count)).into();
    for step in [1, 2, 1000] {
        assert_eq!(filters(&house, step), all, "{step} at a time");
    }
}

#[test]
fn a_session_is_described_and_what_it_subscribes_to() {
    let mut house = House::new(1);
    let grant = Grant {
        identity: Some("alice".into()),
        ..Grant::everything()
    };
    let alice = house.json_for(0, 0, grant);
    house.says(alice, r#"["sub","a",{"slow":"latest"}]"#);
    house.says(alice, r#"["sub","$share/g/b"]"#);
    let broker = &house.brokers[0];
    let id = SessionId(0);
    let summary = broker.summary(id).unwrap();
    assert_eq!((summary.encoding, summary.subscriptions), (Encoding::Json, 2));
    assert_eq!(summary.identity.as_deref(), Some("alice"));
    let subscriptions = broker.subscriptions(id, 10);
    let told: Vec<_> = subscriptions
        .iter()
        .map(|one| (one.filter.as_str(), one.slow))
        .collect();
    assert_eq!(told, [("a", SlowPolicy::Latest), ("$share/g/b", SlowPolicy::Close)]);
    assert_eq!(broker.subscriptions(id, 1).len(), 1);
    assert!(broker.summary(SessionId(7)).is_none() && broker.subscriptions(SessionId(7), 10).is_empty());
}

#[test]
fn an_operator_ends_a_subscription_and_the_client_is_told() {
    let mut house = House::new(1);
    let client = house.json_for(0, 0, Grant::everything());
    house.says(client, r#"["sub","a"]"#);
    let (broker, out) = (&mut house.brokers[0], &mut house.outs[0]);
    broker.end_subscription(SessionId(0), "a", out).unwrap();
    let error = broker.end_subscription(SessionId(0), "a", out).unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    let error = broker.end_subscription(SessionId(9), "a", out).unwrap_err();
    assert_eq!(error.text, "there is no such session");
    assert_eq!(
        house.heard(client),
        [r#"["err",null,"forbidden","the subscription to \"a\" has ended: an operator has ended it"]"#]
    );
    house.says(client, r#"["pub","a",1]"#);
    assert!(house.heard(client).is_empty());
}

#[test]
fn an_operator_publishes_to_everybody_and_the_topics_are_counted() {
    let mut house = House::new(2);
    let here = house.json_for(0, 0, Grant::everything());
    let there = house.json_for(1, 0, Grant::everything());
    for client in [here, there] {
        house.says(client, r#"["sub","news"]"#);
    }
    let message = |topic| Message {
        topic,
        payload: b"1",
        kind: Kind::Json,
        key: None,
    };
    let (broker, out) = (&mut house.brokers[0], &mut house.outs[0]);
    broker.publish_for_operator(&message("news"), out).unwrap();
    let error = broker.publish_for_operator(&message("news/#"), out).unwrap_err();
    assert_eq!(error.code, Code::BadTopic);
    let error = broker.publish_for_operator(&message("$SYS/x"), out).unwrap_err();
    assert_eq!(error.code, Code::Forbidden);
    let counts = broker.take_top_topics();
    assert_eq!(
        counts
            .iter()
            .map(|count| (count.topic.as_str(), count.messages))
            .collect::<Vec<_>>(),
        [("news", 1)]
    );
    house.carry();
    for client in [here, there] {
        assert_eq!(house.heard(client), [r#"["msg","news",1]"#]);
    }
}
