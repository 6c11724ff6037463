//! An open connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use tidecast_websocket::{Connection, Event, Input, Limits, Millis, Opcode, State};

use crate::connect;
use crate::error::Error;
use crate::options::Options;
use crate::random::masking_key;

/// Bytes asked for by one read.
const READ: usize = 64 * 1024;

/// Bytes of queued messages beyond which they are written without waiting for [`Client::flush`].
const QUEUE: usize = 64 * 1024;

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

/// A WebSocket to a server, used by one thread.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    connection: Connection,
    protocol: Option<String>,
    timeout: Duration,
    /// Where [`Millis`] count from.
    epoch: Instant,
    /// What was read; `unread` of it has not been looked at.
    buffer: Vec<u8>,
    unread: Range<usize>,
    /// What is to be written.
    out: Vec<u8>,
    /// The server's Close, once it came.
    closed: Option<(Option<u16>, String)>,
}

impl Client {
    /// Connects to `url`, trying every address of its host in turn, and shakes hands.
    ///
    /// # Errors
    /// Those for which [`Error::is_connect`] is true.
    pub fn connect(url: &str, options: &Options) -> Result<Client, Error> {
        let opened = connect::open(url, options)?;
        let limits = Limits {
            max_message: options.max_message,
            ..Limits::default()
        };
        let unread = 0..opened.received.len();
        let mut buffer = opened.received;
        buffer.resize(buffer.len().max(READ), 0);
        Ok(Client {
            connection: Connection::client(options.version, limits, masking_key, Millis(0)),
            stream: opened.stream,
            protocol: opened.protocol,
            timeout: options.timeout,
            epoch: Instant::now(),
            buffer,
            unread,
            out: Vec::new(),
            closed: None,
        })
    }

    /// The subprotocol the server chose, if any.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// [`Error::Closed`] once the server closed the connection, [`Error::Lost`], and [`Error::TimedOut`] if the server
    /// does not read.
    pub fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.queue_text(text)?;
        self.flush()
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.queue_binary(bytes)?;
        self.flush()
    }

    /// Queues a text message, to be sent with others by one [`Client::flush`]; sends by itself when much is queued.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub fn queue_text(&mut self, text: &str) -> Result<(), Error> {
        self.queue(Opcode::Text, text.as_bytes())
    }

    /// Queues a binary message, to be sent with others by one [`Client::flush`]; sends by itself when much is queued.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub fn queue_binary(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.queue(Opcode::Binary, bytes)
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let result = self.stream.write_all(&self.out);
        self.out.clear();
        result.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TimedOut {
                what: "did not take what was sent",
                timeout: self.timeout,
            },
            _ => Error::Lost(error),
        })
    }

    /// The next message; none if none came before `deadline`. Without a deadline it waits as long as it takes.
    ///
    /// Pings are answered meanwhile.
    ///
    /// # Errors
    /// [`Error::Closed`], also when called again after it, [`Error::Lost`], or [`Error::Protocol`].
    pub fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.receive_buffered()? {
                return Ok(Some(message));
            }
            // What is queued may be what the server's answer depends on.
            self.flush()?;
            match self.read(deadline)? {
                Progress::Bytes => {}
                Progress::Deadline => return Ok(None),
                Progress::End => {
                    self.connection.handle_end();
                    return Err(Error::Lost(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server ended it without a Close frame",
                    )));
                }
            }
        }
    }

    /// The next message of those that have been read already, without a system call unless there is something to answer.
    ///
    /// # Errors
    /// As for [`Client::receive`].
    pub fn receive_buffered(&mut self) -> Result<Option<Message>, Error> {
        let now = self.now();
        let mut input = Input::new(&mut self.buffer[self.unread.clone()]);
        let message = loop {
            match self.connection.poll(&mut input, now, &mut self.out) {
                Ok(Some(Event::Text(text))) => break Ok(Some(Message::Text(text.to_owned()))),
                Ok(Some(Event::Binary(bytes))) => break Ok(Some(Message::Binary(bytes.to_vec()))),
                Ok(Some(Event::Ping(_) | Event::Pong(_))) => {}
                Ok(Some(Event::Close { code, reason })) => {
                    self.closed = Some((code, reason.to_owned()));
                    break Ok(None);
                }
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.unread.start += input.consumed();
        if let Err(error) = &message {
            self.connection.fail(error, now, &mut self.out);
        }
        if message.is_err() || self.closed.is_some() {
            // The answer is a courtesy: the server may be gone already.
            let _ = self.flush();
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        match &self.closed {
            Some((code, reason)) => Err(Error::Closed {
                code: *code,
                reason: reason.clone(),
            }),
            None => Ok(message?),
        }
    }

    /// Closes the connection in order: sends a Close with `code` and `reason`, and waits for the server's. What the server
    /// sends meanwhile is dropped.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if the server does not answer within [`Options::timeout`], and those of
    /// [`Client::receive`], except that a Close of the server is what is waited for.
    pub fn close(mut self, code: u16, reason: &str) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let now = self.now();
        self.connection.close(code, reason, now, &mut self.out);
        loop {
            match self.receive(Some(deadline)) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Err(Error::TimedOut {
                        what: "did not answer the closing handshake",
                        timeout: self.timeout,
                    });
                }
                Err(Error::Closed { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        //= RFC 6455#section-7.1.1
        //# the server MUST close the connection first; a client SHOULD wait for the server to close the connection but
        //# MAY close the connection at any time
        while let Ok(Progress::Bytes) = self.read(Some(deadline)) {}
        Ok(())
    }

    fn queue(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        if let Some((code, reason)) = &self.closed {
            return Err(Error::Closed {
                code: *code,
                reason: reason.clone(),
            });
        }
        if !self.connection.send(opcode, payload, &mut self.out) {
            return Err(Error::Lost(io::ErrorKind::NotConnected.into()));
        }
        if self.out.len() >= QUEUE { self.flush() } else { Ok(()) }
    }

    /// Reads once, into an empty buffer.
    fn read(&mut self, deadline: Option<Instant>) -> Result<Progress, Error> {
        if self.connection.state() == State::Closed {
            return Ok(Progress::End);
        }
        loop {
            // A timeout of zero would be none.
            let wait = deadline.map(|deadline| {
                deadline
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_micros(1))
            });
            self.stream.set_read_timeout(wait).map_err(Error::Lost)?;
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Ok(Progress::End),
                Ok(count) => {
                    self.unread = 0..count;
                    return Ok(Progress::Bytes);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(Progress::Deadline),
                    _ => return Err(Error::Lost(error)),
                },
            }
        }
    }

    fn now(&self) -> Millis {
        Millis(self.epoch.elapsed().as_millis() as u64)
    }
}

/// What a read brought.
enum Progress {
    Bytes,
    Deadline,
    End,
}
