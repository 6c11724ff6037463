//! The router against a list and the definition of matching.
//!
//! Compiled twice: as it is used, and into the crate's unit tests, where buckets hold two elements
//! and names collide.

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
    let level = prop::sample::select(vec!["a", "b", "c", "d", "e", "", "+", "+", "$x"]);
    let levels = prop::collection::vec(level, 1..5);
    (levels, any::<bool>()).prop_filter_map("an empty filter", |(levels, below)| {
        let text = levels.join("/") + if below { "/#" } else { "" };
        let text = if text == "+/#" { "#".to_owned() } else { text };
        Filter::parse(&text, &Limits::default()).ok()
    })
}

fn topic() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "b", "c", "d", "e", "", "$x"]);
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
