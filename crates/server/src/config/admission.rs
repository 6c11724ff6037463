//! Who is let in, and what holds for topics: from settings to what judges.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tidecast_broker::auth::{
    Authenticator, CertificateSettings, ClaimNames, Grant, JwtSettings, KeyMaterial, KeySettings, Patterns, Settings,
    TokenSettings, UnixSeconds,
};
use tidecast_broker::{Filter, MOST_RULES, Rule, Rules, TopicLimits};

use super::problem::Problem;
use super::source::Loaded;
use crate::admin::{AdminAccess, AdminSettings};

/// The largest key file, in bytes.
const MOST_KEYS: u64 = 1 << 20;

impl Loaded {
    /// What judges credentials, and what it is made of.
    pub(super) fn authenticator(&self, topics: TopicLimits, problems: &mut Vec<Problem>) -> (Settings, Authenticator) {
        let before = problems.len();
        let settings = Settings {
            jwt: self.jwt(problems),
            tokens: self.tokens(),
            certificates: self.clients(),
            max_token: self.config.auth.max_token,
            topics,
        };
        let made = if problems.len() == before {
            Authenticator::new(&settings)
        } else {
            Authenticator::new(&Settings::default())
        };
        let made = made.unwrap_or_else(|error| {
            problems.push(self.located(&error.place, error.problem.to_string()));
            Authenticator::new(&Settings::default()).expect("nobody is let in by nothing")
        });
        (settings, made)
    }

    /// A problem at a place as the authenticator names it: a table of the configuration, or whatever was given with a key.
    fn located(&self, place: &str, message: String) -> Problem {
        let name = place.replace("certificates[", "clients[").replace("jwt.", "jwt_");
        // Of a list in a table, such as `tokens[0].publish[1]`.
        let table = name.rfind('[').filter(|_| name.ends_with(']')).map(|end| &name[..end]);
        let found = [Some(&*name), table]
            .into_iter()
            .flatten()
            .find(|name| self.place(name).is_some());
        match found {
            Some(name) => self.problem(name, message),
            None => Problem {
                place: None,
                message: format!("{place}: {message}"),
            },
        }
    }

    fn jwt(&self, problems: &mut Vec<Problem>) -> Option<JwtSettings> {
        let auth = &self.config.auth;
        let mut keys = Vec::new();
        let mut add = |name: &str, path: &Path, material: fn(Vec<u8>) -> Result<KeyMaterial, String>| match read(path)
            .and_then(material)
        {
            Ok(material) => keys.push(KeySettings {
                place: path.display().to_string(),
                kid: None,
                material,
            }),
            Err(message) => problems.push(self.problem(name, format!("{}: {message}", path.display()))),
        };
        if let Some(path) = &auth.jwt_secret_file {
            add("jwt_secret_file", path, |secret| {
                Ok(KeyMaterial::secret_of_file(&secret))
            });
        }
        for path in &auth.jwt_keys {
            add("jwt_keys", path, |pem| Ok(KeyMaterial::Pem(pem)));
        }
        if let Some(path) = &auth.jwt_key_set {
            add("jwt_key_set", path, |set| {
                let set = String::from_utf8(set).map_err(|_| "it is not UTF-8".to_owned())?;
                Ok(KeyMaterial::Jwks(set))
            });
        }
        if let Some(secret) = &auth.jwt_secret {
            keys.push(KeySettings {
                place: "jwt_secret".to_owned(),
                kid: None,
                material: KeyMaterial::Secret(secret.clone().into_bytes()),
            });
        }
        if let Some(url) = &auth.jwt_key_set_url {
            keys.push(KeySettings {
                place: url.to_string(),
                kid: None,
                material: KeyMaterial::Awaited,
            });
        }
        (!keys.is_empty()).then(|| JwtSettings {
            keys,
            audience: auth.jwt_audience.clone(),
            issuer: auth.jwt_issuer.clone(),
            require_expiry: !auth.jwt_allow_endless,
            leeway: auth.jwt_leeway,
            claims: ClaimNames {
                identity: auth.jwt_identity_claim.clone(),
                publish: auth.jwt_publish_claim.clone(),
                subscribe: auth.jwt_subscribe_claim.clone(),
            },
            default_publish: auth.jwt_publish.clone(),
            default_subscribe: auth.jwt_subscribe.clone(),
        })
    }

    /// The control plane, and who may use it.
    pub(super) fn admin(&self, problems: &mut Vec<Problem>) -> Option<AdminSettings> {
        let table = &self.config.admin;
        let address = table.admin.0?;
        let token = |hash: &String| TokenSettings {
            hash: hash.clone(),
            identity: None,
            publish: Vec::new(),
            subscribe: Vec::new(),
            expires: None,
        };
        let settings = Settings {
            tokens: table.admin_tokens.iter().map(token).collect(),
            ..Settings::default()
        };
        let tokens = Authenticator::new(&settings)
            .map_err(|error| problems.push(self.problem("admin_tokens", error.problem.to_string())))
            .ok();
        if table.admin_tokens.is_empty() && !address.ip().is_loopback() {
            let message = format!(
                "other machines can reach {address}, and whoever does could do anything: give a hash in admin_tokens (`tidecast token \
                 random` makes one)"
            );
            problems.push(self.problem("admin", message));
        }
        Some(AdminSettings {
            address,
            access: AdminAccess {
                tokens: tokens.map(Arc::new),
                hosts: table.admin_hosts.clone(),
            },
        })
    }

    fn tokens(&self) -> Vec<TokenSettings> {
        let tables = self.config.tokens.iter();
        tables
            .map(|table| TokenSettings {
                hash: table.hash.clone(),
                identity: table.identity.clone(),
                publish: table.publish.clone(),
                subscribe: table.subscribe.clone(),
                expires: table.expires.map(UnixSeconds),
            })
            .collect()
    }

    fn clients(&self) -> Vec<CertificateSettings> {
        let tables = self.config.clients.iter();
        tables
            .map(|table| CertificateSettings {
                name: table.name.clone(),
                publish: table.publish.clone(),
                subscribe: table.subscribe.clone(),
            })
            .collect()
    }

    /// What clients without credentials may do, where they are let in.
    pub(super) fn anonymous(&self, topics: TopicLimits, problems: &mut Vec<Problem>) -> Grant {
        let auth = &self.config.auth;
        let mut patterns = |name: &str, texts: &[String]| {
            if texts == ["#"] {
                return Patterns::all();
            }
            Patterns::new(name, texts, None, &topics).unwrap_or_else(|error| {
                problems.push(self.located(&error.place, error.problem.to_string()));
                Patterns::none()
            })
        };
        Grant {
            publish: patterns("anonymous_publish", &auth.anonymous_publish),
            subscribe: patterns("anonymous_subscribe", &auth.anonymous_subscribe),
            ..Grant::nothing()
        }
    }

    /// What holds for some topics.
    pub(super) fn rules(&self, topics: TopicLimits, problems: &mut Vec<Problem>) -> Rules {
        let tables = &self.config.topics;
        if tables.len() > MOST_RULES {
            let place = format!("topics[{MOST_RULES}].pattern");
            problems.push(self.problem(&place, format!("there can be at most {MOST_RULES} of these tables")));
            return Rules::default();
        }
        let mut rules = Vec::new();
        for (number, table) in tables.iter().enumerate() {
            match Filter::parse(&table.pattern, &topics) {
                Ok(pattern) if pattern.share_group().is_none() => rules.push(Rule {
                    publish: table.publish,
                    subscribe: table.subscribe,
                    max_payload: table.max_payload,
                    slow: table.slow,
                    max_pending: table.max_pending,
                    max_pending_messages: table.max_pending_messages,
                    compress: table.compress,
                    ..Rule::new(pattern)
                }),
                Ok(_) => problems.push(self.problem(
                    &format!("topics[{number}].pattern"),
                    "leave out $share/<group>/: what holds for topics holds for groups too",
                )),
                Err(error) => problems.push(self.problem(
                    &format!("topics[{number}].pattern"),
                    format!("{:?} is no pattern: {error}", table.pattern),
                )),
            }
        }
        Rules::new(rules)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = fs::metadata(path)
        .map_err(|error| format!("cannot read it: {error}"))?
        .len();
    if size > MOST_KEYS {
        return Err(format!("a key has at most {MOST_KEYS} bytes"));
    }
    fs::read(path).map_err(|error| format!("cannot read it: {error}"))
}
