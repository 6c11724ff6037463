//! What somebody else decides, whom the broker asks.

use std::sync::Arc;
use std::time::Duration;

use crate::grant::Grant;
use crate::patterns::Patterns;
use crate::when::UnixSeconds;

/// Something that may be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A client has come, and its credentials, if it has any, are good.
    Connect,
    /// It subscribes, and its credentials permit that.
    Subscribe,
    /// It publishes, and its credentials permit that.
    Publish,
    /// It has gone. That is only told.
    Disconnect,
}

impl Event {
    /// The word for it, as it is asked.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Event::Connect => "connect",
            Event::Subscribe => "subscribe",
            Event::Publish => "publish",
            Event::Disconnect => "disconnect",
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub ruling: Ruling,
    /// How long the same question has the same answer.
    pub fresh: Duration,
}

impl Verdict {
    /// Yes, for so long.
    #[must_use]
    pub const fn allow(fresh: Duration) -> Verdict {
        Verdict {
            ruling: Ruling::Allow(None),
            fresh,
        }
    }

    /// No, for this reason, for so long.
    #[must_use]
    pub fn deny(reason: &str, fresh: Duration) -> Verdict {
        Verdict {
            ruling: Ruling::Deny(reason.into()),
            fresh,
        }
    }
}

/// Yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Yes; to [`Event::Connect`] perhaps with changes of what the credentials say.
    Allow(Option<Box<Changes>>),
    /// No, for this reason, which the client is told.
    Deny(Box<str>),
}

/// What a grant becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Who it is.
    pub identity: Option<Arc<str>>,
    /// What it may publish to.
    pub publish: Option<Patterns>,
    /// What it may subscribe to.
    pub subscribe: Option<Patterns>,
    /// When all this is over, if that is sooner.
    pub expires: Option<UnixSeconds>,
}

impl Changes {
    /// `grant` with these changes. It does not last longer.
    #[must_use]
    pub fn apply(self, grant: &Grant) -> Grant {
        Grant {
            identity: self.identity.or_else(|| grant.identity.clone()),
            publish: self.publish.unwrap_or_else(|| grant.publish.clone()),
            subscribe: self.subscribe.unwrap_or_else(|| grant.subscribe.clone()),
            expires: match (self.expires, grant.expires) {
                (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
                (ours, theirs) => ours.or(theirs),
            },
            ground: grant.ground,
            amended: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_replace_what_they_name_and_never_make_a_grant_last_longer() {
        let grant = Grant {
            expires: Some(UnixSeconds(100)),
            ..Grant::everything()
        };
        let amended = Grant {
            amended: true,
            ..grant.clone()
        };
        assert_eq!(Changes::default().apply(&grant), amended);
        let changes = Changes {
            identity: Some("ann".into()),
            publish: Some(Patterns::none()),
            subscribe: None,
            expires: Some(UnixSeconds(200)),
        };
        let changed = changes.clone().apply(&grant);
        assert_eq!(changed.identity.as_deref(), Some("ann"));
        assert_eq!(
            (&changed.publish, &changed.subscribe),
            (&Patterns::none(), &Patterns::all())
        );
        assert_eq!(changed.expires, Some(UnixSeconds(100)));
        assert_eq!(changes.apply(&Grant::nothing()).expires, Some(UnixSeconds(200)));
    }
}
