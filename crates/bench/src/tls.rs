//! TLS between the ring and WebSocket, sans-I/O.
//!
//! ```text
//!   ring ── records ──▶ Session::open ── octets ──▶ WebSocket ── octets ──▶ Session::seal ── records ──▶ ring
//! ```
//!
//! What the WebSocket says before the handshake is over is kept by the session until it is; so nobody else has to know of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind,
    InvalidMessage, RootCertStore, SignatureScheme, version,
};

use crate::error::Error;
use crate::plan::Plan;
use crate::scenario::Role;

/// How TLS is spoken, where the URL says that it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Which certificates are believed.
    pub trust: Trust,
    /// The only version to speak; the newest that the server has if not given.
    pub version: Option<TlsVersion>,
    /// Connections may resume the sessions of earlier ones; otherwise each has a full handshake.
    pub resume: bool,
}

/// Which certificates are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of the authorities that this system trusts.
    #[default]
    System,
    /// Those of the authorities in a file, in PEM.
    Authorities(PathBuf),
    /// All of them, for any name.
    Anybody,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    V12,
    /// RFC 8446.
    V13,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of authorities cannot be used.
    #[error("cannot read certificates from {path}: {reason}")]
    Authorities {
        /// Its name.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There are none in it.
    #[error("{0} has no certificate in PEM that could be an authority's")]
    NoAuthority(PathBuf),
    /// The system trusts nobody.
    #[error("this system trusts no authority{0}: name a file of them with --tls-ca, or give --tls-insecure")]
    NoSystemAuthority(String),
    /// The library does not take the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// What was agreed on with the server, connection by connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct TlsReport {
    /// Full handshakes.
    pub full: u64,
    /// Handshakes that resumed a session.
    pub resumed: u64,
    /// How many had which version and cipher suite.
    pub suites: BTreeMap<String, u64>,
}

impl TlsReport {
    pub(crate) fn add(&mut self, other: TlsReport) {
        self.full += other.full;
        self.resumed += other.resumed;
        for (suite, count) in other.suites {
            *self.suites.entry(suite).or_default() += count;
        }
    }

    /// The handshake of a session is over.
    pub(crate) fn note(&mut self, session: &Session) {
        match session.0.handshake_kind() {
            Some(HandshakeKind::Resumed) => self.resumed += 1,
            _ => self.full += 1,
        }
        let version = match session.0.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let suite = session.0.negotiated_cipher_suite();
        let suite = suite.map_or_else(String::new, |suite| format!("{:?}", suite.suite()));
        *self.suites.entry(format!("{version} {suite}")).or_default() += 1;
    }
}

/// What the sessions of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// For the connections of a checked plan, if it has TLS.
    ///
    /// # Errors
    /// There is nobody to trust, or the library does not take the settings.
    pub(crate) fn new(plan: &Plan) -> Result<Option<Client>, Error> {
        let url = plan.target(Role::Subscriber, 0)?;
        if !url.is_secure() {
            return Ok(None);
        }
        let name = ServerName::try_from(url.host().to_owned()).expect("the plan was checked");
        let config = Arc::new(configuration(&plan.tls)?);
        Ok(Some(Client { config, name }))
    }

    /// The beginning of a connection.
    pub(crate) fn session(&self) -> Session {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = connection.expect("settings that are good for one connection are good for all");
        // What is to be sent is limited by those who send it.
        connection.set_buffer_limit(None);
        Session(Box::new(connection))
    }
}

fn configuration(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let versions: &[_] = match tls.version {
        None => &[&version::TLS13, &version::TLS12],
        Some(TlsVersion::V12) => &[&version::TLS12],
        Some(TlsVersion::V13) => &[&version::TLS13],
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(TlsError::Setup)?;
    let builder = match &tls.trust {
        Trust::System => builder.with_root_certificates(system_authorities()?),
        Trust::Authorities(path) => builder.with_root_certificates(authorities(path)?),
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    let mut config = builder.with_no_client_auth();
    // RFC 7301: servers that have several protocols on a port are told which one this is.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !tls.resume {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let unreadable = |error: rustls::pki_types::pem::Error| TlsError::Authorities {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.map_err(unreadable)?);
    if store.is_empty() {
        return Err(TlsError::NoAuthority(path.to_owned()));
    }
    Ok(store)
}

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let reason = found.errors.first();
        let reason = reason.map_or_else(String::new, |error| format!(" ({error})"));
        return Err(TlsError::NoSystemAuthority(reason));
    }
    Ok(store)
}

/// Believes any certificate. That whoever has it also has its key is checked all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The TLS of one connection.
#[derive(Debug)]
pub(crate) struct Session(Box<ClientConnection>);

impl Session {
    pub(crate) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Takes in `records`, and appends what they say to `octets`; whether it is the last the server says.
    ///
    /// What this gives TLS itself to say is part of what is sealed next, an alert if it failed included.
    pub(crate) fn open(&mut self, mut records: &[u8], octets: &mut Vec<u8>) -> Result<bool, rustls::Error> {
        while !records.is_empty() {
            let taken = self.0.read_tls(&mut records);
            // All was taken out before, so that there is room.
            if taken.map_err(|error| rustls::Error::General(error.to_string()))? == 0 {
                break;
            }
            let state = self.0.process_new_packets()?;
            let start = octets.len();
            octets.resize(start + state.plaintext_bytes_to_read(), 0);
            self.0
                .reader()
                .read_exact(&mut octets[start..])
                .expect("so many there are");
            if state.peer_has_closed() {
                self.0.send_close_notify();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends the records of `octets`, which is emptied, and of what TLS itself has to say.
    pub(crate) fn seal(&mut self, octets: &mut Vec<u8>, records: &mut Vec<u8>) {
        self.0.writer().write_all(octets).expect("there is no limit");
        octets.clear();
        while self.0.wants_write() {
            self.0.write_tls(records).expect("memory takes any write");
        }
    }
}

/// Why TLS with `host` came to an end, and what to do about it.
pub(crate) fn explain(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            // The signature is bad where two authorities have one name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "{host} has a certificate of an authority that is not trusted here: name that with --tls-ca, or give \
                 --tls-insecure"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "the certificate is not one for {host}: {reason}; use its name in the URL, or give --tls-insecure"
                )
            }
            _ => format!("the certificate of {host} is not believed: {reason}"),
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{host} does not speak TLS on that port: give a ws:// URL, or the port where it does")
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure),
        ) => format!(
            "{host} speaks no version of TLS, or no cipher suite, that was offered: it sent the alert {alert:?}"
        ),
        rustls::Error::AlertReceived(alert) => format!("{host} ended TLS with the alert {alert:?}"),
        other => format!("TLS with {host} failed: {other}"),
    }
}
