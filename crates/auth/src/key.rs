//! Keys that signatures are checked with.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKey as RsaPublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::{PemObject, SectionKind};

use crate::algorithm::Algorithm;
use crate::ground::Mark;
use crate::settings::{KeyMaterial, KeySettings, Problem, SettingsError};

/// The most keys: a token that names none is tried with each of its algorithm.
const MOST_KEYS: usize = 64;
/// The shortest secret in bytes: as long as the hash (RFC 7518, section 3.2).
pub(crate) const LEAST_SECRET: usize = 32;
/// The sizes of RSA keys in bytes of the modulus.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A key and the only algorithm that it is for, so that no token can choose another one: a public key is never taken for
/// a secret.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Its name; tokens need not name it, if there is none.
    pub(crate) kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    /// What it is known by, wherever it was read from.
    pub(crate) mark: Mark,
    checks: Checks,
}

/// What checks a signature. A public key was parsed when it was read: that takes as long as a check, or longer.
#[derive(Clone, Debug)]
enum Checks {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    /// Reads all keys.
    ///
    /// # Errors
    /// One of them is none, or there are too many, or there are none and will not be.
    pub(crate) fn all(settings: &[KeySettings]) -> Result<Vec<Key>, SettingsError> {
        let mut keys: Vec<Key> = Vec::new();
        let mut awaited = false;
        for KeySettings { place, kid, material } in settings {
            let error = |problem| SettingsError::new(place, problem);
            let named = |key| Key {
                kid: kid.clone(),
                ..key
            };
            match material {
                KeyMaterial::Secret(secret) => keys.push(Key::secret(secret).map(named).map_err(error)?),
                KeyMaterial::Pem(pem) => keys.push(Key::pem(pem).map(named).map_err(error)?),
                KeyMaterial::Jwks(document) => keys.extend(Key::set(document).map_err(error)?),
                KeyMaterial::Awaited => awaited = true,
            }
            if keys.len() > MOST_KEYS {
                return Err(error(Problem::TooManyKeys(MOST_KEYS)));
            }
        }
        if keys.is_empty() && !awaited {
            return Err(SettingsError::new("jwt.keys", Problem::NoKey));
        }
        Ok(keys)
    }

    /// Whether `signature` is that of `message`.
    pub(crate) fn verifies(&self, message: &str, signature: &[u8]) -> bool {
        match &self.checks {
            Checks::Secret(key) => hmac::verify(key, message.as_bytes(), signature).is_ok(),
            Checks::Public(key) => key.verify_sig(message.as_bytes(), signature).is_ok(),
        }
    }

    fn secret(secret: &[u8]) -> Result<Key, Problem> {
        if secret.len() < LEAST_SECRET {
            return Err(Problem::ShortSecret(secret.len()));
        }
        Ok(Key {
            kid: None,
            algorithm: Algorithm::Hs256,
            mark: Mark::of_bytes(secret),
            checks: Checks::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret))),
        })
    }

    /// A public key, if it can be written down: what it is known by must not depend on how it was.
    fn parsed(algorithm: Algorithm, key: ParsedPublicKey) -> Option<Key> {
        Some(Key {
            kid: None,
            algorithm,
            mark: Mark::of_bytes(key.as_der().ok()?.as_ref()),
            checks: Checks::Public(key),
        })
    }

    fn pem(pem: &[u8]) -> Result<Key, Problem> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| Problem::NoPublicKey(instead(pem)))?;
        Key::public(&key).ok_or(Problem::KeyKind)
    }

    /// A public key with what says of which kind it is (`SubjectPublicKeyInfo`).
    fn public(der: &[u8]) -> Option<Key> {
        if let Ok(rsa) = RsaPublicKey::from_der(der) {
            let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).ok()?;
            let fits = RSA_BYTES.contains(&rsa.modulus_len());
            fits.then(|| Key::parsed(Algorithm::Rs256, key))?
        } else if let Ok(key) = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der) {
            Key::parsed(Algorithm::Es256, key)
        } else {
            let key = ParsedPublicKey::new(&ED25519, der).ok()?;
            Key::parsed(Algorithm::EdDsa, key)
        }
    }

    /// The keys of a set that can be used; others are to be ignored (RFC 7517, section 5).
    fn set(document: &str) -> Result<Vec<Key>, Problem> {
        let set: JwkSet = serde_json::from_str(document).map_err(|error| Problem::Jwks(error.to_string()))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::of_set).collect();
        if keys.is_empty() {
            return Err(Problem::NoUsableKey(set.keys.len()));
        }
        Ok(keys)
    }

    fn of_set(jwk: &Jwk) -> Option<Key> {
        let common = &jwk.common;
        let for_signatures = common
            .public_key_use
            .as_ref()
            .is_none_or(|usage| *usage == PublicKeyUse::Signature);
        let for_checking = common
            .key_operations
            .as_ref()
            .is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !for_signatures || !for_checking {
            return None;
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let bytes = decoding.try_get_as_bytes();
        let (key, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => {
                let DecodingKeyKind::RsaModulusExponent { n, e } = decoding.kind() else {
                    return None;
                };
                let parts = RsaPublicKeyComponents { n, e };
                let key = parts.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?;
                let fits = RSA_BYTES.contains(&n.len());
                (fits.then(|| Key::parsed(Algorithm::Rs256, key))?, KeyAlgorithm::RS256)
            }
            AlgorithmParameters::EllipticCurve(parameters) => {
                let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes.ok()?).ok()?;
                let fits = parameters.curve == EllipticCurve::P256;
                (fits.then(|| Key::parsed(Algorithm::Es256, key))?, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(parameters) => {
                let key = ParsedPublicKey::new(&ED25519, bytes.ok()?).ok()?;
                let fits = parameters.curve == EllipticCurve::Ed25519;
                (fits.then(|| Key::parsed(Algorithm::EdDsa, key))?, KeyAlgorithm::EdDSA)
            }
            AlgorithmParameters::OctetKey(_) => (Key::secret(bytes.ok()?).ok(), KeyAlgorithm::HS256),
            _ => return None,
        };
        let agrees = common.key_algorithm.is_none_or(|algorithm| algorithm == named);
        Some(Key {
            kid: common.key_id.clone(),
            ..key.filter(|_| agrees)?
        })
    }
}

/// What a PEM file without a public key has instead, where that is a likely mistake.
fn instead(pem: &[u8]) -> &'static str {
    let kinds: Vec<SectionKind> = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .map_while(|section| section.ok().map(|(kind, _)| kind))
        .collect();
    let has = |wanted: &[SectionKind]| kinds.iter().any(|kind| wanted.contains(kind));
    if has(&[
        SectionKind::PrivateKey,
        SectionKind::RsaPrivateKey,
        SectionKind::EcPrivateKey,
    ]) {
        ", but a private key, which signs: its public half is what `openssl pkey -pubout` prints"
    } else if has(&[SectionKind::Certificate]) {
        ", but a certificate: its key is what `openssl x509 -pubkey -noout` prints"
    } else {
        ""
    }
}
