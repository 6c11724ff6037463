//! What holds for some topics and not for others.

use tidecast_auth::Grant;
use tidecast_router::{Filter, Limits, Topic};
use tidecast_wire::SlowPolicy;

/// The most rules: the limits of each have a number, which fits into a byte beside that of what holds otherwise.
pub const MOST_RULES: usize = 255;

/// Who may publish or subscribe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Whose credentials permit it.
    #[default]
    Granted,
    /// Everybody who may connect.
    Anyone,
    /// Nobody.
    Nobody,
}

impl Access {
    /// Whether somebody may, whose credentials permit it if `granted` says so.
    fn permits(self, granted: impl FnOnce() -> bool) -> bool {
        match self {
            Access::Granted => granted(),
            Access::Anyone => true,
            Access::Nobody => false,
        }
    }
}

/// What holds for the topics that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The topics.
    pub pattern: Filter,
    /// Who may publish.
    pub publish: Access,
    /// Who may subscribe.
    pub subscribe: Access,
    /// The largest payload, in bytes; what holds otherwise, if there is none.
    pub max_payload: Option<usize>,
    /// What is done with messages for a subscription that is behind and did not say.
    pub slow: Option<SlowPolicy>,
    /// Bytes that may wait for such a subscription.
    pub max_pending: Option<usize>,
    /// Messages that may wait for it, where messages are dropped.
    pub max_pending_messages: Option<usize>,
    /// Whether messages are compressed for those who asked for that.
    pub compress: bool,
}

impl Rule {
    /// One that says nothing about topics of `pattern`.
    #[must_use]
    pub fn new(pattern: Filter) -> Rule {
        Rule {
            pattern,
            publish: Access::default(),
            subscribe: Access::default(),
            max_payload: None,
            slow: None,
            max_pending: None,
            max_pending_messages: None,
            compress: true,
        }
    }
}

/// Names the limits of what may wait for a subscription: those that hold as a rule, or those of a [`Rule`].
///
/// A subscription is told of other rules when it is its turn, and is measured by those that it knows until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoundsId {
    /// Which rules are meant: 0 or 1, the other one whenever they change.
    pub table: u8,
    /// 0 for what holds as a rule, else one more than the number of a rule.
    pub number: u8,
}

impl BoundsId {
    /// That of rule number `rule` of the same rules.
    pub(crate) fn of_rule(self, rule: Option<u8>) -> BoundsId {
        BoundsId {
            number: rule.map_or(0, |rule| rule + 1),
            ..self
        }
    }

    /// What holds as a rule once there are others.
    pub(crate) fn of_others(self) -> BoundsId {
        BoundsId {
            table: 1 - self.table,
            number: 0,
        }
    }
}

/// Rules in order: of those whose pattern matches a topic, the first holds, and no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(Box<[Rule]>);

impl Rules {
    /// Rules in their order.
    ///
    /// # Panics
    /// There are more than [`MOST_RULES`].
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Rules {
        assert!(
            rules.len() <= MOST_RULES,
            "{} rules of at most {MOST_RULES}",
            rules.len()
        );
        Rules(rules.into())
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Rule] {
        &self.0
    }

    /// Whether there is anything that clients may do without credentials.
    #[must_use]
    pub fn permit_anyone(&self) -> bool {
        let is_open = |rule: &Rule| [rule.publish, rule.subscribe].contains(&Access::Anyone);
        self.0.iter().any(is_open)
    }

    /// The number of the rule for `topic`.
    pub(crate) fn of_topic(&self, topic: Topic<'_>) -> Option<u8> {
        let number = self.0.iter().position(|rule| rule.pattern.matches(topic))?;
        Some(number as u8)
    }

    /// The number of the rule for a subscription: the first that covers all of it.
    pub(crate) fn of_filter(&self, filter: &Filter) -> Option<u8> {
        let number = self.0.iter().position(|rule| rule.pattern.covers(filter))?;
        Some(number as u8)
    }

    /// Rule number `number`.
    pub(crate) fn get(&self, number: Option<u8>) -> Option<&Rule> {
        number.map(|number| &self.0[usize::from(number)])
    }

    /// Whether `grant` is enough to publish to `topic`, which is valid by `limits` and for which rule number `rule` is.
    pub(crate) fn permit_publish(&self, rule: Option<u8>, topic: &str, limits: &Limits, grant: &Grant) -> bool {
        let granted = || {
            let parsed = || Topic::parse(topic, limits);
            grant.publish.is_all() || parsed().is_ok_and(|topic| grant.publish.permits_topic(topic))
        };
        let access = self.get(rule).map_or(Access::Granted, |rule| rule.publish);
        access.permits(granted)
    }

    /// Whether `grant` is enough to subscribe to `filter`: to every topic that it matches.
    pub(crate) fn permit_subscribe(&self, filter: &Filter, grant: &Grant) -> bool {
        let granted = grant.subscribe.permits_filter(filter);
        for rule in self.0.iter().filter(|rule| rule.pattern.intersects(filter)) {
            // For some topics this rule is the first. An earlier one may have taken them all, but never mind: a
            // subscription that needs such care can be made of two.
            if !rule.subscribe.permits(|| granted) {
                return false;
            }
            if rule.pattern.covers(filter) {
                return true;
            }
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_auth::Patterns;

    fn filter(text: &str) -> Filter {
        Filter::parse(text, &Limits::default()).expect(text)
    }

    fn rules(rules: &[(&str, Access)]) -> Rules {
        let rule = |(pattern, access): &(&str, Access)| Rule {
            publish: *access,
            subscribe: *access,
            ..Rule::new(filter(pattern))
        };
        Rules::new(rules.iter().map(rule).collect())
    }

    fn grant(patterns: &[&str]) -> Grant {
        let patterns: Patterns = patterns.iter().map(|text| filter(text)).collect();
        Grant {
            publish: patterns.clone(),
            subscribe: patterns,
            ..Grant::nothing()
        }
    }

    #[test]
    fn the_first_rule_that_matches_a_topic_holds() {
        let rules = rules(&[
            ("public/secret", Access::Nobody),
            ("public/#", Access::Anyone),
            ("#", Access::Granted),
        ]);
        let may = |topic: &str, grant: &Grant| {
            let topic = Topic::parse(topic, &Limits::default()).unwrap();
            rules.permit_publish(rules.of_topic(topic), topic.as_str(), &Limits::default(), grant)
        };
        assert!(may("public/a", &Grant::nothing()));
        assert!(!may("public/secret", &Grant::everything()));
        assert!(!may("else", &Grant::nothing()));
        assert!(may("else", &grant(&["else"])));
    }

    #[test]
    fn no_wildcard_reaches_a_topic_that_a_rule_forbids() {
        let rules = rules(&[("a/secret/#", Access::Nobody), ("a/#", Access::Anyone)]);
        let all = Grant::everything();
        for forbidden in [
            "#",
            "a/#",
            "a/+",
            "+/secret",
            "a/secret",
            "a/secret/x",
            "a/+/x",
            "$share/g/a/#",
        ] {
            assert!(!rules.permit_subscribe(&filter(forbidden), &all), "{forbidden}");
        }
        for permitted in ["a/b", "a/b/#", "a/b/+", "b/#", "$share/g/a/b"] {
            assert!(rules.permit_subscribe(&filter(permitted), &all), "{permitted}");
        }
    }

    #[test]
    fn what_lies_partly_within_a_rule_has_to_be_granted_as_well() {
        let rules = rules(&[("public/#", Access::Anyone)]);
        let nothing = Grant::nothing();
        for (text, own) in [
            ("public/#", true),
            ("public/a", true),
            ("#", false),
            ("+/a", false),
            ("other", false),
        ] {
            assert_eq!(rules.permit_subscribe(&filter(text), &nothing), own, "{text}");
        }
        assert!(rules.permit_subscribe(&filter("+/a"), &grant(&["+/a"])));
        assert!(!Rules::default().permit_subscribe(&filter("a"), &nothing));
    }

    #[test]
    fn the_settings_of_a_subscription_are_those_of_the_first_rule_that_covers_it() {
        let rules = rules(&[("a/b", Access::Granted), ("a/#", Access::Granted)]);
        assert_eq!(rules.of_filter(&filter("a/b")), Some(0));
        assert_eq!(rules.of_filter(&filter("a/+")), Some(1));
        assert_eq!(rules.of_filter(&filter("#")), None);
    }
}
