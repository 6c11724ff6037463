//! From credentials to a grant.

use std::sync::Arc;

use crate::certificates::Certificates;
use crate::denied::{Denied, Withdrawn};
use crate::grant::Grant;
use crate::ground::Ground;
use crate::jwt::Jwt;
use crate::settings::{Settings, SettingsError};
use crate::tokens::Tokens;
use crate::when::UnixSeconds;

/// Judges credentials. It never changes; many threads can share one.
pub struct Authenticator {
    jwt: Option<Jwt>,
    tokens: Tokens,
    certificates: Certificates,
    max_token: usize,
    unknown_key: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Authenticator {
    /// Reads keys, hashes and rules.
    ///
    /// # Errors
    /// A setting cannot be used; the error names its place.
    pub fn new(settings: &Settings) -> Result<Authenticator, SettingsError> {
        let jwt = settings.jwt.as_ref().map(|jwt| Jwt::new(jwt, settings.topics));
        Ok(Authenticator {
            jwt: jwt.transpose()?,
            tokens: Tokens::new(&settings.tokens, &settings.topics)?,
            certificates: Certificates::new(&settings.certificates, settings.topics)?,
            max_token: settings.max_token,
            unknown_key: None,
        })
    }

    /// The same, which calls `bell` whenever a token names a key that is not known. It is called often when somebody makes
    /// such tokens up, and by whoever judges them.
    #[must_use]
    pub fn on_unknown_key(mut self, bell: impl Fn() + Send + Sync + 'static) -> Authenticator {
        self.unknown_key = Some(Box::new(bell));
        self
    }

    /// Whether there is any token that it would take.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        self.jwt.is_some() || !self.tokens.is_empty()
    }

    /// How many keys signatures of JSON Web Tokens are checked with.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.jwt.as_ref().map_or(0, Jwt::keys)
    }

    /// What the bearer of `token` may do at `now`.
    ///
    /// # Errors
    /// What is wrong with the token. [`Denied::Expired`] is one that was right once, [`Denied::UnknownKey`] one that
    /// newer keys may be for.
    pub fn authenticate(&self, token: &str, now: UnixSeconds) -> Result<Arc<Grant>, Denied> {
        if token.len() > self.max_token {
            return Err(Denied::TooLong {
                bytes: token.len(),
                most: self.max_token,
            });
        }
        if let Some(result) = self.tokens.grant(token, now) {
            return result;
        }
        let granted = match &self.jwt {
            Some(jwt) if token.contains('.') => jwt.grant(token, now),
            _ => Err(Denied::UnknownToken),
        };
        if let (Err(Denied::UnknownKey { .. }), Some(bell)) = (&granted, &self.unknown_key) {
            bell();
        }
        granted.map(Arc::new)
    }

    /// What has become of a grant that was given for a token when other settings held. For one that was handed out it is what
    /// settings say now, and for a JSON Web Token the same as before; also if its time is over. What rests on other grounds
    /// is for the caller to judge, and the same.
    ///
    /// # Errors
    /// [`Denied::Withdrawn`]: such a token would not be taken any more.
    pub fn renew(&self, grant: &Arc<Grant>) -> Result<Arc<Grant>, Denied> {
        match grant.ground {
            Ground::Token(short) => {
                let renewed = self.tokens.grant_of(short).ok_or(Withdrawn::Token)?;
                return Ok(Arc::clone(renewed));
            }
            Ground::Jwt(signed) => {
                let jwt = self.jwt.as_ref().ok_or(Withdrawn::Key)?;
                jwt.check_again(signed, grant.expires.is_some())?;
            }
            Ground::Free | Ground::Door(_) | Ground::Certificate => {}
        }
        Ok(Arc::clone(grant))
    }

    /// What the holder of a client certificate may do. The certificate was checked, and `name` is whose it is.
    ///
    /// # Errors
    /// No rule is for that name, or the name cannot stand in the patterns of its rule.
    pub fn certificate(&self, name: &str) -> Result<Arc<Grant>, Denied> {
        self.certificates.grant(name)
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("jwt", &self.jwt)
            .field("tokens", &self.tokens)
            .field("certificates", &self.certificates)
            .field("max_token", &self.max_token)
            .finish_non_exhaustive()
    }
}
