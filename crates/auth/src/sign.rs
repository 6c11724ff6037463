//! Making JSON Web Tokens, for operators and tests: the broker itself never does.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256};
use aws_lc_rs::{error, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use crate::algorithm::Algorithm;
use crate::key::LEAST_SECRET;

/// A key to sign with: a secret or a private key.
pub struct SigningKey(Kind);

enum Kind {
    Secret(Box<hmac::Key>),
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
}

/// Why a key cannot sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A secret that can be guessed.
    #[error(
        "the secret has {0} bytes, and HS256 needs 32 that nobody can guess: make one with `tidecast token random`"
    )]
    ShortSecret(usize),
    /// There is no private key.
    #[error("there is no private key (-----BEGIN PRIVATE KEY-----) in it")]
    NoPrivateKey,
    /// It is for something else.
    #[error("this is no private key for RS256 (RSA of 2048 to 8192 bits), ES256 (P-256) or EdDSA (Ed25519)")]
    KeyKind,
    /// The library failed.
    #[error("signing failed")]
    Failed,
}

impl From<error::Unspecified> for SignError {
    fn from(_: error::Unspecified) -> SignError {
        SignError::Failed
    }
}

impl SigningKey {
    /// A secret for HS256.
    ///
    /// # Errors
    /// It has fewer than 32 bytes.
    pub fn secret(secret: &[u8]) -> Result<SigningKey, SignError> {
        if secret.len() < LEAST_SECRET {
            return Err(SignError::ShortSecret(secret.len()));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Ok(SigningKey(Kind::Secret(Box::new(key))))
    }

    /// A private key in PEM; what kind of key it is says which algorithm it is for.
    ///
    /// # Errors
    /// There is none, or one of a kind that is not used.
    pub fn from_pem(pem: &[u8]) -> Result<SigningKey, SignError> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| SignError::NoPrivateKey)?;
        let der = key.secret_der();
        let rsa = match &key {
            PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(der),
            _ => RsaKeyPair::from_pkcs8(der),
        };
        let rsa = rsa.map(|key| Kind::Rsa(Box::new(key)));
        let ec = || EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        let ec = || ec().map(|key| Kind::Ec(Box::new(key)));
        // OpenSSL leaves the public half out, which the strict reader asks for.
        let ed = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
        let ed = || ed().map(|key| Kind::Ed(Box::new(key)));
        let kind = rsa.or_else(|_| ec()).or_else(|_| ed());
        kind.map(SigningKey).map_err(|_| SignError::KeyKind)
    }

    /// The algorithm that it is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Kind::Secret(_) => Algorithm::Hs256,
            Kind::Rsa(_) => Algorithm::Rs256,
            Kind::Ec(_) => Algorithm::Es256,
            Kind::Ed(_) => Algorithm::EdDsa,
        }
    }

    /// A token with these claims, naming the key `kid`.
    ///
    /// # Errors
    /// [`SignError::Failed`], when the system has no random numbers.
    pub fn sign(&self, kid: Option<&str>, claims: &Map<String, Value>) -> Result<String, SignError> {
        let mut header = Map::new();
        header.insert("alg".to_owned(), json!(self.algorithm().as_str()));
        header.insert("typ".to_owned(), json!("JWT"));
        if let Some(kid) = kid {
            header.insert("kid".to_owned(), json!(kid));
        }
        self.sign_with(&Value::Object(header), claims)
    }

    /// The same with a header that may say anything.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Map<String, Value>) -> Result<String, SignError> {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let claims = URL_SAFE_NO_PAD.encode(Value::Object(claims.clone()).to_string());
        let message = format!("{header}.{claims}");
        let signature = self.signature(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        Ok(match &self.0 {
            Kind::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
            Kind::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                signature
            }
            Kind::Ec(key) => key.sign(&random, message)?.as_ref().to_vec(),
            Kind::Ed(key) => key.sign(message).as_ref().to_vec(),
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}
