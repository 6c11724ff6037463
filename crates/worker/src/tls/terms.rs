//! What the handshakes of a listener are held with.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;

/// The identity that a client's certificate gives it, if it does.
pub type Identify = dyn Fn(&CertificateDer<'_>) -> Option<String> + Send + Sync;

/// What handshakes are held with: those that begin after it was given to a worker. Nobody who is connected notices a change.
#[derive(Clone)]
pub struct TlsTerms {
    config: Arc<ServerConfig>,
    identify: Option<Arc<Identify>>,
}

impl TlsTerms {
    /// The terms of `config`. `identify` is asked for the identity of clients that have shown a certificate, which
    /// `config` has verified.
    ///
    /// Sessions are resumed by tickets alone, if `config` has a ticketer: what is stored on the server would have to be
    /// locked. There is no early data, for it can be replayed.
    pub fn new(mut config: ServerConfig, identify: Option<Arc<Identify>>) -> TlsTerms {
        // Records are sealed and opened outside of rustls once the handshake is over.
        config.enable_secret_extraction = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        TlsTerms {
            config: Arc::new(config),
            identify,
        }
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
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
