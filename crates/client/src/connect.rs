//! Opening: from a URL to a stream on which frames can be exchanged.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use tidecast_websocket::{ClientHandshake, ClientHandshakeError, Url};

use crate::error::Error;
use crate::options::Options;
use crate::random::handshake_key;

/// How long the body of a refusal is waited for: it is worth showing, not worth hanging for.
const REFUSAL: Duration = Duration::from_secs(1);

/// What a successful opening leaves.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    pub(crate) protocol: Option<String>,
    /// What came together with the response: the first frames.
    pub(crate) received: Vec<u8>,
}

/// Connects and shakes hands.
pub(crate) fn open(url: &str, options: &Options) -> Result<Opened, Error> {
    let parsed = Url::parse(url).map_err(|error| Error::Url {
        url: url.to_owned(),
        reason: error.to_string(),
    })?;
    if parsed.is_secure() {
        return Err(Error::Tls {
            host: parsed.host().to_owned(),
        });
    }
    let deadline = Instant::now() + options.timeout;
    let mut stream = connect(&parsed, deadline)?;
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_write_timeout(Some(options.timeout)))
        .map_err(Error::Lost)?;
    let (protocol, received) = shake_hands(&mut stream, &parsed, options, deadline)?;
    Ok(Opened {
        stream,
        protocol,
        received,
    })
}

/// Tries the addresses of the host in turn, each with an equal part of the time that is left, so that one that does not
/// answer leaves some for the next.
fn connect(url: &Url, deadline: Instant) -> Result<TcpStream, Error> {
    let unresolved = |source| Error::Resolve {
        host: url.host().to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = (url.host(), url.port())
        .to_socket_addrs()
        .map_err(unresolved)?
        .collect();
    let mut failure = unresolved(io::Error::from(io::ErrorKind::NotFound));
    for (tried, address) in addresses.iter().enumerate() {
        let left = remaining(deadline) / (addresses.len() - tried) as u32;
        match TcpStream::connect_timeout(address, left.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                failure = Error::Connect {
                    address: address.to_string(),
                    source,
                }
            }
        }
    }
    Err(failure)
}

fn shake_hands(
    stream: &mut TcpStream,
    url: &Url,
    options: &Options,
    deadline: Instant,
) -> Result<(Option<String>, Vec<u8>), Error> {
    let protocols: Vec<&str> = options.protocols.iter().map(String::as_str).collect();
    let headers: Vec<(&str, &str)> = options
        .headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let handshake = ClientHandshake {
        url,
        version: options.version,
        key: handshake_key()?,
        protocols: &protocols,
        extensions: &[],
        origin: options.origin.as_deref(),
        headers: &headers,
    };
    let mut request = Vec::new();
    handshake
        .write_request(&mut request)
        .map_err(|error| Error::Request(error.to_string()))?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::HandshakeTimeout {
            url: url.to_string(),
            timeout: options.timeout,
        },
        _ => Error::Handshake {
            url: url.to_string(),
            reason: error.to_string(),
        },
    };
    stream.write_all(&request).map_err(failed)?;
    let mut received = Vec::new();
    loop {
        if read_some(stream, &mut received, deadline).map_err(failed)? == 0 {
            return Err(Error::Handshake {
                url: url.to_string(),
                reason: "it closed the connection before the handshake was complete".to_owned(),
            });
        }
        match handshake.check_response(&received) {
            Ok(None) => {}
            Ok(Some((accepted, head))) => {
                received.drain(..head);
                return Ok((accepted.protocol, received));
            }
            Err(ClientHandshakeError::Refused { status, .. }) => {
                return Err(Error::Refused {
                    url: url.to_string(),
                    status,
                    excerpt: excerpt(stream, received, &handshake, deadline),
                });
            }
            Err(error) => {
                return Err(Error::Handshake {
                    url: url.to_string(),
                    reason: error.to_string(),
                });
            }
        }
    }
}

/// The beginning of the body of a refusal, of which `received` may hold only the head so far.
fn excerpt(stream: &mut TcpStream, mut received: Vec<u8>, handshake: &ClientHandshake, deadline: Instant) -> String {
    let deadline = deadline.min(Instant::now() + REFUSAL);
    let mut shown = String::new();
    while let Err(ClientHandshakeError::Refused { body, .. }) = handshake.check_response(&received) {
        // What is shown is bounded, so once more bytes change nothing it is complete.
        if !body.is_empty() && body.len() == shown.len() {
            break;
        }
        shown = body;
        if !matches!(read_some(stream, &mut received, deadline), Ok(count) if count > 0) {
            break;
        }
    }
    shown
}

/// Reads once, and appends it.
fn read_some(stream: &mut TcpStream, received: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let left = remaining(deadline);
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    let count = loop {
        match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    received.extend_from_slice(&buffer[..count]);
    Ok(count)
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
