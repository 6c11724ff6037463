//! What the fuzz target and the property tests run; no interface for anyone else.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::authenticator::Authenticator;
use crate::settings::{JwtSettings, KeyMaterial, KeySettings, Settings, TokenSettings};
use crate::sign::SigningKey;
use crate::tokens::hash_line;
use crate::when::UnixSeconds;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const SECRET: [u8; 32] = [7; 32];

static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let key = KeySettings {
        place: "secret".to_owned(),
        kid: Some("k".to_owned()),
        material: KeyMaterial::Secret(SECRET.to_vec()),
    };
    let settings = Settings {
        jwt: Some(JwtSettings {
            keys: vec![key],
            ..JwtSettings::default()
        }),
        tokens: vec![TokenSettings {
            hash: hash_line(&"\0".repeat(64)),
            identity: None,
            publish: Vec::new(),
            subscribe: Vec::new(),
            expires: None,
        }],
        ..Settings::default()
    };
    Authenticator::new(&settings).expect("good settings")
});

/// Any bytes as a token: refused, whatever they are. The same bytes as header and claims, a line end between them, of a
/// token that is signed right: what is granted then is what they say.
pub fn jwt(bytes: &[u8]) {
    if let Ok(token) = std::str::from_utf8(bytes) {
        let granted = AUTHENTICATOR.authenticate(token, NOW);
        assert!(granted.is_err(), "{token:?} was let in");
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, claims) = bytes.split_at(end);
    let claims = claims.get(1..).unwrap_or_default();
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = SigningKey::secret(&SECRET).expect("32 bytes");
    let signature = key.signature(message.as_bytes()).expect("HMAC cannot fail");
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    let Ok(grant) = AUTHENTICATOR.authenticate(&token, NOW) else {
        return;
    };

    let header: Value = serde_json::from_slice(header).expect("a header was read");
    assert_eq!(header["alg"], "HS256");
    assert!(header.get("crit").is_none());
    let claims: Map<String, Value> = serde_json::from_slice(claims).expect("claims were read");
    assert!(grant.expires.expect("an end is required") > NOW);
    assert_eq!(grant.identity.as_deref(), claims.get("sub").and_then(Value::as_str));
    for (name, patterns) in [("publish", &grant.publish), ("subscribe", &grant.subscribe)] {
        let filters = patterns.filters().expect("a token names what it permits");
        let written = match claims.get(name) {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            one => Vec::from_iter(one.and_then(Value::as_str)),
        };
        assert_eq!(filters.len(), written.len());
        for (filter, written) in filters.iter().zip(written) {
            // What names stand for adds no levels and no wildcards.
            let marks = |text: &str| text.replace(|c| !matches!(c, '/' | '+' | '#'), "");
            assert_eq!(marks(filter.as_str()), marks(&without_names(written)), "{written}");
        }
    }
}

/// A pattern without its names in braces, which may have marks of their own in them.
fn without_names(pattern: &str) -> String {
    let mut left = String::new();
    let mut inside = false;
    for c in pattern.replace("{{", "").replace("}}", "").chars() {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            c if !inside => left.push(c),
            _ => {}
        }
    }
    left
}
