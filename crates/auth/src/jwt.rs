//! JSON Web Tokens (RFC 7519): whose signature one has, and what it says then.
//!
//! A library checks signatures. Claims are judged here, by the time that the caller gives, and only behind a signature that
//! is right.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use tidecast_router::Limits;

use crate::algorithm::Algorithm;
use crate::claims::Claims;
use crate::denied::{Denied, Withdrawn};
use crate::grant::Grant;
use crate::ground::{Ground, Mark, Signed};
use crate::key::Key;
use crate::patterns::{Patterns, check_count, templates};
use crate::settings::{ClaimNames, JwtSettings, SettingsError};
use crate::template::{Template, shown};
use crate::when::UnixSeconds;

/// What is taken, and what it means.
#[derive(Debug)]
pub(crate) struct Jwt {
    keys: Vec<Key>,
    audience: Vec<String>,
    issuer: Vec<String>,
    require_expiry: bool,
    /// In seconds.
    leeway: u64,
    names: ClaimNames,
    publish: Vec<Template>,
    subscribe: Vec<Template>,
    topics: Limits,
}

/// The parts of a token; none of them has been judged.
struct Token<'t> {
    header: Header,
    /// What is signed: header and claims as they came.
    signed: &'t str,
    claims: &'t str,
    signature: &'t str,
}

/// What matters of a header. Ways to a key that it gives (`jwk`, `jku`, `x5c`, …) are not gone: the token would say who
/// vouches for it.
struct Header {
    alg: String,
    kid: Option<String>,
    /// It demands something (`crit`).
    critical: bool,
}

impl Jwt {
    pub(crate) fn new(settings: &JwtSettings, topics: Limits) -> Result<Jwt, SettingsError> {
        let ClaimNames {
            identity,
            publish,
            subscribe,
        } = &settings.claims;
        for (place, name) in [
            ("jwt.claims.identity", identity),
            ("jwt.claims.publish", publish),
            ("jwt.claims.subscribe", subscribe),
        ] {
            if name.is_empty() {
                return Err(SettingsError::new(place, crate::Problem::Empty));
            }
        }
        Ok(Jwt {
            keys: Key::all(&settings.keys)?,
            audience: settings.audience.clone(),
            issuer: settings.issuer.clone(),
            require_expiry: settings.require_expiry,
            leeway: settings.leeway.as_secs(),
            names: settings.claims.clone(),
            publish: templates("jwt.default_publish", &settings.default_publish, &topics)?,
            subscribe: templates("jwt.default_subscribe", &settings.default_subscribe, &topics)?,
            topics,
        })
    }

    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// What the bearer of `token` may do at `now`.
    pub(crate) fn grant(&self, token: &str, now: UnixSeconds) -> Result<Grant, Denied> {
        let token = Token::parse(token)?;
        let key = self.check_signature(&token)?;
        let claims = object(token.claims, NO_CLAIMS)?;
        let claims = Claims(&claims);
        let expires = self.check_time(claims, now)?;
        let (issuer, audience) = self.check_parties(claims)?;
        Ok(Grant {
            identity: claims.text(&self.names.identity)?.map(Arc::from),
            publish: self.patterns("publish", &self.names.publish, &self.publish, claims)?,
            subscribe: self.patterns("subscribe", &self.names.subscribe, &self.subscribe, claims)?,
            expires,
            ground: Ground::Jwt(Signed { key, issuer, audience }),
            amended: false,
        })
    }

    /// Whether a token would be taken that others took: what it says besides, and its time, do not count.
    pub(crate) fn check_again(&self, signed: Signed, expires: bool) -> Result<(), Withdrawn> {
        let Signed { key, issuer, audience } = signed;
        let is_among = |names: &[String], mark| names.iter().any(|ours| Some(Mark::of(ours)) == mark);
        if !self.keys.iter().any(|ours| ours.mark == key) {
            Err(Withdrawn::Key)
        } else if !self.issuer.is_empty() && !is_among(&self.issuer, issuer) {
            Err(Withdrawn::Issuer)
        } else if !is_among(&self.audience, audience) && (audience.is_some() || !self.audience.is_empty()) {
            Err(Withdrawn::Audience)
        } else if self.require_expiry && !expires {
            Err(Withdrawn::Endless)
        } else {
            Ok(())
        }
    }

    /// The key that the token was signed with.
    fn check_signature(&self, token: &Token<'_>) -> Result<Mark, Denied> {
        let Header { alg, kid, critical } = &token.header;
        let not_allowed = |allowed: Vec<Algorithm>| Denied::Algorithm {
            given: shown(alg),
            allowed,
        };
        let algorithm = Algorithm::parse(alg).ok_or_else(|| not_allowed(self.algorithms(|_| true)))?;
        if *critical {
            return Err(Denied::Critical);
        }
        // A key without a name is meant by any: whoever gives one key in a file need not know what its issuer calls it.
        let named = |key: &Key| match (kid, &key.kid) {
            (Some(kid), Some(name)) => kid == name,
            _ => true,
        };
        let mut keys = self
            .keys
            .iter()
            .filter(|key| key.algorithm == algorithm && named(key))
            .peekable();
        if keys.peek().is_none() {
            let of_name = self.algorithms(|key| kid.is_some() && key.kid == *kid);
            return Err(match kid {
                Some(kid) if of_name.is_empty() => Denied::UnknownKey {
                    kid: shown(kid),
                    known: self.keys.len(),
                },
                Some(_) => not_allowed(of_name),
                None => not_allowed(self.algorithms(|_| true)),
            });
        }
        let signature = URL_SAFE_NO_PAD.decode(token.signature).map_err(|_| Denied::Signature)?;
        let signer = keys.find(|key| key.verifies(token.signed, &signature));
        signer.map(|key| key.mark).ok_or(Denied::Signature)
    }

    /// The algorithms of the keys that are wanted, each once.
    fn algorithms(&self, wanted: impl Fn(&Key) -> bool) -> Vec<Algorithm> {
        let has = |algorithm: &Algorithm| self.keys.iter().any(|key| key.algorithm == *algorithm && wanted(key));
        Algorithm::ALL.iter().copied().filter(has).collect()
    }

    /// When what the token says is over.
    fn check_time(&self, claims: Claims<'_>, now: UnixSeconds) -> Result<Option<UnixSeconds>, Denied> {
        if let Some(from) = claims.moment("nbf")?
            && now.plus(self.leeway) < from
        {
            return Err(Denied::NotYet { from, now });
        }
        let Some(at) = claims.moment("exp")? else {
            return if self.require_expiry {
                Err(Denied::NoExpiry)
            } else {
                Ok(None)
            };
        };
        let expires = at.plus(self.leeway);
        if now >= expires {
            return Err(Denied::Expired { at, now });
        }
        Ok(Some(expires))
    }

    /// Whom it is from and whom it is for.
    fn check_parties(&self, claims: Claims<'_>) -> Result<(Option<Mark>, Option<Mark>), Denied> {
        let audience = claims.texts("aud")?;
        let expected = audience.as_ref().and_then(|audience| {
            let mut audience = audience.iter();
            audience.find(|one| self.audience.iter().any(|ours| ours == **one))
        });
        let is_for_anybody = audience.is_none() && self.audience.is_empty();
        if expected.is_none() && !is_for_anybody {
            let given = audience.unwrap_or_default();
            return Err(Denied::Audience {
                given: given.into_iter().map(shown).collect(),
                expected: self.audience.clone(),
            });
        }
        let issuer = claims.text("iss")?;
        if !self.issuer.is_empty() && !self.issuer.iter().any(|ours| Some(ours.as_str()) == issuer) {
            return Err(Denied::Issuer {
                given: issuer.map(shown),
                expected: self.issuer.clone(),
            });
        }
        Ok((issuer.map(Mark::of), expected.copied().map(Mark::of)))
    }

    /// The patterns of the claim `name`, or those that are for tokens without it.
    fn patterns(
        &self,
        what: &'static str,
        name: &str,
        otherwise: &[Template],
        claims: Claims<'_>,
    ) -> Result<Patterns, Denied> {
        let value = |name: &str| claims.get(name)?.as_str();
        let expand = |template: &Template| template.expand(value, &self.topics);
        let patterns = match claims.texts(name)? {
            None => otherwise.iter().map(expand).collect(),
            Some(texts) => check_count(texts.len()).and_then(|()| {
                let expanded = |text: &&str| expand(&Template::parse(text, &self.topics)?);
                texts.iter().map(expanded).collect()
            }),
        };
        patterns.map_err(|error| Denied::Patterns { what, error })
    }
}

impl<'t> Token<'t> {
    fn parse(token: &'t str) -> Result<Token<'t>, Denied> {
        let three = "a JSON Web Token has three parts with dots between them";
        let (signed, signature) = token.rsplit_once('.').ok_or(Denied::Malformed(three))?;
        let (header, claims) = signed.split_once('.').ok_or(Denied::Malformed(three))?;
        if claims.contains('.') {
            return Err(Denied::Malformed(three));
        }
        let header = object(header, NO_HEADER)?;
        let header = Header {
            alg: match header.get("alg") {
                Some(Value::String(alg)) => alg.clone(),
                _ => return Err(Denied::Malformed("its header names no algorithm (alg)")),
            },
            kid: match header.get("kid") {
                None => None,
                Some(Value::String(kid)) => Some(kid.clone()),
                Some(_) => return Err(Denied::Malformed("the key that its header names (kid) is no string")),
            },
            critical: header.contains_key("crit"),
        };
        Ok(Token {
            header,
            signed,
            claims,
            signature,
        })
    }
}

/// The JSON object that a part of a token is.
fn object(part: &str, otherwise: &'static str) -> Result<Map<String, Value>, Denied> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or(Denied::Malformed(otherwise))
}

const NO_HEADER: &str = "its header is no JSON object in base64url";
const NO_CLAIMS: &str = "its claims are no JSON object in base64url";

/// What is written in a JSON Web Token. Nothing of it has been checked: it is to be looked at, not to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// Reads a token without any check of its signature, for somebody to look at.
///
/// # Errors
/// It does not have the parts of a JSON Web Token.
pub fn decode(token: &str) -> Result<Decoded, Denied> {
    let Token { signed, claims, .. } = Token::parse(token)?;
    let header = signed.split('.').next().unwrap_or_default();
    Ok(Decoded {
        header: object(header, NO_HEADER)?,
        claims: object(claims, NO_CLAIMS)?,
    })
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
