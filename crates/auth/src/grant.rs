//! What somebody may do.

use std::sync::Arc;

use tidecast_router::Limits;

use crate::ground::Ground;
use crate::patterns::Patterns;
use crate::settings::SettingsError;
use crate::when::UnixSeconds;

/// Who a client is and what it may do, until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who it is; nobody in particular, if there is none.
    pub identity: Option<Arc<str>>,
    /// The topics that it may publish to.
    pub publish: Patterns,
    /// The topics that it may subscribe to.
    pub subscribe: Patterns,
    /// The first moment at which all this is over.
    pub expires: Option<UnixSeconds>,
    /// What it rests on.
    pub ground: Ground,
    /// A service that is asked besides has [changed](crate::Changes) what the ground gives.
    pub amended: bool,
}

// One of its own for every connection that came with a token of its own.
const _: () = assert!(size_of::<Grant>() <= 88);

impl Grant {
    /// Anybody may do everything, for ever.
    #[must_use]
    pub fn everything() -> Grant {
        Grant {
            identity: None,
            publish: Patterns::all(),
            subscribe: Patterns::all(),
            expires: None,
            ground: Ground::Free,
            amended: false,
        }
    }

    /// Nobody may do anything.
    #[must_use]
    pub fn nothing() -> Grant {
        Grant {
            identity: None,
            publish: Patterns::none(),
            subscribe: Patterns::none(),
            expires: None,
            ground: Ground::Free,
            amended: false,
        }
    }

    /// What `identity` may do by these patterns, in which `{sub}` stands for it.
    ///
    /// # Errors
    /// A pattern that is none, or that the identity cannot stand in; the place of the error is `publish[0]` for example.
    pub fn new(
        identity: Option<&str>,
        publish: &[String],
        subscribe: &[String],
        expires: Option<UnixSeconds>,
        topics: &Limits,
    ) -> Result<Grant, SettingsError> {
        Ok(Grant {
            identity: identity.map(Arc::from),
            publish: Patterns::new("publish", publish, identity, topics)?,
            subscribe: Patterns::new("subscribe", subscribe, identity, topics)?,
            expires,
            ground: Ground::Free,
            amended: false,
        })
    }

    /// Whether it is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: UnixSeconds) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}
