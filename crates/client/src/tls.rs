//! TLS for `wss://` URLs.
//!
//! ```no_run
//! use tidecast_client::{Options, Session, Tls, TlsConnector, Trust};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = Tls {
//!     trust: Trust::Authorities("ca.pem".into()),
//!     ..Tls::default()
//! };
//! let options = Options {
//!     tls: Some(TlsConnector::new(&tls)?),
//!     ..Options::default()
//! };
//! let session = Session::connect("wss://localhost:8443/ws", &options, None)?;
//! # Ok(())
//! # }
//! ```

use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, InvalidMessage,
    RootCertStore, SignatureScheme, StreamOwned, version,
};

use crate::connect::remaining;
use crate::error::Error;
use crate::stream::Stream;

/// How TLS is spoken, where the URL says that it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Which certificates are believed.
    pub trust: Trust,
    /// The only version to speak; the newest that the server has if not given.
    pub version: Option<TlsVersion>,
    /// Connections may resume the sessions of earlier ones of the same connector; otherwise each has a full handshake.
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

/// TLS that is ready to be spoken, by any number of connections.
#[derive(Debug, Clone)]
pub struct TlsConnector(Arc<ClientConfig>);

impl TlsConnector {
    /// Reads what is to be believed.
    ///
    /// # Errors
    /// There is nobody to trust, or the library does not take the settings.
    pub fn new(tls: &Tls) -> Result<TlsConnector, TlsError> {
        Ok(TlsConnector(Arc::new(configuration(tls)?)))
    }

    /// As rustls has it.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// Shakes hands with `host` on `socket`.
    pub(crate) fn connect(&self, mut socket: TcpStream, host: &str, deadline: Instant) -> Result<Stream, Failure> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Failure::Tls(format!("{host} is no name that a certificate could be for")))?;
        let explained = |error: &rustls::Error| Failure::Tls(explain(error, host));
        //= RFC 6455#section-4.1
        //# Clients MUST use the Server Name Indication extension in the TLS handshake [RFC6066].
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# User agents MUST use the Server Name Indication extension in the TLS handshake. [RFC6066]
        let mut connection = ClientConnection::new(self.config(), name).map_err(|error| explained(&error))?;
        while connection.is_handshaking() {
            while connection.wants_write() {
                connection.write_tls(&mut socket)?;
            }
            let left = remaining(deadline);
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            socket.set_read_timeout(Some(left))?;
            match connection.read_tls(&mut socket) {
                Ok(0) => {
                    return Err(Failure::Tls(format!(
                        "{host} ended the connection in the TLS handshake"
                    )));
                }
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            if let Err(error) = connection.process_new_packets() {
                //= RFC 6455#section-4.1
                //# If this fails (e.g., the server's certificate could not be verified), then the client MUST _Fail
                //# the WebSocket Connection_ and abort the connection.
                //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
                //# If this fails (e.g. the server's certificate could not be verified), then the user agent MUST
                //# fail the WebSocket connection and abort the connection.
                // The alert says to the server what is wrong; if it does not hear it, that is its loss.
                let _ = connection.write_tls(&mut socket);
                return Err(explained(&error));
            }
        }
        let mut stream = StreamOwned::new(connection, socket);
        stream.flush()?;
        Ok(Stream::Secure(Box::new(stream)))
    }
}

/// Why a handshake failed.
pub(crate) enum Failure {
    Io(io::Error),
    Tls(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl Failure {
    /// As an error of connecting to `url`, where those of the network are told by `io`.
    pub(crate) fn at(self, url: String, io: impl FnOnce(&io::Error) -> Error) -> Error {
        match self {
            Failure::Io(error) => io(&error),
            Failure::Tls(reason) => Error::Secure { url, reason },
        }
    }
}

fn configuration(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let versions: &[_] = match tls.version {
        None => &[&version::TLS13, &version::TLS12],
        Some(TlsVersion::V12) => &[&version::TLS12],
        Some(TlsVersion::V13) => &[&version::TLS13],
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
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

/// Why TLS with `host` came to an end, and what to do about it.
pub fn explain(error: &rustls::Error, host: &str) -> String {
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
