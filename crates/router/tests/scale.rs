//! Large sets, as the router is meant for.

use tidecast_router::{Filter, Limits, Router, Topic};

#[test]
fn a_hundred_thousand_topics_and_as_many_subscribers_of_one_filter_come_and_go() {
    const COUNT: u32 = 100_000;
    let limits = Limits::default();
    let router = Router::new();
    let all = Filter::parse("t/+", &limits).expect("a filter");
    let mut subscriptions = Vec::new();
    for who in 0..COUNT {
        let own = Filter::parse(&format!("t/{who}"), &limits).expect("a filter");
        let id = router.subscribe(&own, who);
        subscriptions.push((own, id, who));
        let id = router.subscribe(&all, COUNT + who);
        subscriptions.push((all.clone(), id, COUNT + who));
    }
    assert_eq!(router.len(), 2 * COUNT as usize);
    let topic = Topic::parse("t/4711", &limits).expect("a topic");
    let mut wanted: Vec<_> = (COUNT..2 * COUNT).collect();
    wanted.insert(0, 4711);
    assert_eq!(matched(&router, topic), wanted);

    // Out of order, so that branches thin out everywhere before they merge.
    let count = subscriptions.len();
    for step in 0..count {
        let (filter, id, who) = &subscriptions[step * 7919 % count];
        assert_eq!(router.unsubscribe(filter, *id), Some(*who));
    }
    assert!(router.is_empty());
    assert_eq!(matched(&router, topic), []);
}

fn matched(router: &Router<u32>, topic: Topic<'_>) -> Vec<u32> {
    let mut found = Vec::new();
    router.for_each_match(topic, |&who| found.push(who));
    found.sort_unstable();
    found
}
