//! What can be wrong with the files of TLS, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There are listeners for it, and no certificate.
    #[error(
        "TLS needs a certificate: give --tls-cert and --tls-key (`tidecast dev-cert` makes them for trying things out)"
    )]
    NoCertificates,
    /// A file cannot be read.
    #[error("cannot read {path}: {source}{hint}", hint = read_hint(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is damaged.
    #[error("{path} is not in order: {reason}; it should be PEM, text between lines of -----BEGIN and -----END")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file has no certificate.
    #[error(
        "{0} has no certificate: it should be PEM with -----BEGIN CERTIFICATE-----, the server's own first, then those of \
         the authorities between it and one that clients know"
    )]
    NoCertificate(PathBuf),
    /// A file has no private key.
    #[error(
        "{0} has no private key: it should be PEM with -----BEGIN PRIVATE KEY----- (PKCS#8), RSA PRIVATE KEY (PKCS#1) or \
         EC PRIVATE KEY (SEC1)"
    )]
    NoKey(PathBuf),
    /// A private key is encrypted.
    #[error(
        "the private key in {0} is encrypted: decrypt it, as by `openssl pkey -in {0} -out FILE`, and protect the file"
    )]
    EncryptedKey(PathBuf),
    /// A private key cannot be used.
    #[error(
        "the private key in {path} cannot be used: {reason}; RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, and Ed25519 can"
    )]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A certificate is none.
    #[error("the first certificate in {path} cannot be used: {reason}")]
    UnusableCertificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A key is another certificate's.
    #[error(
        "the private key in {key} does not belong to the first certificate in {chain}: give --tls-cert and --tls-key in \
         the same order, and in a chain the server's own certificate first"
    )]
    OtherKey {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A file of authorities cannot be used.
    #[error("a certificate in {path} cannot be an authority for clients: {reason}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The library does not take the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

fn read_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; let the user that runs tidecast read it",
        io::ErrorKind::NotFound => "; is the name right, seen from the directory that tidecast was started in?",
        _ => "",
    }
}

/// What is strange about a certificate. It is used all the same: clients decide what they believe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsWarning {
    /// It is too old.
    #[error("the certificate in {path} expired on {on}: clients will refuse it")]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        on: String,
    },
    /// It will be soon.
    #[error("the certificate in {path} expires on {on}")]
    ExpiresSoon {
        /// The file.
        path: PathBuf,
        /// When.
        on: String,
    },
    /// It is for later.
    #[error("the certificate in {path} is not valid before {from}: clients will refuse it until then")]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it will be.
        from: String,
    },
    /// It is for nobody.
    #[error("the certificate in {0} has no names (subjectAltName): browsers and most clients will refuse it")]
    NoName(PathBuf),
}
