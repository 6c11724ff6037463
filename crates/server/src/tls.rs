//! TLS on listeners: from files to what handshakes are held with.
//!
//! ```text
//!   TlsSettings ─▶ certificates, by the names in them ─┐
//!                  authorities of clients ─────────────┼─▶ TlsTerms, for all workers
//!                  versions, tickets ──────────────────┘
//! ```
//!
//! Everything is read and checked before anything is used: a file that is not what it should be changes nothing.

mod certificate;
mod error;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedCipherSuite, version};
use tidecast_worker::{Identify, TlsTerms};

use certificate::Certificates;
pub use error::TlsError;
pub(crate) use error::TlsWarning;

/// How TLS is spoken, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// What the broker shows. A client that asks for a name gets the first that is for that name and that it can verify; one that
    /// asks for none, or for another, gets the first of all.
    pub(crate) certificates: Vec<CertificateFiles>,
    /// The oldest version that is spoken.
    pub(crate) min_version: TlsVersion,
    /// What is asked of clients.
    pub(crate) clients: ClientCertificates,
    /// Which part of a client's certificate is its identity.
    pub(crate) identity: IdentityField,
}

/// Where a certificate and its key are, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate, then those of the authorities between it and one that clients know.
    pub(crate) chain: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1. May be the same file.
    pub(crate) key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V12,
    /// RFC 8446.
    V13,
}

/// What is asked of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClientCertificates {
    /// Nothing.
    #[default]
    No,
    /// A certificate of an authority in this file, in PEM, if they have one.
    Optional(PathBuf),
    /// The same, from everybody.
    Required(PathBuf),
}

/// What becomes of clients without a certificate, where they are asked for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are refused.
    #[default]
    Required,
    /// They are let in without an identity.
    Optional,
}

/// A part of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentityField {
    /// The common name (CN) of the subject.
    #[default]
    CommonName,
    /// The first DNS name among the subject's alternative names.
    Dns,
    /// The first URI there, as a SPIFFE ID is.
    Uri,
    /// The first e-mail address there.
    Email,
}

/// The TLS of a broker's listeners, as it was read.
#[derive(Debug)]
pub(crate) struct Tls {
    settings: TlsSettings,
    tickets: Arc<dyn ProducesTickets>,
    terms: TlsTerms,
}

impl Tls {
    /// Reads what `settings` name, and checks it; what is strange about it and no error is told besides. Tickets of
    /// `before` stay good.
    ///
    /// # Errors
    /// A file cannot be read or is not what it should be; the error names it and says what to do.
    pub(crate) fn new(
        settings: TlsSettings,
        before: Option<&Tls>,
        now: SystemTime,
    ) -> Result<(Tls, Vec<TlsWarning>), TlsError> {
        let asks = |settings: &TlsSettings| settings.clients != ClientCertificates::No;
        let tickets = match before {
            // A ticket carries the client's certificate. What another authority has vouched for is not to be resumed.
            Some(before) if !asks(&settings) && !asks(&before.settings) => Arc::clone(&before.tickets),
            _ => tickets()?,
        };
        let (terms, warnings) = settings.load(Arc::clone(&tickets), now)?;
        let tls = Tls {
            settings,
            tickets,
            terms,
        };
        Ok((tls, warnings))
    }

    /// What handshakes are held with.
    pub(crate) fn terms(&self) -> TlsTerms {
        self.terms.clone()
    }
}

impl TlsSettings {
    fn load(
        &self,
        tickets: Arc<dyn ProducesTickets>,
        now: SystemTime,
    ) -> Result<(TlsTerms, Vec<TlsWarning>), TlsError> {
        let provider = Arc::new(provider());
        let mut warnings = Vec::new();
        let certificates = Certificates::load(&self.certificates, &provider, now, &mut warnings)?;
        let versions: &[_] = match self.min_version {
            TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V13 => &[&version::TLS13],
        };
        let verifier = self.verifier(&provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(certificates));
        // RFC 7301, section 3.2: a client that offers only others is refused; one that offers none is not.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = tickets;
        Ok((TlsTerms::new(config, self.identify()), warnings))
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let (path, optional) = match &self.clients {
            ClientCertificates::No => return Ok(WebPkiClientVerifier::no_client_auth()),
            ClientCertificates::Optional(path) => (path, true),
            ClientCertificates::Required(path) => (path, false),
        };
        let roots = authorities(path)?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = if optional {
            builder.allow_unauthenticated()
        } else {
            builder
        };
        builder.build().map_err(|error| TlsError::Authority {
            path: path.clone(),
            reason: error.to_string(),
        })
    }

    fn identify(&self) -> Option<Arc<Identify>> {
        let field = self.identity;
        (self.clients != ClientCertificates::No)
            .then(|| Arc::new(move |shown: &CertificateDer<'_>| certificate::identity(shown, field)) as Arc<Identify>)
    }
}

/// The authorities whose certificates are in a file, in PEM: at least one.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificate::read_chain(path)? {
        roots.add(authority).map_err(|error| TlsError::Authority {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// The cryptography, with AES-128 before AES-256: both are beyond reach, and SHA-256, which comes with the former, has
/// hardware where SHA-384 has none. In a profile of resumed handshakes, that of SHA-384 was 20 %, and of SHA-256 it is 7 %.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let is_aes_128 = |suite: &SupportedCipherSuite| {
        matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite));
    provider
}

/// Tickets by which clients resume their sessions with any worker. Their keys change every six hours; a ticket is good for
/// twelve at the most.
fn tickets() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)
}
