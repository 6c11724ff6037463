//! Other servers that the broker talks to: from settings to what is done with them.

use std::fs;

use http::HeaderValue;
use tidecast_broker::auth::KeyMaterial;

use super::problem::Problem;
use super::settings::OnFailure;
use super::source::Loaded;
use crate::hook::HookSettings;
use crate::http::Url;
use crate::jwks::JwksSettings;
use crate::tls::authorities;

impl super::kind::Parse for Url {
    const NAME: &'static str = "URL";
}

impl Loaded {
    /// The key set that is fetched.
    pub(super) fn key_set(&self) -> Option<JwksSettings> {
        let auth = &self.config.auth;
        Some(JwksSettings {
            url: auth.jwt_key_set_url.clone()?,
            refresh: auth.jwt_key_set_refresh,
            min_interval: auth.jwt_key_set_min_interval,
            timeout: auth.jwt_key_set_timeout,
        })
    }

    /// The service that is asked.
    pub(super) fn hook(&self, problems: &mut Vec<Problem>) -> Option<HookSettings> {
        let hook = &self.config.hook;
        let mut wrong = |name: &str, message: String| problems.push(self.problem(name, message));
        let Some(url) = hook.hook_url.clone() else {
            if hook.hook_secret_file.is_some() {
                wrong(
                    "hook_secret_file",
                    "there is no hook_url that it could be sent to".to_owned(),
                );
            }
            if hook.hook_ca.is_some() {
                wrong(
                    "hook_ca",
                    "there is no hook_url whose certificate it could be for".to_owned(),
                );
            }
            return None;
        };
        if url.is_plain() && hook.hook_ca.is_some() {
            wrong(
                "hook_ca",
                format!("{url} has no certificate: give an https:// address, or leave this out"),
            );
        }
        let authorities = hook.hook_ca.as_ref().and_then(|path| {
            let read = authorities(path).map_err(|error| wrong("hook_ca", error.to_string()));
            Some(read.ok()?.roots)
        });
        if hook.hook_events.is_empty() {
            wrong(
                "hook_events",
                "name some of connect, subscribe, publish, disconnect".to_owned(),
            );
        }
        let authorization = hook.hook_secret_file.as_ref().and_then(|path| {
            let read = fs::read(path).map_err(|error| format!("cannot read it: {error}"));
            let value = read.and_then(|contents| {
                let KeyMaterial::Secret(secret) = KeyMaterial::secret_of_file(&contents) else {
                    unreachable!("a secret was asked for");
                };
                let value = HeaderValue::from_bytes(&[b"Bearer ", &*secret].concat());
                value.map_err(|_| "a header cannot have what is in it: give one line of text".to_owned())
            });
            match value {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    Some(value)
                }
                Err(error) => {
                    wrong("hook_secret_file", format!("{}: {error}", path.display()));
                    None
                }
            }
        });
        Some(HookSettings {
            url,
            authorization,
            authorities,
            events: hook.hook_events.clone(),
            timeout: hook.hook_timeout,
            concurrency: hook.hook_concurrency,
            queue: hook.hook_queue,
            cache: hook.hook_cache,
            cache_entries: hook.hook_cache_entries,
            allow_on_failure: hook.hook_on_failure == OnFailure::Allow,
        })
    }
}
