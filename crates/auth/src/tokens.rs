//! Tokens that were handed out, known here by their hashes alone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidecast_router::Limits;

use crate::denied::Denied;
use crate::grant::Grant;
use crate::ground::Ground;
use crate::settings::{Problem, SettingsError, TokenSettings};
use crate::when::UnixSeconds;

/// What a token made here begins with, so that who finds one somewhere knows what it opens.
const PREFIX: &str = "tidecast_";
/// What a hash begins with.
const ALGORITHM: &str = "sha256:";

/// One round of SHA-256. It has to be slow only where what was hashed can be guessed, as passwords are; a token made by
/// [`static_token`] has 256 random bits.
type Hash = [u8; 32];

/// The tokens by their hashes. How long a search takes tells about the hash of what was presented, which nobody can
/// choose, and so nothing about a token.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    grants: HashMap<Hash, Arc<Grant>>,
    /// Their hashes by what is kept of them for connections.
    hashes: HashMap<u64, Hash>,
}

impl Tokens {
    pub(crate) fn new(settings: &[TokenSettings], topics: &Limits) -> Result<Tokens, SettingsError> {
        let mut tokens = Tokens::default();
        let mut places: HashMap<Hash, String> = HashMap::new();
        for (number, token) in settings.iter().enumerate() {
            let place = format!("tokens[{number}]");
            let hash_place = format!("{place}.hash");
            let hash = parse_hash(&token.hash).ok_or_else(|| SettingsError::new(&*hash_place, Problem::Hash))?;
            match places.entry(hash) {
                Entry::Occupied(earlier) => {
                    return Err(SettingsError::new(
                        hash_place,
                        Problem::TokenTwice(earlier.get().clone()),
                    ));
                }
                Entry::Vacant(entry) => entry.insert(hash_place),
            };
            let identity = token.identity.as_deref();
            let grant = Grant::new(identity, &token.publish, &token.subscribe, token.expires, topics)
                .map_err(|error| SettingsError::new(format!("{place}.{}", error.place), error.problem))?;
            let short = short(&hash);
            let grant = Grant {
                ground: Ground::Token(short),
                ..grant
            };
            tokens.hashes.insert(short, hash);
            tokens.grants.insert(hash, Arc::new(grant));
        }
        Ok(tokens)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// What the bearer of `token` may do; `None` if it was not handed out here.
    pub(crate) fn grant(&self, token: &str, now: UnixSeconds) -> Option<Result<Arc<Grant>, Denied>> {
        let grant = self.grants.get(&hash(token))?;
        Some(match grant.expires {
            Some(at) if now >= at => Err(Denied::Expired { at, now }),
            _ => Ok(Arc::clone(grant)),
        })
    }

    /// What the bearer of the token may do whose hash begins like this, however late it is.
    pub(crate) fn grant_of(&self, short: u64) -> Option<&Arc<Grant>> {
        self.grants.get(self.hashes.get(&short)?)
    }
}

fn hash(token: &str) -> Hash {
    let digest = digest(&SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What is kept of a hash for every connection. Of tokens that were made at random no two begin alike.
fn short(hash: &Hash) -> u64 {
    let (start, _) = hash.split_first_chunk().expect("32 bytes are more than 8");
    u64::from_be_bytes(*start)
}

fn parse_hash(text: &str) -> Option<Hash> {
    let digits = text.strip_prefix(ALGORITHM)?.as_bytes();
    let mut hash = Hash::default();
    if digits.len() != 2 * hash.len() {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Some(hash)
}

/// A token to hand out, made of 32 bytes that nobody can guess.
#[must_use]
pub fn static_token(random: [u8; 32]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

/// The hash of a token as [`TokenSettings`] take it. From it the token cannot be told.
#[must_use]
pub fn hash_line(token: &str) -> String {
    let digits = hash(token).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{ALGORITHM}{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn settings(token: &str) -> TokenSettings {
        TokenSettings {
            hash: hash_line(token),
            identity: Some("ann".to_owned()),
            publish: vec!["users/{sub}/out".to_owned()],
            subscribe: vec!["users/{sub}/#".to_owned(), "news".to_owned()],
            expires: None,
        }
    }

    fn error(change: impl FnOnce(&mut TokenSettings)) -> SettingsError {
        let mut second = settings("two");
        change(&mut second);
        Tokens::new(&[settings("one"), second], &Limits::default()).expect_err("a bad setting")
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        assert_eq!(
            hash_line("abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut upper = settings("two");
        upper.hash = format!("sha256:{}", upper.hash["sha256:".len()..].to_uppercase());
        let tokens = Tokens::new(&[settings("one"), upper], &Limits::default()).expect("good settings");
        for token in ["one", "two"] {
            let grant = tokens.grant(token, NOW).expect(token).expect("it does not end");
            assert_eq!(grant.identity.as_deref(), Some("ann"));
            let filters = grant
                .subscribe
                .filters()
                .expect("some")
                .iter()
                .map(|filter| filter.as_str());
            assert_eq!(filters.collect::<Vec<_>>(), ["users/ann/#", "news"]);
        }
        assert!(tokens.grant("three", NOW).is_none());
        assert!(tokens.grant(&hash_line("one"), NOW).is_none(), "the hash opens nothing");
    }

    #[test]
    fn a_token_ends_when_its_time_is_up() {
        let mut ending = settings("one");
        ending.expires = Some(NOW);
        let tokens = Tokens::new(&[ending], &Limits::default()).expect("good settings");
        assert!(matches!(tokens.grant("one", UnixSeconds(NOW.0 - 1)), Some(Ok(_))));
        let expired = Denied::Expired { at: NOW, now: NOW };
        assert_eq!(tokens.grant("one", NOW), Some(Err(expired)));
    }

    #[test]
    fn what_a_token_permits_is_found_again_by_what_the_grant_rests_on() {
        let tokens = Tokens::new(&[settings("one"), settings("two")], &Limits::default()).expect("good settings");
        let grant = tokens.grant("one", NOW).expect("it is known").expect("it does not end");
        let Ground::Token(short) = grant.ground else {
            panic!("{:?}", grant.ground);
        };
        let mut less = settings("one");
        less.subscribe.pop();
        let changed = Tokens::new(&[less], &Limits::default()).expect("good settings");
        let renewed = changed.grant_of(short).expect("it is known still");
        assert_eq!(renewed.subscribe.filters().map(<[_]>::len), Some(1));
        assert_eq!((renewed.ground, &renewed.identity), (grant.ground, &grant.identity));
        let withdrawn = Tokens::new(&[settings("two")], &Limits::default()).expect("good settings");
        assert_eq!(withdrawn.grant_of(short), None);
    }

    #[test]
    fn made_tokens_differ_and_fit_where_tokens_go() {
        let token = static_token([0xff; 32]);
        assert_ne!(token, static_token([0xfe; 32]));
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(token.bytes().all(fits), "{token} is an item of a subprotocol list");
    }

    #[test]
    fn a_bad_setting_is_named_by_its_place() {
        for hash in [
            "",
            "sha256:",
            "sha256:00",
            "md5:00",
            &"0".repeat(64),
            &format!("sha256:{}é", "0".repeat(62)),
        ] {
            let error = error(|token| token.hash = hash.to_owned());
            assert_eq!(
                (&*error.place, error.problem),
                ("tokens[1].hash", Problem::Hash),
                "{hash}"
            );
        }
        let twice = error(|token| token.hash = hash_line("one"));
        assert_eq!(
            twice.to_string(),
            "tokens[1].hash: the same token stands at tokens[0].hash already"
        );
        let pattern = error(|token| token.subscribe.push("a#".to_owned()));
        assert_eq!(pattern.place, "tokens[1].subscribe[2]");
        let nobody = error(|token| token.identity = None);
        assert_eq!(nobody.place, "tokens[1].publish[0]");
        let wide = error(|token| token.identity = Some("+".to_owned()));
        assert_eq!(wide.place, "tokens[1].publish[0]");
        let name = error(|token| token.publish = vec!["{team}/a".to_owned()]);
        assert!(name.to_string().contains("\"team\""), "{name}");
    }
}
