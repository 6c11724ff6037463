//! The TLS of one connection.
//!
//! ```text
//!              first record            handshake over               close_notify both ways, or a fault
//!   Expected ──────────────▶ Shaking ─────────────────▶ Open ────────────────────────────────────────▶ Over
//!       no memory of rustls'     │ refused, alert said                                                  ▲
//!                                └──────────────────────────────────────────────────────────────────────┘
//! ```

use std::ops::Range;

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, ContentType, ProtocolVersion, SupportedCipherSuite};

use super::handshake::{Handshake, Progress};
use super::record::{LARGEST, Layout, OVERHEAD, Opening, Records, Sealing};
use super::stage::Arena;
use super::terms::TlsTerms;

/// Key updates that a peer may make without saying anything in between; each costs as much as a hundred small records.
/// BoringSSL and rustls have the same limit.
const KEY_UPDATES: u8 = 32;
/// Warnings of TLS 1.2 that a peer may send. BoringSSL and rustls have the same limit.
const WARNINGS: u8 = 4;
/// Of the records that keys without successors are good for, one in so many is for the goodbye, and for what is queued before it.
const FAREWELL: u64 = 8;
/// What a key update begins with, RFC 8446, section 4.6.3: its type and its length. One octet follows: is an answer asked for?
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
/// The level of alerts that end a connection, and of others.
const FATAL: u8 = 2;
const WARNING: u8 = 1;

/// Why TLS came to an end before its time.
#[derive(Debug)]
pub(crate) enum Fault {
    /// rustls gave the handshake up, and has said why in an alert.
    Refused,
    /// The peer broke the protocol, and is told by this alert.
    Broken(AlertDescription),
    /// The peer gave up with an alert.
    Alerted,
    /// So much was sealed that more would weaken the keys, and TLS 1.2 has no new ones.
    Exhausted,
}

/// What a record has brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing for anybody else.
    Nothing,
    /// The handshake is over.
    Shaken {
        /// It resumed an earlier session.
        resumed: bool,
    },
    /// Octets, at this place in the record.
    Data(Range<usize>),
    /// The peer says no more.
    Closed,
}

/// TLS with one client, between a socket and a connection.
#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    /// The beginning of a record whose end has not come yet.
    partial: Vec<u8>,
    /// Sealed and not sent: it goes before everything else.
    waiting: Vec<u8>,
    /// What is said when all else is.
    goodbye: Goodbye,
    identity: Option<Box<str>>,
}

#[derive(Debug)]
enum State {
    Expected(TlsTerms),
    Shaking(Box<Handshake>),
    Open(Box<Open>),
    Over,
}

/// Where the close_notify stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    NotYet,
    /// As soon as all that was queued is sealed.
    Wanted,
    /// It was, or nothing may be said any more.
    Said,
}

#[derive(Debug)]
struct Open {
    opening: Opening,
    sealing: Sealing,
    /// Sealed records after which the keys have to be changed.
    limit: u64,
    /// Where new keys come from; TLS 1.2 has none.
    keys: Option<Keys>,
    /// The peer has asked for our new keys, and was not given them yet.
    owes_update: bool,
    updates_left: u8,
    warnings_left: u8,
    message: Message,
    /// It was told that it comes to its end.
    is_ending: bool,
}

/// How much of a key update has come: it may come in several records.
#[derive(Debug, Default)]
struct Message {
    len: u8,
}

struct Keys(Box<KernelConnection<ServerConnectionData>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// Whether what a client says first is HTTP and not TLS, whose first octet is 22.
pub(crate) fn speaks_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

impl Session {
    /// For a connection of which nothing has come.
    pub(crate) fn new(terms: &TlsTerms) -> Session {
        Session {
            state: State::Expected(terms.clone()),
            partial: Vec::new(),
            waiting: Vec::new(),
            goodbye: Goodbye::NotYet,
            identity: None,
        }
    }

    /// Whether nothing has come yet.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self.state, State::Expected(_)) && self.partial.is_empty()
    }

    /// Whether octets can go both ways.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether nothing of what comes matters any more.
    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Who the client is, by the certificate that it has shown.
    pub(crate) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// What is sealed and not sent.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.waiting
    }

    /// Octets that are held of what has come in part.
    pub(crate) fn memory(&self) -> usize {
        let shaking = match &self.state {
            State::Shaking(handshake) => handshake.memory(),
            State::Expected(_) | State::Open(_) | State::Over => 0,
        };
        self.partial.capacity() + shaking
    }

    // What comes in

    /// The records of what was received.
    pub(crate) fn records<'b>(&mut self, bytes: &'b mut [u8]) -> Records<'b> {
        Records::new(std::mem::take(&mut self.partial), bytes)
    }

    /// Keeps what is no whole record for the next time.
    pub(crate) fn keep(&mut self, rest: Vec<u8>) {
        self.partial = rest;
    }

    /// Takes in one whole record. After a fault nothing more is taken in or sealed; the alert, if there is one to be said,
    /// waits.
    pub(crate) fn receive(&mut self, record: &mut [u8]) -> Result<Received, Fault> {
        let received = self.take(record);
        if let Err(fault) = &received {
            self.give_up(fault);
        }
        received
    }

    /// What came is no record.
    pub(crate) fn give_up(&mut self, fault: &Fault) {
        if let Fault::Broken(alert) = fault {
            let _ = self.say_alert(FATAL, *alert);
        }
        self.state = State::Over;
        self.goodbye = Goodbye::Said;
    }

    fn take(&mut self, record: &mut [u8]) -> Result<Received, Fault> {
        if let State::Expected(terms) = &self.state {
            self.state = State::Shaking(Box::new(Handshake::new(terms.clone(), record)?));
        }
        match &mut self.state {
            State::Expected(_) | State::Over => Ok(Received::Nothing),
            State::Shaking(handshake) => match handshake.receive(record, &mut self.waiting)? {
                Progress::Going => Ok(Received::Nothing),
                Progress::Done => self.open(),
                Progress::Closed => {
                    self.state = State::Over;
                    Ok(Received::Closed)
                }
            },
            State::Open(open) => {
                let (kind, range) = open.opening.open(record)?;
                match kind {
                    ContentType::ApplicationData => {
                        open.updates_left = KEY_UPDATES;
                        Ok(if range.is_empty() {
                            Received::Nothing
                        } else {
                            Received::Data(range)
                        })
                    }
                    ContentType::Alert => open.hear_alert(&record[range]),
                    ContentType::Handshake if open.keys.is_some() => open.hear_update(&record[range]),
                    ContentType::Handshake => self.refuse_renegotiation(),
                    _ => Err(Fault::Broken(AlertDescription::UnexpectedMessage)),
                }
            }
        }
    }

    /// The handshake is over: takes the keys from rustls, and lets go of the rest.
    fn open(&mut self) -> Result<Received, Fault> {
        let State::Shaking(handshake) = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(Received::Nothing);
        };
        let (agreed, connection) = handshake.finish();
        self.state = State::Open(Box::new(Open::new(connection)?));
        self.identity = agreed.identity;
        Ok(Received::Shaken {
            resumed: agreed.is_resumed,
        })
    }

    /// RFC 5746, section 4.5 (TLS 1.2): no, once; rustls' answer too.
    fn refuse_renegotiation(&mut self) -> Result<Received, Fault> {
        if let State::Open(open) = &mut self.state {
            if open.warnings_left < WARNINGS {
                return Err(Fault::Broken(AlertDescription::HandshakeFailure));
            }
            open.warnings_left -= 1;
            self.say_alert(WARNING, AlertDescription::NoRenegotiation)?;
        }
        Ok(Received::Nothing)
    }

    fn say_alert(&mut self, level: u8, alert: AlertDescription) -> Result<(), Fault> {
        let content = [level, u8::from(alert)];
        match &mut self.state {
            State::Open(open) => {
                let mut record = [0; 2 + OVERHEAD];
                let len = open.sealing.seal(ContentType::Alert, &content, &mut record)?;
                self.waiting.extend_from_slice(&record[..len]);
            }
            State::Expected(_) => {
                self.waiting
                    .extend_from_slice(&[u8::from(ContentType::Alert), 3, 3, 0, 2]);
                self.waiting.extend_from_slice(&content);
            }
            // Perhaps rustls has keys by now, perhaps not.
            State::Shaking(_) | State::Over => {}
        }
        Ok(())
    }

    // What goes out

    /// Nothing follows what is queued: the peer is to be told so. Gives false if it has been already.
    ///
    /// RFC 8446, section 6.1: each party sends a close_notify before it closes its side, unless it has sent a fatal alert.
    pub(crate) fn say_goodbye(&mut self, is_all_sealed: bool) -> bool {
        if self.goodbye == Goodbye::Said || !self.is_open() {
            return false;
        }
        self.goodbye = Goodbye::Wanted;
        if is_all_sealed {
            self.close_if_wanted();
        }
        true
    }

    fn close_if_wanted(&mut self) {
        if self.goodbye == Goodbye::Wanted {
            self.goodbye = Goodbye::Said;
            // Keys that are spent cannot say it: the peer will see the end of the stream alone.
            let _ = self.say_alert(WARNING, AlertDescription::CloseNotify);
        }
    }

    /// Appends to `out` what waits, then `content`, sealed. `is_all` tells that nothing is queued beyond it.
    ///
    /// Nothing of it is kept: what a socket does not take comes back by [`Session::put_back`].
    pub(crate) fn seal(&mut self, content: &[u8], is_all: bool, out: &mut Arena) -> Result<(), Fault> {
        if let State::Open(open) = &mut self.state {
            open.renew_sealing(content.len().div_ceil(LARGEST), &mut self.waiting)?;
            out.append(&std::mem::take(&mut self.waiting));
            for piece in content.chunks(LARGEST) {
                let len = {
                    let room = out.room(piece.len() + OVERHEAD);
                    open.sealing.seal(ContentType::ApplicationData, piece, room)?
                };
                out.advance(len);
            }
        }
        if is_all {
            self.close_if_wanted();
        }
        out.append(&std::mem::take(&mut self.waiting));
        Ok(())
    }

    /// Whether its keys are about to be spent, and no others are to be had: it has to be closed as long as it can be said why.
    /// It tells so once.
    pub(crate) fn begins_to_end(&mut self) -> bool {
        let State::Open(open) = &mut self.state else {
            return false;
        };
        let spent = open.sealing.sequence() >= open.limit - open.limit / FAREWELL;
        spent && open.keys.is_none() && !std::mem::replace(&mut open.is_ending, true)
    }

    /// The memory kept for a record whose end has not come yet.
    #[cfg(test)]
    pub(super) fn partial_capacity(&self) -> usize {
        self.partial.capacity()
    }

    /// As if the keys were spent after so many records.
    #[cfg(test)]
    pub(super) fn limit_keys(&mut self, records: u64) {
        if let State::Open(open) = &mut self.state {
            open.limit = records;
        }
    }

    /// The end of what was sealed last was not sent.
    pub(crate) fn put_back(&mut self, unsent: &[u8]) {
        debug_assert!(self.waiting.is_empty(), "what was sealed last is what is not sent");
        self.waiting = unsent.to_vec();
    }
}

impl Open {
    fn new(connection: UnbufferedServerConnection) -> Result<Open, Fault> {
        let (secrets, keys) = connection
            .dangerous_into_kernel_connection()
            .map_err(|_| Fault::Refused)?;
        let is_13 = keys.protocol_version() == ProtocolVersion::TLSv1_3;
        let limit = match keys.negotiated_cipher_suite() {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        };
        let layout = Layout::of(is_13, &secrets.tx.1);
        Ok(Open {
            opening: Opening::new(layout, secrets.rx.0, &secrets.rx.1)?,
            sealing: Sealing::new(layout, secrets.tx.0, &secrets.tx.1)?,
            limit,
            keys: is_13.then(|| Keys(Box::new(keys))),
            owes_update: false,
            updates_left: KEY_UPDATES,
            warnings_left: WARNINGS,
            message: Message::default(),
            is_ending: false,
        })
    }

    fn hear_alert(&mut self, content: &[u8]) -> Result<Received, Fault> {
        let &[level, alert] = content else {
            return Err(Fault::Broken(AlertDescription::DecodeError));
        };
        match AlertDescription::from(alert) {
            AlertDescription::CloseNotify => Ok(Received::Closed),
            // RFC 8446, section 6.1: a close_notify follows, or it means nothing.
            AlertDescription::UserCanceled if self.keys.is_some() => Ok(Received::Nothing),
            _ if self.keys.is_none() && level == WARNING && self.warnings_left > 0 => {
                self.warnings_left -= 1;
                Ok(Received::Nothing)
            }
            _ => Err(Fault::Alerted),
        }
    }

    /// Takes in a part of a handshake message, or several: after the handshake a client may only change its keys.
    fn hear_update(&mut self, content: &[u8]) -> Result<Received, Fault> {
        for (index, byte) in content.iter().enumerate() {
            let asks = match self.message.push(*byte)? {
                None => continue,
                Some(asks) => asks,
            };
            // What follows would be sealed by the new keys.
            if index + 1 < content.len() {
                return Err(Fault::Broken(AlertDescription::UnexpectedMessage));
            }
            self.updates_left = self
                .updates_left
                .checked_sub(1)
                .ok_or(Fault::Broken(AlertDescription::UnexpectedMessage))?;
            if let Some(Keys(keys)) = &mut self.keys {
                let (sequence, secrets) = keys.update_rx_secret().map_err(|_| Fault::Refused)?;
                self.opening = Opening::new(Layout::V13, sequence, &secrets)?;
            }
            self.owes_update |= asks;
        }
        Ok(Received::Nothing)
    }

    /// Changes the keys that are sealed with, if the peer has asked for it, or if they are spent before `records` more.
    fn renew_sealing(&mut self, records: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        // One more for what says so, and one for a close_notify.
        let is_spent = self.sealing.sequence() + records as u64 + 2 > self.limit;
        let is_owed = std::mem::take(&mut self.owes_update);
        if !is_spent && !is_owed {
            return Ok(());
        }
        let Some(Keys(keys)) = &mut self.keys else {
            return Err(Fault::Exhausted);
        };
        let mut record = [0; KEY_UPDATE.len() + 1 + OVERHEAD];
        let not_requested = 0;
        let [kind, a, b, c] = KEY_UPDATE;
        let len = self
            .sealing
            .seal(ContentType::Handshake, &[kind, a, b, c, not_requested], &mut record)?;
        out.extend_from_slice(&record[..len]);
        let (sequence, secrets) = keys.update_tx_secret().map_err(|_| Fault::Refused)?;
        self.sealing = Sealing::new(Layout::V13, sequence, &secrets)?;
        Ok(())
    }
}

impl Message {
    /// Takes the next octet. At the end of a key update: whether it asks for one in return.
    fn push(&mut self, byte: u8) -> Result<Option<bool>, Fault> {
        let at = usize::from(self.len);
        if let Some(expected) = KEY_UPDATE.get(at) {
            if byte != *expected {
                let is_other = at == 0;
                return Err(Fault::Broken(if is_other {
                    AlertDescription::UnexpectedMessage
                } else {
                    AlertDescription::DecodeError
                }));
            }
            self.len += 1;
            return Ok(None);
        }
        self.len = 0;
        match byte {
            0 => Ok(Some(false)),
            1 => Ok(Some(true)),
            _ => Err(Fault::Broken(AlertDescription::IllegalParameter)),
        }
    }
}
