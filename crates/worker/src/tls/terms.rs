//! What the handshakes of a listener are held with.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::{CipherSuite, ServerConfig};

/// The identity that a client's certificate gives it, if it does.
pub type Identify = dyn Fn(&CertificateDer<'_>) -> Option<String> + Send + Sync;

/// What handshakes are held with: those that begin after it was given to a worker. Nobody who is connected notices a change.
#[derive(Clone)]
pub struct TlsTerms {
    /// With the order of cipher suites that the server prefers.
    config: Arc<ServerConfig>,
    /// With that of the client.
    deferring: Arc<ServerConfig>,
    identify: Option<Arc<Identify>>,
}

impl TlsTerms {
    /// The terms of `config`. `identify` is asked for the identity of clients that have shown a certificate, which
    /// `config` has verified.
    ///
    /// Sessions are resumed by tickets alone, if `config` has a ticketer: what is stored on the server would have to be
    /// locked. There is no early data, for it can be replayed.
    ///
    /// The order of its cipher suites goes before that of a client, unless the client prefers ChaCha20: that is one without
    /// hardware for AES.
    pub fn new(mut config: ServerConfig, identify: Option<Arc<Identify>>) -> TlsTerms {
        // Records are sealed and opened outside of rustls once the handshake is over.
        config.enable_secret_extraction = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        config.ignore_client_order = true;
        let mut deferring = config.clone();
        deferring.ignore_client_order = false;
        TlsTerms {
            config: Arc::new(config),
            deferring: Arc::new(deferring),
            identify,
        }
    }

    /// For a client whose first record is this.
    pub(super) fn config(&self, record: &[u8]) -> Arc<ServerConfig> {
        Arc::clone(if prefers_chacha(record) {
            &self.deferring
        } else {
            &self.config
        })
    }

    pub(super) fn identity(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        self.identify.as_ref().and_then(|identify| identify(certificate))
    }
}

impl fmt::Debug for TlsTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTerms").finish_non_exhaustive()
    }
}

/// Whether the first cipher suite of the ClientHello in this record is one with ChaCha20. What cannot be read has no
/// preference; whether it is in order is for others to judge.
fn prefers_chacha(record: &[u8]) -> bool {
    let suites = || {
        // RFC 8446, section 4.1.2: after the headers of record and message, the version and the random, an identifier.
        let (len, rest) = record.get(5 + 4 + 2 + 32..)?.split_first()?;
        let (len, suites) = rest.get(usize::from(*len)..)?.split_first_chunk::<2>()?;
        let suites = suites.get(..u16::from_be_bytes(*len).into())?;
        Some(
            suites
                .chunks_exact(2)
                .map(|suite| CipherSuite::from(u16::from_be_bytes([suite[0], suite[1]]))),
        )
    };
    // RFC 8701: browsers put in suites that do not exist.
    let is_grease = |suite: &CipherSuite| u16::from(*suite) & 0x0f0f == 0x0a0a;
    let first = suites().and_then(|mut suites| suites.find(|suite| !is_grease(suite)));
    matches!(
        first,
        Some(
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    )
}
