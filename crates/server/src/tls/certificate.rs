//! Certificates: read, checked, and found again by the names that they are for.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::error::{TlsError, TlsWarning};
use super::{CertificateFiles, IdentityField};

/// How long before its end a certificate is worth a warning: what renews itself does so earlier.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// All certificates of the broker.
#[derive(Debug)]
pub(super) struct Certificates {
    first: Arc<CertifiedKey>,
    /// By names in lower case; `*.` for one level is part of the name. Several for one name have different kinds of keys.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Reads and checks them.
    pub(super) fn load(
        files: &[CertificateFiles],
        provider: &CryptoProvider,
        now: SystemTime,
        warnings: &mut Vec<TlsWarning>,
    ) -> Result<Certificates, TlsError> {
        let mut first = None;
        let mut by_name: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        for CertificateFiles { chain, key } in files {
            let certificates = read_chain(chain)?;
            let unusable = |reason: String| TlsError::UnusableCertificate {
                path: chain.clone(),
                reason,
            };
            let own = certificates[0].clone();
            let (_, parsed) = X509Certificate::from_der(&own).map_err(|error| unusable(error.to_string()))?;
            warn(chain, &parsed, now, warnings);
            let certified = match CertifiedKey::from_der(certificates, read_key(key)?, provider) {
                Ok(certified) => Arc::new(certified),
                Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                    return Err(TlsError::OtherKey {
                        chain: chain.clone(),
                        key: key.clone(),
                    });
                }
                Err(Error::InvalidCertificate(error)) => return Err(unusable(error.to_string())),
                Err(error) => {
                    return Err(TlsError::UnusableKey {
                        path: key.clone(),
                        reason: error.to_string(),
                    });
                }
            };
            for name in dns_names(&parsed) {
                by_name
                    .entry(name.to_ascii_lowercase())
                    .or_default()
                    .push(Arc::clone(&certified));
            }
            first.get_or_insert(certified);
        }
        Ok(Certificates {
            first: first.ok_or(TlsError::NoCertificates)?,
            by_name,
        })
    }

    /// Those for `name`: its own before those with a wildcard.
    fn of_name(&self, name: &str) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        // RFC 9525, section 6.3: the wildcard is the whole first label, and stands for one.
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let own = self.by_name.get(&name);
        let wild = wildcard.and_then(|wildcard| self.by_name.get(&wildcard));
        own.into_iter().chain(wild).flatten()
    }

    #[cfg(test)]
    pub(super) fn chain_of(&self, name: &str) -> &[CertificateDer<'static>] {
        &self.of_name(name).next().unwrap_or(&self.first).cert
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        let asked_for = hello.server_name().and_then(|name| self.of_name(name).find(fits));
        Some(Arc::clone(asked_for.unwrap_or(&self.first)))
    }
}

fn dns_names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    alternative_names(certificate, |name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    })
}

/// The subject's alternative names of a kind.
fn alternative_names<'a, T>(
    certificate: &'a X509Certificate<'_>,
    kind: impl Fn(&'a GeneralName<'a>) -> Option<T>,
) -> Vec<T> {
    match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(kind).collect(),
        _ => Vec::new(),
    }
}

fn warn(path: &Path, certificate: &X509Certificate<'_>, now: SystemTime, warnings: &mut Vec<TlsWarning>) {
    let path = path.to_owned();
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() as i64)
    };
    let validity = certificate.validity();
    let (from, until) = (validity.not_before, validity.not_after);
    if seconds(now) < from.timestamp() {
        warnings.push(TlsWarning::NotYetValid {
            path: path.clone(),
            from: from.to_string(),
        });
    }
    if until.timestamp() < seconds(now) {
        warnings.push(TlsWarning::Expired {
            path: path.clone(),
            on: until.to_string(),
        });
    } else if until.timestamp() < seconds(now + SOON) {
        warnings.push(TlsWarning::ExpiresSoon {
            path: path.clone(),
            on: until.to_string(),
        });
    }
    let is_address = |name| match name {
        &GeneralName::IPAddress(address) => Some(address),
        _ => None,
    };
    if dns_names(certificate).is_empty() && alternative_names(certificate, is_address).is_empty() {
        warnings.push(TlsWarning::NoName(path));
    }
}

/// The certificates in a file: at least one.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(path, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        // PKCS#8 has a label of its own for it, PKCS#1 and SEC1 a line.
        _ if String::from_utf8_lossy(&text).contains("ENCRYPTED") => TlsError::EncryptedKey(path.to_owned()),
        pem::Error::NoItemsFound => TlsError::NoKey(path.to_owned()),
        error => malformed(path, &error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn malformed(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// Who shows this certificate.
pub(super) fn identity(certificate: &CertificateDer<'_>, field: IdentityField) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let first = |kind: fn(&GeneralName<'_>) -> Option<String>| alternative_names(&parsed, kind).into_iter().next();
    let found = match field {
        IdentityField::CommonName => {
            let name = parsed.subject().iter_common_name().next()?;
            Some(name.as_str().ok()?.to_owned())
        }
        IdentityField::Dns => first(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }),
        IdentityField::Uri => first(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        }),
        IdentityField::Email => first(|name| match name {
            GeneralName::RFC822Name(address) => Some((*address).to_owned()),
            _ => None,
        }),
    };
    found.filter(|identity| !identity.is_empty())
}
