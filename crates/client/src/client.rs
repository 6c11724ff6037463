//! An open connection over blocking TCP.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use tidecast_websocket::Opcode;

use crate::connect;
use crate::error::Error;
use crate::link::{Link, Message};
use crate::options::Options;
use crate::stream::Stream;

/// A WebSocket to a server, used by one thread.
///
/// ```
/// # mod double { include!("../tests/double/mod.rs"); }
/// use std::time::{Duration, Instant};
/// use tidecast_client::{Client, Message, Options, code};
///
/// # fn main() -> Result<(), tidecast_client::Error> {
/// # let broker = double::Double::start();
/// # let url = broker.url();
/// let options = Options {
///     protocols: vec!["tidecast.json.v1".into()],
///     ..Options::default()
/// };
/// let mut client = Client::connect(&url, &options)?;
/// assert_eq!(client.protocol(), Some("tidecast.json.v1"));
/// client.send_text(r#"["sub","weather/+",{"ref":1}]"#)?;
/// let soon = Some(Instant::now() + Duration::from_secs(10));
/// while let Some(Message::Text(text)) = client.receive(soon)? {
///     if text.starts_with(r#"["ok",1"#) {
///         break;
///     }
/// }
/// client.close(code::NORMAL, "done")
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    link: Link,
    timeout: Duration,
}

impl Client {
    /// Connects to `url`, trying every address of its host in turn, and shakes hands.
    ///
    /// # Errors
    /// Those for which [`Error::is_connect`] is true.
    pub fn connect(url: &str, options: &Options) -> Result<Client, Error> {
        let (stream, agreed) = connect::open(url, options)?;
        Ok(Client {
            link: Link::new(agreed, options, Instant::now()),
            stream,
            timeout: options.timeout,
        })
    }

    /// The subprotocol the server chose, if any.
    pub fn protocol(&self) -> Option<&str> {
        self.link.protocol()
    }

    /// Whether messages are compressed, as [`Options::compression`] offered.
    pub fn is_compressed(&self) -> bool {
        self.link.is_compressed()
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
        self.link.writable()?;
        if self.link.poll_write().is_empty() {
            return Ok(());
        }
        let Err(error) = self.write() else { return Ok(()) };
        let error = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TimedOut {
                what: "did not take what was sent",
                timeout: self.timeout,
            },
            _ => Error::Lost(error),
        };
        Err(self.link.handle_unwritten(error))
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.link.poll_write().is_empty() {
            //= RFC 6455#section-6.1
            //# The frame(s) that have been formed MUST be transmitted over the underlying network connection.
            match self.stream.write(self.link.poll_write()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.link.handle_written(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.stream.flush()
    }

    /// The next message; none if none came before `deadline`. Without a deadline it waits as long as it takes.
    ///
    /// Pings are answered meanwhile, and before the message that follows them is given.
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
            let silence = self.link.poll_timeout();
            match self.read(deadline.into_iter().chain(silence).min())? {
                Progress::Bytes => {}
                Progress::End => return Err(self.link.handle_end()),
                Progress::Deadline => {
                    let now = Instant::now();
                    let silence = self.link.handle_silence(now);
                    if silence.is_err() {
                        self.take_leave();
                    }
                    silence?;
                    if deadline.is_some_and(|deadline| now >= deadline) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next message of those that have been read already, without a system call unless there is something to answer.
    ///
    /// # Errors
    /// As for [`Client::receive`].
    pub fn receive_buffered(&mut self) -> Result<Option<Message>, Error> {
        let message = self.link.poll(Instant::now());
        if message.is_err() {
            self.take_leave();
        } else if self.link.owes_answer() {
            // Before the message is handled, which may take its time. A failure is told when all that was read is.
            let _ = self.flush();
        }
        message
    }

    /// Closes the connection in order: sends a Close with `code` and `reason`, and waits for the server's. What the server
    /// sends meanwhile is dropped. Of `reason` at most 123 bytes are sent; a `code` that the version of WebSocket does not
    /// have is replaced by the nearest that it has, or 1000.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if the server does not answer within [`Options::timeout`], and those of
    /// [`Client::receive`], except that a Close of the server is what is waited for.
    pub fn close(mut self, code: u16, reason: &str) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        self.link.close(code, reason, Instant::now());
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
        //# The underlying TCP connection, in most normal cases, SHOULD be closed first by the server
        while let Ok(Progress::Bytes) = self.read(Some(deadline)) {}
        Ok(())
    }

    pub(crate) fn queue_message(&mut self, message: &Message) -> Result<(), Error> {
        match message {
            Message::Text(text) => self.queue_text(text),
            Message::Binary(bytes) => self.queue_binary(bytes),
        }
    }

    fn queue(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        self.link.queue(opcode, payload)?;
        if self.link.is_full() { self.flush() } else { Ok(()) }
    }

    /// Sends the last that there is to say, a Close: as a courtesy, for the server may be gone already.
    fn take_leave(&mut self) {
        let _ = self.flush();
        let _ = self.stream.end();
    }

    /// Reads once, into an empty buffer.
    fn read(&mut self, deadline: Option<Instant>) -> Result<Progress, Error> {
        if self.link.is_closed() {
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
            match self.stream.read(self.link.space()) {
                Ok(0) => return Ok(Progress::End),
                Ok(count) => {
                    self.link.handle_read(count);
                    return Ok(Progress::Bytes);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(Progress::Deadline),
                    // TLS was not ended as it should be, nor was WebSocket.
                    io::ErrorKind::UnexpectedEof => return Ok(Progress::End),
                    _ => return Err(Error::Lost(error)),
                },
            }
        }
    }
}

/// What a read brought.
enum Progress {
    Bytes,
    Deadline,
    End,
}
