//! Keys that signatures are checked with.

use aws_lc_rs::rsa::PublicKey as RsaPublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::{PemObject, SectionKind};

use crate::algorithm::Algorithm;
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
    decoding: DecodingKey,
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

    /// Whether `signature`, in base64url, is that of `message`.
    pub(crate) fn verifies(&self, message: &str, signature: &str) -> bool {
        let algorithm = self.algorithm.of_library();
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.decoding, algorithm).unwrap_or(false)
    }

    fn new(algorithm: Algorithm, decoding: DecodingKey) -> Key {
        Key {
            kid: None,
            algorithm,
            decoding,
        }
    }

    fn secret(secret: &[u8]) -> Result<Key, Problem> {
        if secret.len() < LEAST_SECRET {
            return Err(Problem::ShortSecret(secret.len()));
        }
        Ok(Key::new(Algorithm::Hs256, DecodingKey::from_secret(secret)))
    }

    fn pem(pem: &[u8]) -> Result<Key, Problem> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| Problem::NoPublicKey(instead(pem)))?;
        Key::public(&key).ok_or(Problem::KeyKind)
    }

    /// A public key with what says of which kind it is (`SubjectPublicKeyInfo`).
    fn public(der: &[u8]) -> Option<Key> {
        if let Ok(rsa) = RsaPublicKey::from_der(der) {
            let fits = RSA_BYTES.contains(&rsa.modulus_len());
            fits.then(|| Key::new(Algorithm::Rs256, DecodingKey::from_rsa_der(der)))
        } else if ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der).is_ok() {
            Some(Key::new(Algorithm::Es256, DecodingKey::from_ec_der(der)))
        } else if ParsedPublicKey::new(&ED25519, der).is_ok() {
            Some(Key::new(Algorithm::EdDsa, DecodingKey::from_ed_der(der)))
        } else {
            None
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
        let (algorithm, named, fits) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => {
                let DecodingKeyKind::RsaModulusExponent { n, e } = decoding.kind() else {
                    return None;
                };
                let parsed = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
                let fits = RSA_BYTES.contains(&n.len()) && parsed.is_ok();
                (Algorithm::Rs256, KeyAlgorithm::RS256, fits)
            }
            AlgorithmParameters::EllipticCurve(parameters) => {
                let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes.ok()?);
                let fits = parameters.curve == EllipticCurve::P256 && parsed.is_ok();
                (Algorithm::Es256, KeyAlgorithm::ES256, fits)
            }
            AlgorithmParameters::OctetKeyPair(parameters) => {
                let parsed = ParsedPublicKey::new(&ED25519, bytes.ok()?);
                let fits = parameters.curve == EllipticCurve::Ed25519 && parsed.is_ok();
                (Algorithm::EdDsa, KeyAlgorithm::EdDSA, fits)
            }
            AlgorithmParameters::OctetKey(_) => {
                let fits = bytes.is_ok_and(|secret| secret.len() >= LEAST_SECRET);
                (Algorithm::Hs256, KeyAlgorithm::HS256, fits)
            }
            _ => return None,
        };
        let agrees = common.key_algorithm.is_none_or(|algorithm| algorithm == named);
        (fits && agrees).then(|| Key {
            kid: common.key_id.clone(),
            ..Key::new(algorithm, decoding)
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
