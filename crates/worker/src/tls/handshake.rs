//! The handshake, which is rustls' from the first record to the last.

use rustls::HandshakeKind;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

use super::session::Fault;
use super::terms::TlsTerms;

/// What a finished handshake has brought, besides keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) is_resumed: bool,
    /// Who the client is, by its certificate.
    pub(super) identity: Option<Box<str>>,
}

/// How far a handshake has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More has to come.
    Going,
    /// It is over.
    Done,
    /// The peer gave it up in order.
    Closed,
}

/// A handshake under way.
pub(super) struct Handshake {
    connection: UnbufferedServerConnection,
    terms: TlsTerms,
    /// Records that rustls has not done away with: those of a message that is not there to its end. It limits that to 64 KiB.
    incoming: Vec<u8>,
}

impl Handshake {
    /// For a client whose first record is this, which is taken in by [`Handshake::receive`].
    pub(super) fn new(terms: TlsTerms, record: &[u8]) -> Result<Handshake, Fault> {
        Ok(Handshake {
            connection: UnbufferedServerConnection::new(terms.config(record)).map_err(|_| Fault::Refused)?,
            terms,
            incoming: Vec::new(),
        })
    }

    /// Octets that it holds.
    pub(super) fn memory(&self) -> usize {
        size_of::<Handshake>() + self.incoming.capacity()
    }

    /// Takes in one whole record, and appends what is to be answered to `out`, after a failure too.
    ///
    /// One at a time, so that none of what follows the handshake gets in here.
    pub(super) fn receive(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<Progress, Fault> {
        self.incoming.extend_from_slice(record);
        let advanced = self.advance(out);
        if advanced.is_err() {
            self.say_alert(out);
        }
        advanced
    }

    fn advance(&mut self, out: &mut Vec<u8>) -> Result<Progress, Fault> {
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.incoming);
            let progress = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out).map(|()| None),
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Ok(None)
                }
                Ok(ConnectionState::BlockedHandshake) => Ok(Some(Progress::Going)),
                Ok(ConnectionState::WriteTraffic(_)) => Ok(Some(Progress::Done)),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Some(Progress::Closed)),
                // Octets of the peer's cannot be there yet: they are in records of their own.
                Ok(_) | Err(_) => Err(Fault::Refused),
            };
            self.incoming.drain(..discard);
            if let Some(progress) = progress? {
                return Ok(progress);
            }
        }
    }

    /// What rustls says after a failure. It is given before anything is read again, which must not be.
    fn say_alert(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.incoming);
            let said = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out),
                _ => Err(Fault::Refused),
            };
            self.incoming.drain(..discard);
            if said.is_err() {
                break;
            }
        }
    }

    /// What was agreed on, and the connection, which has the keys.
    pub(super) fn finish(self) -> (Agreed, UnbufferedServerConnection) {
        let certificate = self.connection.peer_certificates().and_then(<[_]>::first);
        let agreed = Agreed {
            is_resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
            identity: certificate
                .and_then(|certificate| self.terms.identity(certificate))
                .map(String::into_boxed_str),
        };
        (agreed, self.connection)
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handshake({} bytes kept)", self.incoming.len())
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let start = out.len();
    // It says how much room it takes if it is given none.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(start + size.required_size, 0);
        data.encode(&mut out[start..]).map_err(|_| Fault::Refused)?;
    }
    Ok(())
}
