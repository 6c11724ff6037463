//! Tokens of every kind, forged and right.

use std::slice::from_ref;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::settings::{KeyMaterial, KeySettings, Problem, Settings};
use crate::sign::SigningKey;
use crate::{Authenticator, fuzzing};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const SECRET: &[u8] = b"thirty-two bytes or a few more...";

/// A pair of keys in PEM.
struct Pair {
    private: String,
    public: String,
    /// The public key as a JSON Web Key without a name.
    jwk: Value,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

fn pair(private: &Pkcs8V1Der<'_>, public: &PublicKeyX509Der<'_>, jwk: Value) -> Pair {
    Pair {
        private: pem("PRIVATE KEY", private.as_ref()),
        public: pem("PUBLIC KEY", public.as_ref()),
        jwk,
    }
}

fn rsa_pair(size: KeySize) -> Pair {
    let key = RsaKeyPair::generate(size).expect("a key");
    let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
    let text = |number: aws_lc_rs::io::Positive<'_>| URL_SAFE_NO_PAD.encode(number.big_endian_without_leading_zero());
    let jwk = json!({"kty": "RSA", "n": text(n), "e": text(e)});
    pair(
        &key.as_der().expect("DER"),
        &key.public_key().as_der().expect("DER"),
        jwk,
    )
}

static RSA: LazyLock<Pair> = LazyLock::new(|| rsa_pair(KeySize::Rsa2048));

static EC: LazyLock<Pair> = LazyLock::new(|| {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = key.public_key().as_ref();
    let jwk = json!({
        "kty": "EC", "crv": "P-256",
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
    });
    let private = key.to_pkcs8v1().expect("DER");
    Pair {
        private: pem("PRIVATE KEY", private.as_ref()),
        public: pem(
            "PUBLIC KEY",
            AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())
                .expect("DER")
                .as_ref(),
        ),
        jwk,
    }
});

static ED: LazyLock<Pair> = LazyLock::new(|| {
    let key = Ed25519KeyPair::generate().expect("a key");
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.public_key())});
    pair(
        &key.as_der().expect("DER"),
        &key.public_key().as_der().expect("DER"),
        jwk,
    )
});

fn key(kid: Option<&str>, material: KeyMaterial) -> KeySettings {
    KeySettings {
        place: "the key".to_owned(),
        kid: kid.map(str::to_owned),
        material,
    }
}

fn secret_key() -> KeySettings {
    key(None, KeyMaterial::Secret(SECRET.to_vec()))
}

fn pem_key(pair: &Pair) -> KeySettings {
    key(None, KeyMaterial::Pem(pair.public.clone().into_bytes()))
}

fn set(keys: &[Value]) -> KeySettings {
    key(None, KeyMaterial::Jwks(json!({ "keys": keys }).to_string()))
}

/// A key of a set with these members too.
fn with(jwk: &Value, more: Value) -> Value {
    let mut jwk = jwk.clone();
    let more = more.as_object().expect("members").clone();
    jwk.as_object_mut().expect("a key").extend(more);
    jwk
}

fn authenticator(
    keys: Vec<KeySettings>,
    change: impl FnOnce(&mut JwtSettings),
) -> Result<Authenticator, SettingsError> {
    let mut jwt = JwtSettings {
        keys,
        ..JwtSettings::default()
    };
    change(&mut jwt);
    Authenticator::new(&Settings {
        jwt: Some(jwt),
        ..Settings::default()
    })
}

fn signing(pair: &Pair) -> SigningKey {
    SigningKey::from_pem(pair.private.as_bytes()).expect("a private key")
}

fn secret() -> SigningKey {
    SigningKey::secret(SECRET).expect("long enough")
}

/// Claims that are good for a minute, and these.
fn claims(more: Value) -> Map<String, Value> {
    let mut claims = json!({"sub": "ann", "exp": NOW.0 + 60});
    claims
        .as_object_mut()
        .expect("claims")
        .extend(more.as_object().expect("claims").clone());
    claims.as_object().expect("claims").clone()
}

fn good() -> Map<String, Value> {
    claims(json!({"subscribe": ["users/{sub}/#"], "publish": "users/{sub}/out"}))
}

/// What a token with these claims, signed right, gets.
fn granted(more: Value) -> Result<Arc<Grant>, Denied> {
    granted_with(more, |_| {})
}

fn granted_with(more: Value, change: impl FnOnce(&mut JwtSettings)) -> Result<Arc<Grant>, Denied> {
    let token = secret().sign(None, &claims(more)).expect("a token");
    authenticator(vec![secret_key()], change)
        .expect("good settings")
        .authenticate(&token, NOW)
}

fn filters(patterns: &Patterns) -> Vec<&str> {
    let filters = patterns.filters().expect("some");
    filters.iter().map(|filter| filter.as_str()).collect()
}

#[test]
fn a_token_of_every_algorithm_is_taken_with_every_form_of_its_key() {
    let keys = [
        (
            secret(),
            vec![
                secret_key(),
                set(&[json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)})]),
            ],
        ),
        (signing(&RSA), vec![pem_key(&RSA), set(from_ref(&RSA.jwk))]),
        (signing(&EC), vec![pem_key(&EC), set(from_ref(&EC.jwk))]),
        (signing(&ED), vec![pem_key(&ED), set(from_ref(&ED.jwk))]),
    ];
    for (signing, forms) in &keys {
        let token = signing.sign(None, &good()).expect("a token");
        for form in forms {
            let grant = authenticator(vec![form.clone()], |_| {})
                .expect("a good key")
                .authenticate(&token, NOW)
                .unwrap_or_else(|denied| panic!("{signing:?}: {denied}"));
            assert_eq!(grant.identity.as_deref(), Some("ann"));
            assert_eq!(filters(&grant.publish), ["users/ann/out"]);
            assert_eq!(filters(&grant.subscribe), ["users/ann/#"]);
            assert_eq!(
                grant.expires,
                Some(UnixSeconds(NOW.0 + 60 + 30)),
                "the leeway is given to sessions too"
            );
        }
        // And with none of the others.
        for (other, forms) in &keys {
            if other.algorithm() != signing.algorithm() {
                let denied = authenticator(vec![forms[0].clone()], |_| {})
                    .expect("a good key")
                    .authenticate(&token, NOW);
                assert!(matches!(denied, Err(Denied::Algorithm { .. })), "{signing:?} {other:?}");
            }
        }
    }
}

#[test]
fn no_token_says_how_it_is_to_be_checked() {
    let all = || vec![pem_key(&RSA), pem_key(&EC), pem_key(&ED)];
    let authenticator = authenticator(all(), |_| {}).expect("good keys");
    // Signed with HMAC, the public key, which everybody knows, being the secret.
    for public in [&RSA.public, &EC.public, &ED.public] {
        let confused = SigningKey::secret(public.as_bytes()).expect("long enough");
        let token = confused.sign(None, &good()).expect("a token");
        let denied = authenticator.authenticate(&token, NOW).expect_err("a forgery");
        assert!(
            matches!(&denied, Denied::Algorithm { given, .. } if given == "HS256"),
            "{denied}"
        );
        assert!(denied.to_string().contains("RS256, ES256, EdDSA"), "{denied}");
    }
    // Not signed at all, under any spelling, or in a way that is not spoken.
    let token = signing(&RSA).sign(None, &good()).expect("a token");
    let (_, rest) = token.split_once('.').expect("three parts");
    let (claims, signature) = rest.split_once('.').expect("three parts");
    for alg in [
        "none", "None", "NONE", "", "HS512", "RS512", "PS256", "ES384", "rs256", "RS256 ",
    ] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
        for signature in [signature, ""] {
            let denied = authenticator.authenticate(&format!("{header}.{claims}.{signature}"), NOW);
            assert!(matches!(denied, Err(Denied::Algorithm { .. })), "{alg}: {denied:?}");
        }
    }
    // With a key of its own in the header.
    let other = rsa_pair(KeySize::Rsa2048);
    let header = json!({"alg": "RS256", "jwk": other.jwk, "jku": "https://example.org/", "x5c": ["MIIB"]});
    let token = signing(&other).sign_with(&header, &good()).expect("a token");
    assert_eq!(authenticator.authenticate(&token, NOW), Err(Denied::Signature));
    // With demands that nobody here understands.
    let header = json!({"alg": "EdDSA", "crit": ["b64"], "b64": false});
    let token = signing(&ED).sign_with(&header, &good()).expect("a token");
    assert_eq!(authenticator.authenticate(&token, NOW), Err(Denied::Critical));
}

#[test]
fn a_token_that_was_touched_is_refused() {
    let pairs: [(&SigningKey, KeySettings); 3] = [
        (&signing(&RSA), pem_key(&RSA)),
        (&signing(&EC), pem_key(&EC)),
        (&secret(), secret_key()),
    ];
    for (signing, key) in pairs {
        let token = signing.sign(None, &good()).expect("a token");
        let authenticator = authenticator(vec![key], |_| {}).expect("a good key");
        assert!(authenticator.authenticate(&token, NOW).is_ok());
        for end in 0..token.len() {
            assert!(authenticator.authenticate(&token[..end], NOW).is_err(), "cut at {end}");
        }
        for at in 0..token.len() {
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let touched = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            assert!(authenticator.authenticate(&touched, NOW).is_err(), "changed at {at}");
        }
        for touched in [
            format!("{token}="),
            format!("{token}."),
            format!(".{token}"),
            format!(" {token}"),
            token.replace('.', ".."),
        ] {
            assert!(authenticator.authenticate(&touched, NOW).is_err(), "{touched}");
        }
    }
}

#[test]
fn what_is_no_token_says_so() {
    let authenticator = authenticator(vec![secret_key()], |_| {}).expect("a good key");
    let denied = |token: &str| authenticator.authenticate(token, NOW).expect_err("no token");
    assert_eq!(denied(""), Denied::UnknownToken);
    assert_eq!(denied("secret"), Denied::UnknownToken);
    for token in [
        "a.b",
        "a.b.c.d",
        "..",
        ".",
        "a.b.c",
        "é.é.é",
        "e30.e30.e30",
        "bnVsbA.e30.",
        "W10.e30.a",
    ] {
        assert!(
            matches!(denied(token), Denied::Malformed(_)),
            "{token}: {}",
            denied(token)
        );
    }
    let huge = "a.".repeat(5000);
    assert_eq!(
        denied(&huge),
        Denied::TooLong {
            bytes: 10_000,
            most: 8192
        }
    );
    // Signed right, and no claims in it.
    for text in ["null", "[]", "1", "{", "", "{}x", "\u{feff}{}"] {
        let message = [r#"{"alg":"HS256"}"#, text]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let signature = secret().signature(message.as_bytes()).expect("a signature");
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert!(matches!(denied(&token), Denied::Malformed(_)), "{text}");
    }
}

#[test]
fn a_refusal_never_repeats_the_token() {
    let authenticator = authenticator(vec![secret_key()], |jwt| jwt.audience = vec!["here".to_owned()]).expect("a key");
    for more in [
        json!({"exp": 1}),
        json!({"nbf": NOW.0 + 1000}),
        json!({"aud": "there"}),
        json!({"exp": "x"}),
        json!({"aud": "here", "publish": "a#"}),
    ] {
        let token = secret().sign(None, &claims(more)).expect("a token");
        for token in [token.as_str(), &token[..token.len() - 4], &token[1..]] {
            let denied = authenticator
                .authenticate(token, NOW)
                .expect_err("a bad token")
                .to_string();
            assert!(token.split('.').all(|part| !denied.contains(part)), "{denied}");
        }
    }
}

#[test]
fn a_key_is_found_by_its_name() {
    let (one, two) = (
        with(&EC.jwk, json!({"kid": "one"})),
        with(&ED.jwk, json!({"kid": "two", "alg": "EdDSA"})),
    );
    let authenticator = authenticator(vec![set(&[one, two])], |_| {}).expect("good keys");
    assert_eq!(authenticator.keys(), 2);
    let denied = |signing: &SigningKey, kid| {
        let token = signing.sign(kid, &good()).expect("a token");
        authenticator.authenticate(&token, NOW).err()
    };
    assert_eq!(denied(&signing(&EC), Some("one")), None);
    assert_eq!(denied(&signing(&ED), Some("two")), None);
    assert_eq!(denied(&signing(&ED), None), None, "a token need not name its key");
    let unknown = denied(&signing(&ED), Some("three")).expect("an unknown key");
    assert_eq!(
        unknown,
        Denied::UnknownKey {
            kid: "three".to_owned(),
            known: 2
        }
    );
    assert!(unknown.to_string().contains("none of the 2 known keys"), "{unknown}");
    let swapped = denied(&signing(&ED), Some("one"));
    let allowed = vec![Algorithm::Es256];
    assert_eq!(
        swapped,
        Some(Denied::Algorithm {
            given: "EdDSA".to_owned(),
            allowed
        })
    );
    // Also for a key that comes with a new algorithm.
    assert!(matches!(
        denied(&secret(), Some("four")),
        Some(Denied::UnknownKey { .. })
    ));
    let long = "k".repeat(4000);
    assert!(
        denied(&signing(&ED), Some(&long))
            .expect("an unknown key")
            .to_string()
            .len()
            < 250
    );
}

#[test]
fn a_key_in_a_file_has_any_name_unless_it_is_given_one() {
    let token = signing(&RSA).sign(Some("their name"), &good()).expect("a token");
    let unnamed = authenticator(vec![pem_key(&RSA)], |_| {}).expect("a good key");
    assert!(unnamed.authenticate(&token, NOW).is_ok());
    let named = KeySettings {
        kid: Some("ours".to_owned()),
        ..pem_key(&RSA)
    };
    let named = authenticator(vec![named], |_| {}).expect("a good key");
    assert!(matches!(
        named.authenticate(&token, NOW),
        Err(Denied::UnknownKey { .. })
    ));
}

#[test]
fn keys_of_a_set_that_are_for_something_else_are_left_out() {
    let left_out = [
        with(&RSA.jwk, json!({"use": "enc"})),
        with(&RSA.jwk, json!({"key_ops": ["encrypt"]})),
        with(&RSA.jwk, json!({"alg": "RS512"})),
        with(&RSA.jwk, json!({"alg": "PS256"})),
        with(&RSA.jwk, json!({"alg": "HS256"})),
        with(&RSA.jwk, json!({"n": "AQAB"})),
        with(&EC.jwk, json!({"crv": "P-384"})),
        with(&EC.jwk, json!({"crv": "secp256k1"})),
        with(&EC.jwk, json!({"y": "AAAA"})),
        with(&ED.jwk, json!({"crv": "X25519"})),
        with(&ED.jwk, json!({"x": "AAAA"})),
        json!({"kty": "oct", "k": "c2hvcnQ"}),
        json!({"kty": "new", "x": 1}),
    ];
    for jwk in &left_out {
        let error = authenticator(vec![set(from_ref(jwk))], |_| {}).expect_err("no key of use");
        assert_eq!(error.problem, Problem::NoUsableKey(1), "{jwk}");
    }
    let mut all = left_out.to_vec();
    all.push(with(
        &EC.jwk,
        json!({"use": "sig", "key_ops": ["verify"], "alg": "ES256", "x5c": []}),
    ));
    assert_eq!(authenticator(vec![set(&all)], |_| {}).expect("one is of use").keys(), 1);
}

#[test]
fn a_key_that_is_none_is_named_by_its_place() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
    let p384 = AsDer::<PublicKeyX509Der<'_>>::as_der(p384.public_key()).expect("DER");
    let pem_of = |text: &str| KeyMaterial::Pem(text.as_bytes().to_vec());
    for (material, words) in [
        (KeyMaterial::Secret(vec![1; 31]), "has 31 bytes"),
        (pem_of(""), "no public key"),
        (pem_of("-----BEGIN PUBLIC KEY-----\nMA==\n"), "no public key"),
        (pem_of(&RSA.private), "openssl pkey -pubout"),
        (pem_of(&pem("CERTIFICATE", b"x")), "openssl x509 -pubkey"),
        (pem_of(&pem("PUBLIC KEY", b"x")), "no key for RS256"),
        (pem_of(&pem("PUBLIC KEY", p384.as_ref())), "ES256 (P-256)"),
        (KeyMaterial::Jwks("{}".to_owned()), "missing field `keys`"),
        (KeyMaterial::Jwks(json!({"keys": []}).to_string()), "none of the 0 keys"),
    ] {
        let error = authenticator(vec![secret_key(), key(None, material)], |_| {}).expect_err(words);
        assert_eq!(error.place, "the key");
        assert!(error.to_string().contains(words), "{error}");
    }
    let none = authenticator(Vec::new(), |_| {}).expect_err("no key");
    assert_eq!(none, SettingsError::new("jwt.keys", Problem::NoKey));
    let many = authenticator(vec![secret_key(); 65], |_| {}).expect_err("too many keys");
    assert_eq!(many.problem, Problem::TooManyKeys(64));
}

#[test]
fn before_the_keys_have_come_every_token_is_of_an_unknown_key() {
    let authenticator = authenticator(vec![key(None, KeyMaterial::Awaited)], |_| {}).expect("they will come");
    let token = signing(&ED).sign(Some("one"), &good()).expect("a token");
    let denied = authenticator.authenticate(&token, NOW);
    assert!(matches!(denied, Err(Denied::UnknownKey { known: 0, .. })), "{denied:?}");
    let token = signing(&ED).sign(None, &good()).expect("a token");
    let denied = authenticator.authenticate(&token, NOW).expect_err("there is no key");
    assert!(denied.to_string().contains("there are no keys"), "{denied}");
}

#[test]
fn a_bell_rings_for_unknown_keys_and_for_nothing_else() {
    let rung = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&rung);
    let jwk = with(&ED.jwk, json!({"kid": "one"}));
    let authenticator = authenticator(vec![set(from_ref(&jwk))], |_| {})
        .expect("a good key")
        .on_unknown_key(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
    let sign = |signing: &SigningKey, kid, claims| signing.sign(Some(kid), &claims).expect("a token");
    for (token, rings) in [
        (sign(&signing(&ED), "one", good()), 0),
        (sign(&signing(&ED), "one", claims(json!({"exp": 1}))), 0),
        (sign(&signing(&EC), "one", good()), 0),
        ("a.b.c".to_owned(), 0),
        (sign(&signing(&ED), "two", good()), 1),
        (sign(&signing(&EC), "two", good()), 2),
    ] {
        let _ = authenticator.authenticate(&token, NOW);
        assert_eq!(rung.load(Ordering::Relaxed), rings);
    }
}

#[test]
fn a_secret_in_a_file_ends_where_its_line_does() {
    for (contents, secret) in [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", "")] {
        let KeyMaterial::Secret(read) = KeyMaterial::secret_of_file(contents.as_bytes()) else {
            unreachable!("a secret was asked for");
        };
        assert_eq!(read, secret.as_bytes(), "{contents:?}");
    }
}

#[test]
fn bad_settings_are_named_by_their_places() {
    type Change = fn(&mut JwtSettings);
    let table: [(Change, &str); 4] = [
        (|jwt| jwt.claims.publish.clear(), "jwt.claims.publish"),
        (
            |jwt| jwt.default_publish = vec!["a".to_owned(), "a#".to_owned()],
            "jwt.default_publish[1]",
        ),
        (
            |jwt| jwt.default_subscribe = vec!["{sub".to_owned()],
            "jwt.default_subscribe[0]",
        ),
        (
            |jwt| jwt.default_subscribe = vec!["a".to_owned(); 257],
            "jwt.default_subscribe",
        ),
    ];
    for (change, place) in table {
        let error = authenticator(vec![secret_key()], change).expect_err(place);
        assert_eq!(error.place, place, "{error}");
    }
}

#[test]
fn time_is_judged_to_the_second_and_with_leeway() {
    let at = |now: u64, more: Value| {
        let token = secret().sign(None, &claims(more)).expect("a token");
        let leeway = Duration::from_secs(5);
        let authenticator = authenticator(vec![secret_key()], |jwt| jwt.leeway = leeway).expect("a good key");
        authenticator
            .authenticate(&token, UnixSeconds(now))
            .map(|grant| grant.expires)
    };
    let end = UnixSeconds(1000);
    assert_eq!(at(1004, json!({"exp": 1000})), Ok(Some(UnixSeconds(1005))));
    let now = UnixSeconds(1005);
    assert_eq!(at(1005, json!({"exp": 1000})), Err(Denied::Expired { at: end, now }));
    assert_eq!(at(0, json!({"exp": 1000.9})), Ok(Some(UnixSeconds(1005))));
    assert_eq!(at(995, json!({"exp": 2000, "nbf": 1000})), Ok(Some(UnixSeconds(2005))));
    let now = UnixSeconds(994);
    assert_eq!(
        at(994, json!({"exp": 2000, "nbf": 1000})),
        Err(Denied::NotYet { from: end, now })
    );
    let expired = at(2000, json!({"exp": 1000})).expect_err("expired").to_string();
    assert_eq!(
        expired,
        "the token expired at 1970-01-01T00:16:40Z; it is 1970-01-01T00:33:20Z"
    );
}

#[test]
fn an_end_is_required_unless_settings_say_otherwise() {
    let token = secret()
        .sign(None, json!({"sub": "ann"}).as_object().expect("claims"))
        .expect("a token");
    let judge = |change: fn(&mut JwtSettings)| {
        let authenticator = authenticator(vec![secret_key()], change).expect("a good key");
        authenticator.authenticate(&token, NOW).map(|grant| grant.expires)
    };
    assert_eq!(judge(|_| {}), Err(Denied::NoExpiry));
    assert_eq!(judge(|jwt| jwt.require_expiry = false), Ok(None));
    for exp in [
        json!("1900000000"),
        json!(null),
        json!(true),
        json!(-1),
        json!(1_800_000_000_000u64),
        json!(1e300),
    ] {
        let denied = granted_with(json!({ "exp": exp }), |jwt| jwt.require_expiry = false);
        assert!(matches!(denied, Err(Denied::Claim { .. })), "{exp}");
    }
}

#[test]
fn a_token_for_somebody_else_is_refused() {
    let ours = |jwt: &mut JwtSettings| jwt.audience = vec!["tidecast".to_owned(), "chat".to_owned()];
    for aud in [json!("chat"), json!(["x", "tidecast"])] {
        assert!(granted_with(json!({ "aud": aud }), ours).is_ok(), "{aud}");
    }
    for aud in [json!("x"), json!([]), json!(["x", "Chat"]), json!("")] {
        let denied = granted_with(json!({ "aud": aud }), ours);
        assert!(matches!(denied, Err(Denied::Audience { .. })), "{aud}");
    }
    assert!(matches!(granted_with(json!({}), ours), Err(Denied::Audience { .. })));
    // Who has no audience is not meant by a token that names one (RFC 7519, section 4.1.3).
    let denied = granted(json!({"aud": "x"})).expect_err("for somebody else");
    assert_eq!(
        denied.to_string(),
        "the token is for the audience [\"x\"], and no audience is expected here"
    );
    for aud in [json!(1), json!({"a": 1}), json!([1])] {
        assert!(
            matches!(granted(json!({ "aud": aud })), Err(Denied::Claim { .. })),
            "{aud}"
        );
    }
}

#[test]
fn a_token_from_somebody_else_is_refused() {
    let ours = |jwt: &mut JwtSettings| jwt.issuer = vec!["https://id.example.org/".to_owned()];
    assert!(granted_with(json!({"iss": "https://id.example.org/"}), ours).is_ok());
    assert!(granted(json!({"iss": "anybody"})).is_ok());
    for iss in [json!("https://id.example.org"), json!("")] {
        let denied = granted_with(json!({ "iss": iss }), ours);
        assert!(matches!(denied, Err(Denied::Issuer { given: Some(_), .. })), "{iss}");
    }
    assert!(matches!(
        granted_with(json!({}), ours),
        Err(Denied::Issuer { given: None, .. })
    ));
    let list = granted_with(json!({"iss": ["https://id.example.org/"]}), ours);
    assert!(matches!(list, Err(Denied::Claim { .. })));
}

#[test]
fn claims_say_what_is_permitted() {
    let named = |jwt: &mut JwtSettings| {
        jwt.claims.publish = "tidecast.pub".to_owned();
        jwt.claims.subscribe = "https://example.org/sub".to_owned();
        jwt.claims.identity = "user.name".to_owned();
        jwt.default_publish = vec!["default/{team}".to_owned()];
        jwt.default_subscribe = vec!["default/#".to_owned()];
    };
    let more = json!({
        "user": {"name": "ann"}, "team": "red",
        "tidecast": {"pub": ["t/{team}/{user.name}"]}, "https://example.org/sub": "s/#",
    });
    let grant = granted_with(more, named).expect("a good token");
    assert_eq!(grant.identity.as_deref(), Some("ann"));
    assert_eq!(
        (filters(&grant.publish), filters(&grant.subscribe)),
        (vec!["t/red/ann"], vec!["s/#"])
    );
    let grant = granted_with(json!({"team": "red", "tidecast": {"pub": []}}), named).expect("a good token");
    assert_eq!(grant.identity, None, "sub is not asked for");
    assert_eq!(
        (filters(&grant.publish), filters(&grant.subscribe)),
        (vec![], vec!["default/#"])
    );
    let grant = granted(json!({})).expect("a good token");
    assert!(
        grant.publish.is_none() && grant.subscribe.is_none(),
        "nothing is permitted by default"
    );
}

#[test]
fn claims_that_permit_nothing_sensible_are_refused() {
    for (more, words) in [
        (json!({"publish": 1}), "\"publish\""),
        (json!({"publish": [1]}), "\"publish\""),
        (json!({"publish": {"a": 1}}), "\"publish\""),
        (json!({"publish": null}), "\"publish\""),
        (json!({"sub": 1}), "\"sub\""),
        (json!({"subscribe": "a#"}), "put `/` before it"),
        (json!({"subscribe": [""]}), "empty"),
        (json!({"subscribe": ["$share/g/a"]}), "group"),
        (json!({"subscribe": ["a/{sub"]}), "brace"),
        (json!({"subscribe": ["a/{team}"]}), "\"team\""),
        (json!({"subscribe": ["a/{exp}"]}), "\"exp\""),
        (json!({"subscribe": vec!["a"; 257]}), "257 patterns"),
        (json!({"sub": "+", "subscribe": ["users/{sub}"]}), "\"sub\""),
        (json!({"sub": "#", "subscribe": ["users/{sub}"]}), "\"sub\""),
        (json!({"sub": "a/b", "publish": ["users/{sub}"]}), "\"sub\""),
        (json!({"sub": "", "publish": ["users/{sub}"]}), "is empty"),
        (json!({"sub": "$SYS", "subscribe": ["{sub}/#"]}), "starts with $"),
    ] {
        let denied = granted(more).expect_err(words);
        assert!(
            matches!(denied, Denied::Claim { .. } | Denied::Patterns { .. }),
            "{denied}"
        );
        assert!(denied.to_string().contains(words), "{denied}");
    }
    assert!(
        granted(json!({"sub": "a/b"})).is_ok(),
        "an identity is judged where it is expanded"
    );
}

#[test]
fn a_grant_is_as_good_as_what_its_token_rested_on() {
    let both = || vec![pem_key(&EC), secret_key()];
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let parties = |audience: &[&str], issuer: &[&str]| {
        let (audience, issuer) = (owned(audience), owned(issuer));
        move |jwt: &mut JwtSettings| (jwt.audience, jwt.issuer) = (audience, issuer)
    };
    let token = secret().sign(None, &claims(json!({"aud": ["x", "b", "a"], "iss": "me"})));
    let token = token.expect("a token");
    let before = authenticator(both(), parties(&["a", "b"], &["me", "you"])).expect("good settings");
    let grant = before.authenticate(&token, NOW).expect("a good token");
    for (keys, audience, issuer, expected) in [
        (both(), &["a", "b"][..], &["you", "me"][..], None),
        (vec![secret_key()], &["b"], &[], None),
        (vec![pem_key(&EC)], &["b"], &[], Some(Withdrawn::Key)),
        (both(), &["c"], &[], Some(Withdrawn::Audience)),
        (both(), &[], &[], Some(Withdrawn::Audience)),
        (both(), &["b"], &["you"], Some(Withdrawn::Issuer)),
    ] {
        let after = authenticator(keys, parties(audience, issuer)).expect("good settings");
        let renewed = after.renew(&grant);
        let same = expected.map_or(Ok(Arc::clone(&grant)), |withdrawn| Err(Denied::Withdrawn(withdrawn)));
        assert_eq!(renewed, same, "{audience:?} {issuer:?}");
    }
    let none = Authenticator::new(&Settings::default()).expect("good settings");
    assert_eq!(none.renew(&grant), Err(Withdrawn::Key.into()));
}

#[test]
fn a_grant_of_nobody_in_particular_or_without_an_end_is_judged_by_that() {
    let endless = |jwt: &mut JwtSettings| jwt.require_expiry = false;
    let token = secret().sign(None, json!({"sub": "ann"}).as_object().expect("claims"));
    let before = authenticator(vec![secret_key()], endless).expect("good settings");
    let grant = before
        .authenticate(&token.expect("a token"), NOW)
        .expect("a good token");
    assert_eq!(before.renew(&grant), Ok(Arc::clone(&grant)));
    let strict = authenticator(vec![secret_key()], |_| {}).expect("good settings");
    assert_eq!(strict.renew(&grant), Err(Withdrawn::Endless.into()));
    let from = |jwt: &mut JwtSettings| jwt.issuer = vec!["me".to_owned()];
    let named = authenticator(vec![secret_key()], from).expect("good settings");
    assert_eq!(named.renew(&grant), Err(Withdrawn::Issuer.into()));
    let others = Arc::new(Grant::everything());
    assert_eq!(strict.renew(&others), Ok(Arc::clone(&others)), "it rests on no token");
}

#[test]
fn a_key_is_the_same_however_it_is_written() {
    for pair in [&*RSA, &*EC, &*ED] {
        let token = signing(pair).sign(None, &good()).expect("a token");
        let file = authenticator(vec![pem_key(pair)], |_| {}).expect("good settings");
        let grant = file.authenticate(&token, NOW).expect("a good token");
        let fetched = authenticator(vec![set(&[with(&pair.jwk, json!({"kid": "k"}))])], |_| {}).expect("good settings");
        assert_eq!(fetched.renew(&grant), Ok(grant));
    }
}

#[test]
fn a_token_is_shown_without_being_believed() {
    let token = secret().sign(Some("k"), &good()).expect("a token");
    let (signed, _) = token.rsplit_once('.').expect("three parts");
    let decoded = decode(&format!("{signed}.forged")).expect("it has the parts");
    assert_eq!(decoded.claims, good());
    assert_eq!(
        Value::Object(decoded.header),
        json!({"alg": "HS256", "typ": "JWT", "kid": "k"})
    );
    assert!(decode("a.b").is_err() && decode("").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzzing::jwt(&bytes);
    }

    #[test]
    fn claims_of_any_kind_grant_what_they_say(
        sub in prop::option::of("[a-c/+#$\u{0}]{0,3}"),
        patterns in prop::collection::vec("[ab/+#{}$]{0,4}(\\{sub\\})?(/[ab+#])?", 0..3),
        kid in prop::sample::select(vec!["k", "k", "other"]),
    ) {
        let mut claims = claims(json!({"subscribe": patterns, "publish": patterns.first()}));
        claims.remove("sub");
        if let Some(sub) = sub {
            claims.insert("sub".to_owned(), sub.into());
        }
        if patterns.is_empty() {
            claims.remove("publish");
        }
        let header = json!({"alg": "HS256", "kid": kid});
        fuzzing::jwt(format!("{header}\n{}", Value::Object(claims)).as_bytes());
    }
}
