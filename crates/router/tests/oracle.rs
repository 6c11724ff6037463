//! The router against a list and the definition of matching.

use proptest::prelude::*;
use tidecast_router::{Filter, Limits, Router, SubscriptionId, Topic};

#[derive(Debug, Clone)]
enum Operation {
    Subscribe(Filter),
    /// Ends one of the subscriptions there are.
    Unsubscribe(prop::sample::Index),
    /// Ends one that ended before, or asks for one under another's filter.
    UnsubscribeInVain(prop::sample::Index, Filter),
    Match(String),
}

fn filter() -> impl Strategy<Value = Filter> {
    let level = prop::sample::select(vec!["a", "b", "c", "", "+", "$x"]);
    let levels = prop::collection::vec(level, 1..5);
    (levels, any::<bool>()).prop_filter_map("an empty filter", |(levels, below)| {
        let text = levels.join("/") + if below { "/#" } else { "" };
        let text = if text == "+/#" { "#".to_owned() } else { text };
        Filter::parse(&text, &Limits::default()).ok()
    })
}

fn topic() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "b", "c", "", "$x"]);
    prop::collection::vec(level, 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("an empty topic", |text| !text.is_empty())
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => filter().prop_map(Operation::Subscribe),
        3 => any::<prop::sample::Index>().prop_map(Operation::Unsubscribe),
        1 => (any::<prop::sample::Index>(), filter())
            .prop_map(|(index, filter)| Operation::UnsubscribeInVain(index, filter)),
        2 => topic().prop_map(Operation::Match),
    ]
}

fn matched(router: &Router<u32>, topic: Topic<'_>) -> Vec<u32> {
    let mut found = Vec::new();
    router.for_each_match(topic, |&who| found.push(who));
    found.sort_unstable();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_router_finds_what_a_list_finds(
        operations in prop::collection::vec(operation(), 0..200)
    ) {
        let limits = Limits::default();
        let router = Router::new();
        let mut list: Vec<(Filter, SubscriptionId, u32)> = Vec::new();
        let mut ended: Vec<(Filter, SubscriptionId)> = Vec::new();
        for (who, operation) in (0..).zip(operations) {
            let before = router.generation();
            match operation {
                Operation::Subscribe(filter) => {
                    let id = router.subscribe(&filter, who);
                    prop_assert!(list.iter().all(|(_, other, _)| *other != id));
                    prop_assert!(ended.iter().all(|(_, other)| *other != id));
                    list.push((filter, id, who));
                    prop_assert!(router.generation() > before);
                }
                Operation::Unsubscribe(index) => {
                    if list.is_empty() {
                        continue;
                    }
                    let (filter, id, who) = list.swap_remove(index.index(list.len()));
                    prop_assert_eq!(router.unsubscribe(&filter, id), Some(who));
                    prop_assert!(router.generation() > before);
                    ended.push((filter, id));
                }
                Operation::UnsubscribeInVain(index, other) => {
                    if let Some((filter, id, _)) = list.get(index.index(list.len().max(1)))
                        && *filter != other
                    {
                        prop_assert_eq!(router.unsubscribe(&other, *id), None);
                    }
                    if let Some((filter, id)) = ended.get(index.index(ended.len().max(1))) {
                        prop_assert_eq!(router.unsubscribe(filter, *id), None);
                    }
                    prop_assert_eq!(router.generation(), before);
                }
                Operation::Match(topic) => {
                    let topic = Topic::parse(&topic, &limits).expect("a topic");
                    let wanted = list.iter().filter(|(filter, ..)| filter.matches(topic));
                    let mut wanted: Vec<_> = wanted.map(|&(.., who)| who).collect();
                    wanted.sort_unstable();
                    prop_assert_eq!(matched(&router, topic), wanted, "{}", topic);
                }
            }
            prop_assert_eq!(router.len(), list.len());
        }
    }
}

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
