//! An open connection over tokio's TCP.

use std::io;
use std::time::{Duration, Instant};

use tidecast_websocket::Opcode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{before, connect};
use crate::error::Error;
use crate::link::{Link, Message};
use crate::options::Options;

/// A WebSocket to a server, used by one task.
///
/// ```
/// # mod double { include!("../../tests/double/mod.rs"); }
/// use tidecast_client::asynchronous::Client;
/// use tidecast_client::{Message, Options, code};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tidecast_client::Error> {
/// # let broker = double::Double::start();
/// # let url = broker.url();
/// let mut client = Client::connect(&url, &Options::default()).await?;
/// client.send_text(r#"["sub","weather/+",{"ref":1}]"#).await?;
/// while let Some(Message::Text(text)) = client.receive(None).await? {
///     if text.starts_with(r#"["ok",1"#) {
///         break;
///     }
/// }
/// client.close(code::NORMAL, "done").await
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    link: Link,
    timeout: Duration,
}

impl Client {
    /// Connects to `url`, trying every address of its host in turn, and shakes hands.
    ///
    /// # Errors
    /// Those for which [`Error::is_connect`] is true.
    pub async fn connect(url: &str, options: &Options) -> Result<Client, Error> {
        let (stream, agreed) = connect::open(url, options).await?;
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
    pub async fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.queue_text(text).await?;
        self.flush().await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.queue_binary(bytes).await?;
        self.flush().await
    }

    /// Queues a text message, to be sent with others by one [`Client::flush`]; sends by itself when much is queued.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub async fn queue_text(&mut self, text: &str) -> Result<(), Error> {
        self.queue(Opcode::Text, text.as_bytes()).await
    }

    /// Queues a binary message, to be sent with others by one [`Client::flush`]; sends by itself when much is queued.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub async fn queue_binary(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.queue(Opcode::Binary, bytes).await
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.link.writable()?;
        while !self.link.poll_write().is_empty() {
            let until = Instant::now() + self.timeout;
            let error = match before(Some(until), self.stream.write(self.link.poll_write())).await {
                Some(Ok(count)) if count > 0 => {
                    self.link.handle_written(count);
                    continue;
                }
                Some(Ok(_)) => Error::Lost(io::ErrorKind::WriteZero.into()),
                Some(Err(error)) => Error::Lost(error),
                None => Error::TimedOut {
                    what: "did not take what was sent",
                    timeout: self.timeout,
                },
            };
            return Err(self.link.handle_unwritten(error));
        }
        Ok(())
    }

    /// The next message; none if none came before `deadline`. Without a deadline it waits as long as it takes.
    ///
    /// Pings are answered meanwhile, and before the message that follows them is given.
    ///
    /// # Errors
    /// [`Error::Closed`], also when called again after it, [`Error::Lost`], or [`Error::Protocol`].
    pub async fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.receive_buffered().await? {
                return Ok(Some(message));
            }
            // What is queued may be what the server's answer depends on.
            self.flush().await?;
            let silence = self.link.poll_timeout();
            match self.read(deadline.into_iter().chain(silence).min()).await? {
                Progress::Bytes => {}
                Progress::End => return Err(self.link.handle_end()),
                Progress::Deadline => {
                    let now = Instant::now();
                    let silence = self.link.handle_silence(now);
                    if silence.is_err() {
                        self.take_leave().await;
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
    pub async fn receive_buffered(&mut self) -> Result<Option<Message>, Error> {
        let message = self.link.poll(Instant::now());
        if message.is_err() {
            self.take_leave().await;
        } else if self.link.owes_answer() {
            self.write_at_once();
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
    pub async fn close(mut self, code: u16, reason: &str) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        self.link.close(code, reason, Instant::now());
        loop {
            match self.receive(Some(deadline)).await {
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
        while let Ok(Progress::Bytes) = self.read(Some(deadline)).await {}
        Ok(())
    }

    pub(crate) async fn queue_message(&mut self, message: &Message) -> Result<(), Error> {
        match message {
            Message::Text(text) => self.queue_text(text).await,
            Message::Binary(bytes) => self.queue_binary(bytes).await,
        }
    }

    async fn queue(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        self.link.queue(opcode, payload)?;
        if self.link.is_full() {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Writes what is queued as far as that takes no wait, which would lose a message if it was dropped. What is left, and
    /// a failure, is for the next flush.
    fn write_at_once(&mut self) {
        while !self.link.poll_write().is_empty() {
            match self.stream.try_write(self.link.poll_write()) {
                Ok(count) if count > 0 => self.link.handle_written(count),
                _ => return,
            }
        }
    }

    /// Sends the last that there is to say, a Close: as a courtesy, for the server may be gone already.
    async fn take_leave(&mut self) {
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
    }

    /// Reads once, into an empty buffer.
    async fn read(&mut self, deadline: Option<Instant>) -> Result<Progress, Error> {
        if self.link.is_closed() {
            return Ok(Progress::End);
        }
        match before(deadline, self.stream.read(self.link.space())).await {
            Some(Ok(0)) => Ok(Progress::End),
            Some(Ok(count)) => {
                self.link.handle_read(count);
                Ok(Progress::Bytes)
            }
            Some(Err(error)) => Err(Error::Lost(error)),
            None => Ok(Progress::Deadline),
        }
    }
}

/// What a read brought.
enum Progress {
    Bytes,
    Deadline,
    End,
}
