//! Whether a client is let in, and what it may do then.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidecast_broker::auth::{Authenticator, Denied, Event, Grant, Ground, UnixSeconds};
use tidecast_broker::wire::close;
use tidecast_broker::{Rules, Target, Withheld};
use tidecast_websocket::Upgrade;
use tidecast_websocket::http::{Request, percent_decode};

use crate::asking::Asking;
use crate::config::{Carriers, Config, ListenerConfig};

/// What a subprotocol item that carries credentials begins with. It is never echoed.
const BEARER: &str = "bearer.";

/// Somebody who asks to be let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor<'a> {
    /// Where it came in.
    pub(crate) door: &'a ListenerConfig,
    /// The number of that.
    pub(crate) number: u16,
    /// The slot that it has.
    pub(crate) slot: u32,
    /// Whose its certificate is, if it showed one.
    pub(crate) certificate: Option<&'a str>,
    /// The broker stops: its connection does not outlive the answer to a request.
    pub(crate) leaves: bool,
    pub(crate) now: UnixSeconds,
}

impl Visitor<'_> {
    /// What it may do without credentials where they are needed, which is nothing.
    fn newcomer(self, expires: Option<UnixSeconds>) -> Arc<Grant> {
        Arc::new(Grant {
            expires,
            ground: Ground::Door(self.number),
            ..Grant::nothing()
        })
    }
}

/// Why somebody is not let in, or not for what it asked.
#[derive(Debug)]
pub(crate) struct Denial {
    /// The close code that says so.
    pub(crate) code: u16,
    pub(crate) text: String,
}

/// Why somebody is not let in, or not yet.
#[derive(Debug)]
pub(crate) enum Held {
    Denied(Denial),
    /// The hook has to be asked.
    Wait,
}

impl From<Denial> for Held {
    fn from(denial: Denial) -> Held {
        Held::Denied(denial)
    }
}

/// The rules by which clients are let in.
#[derive(Clone, Debug)]
pub(crate) struct Authentication {
    authenticator: Arc<Authenticator>,
    carriers: Carriers,
    rules: Arc<Rules>,
    auth_timeout: Duration,
}

/// The time, as tokens count it.
pub(crate) fn unix_now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixSeconds(since.map_or(0, |since| since.as_secs()))
}

/// Whether an item of the offered subprotocols is a token.
pub(crate) fn is_credentials(item: &str) -> bool {
    item.starts_with(BEARER)
}

impl Authentication {
    pub(crate) fn new(config: &Config) -> Authentication {
        let (authenticator, rules) = (Arc::clone(&config.authenticator), Arc::clone(&config.rules));
        Authentication::of(authenticator, config.carriers.clone(), rules, config.auth_timeout)
    }

    pub(crate) fn of(
        authenticator: Arc<Authenticator>,
        carriers: Carriers,
        rules: Arc<Rules>,
        auth_timeout: Duration,
    ) -> Authentication {
        Authentication {
            authenticator,
            carriers,
            rules,
            auth_timeout,
        }
    }

    /// What a visitor may do on a connection with many topics. One that came without credentials, where they are needed,
    /// may do nothing but send them, and not for long; unless there are topics that are for anyone.
    pub(crate) fn admit(
        &self,
        request: &Request<'_>,
        upgrade: &Upgrade<'_, '_>,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
    ) -> Result<Arc<Grant>, Held> {
        let grant = self.judge(request, Some(upgrade), visitor)?.unwrap_or_else(|| {
            // The present second has begun already.
            let until = || visitor.now.plus(self.auth_timeout.as_secs() + 1);
            visitor.newcomer((!self.rules.permit_anyone()).then(until))
        });
        consult(asking, visitor, Event::Connect, "", grant)
    }

    /// What a visitor may do on a connection for one topic or filter, or with a plain request, which is no upgrade; if it may use
    /// that.
    pub(crate) fn admit_to(
        &self,
        target: &Target,
        request: &Request<'_>,
        upgrade: Option<&Upgrade<'_, '_>>,
        visitor: Visitor<'_>,
        mut asking: Option<&mut Asking>,
    ) -> Result<Arc<Grant>, Held> {
        let judged = self.judge(request, upgrade, visitor)?;
        let grant = judged.unwrap_or_else(|| visitor.newcomer(None));
        let had_any = !matches!(grant.ground, Ground::Door(_));
        let name = target.filter().as_str();
        let grant = consult(asking.as_deref_mut(), visitor, Event::Connect, name, grant)?;
        match target.check(&self.rules, &grant) {
            Ok(()) if target.receives() => consult(asking, visitor, Event::Subscribe, name, grant),
            Ok(()) => Ok(grant),
            Err(reason) if had_any || grant.identity.is_some() => Err(Held::Denied(Denial {
                code: close::FORBIDDEN,
                text: reason.to_owned(),
            })),
            Err(_) => Err(Held::Denied(Denial {
                code: close::UNAUTHORIZED,
                text: if upgrade.is_some() {
                    "credentials are needed: send Authorization: Bearer, or offer the subprotocol bearer.<token>"
                } else {
                    "credentials are needed: send Authorization: Bearer"
                }
                .to_owned(),
            })),
        }
    }

    /// The grant of a visitor; none, if it has shown no credentials where they are needed.
    fn judge(
        &self,
        request: &Request<'_>,
        upgrade: Option<&Upgrade<'_, '_>>,
        visitor: Visitor<'_>,
    ) -> Result<Option<Arc<Grant>>, Denial> {
        let denial = |denied: Denied| Denial {
            code: match denied {
                Denied::Expired { .. } => close::TOKEN_EXPIRED,
                _ => close::UNAUTHORIZED,
            },
            text: denied.to_string(),
        };
        // A token that nobody looks at here is not held against whoever brings it.
        if self.authenticator.takes_tokens()
            && let Some(token) = self.token(request, upgrade)
        {
            return self
                .authenticator
                .authenticate(&token, visitor.now)
                .map(Some)
                .map_err(denial);
        }
        if let Some(name) = visitor.certificate {
            match self.authenticator.certificate(name) {
                Ok(grant) => return Ok(Some(grant)),
                Err(denied) if visitor.door.anonymous.is_none() => return Err(denial(denied)),
                Err(_) => {}
            }
        }
        Ok(visitor.door.anonymous.clone())
    }

    /// What holds for some topics.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What the grant of a connection has become, now that these settings hold: what it would be given if it came now. What
    /// the hook has said about it stays as it is as long as there `is_hook`, for it is not asked again.
    ///
    /// # Errors
    /// What it rested on is gone; why is for the client to read.
    pub(crate) fn renew(
        &self,
        grant: &Arc<Grant>,
        certificate: Option<&str>,
        doors: &[ListenerConfig],
        is_hook: bool,
    ) -> Result<Arc<Grant>, String> {
        if grant.amended && !is_hook {
            return Err("whoever said what this connection may do is not asked any more".to_owned());
        }
        let renewed = match (grant.ground, certificate) {
            (Ground::Door(_), _) if grant.amended => return Ok(Arc::clone(grant)),
            (Ground::Door(number), _) => {
                return match &doors[usize::from(number)].anonymous {
                    Some(anonymous) => Ok(Arc::clone(anonymous)),
                    None if self.rules.permit_anyone() => Ok(Arc::new(Grant {
                        ground: grant.ground,
                        ..Grant::nothing()
                    })),
                    // It has a moment yet to send some.
                    None if grant.expires.is_some() => Ok(Arc::clone(grant)),
                    None => Err("credentials are needed here now".to_owned()),
                };
            }
            (Ground::Certificate, Some(name)) => self.authenticator.certificate(name),
            _ => self.authenticator.renew(grant),
        };
        let renewed = renewed.map_err(|denied| denied.to_string())?;
        Ok(if grant.amended { Arc::clone(grant) } else { renewed })
    }

    /// The token that a request carries.
    fn token<'r>(&self, request: &'r Request<'_>, upgrade: Option<&Upgrade<'r, '_>>) -> Option<Cow<'r, str>> {
        let header = || {
            let (scheme, token) = request.header("Authorization")?.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(Cow::Borrowed(token.trim()))
        };
        let subprotocol = || {
            upgrade?
                .protocols()
                .find_map(|item| item.strip_prefix(BEARER))
                .map(Cow::Borrowed)
        };
        let cookie = || {
            let wanted = self.carriers.cookie.as_deref()?;
            let mut pairs = request
                .header("Cookie")?
                .split(';')
                .filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(name, _)| name.trim() == wanted)?;
            Some(Cow::Borrowed(value.trim().trim_matches('"')))
        };
        let query = || {
            let wanted = self.carriers.query_parameter.as_deref()?;
            let (_, value) = request.query().find(|(name, _)| *name == wanted)?;
            percent_decode(value)
        };
        header().or_else(subprotocol).or_else(cookie).or_else(query)
    }
}

/// Asks the hook about a visitor that has `grant`; gives what that becomes.
fn consult(
    asking: Option<&mut Asking>,
    visitor: Visitor<'_>,
    event: Event,
    name: &str,
    grant: Arc<Grant>,
) -> Result<Arc<Grant>, Held> {
    let Some(asking) = asking else {
        return Ok(grant);
    };
    match asking.consult(visitor.slot, event, name, &grant) {
        Ok(None) => Ok(grant),
        Ok(Some(changes)) => {
            let is_newcomer = grant.identity.is_none() && grant.publish.is_none() && grant.subscribe.is_none();
            // Somebody to whom the hook gives rights need not send credentials any more.
            let grant = if is_newcomer { &Grant::nothing() } else { &*grant };
            Ok(Arc::new(changes.apply(grant)))
        }
        Err(Withheld::Refused(reason) | Withheld::Full(reason)) => Err(Held::Denied(Denial {
            code: close::FORBIDDEN,
            text: reason.into_owned(),
        })),
        Err(Withheld::Unknown) => Err(Held::Wait),
    }
}
