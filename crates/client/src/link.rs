//! An open WebSocket without I/O: bytes in, messages out. Both faces of the client drive it.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use tidecast_websocket::{Connection, Deflater, Event, Input, Limits, Millis, Opcode, State, TimedOut, Timing};

use crate::error::Error;
use crate::opening::Agreed;
use crate::options::Options;
use crate::random::masking_key;

/// Bytes asked for by one read.
const READ: usize = 64 * 1024;

/// Bytes of queued messages beyond which they should be written without waiting for more.
const QUEUE: usize = 64 * 1024;

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    protocol: Option<String>,
    /// Present if an extension compresses, and the connection has no window of its own to do it with.
    deflater: Option<Box<Deflater>>,
    timing: Timing,
    keep_alive: Duration,
    /// Where [`Millis`] count from.
    epoch: Instant,
    /// What was read; `unread` of it has not been looked at.
    buffer: Vec<u8>,
    unread: Range<usize>,
    /// What is to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// Some of it answers the server, which should not be kept waiting.
    owes_answer: bool,
    /// Why nothing can be written any more: the last frame may be torn.
    unwritable: Option<Error>,
    /// The server's Close, once it came.
    closed: Option<(Option<u16>, String)>,
}

impl Link {
    pub(crate) fn new(agreed: Agreed, options: &Options, now: Instant) -> Link {
        let limits = Limits {
            max_message: options.max_message,
            ..Limits::default()
        };
        let unread = 0..agreed.received.len();
        let mut buffer = agreed.received;
        buffer.resize(buffer.len().max(READ), 0);
        let extension = agreed.accepted.extension;
        let mut connection =
            Connection::client(options.version, limits, masking_key, Millis(0)).with_extension(extension);
        let compression = options.compression.filter(|_| extension.is_some());
        let has_window = compression.is_some_and(|with| {
            with.context_takeover && connection.open_window(with.level.clamp(1, 9), with.min_payload)
        });
        let silence = options.keep_alive.map_or(Millis::NEVER, |silence| silence.into());
        Link {
            connection,
            protocol: agreed.accepted.protocol,
            deflater: compression
                .filter(|_| !has_window)
                .map(|with| Box::new(Deflater::new(with.level, with.min_payload))),
            timing: Timing {
                ping_interval: silence,
                pong_timeout: silence,
                // How long a Close may take is the business of whoever waits for it.
                close_timeout: Millis::NEVER,
                idle_timeout: Millis::NEVER,
                message_timeout: Millis::NEVER,
            },
            keep_alive: options.keep_alive.unwrap_or_default(),
            epoch: now,
            buffer,
            unread,
            out: Vec::new(),
            written: 0,
            owes_answer: false,
            unwritable: None,
            closed: None,
        }
    }

    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.connection.extension().is_some()
    }

    /// Whether the closing handshake is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.state() == State::Closed
    }

    /// Whether something that answers the server is to be written.
    pub(crate) fn owes_answer(&self) -> bool {
        self.owes_answer
    }

    /// Whether enough is queued to be written now.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() >= QUEUE
    }

    /// Where to read to, once [`Link::poll`] found nothing more. What followed the server's Close is forgotten.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.unread = 0..0;
        &mut self.buffer
    }

    /// So much was read into [`Link::space`].
    pub(crate) fn handle_read(&mut self, count: usize) {
        self.unread = 0..count;
    }

    /// The stream ended without a Close.
    pub(crate) fn handle_end(&mut self) -> Error {
        self.connection.handle_end();
        Error::Lost(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server ended it without a Close frame",
        ))
    }

    /// Nothing can be read at the moment: the time of [`Link::poll_timeout`] may have come.
    pub(crate) fn handle_silence(&mut self, now: Instant) -> Result<(), Error> {
        let now = self.millis(now);
        match self.connection.handle_timeout(now, &self.timing, &mut self.out) {
            Some(TimedOut::Pong) => Err(Error::TimedOut {
                what: "did not answer a ping",
                timeout: self.keep_alive,
            }),
            // Of the others no time is set.
            Some(TimedOut::Close | TimedOut::Idle | TimedOut::Message) | None => Ok(()),
        }
    }

    /// Queues a message.
    pub(crate) fn queue(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        if let Some(error) = self.closed() {
            return Err(error);
        }
        self.writable()?;
        let sent = match self.deflater.as_deref_mut() {
            Some(deflater) => self.connection.send_deflated(opcode, payload, deflater, &mut self.out),
            None => self.connection.send(opcode, payload, &mut self.out),
        };
        if sent {
            Ok(())
        } else {
            Err(Error::Lost(io::ErrorKind::NotConnected.into()))
        }
    }

    /// Starts the closing handshake.
    pub(crate) fn close(&mut self, code: u16, reason: &str, now: Instant) {
        let now = self.millis(now);
        self.connection.close(code, reason, now, &mut self.out);
    }

    /// The next message of what was read. After an error what [`Link::poll_write`] gives is a courtesy, and nothing
    /// follows it.
    pub(crate) fn poll(&mut self, now: Instant) -> Result<Option<Message>, Error> {
        let now = self.millis(now);
        let queued = self.out.len();
        let mut input = Input::new(&mut self.buffer[self.unread.clone()]);
        // Inflated with memory of this connection's own, for a pool shared with other clients would save none: where the
        // server refers to its earlier messages an inflater is busy from the first to the last, and where it does not, as a
        // broker, it lives only as long as one message is read. What a pool would save is its allocation, half a microsecond
        // of the two that a compressed message of 1 KiB takes; and it would cost a lock between threads.
        let message = loop {
            match self.connection.poll(&mut input, now, &mut self.out) {
                Ok(Some(Event::Text(text))) => break Ok(Some(Message::Text(text.to_owned()))),
                Ok(Some(Event::Binary(bytes))) => break Ok(Some(Message::Binary(bytes.to_vec()))),
                Ok(Some(Event::Ping(_) | Event::Pong(_))) => {}
                // Not asked for.
                Ok(Some(Event::TextPart { .. } | Event::BinaryPart { .. })) => {}
                Ok(Some(Event::Close { code, reason })) => {
                    self.closed = Some((code, reason.to_owned()));
                    break Ok(None);
                }
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.unread.start += input.consumed();
        self.owes_answer |= self.out.len() > queued;
        if let Err(error) = &message {
            self.connection.fail(error, now, &mut self.out);
        }
        match self.closed() {
            Some(error) => Err(error),
            None => Ok(message?),
        }
    }

    /// What is to be written; empty if there is nothing.
    pub(crate) fn poll_write(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// So much of it was written.
    pub(crate) fn handle_written(&mut self, count: usize) {
        self.written += count;
        if self.written == self.out.len() {
            self.forget_queued();
        }
    }

    /// Writing failed: what is left of it makes no sense any more, nor does anything behind it.
    pub(crate) fn handle_unwritten(&mut self, error: Error) -> Error {
        self.forget_queued();
        self.unwritable = Some(error.again());
        error
    }

    fn forget_queued(&mut self) {
        self.out.clear();
        self.written = 0;
        self.owes_answer = false;
    }

    /// # Errors
    /// Writing failed before.
    pub(crate) fn writable(&self) -> Result<(), Error> {
        self.unwritable.as_ref().map_or(Ok(()), |error| Err(error.again()))
    }

    /// When [`Link::handle_silence`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.connection.poll_timeout(&self.timing);
        (at != Millis::NEVER)
            .then(|| self.epoch.checked_add(Duration::from_millis(at.0)))
            .flatten()
    }

    fn closed(&self) -> Option<Error> {
        let (code, reason) = self.closed.as_ref()?;
        Some(Error::Closed {
            code: *code,
            reason: reason.clone(),
        })
    }

    fn millis(&self, now: Instant) -> Millis {
        now.saturating_duration_since(self.epoch).into()
    }
}
