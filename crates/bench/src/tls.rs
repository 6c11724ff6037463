//! TLS between the driver and WebSocket, sans-I/O.
//!
//! ```text
//!   driver ── records ──▶ Session::open ── octets ──▶ WebSocket ── octets ──▶ Session::seal ── records ──▶ driver
//! ```
//!
//! What the WebSocket says before the handshake is over is kept by the session until it is; so nobody else has to know of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tidecast_client::TlsConnector;

use crate::error::Error;
use crate::plan::Plan;
use crate::scenario::Role;

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
        let config = TlsConnector::new(&plan.tls)?.config();
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
