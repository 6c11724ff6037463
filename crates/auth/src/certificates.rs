//! What holders of client certificates may do.

use std::sync::Arc;

use tidecast_router::Limits;

use crate::denied::Denied;
use crate::grant::Grant;
use crate::ground::Ground;
use crate::patterns::templates;
use crate::settings::{CertificateSettings, Problem, SettingsError};
use crate::template::{Template, shown};

/// The rules in their order.
#[derive(Debug)]
pub(crate) struct Certificates {
    rules: Vec<Rule>,
    topics: Limits,
}

#[derive(Debug)]
struct Rule {
    /// What a name begins with, and what it ends with if anything may be between them.
    name: (String, Option<String>),
    publish: Vec<Template>,
    subscribe: Vec<Template>,
}

impl Certificates {
    pub(crate) fn new(settings: &[CertificateSettings], topics: Limits) -> Result<Certificates, SettingsError> {
        let rule = |(number, rule): (usize, &CertificateSettings)| {
            let place = format!("certificates[{number}]");
            let error = |problem: Problem| SettingsError::new(format!("{place}.name"), problem);
            let name = match rule.name.split_once('*') {
                None if rule.name.is_empty() => return Err(error(Problem::Empty)),
                None => (rule.name.clone(), None),
                Some((_, end)) if end.contains('*') => return Err(error(Problem::Stars)),
                Some((start, end)) => (start.to_owned(), Some(end.to_owned())),
            };
            Ok(Rule {
                name,
                publish: templates(&format!("{place}.publish"), &rule.publish, &topics)?,
                subscribe: templates(&format!("{place}.subscribe"), &rule.subscribe, &topics)?,
            })
        };
        Ok(Certificates {
            rules: settings.iter().enumerate().map(rule).collect::<Result<_, _>>()?,
            topics,
        })
    }

    /// What the holder of a certificate that was checked may do, `name` being whose it is.
    pub(crate) fn grant(&self, name: &str) -> Result<Arc<Grant>, Denied> {
        let rule = self.rules.iter().find(|rule| rule.fits(name));
        let rule = rule.ok_or_else(|| Denied::Certificate(shown(name)))?;
        let patterns = |what, templates: &[Template]| {
            let expand = |template: &Template| template.expand(|of| (of == "sub").then_some(name), &self.topics);
            let expanded: Result<_, _> = templates.iter().map(expand).collect();
            expanded.map_err(|error| Denied::Patterns { what, error })
        };
        Ok(Arc::new(Grant {
            identity: Some(name.into()),
            publish: patterns("publish", &rule.publish)?,
            subscribe: patterns("subscribe", &rule.subscribe)?,
            expires: None,
            ground: Ground::Certificate,
            amended: false,
        }))
    }
}

impl Rule {
    fn fits(&self, name: &str) -> bool {
        match &self.name {
            (whole, None) => name == whole,
            (start, Some(end)) => name
                .strip_prefix(start.as_str())
                .is_some_and(|rest| rest.ends_with(end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, subscribe: &str) -> CertificateSettings {
        CertificateSettings {
            name: name.to_owned(),
            publish: Vec::new(),
            subscribe: vec![subscribe.to_owned()],
        }
    }

    fn certificates(rules: &[CertificateSettings]) -> Result<Certificates, SettingsError> {
        Certificates::new(rules, Limits::default())
    }

    #[test]
    fn the_first_rule_that_fits_a_name_counts() {
        let rules = [
            rule("admin", "#"),
            rule("dev-*.example.org", "devices/{sub}/#"),
            rule("aba*aba", "twice"),
            rule("*", "others"),
        ];
        let certificates = certificates(&rules).expect("good rules");
        for (name, filter) in [
            ("admin", "#"),
            ("admins", "others"),
            ("dev-7.example.org", "devices/dev-7.example.org/#"),
            ("dev-.example.org", "devices/dev-.example.org/#"),
            ("dev-7.example.com", "others"),
            ("aba", "others"),
            ("abaaba", "twice"),
        ] {
            let grant = certificates.grant(name).expect(name);
            assert_eq!(grant.identity.as_deref(), Some(name));
            let filters = grant.subscribe.filters().expect("some");
            assert_eq!(filters[0].as_str(), filter, "{name}");
            assert!(grant.publish.is_none());
        }
        let wide = certificates.grant("dev-+.example.org").expect_err("a wildcard");
        assert!(matches!(wide, Denied::Patterns { what: "subscribe", .. }), "{wide}");
    }

    #[test]
    fn a_name_without_a_rule_is_denied_by_its_name() {
        let denied = certificates(&[rule("a", "b")]).expect("good rules").grant("mallory");
        assert_eq!(denied, Err(Denied::Certificate("mallory".to_owned())));
    }

    #[test]
    fn a_bad_rule_is_named_by_its_place() {
        for (bad, place) in [
            (rule("", "a"), "certificates[1].name"),
            (rule("*.*", "a"), "certificates[1].name"),
            (rule("b", "a/{sub}+"), "certificates[1].subscribe[0]"),
        ] {
            let error = certificates(&[rule("a", "a"), bad]).expect_err(place);
            assert_eq!(error.place, place, "{error}");
        }
    }
}
