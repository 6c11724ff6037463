//! Opening over blocking TCP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::opening::{Agreed, Opening, REFUSAL, Target};
use crate::options::Options;
use crate::stream::Stream;
use crate::turn::Turn;

/// Connects and shakes hands.
//= RFC 6455#section-4.1
//# it MUST open a connection, send an opening handshake, and read the server's handshake in response.
pub(crate) fn open(url: &str, options: &Options) -> Result<(Stream, Agreed), Error> {
    let mut opening = Opening::new(url, options)?;
    let deadline = Instant::now() + options.timeout;
    let (stream, turn) = connect(&opening, options, deadline)?;
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_write_timeout(Some(options.timeout)))
        .map_err(Error::Lost)?;
    let opened = shake_hands(stream, &mut opening, options, deadline)?;
    drop(turn);
    Ok(opened)
}

/// Tries the addresses in turn, each with an equal part of the time that is left, so that one that does not answer leaves
/// some for the next.
fn connect(opening: &Opening, options: &Options, deadline: Instant) -> Result<(TcpStream, Option<Turn>), Error> {
    let Target { host, port } = opening.target();
    let unresolved = |source| Error::Resolve {
        host: host.clone(),
        source,
    };
    let addresses = resolve(&host, port, deadline).map_err(unresolved)?;
    let mut failure = unresolved(io::Error::from(io::ErrorKind::NotFound));
    for (tried, address) in addresses.iter().enumerate() {
        let left = remaining(deadline) / (addresses.len() - tried) as u32;
        let until = Instant::now() + left;
        let attempt = match opening.peer(*address, options) {
            None => Ok(None),
            Some(peer) => Turn::block(peer, until).map(Some).ok_or_else(busy),
        };
        let attempt = attempt.and_then(|turn| {
            let left = remaining(until).max(Duration::from_millis(1));
            Ok((TcpStream::connect_timeout(address, left)?, turn))
        });
        match attempt {
            Ok(connected) => return Ok(connected),
            Err(source) => {
                failure = Error::Connect {
                    address: address.to_string(),
                    source,
                }
            }
        }
    }
    //= RFC 6455#section-4.1
    //# then the client MUST _Fail the WebSocket Connection_ and abort the connection attempt.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
    //# then the user agent MUST fail the WebSocket connection and abort the connection attempt.
    Err(failure)
}

/// The addresses of `host`. The system's resolver takes the time it takes, half a minute by default where nothing answers;
/// so it is asked by a thread of its own, which is left to itself after the deadline.
fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let (answer, answered) = mpsc::channel();
    let host = host.to_owned();
    thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let addresses = (&*host, port).to_socket_addrs().map(Iterator::collect);
        // Nobody hears it after the deadline.
        let _ = answer.send(addresses);
    })?;
    answered
        .recv_timeout(remaining(deadline))
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Why an address was not tried.
pub(crate) fn busy() -> io::Error {
    io::Error::other("another handshake of this process with it is under way and does not end")
}

fn shake_hands(
    stream: TcpStream,
    opening: &mut Opening,
    options: &Options,
    deadline: Instant,
) -> Result<(Stream, Agreed), Error> {
    let mut stream = Stream::Plain(stream);
    let mut buffer = [0; 4096];
    let mut until = deadline;
    loop {
        stream = secured(stream, opening, options, deadline)?;
        let sent = opening.poll_send().map_or(Ok(()), |request| {
            stream.write_all(&request)?;
            stream.flush()
        });
        sent.map_err(|error| opening.handle_failure(&error))?;
        let count = read_some(&mut stream, &mut buffer, until).map_err(|error| opening.handle_failure(&error))?;
        if count == 0 {
            return Err(opening.handle_end());
        }
        let was_refused = opening.is_refused();
        //= RFC 6455#section-7.2.1
        //# To do so, the client MUST _Fail the WebSocket Connection_ as defined in Section 7.1.7.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-7.2.1
        //# To do so, the user agent MUST _Close the WebSocket connection_ as previously defined
        if let Some(agreed) = opening.handle_received(&buffer[..count])? {
            return Ok((stream, agreed));
        }
        if opening.is_refused() && !was_refused {
            until = deadline.min(Instant::now() + REFUSAL);
        }
    }
}

/// `stream`, with TLS on it if that is what comes next.
//= RFC 6455#section-4.1
//# If /secure/ is true, the client MUST perform a TLS handshake over the connection after opening the connection
//# and before sending the handshake data [RFC2818].
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//# If /secure/ is true, the user agent MUST perform a TLS handshake over the connection [RFC2818].
//= RFC 6455#section-4.1
//# all further communication on this channel MUST run through the encrypted tunnel [RFC5246].
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//# all further communication on this channel MUST run through the encrypted tunnel. [RFC5246]
#[cfg(feature = "tls")]
fn secured(stream: Stream, opening: &mut Opening, options: &Options, deadline: Instant) -> Result<Stream, Error> {
    match (stream, &options.tls) {
        (Stream::Plain(socket), Some(connector)) if opening.poll_tls() => connector
            .connect(socket, opening.url().host(), deadline)
            .map_err(|failure| failure.at(opening.url().to_string(), |error| opening.handle_failure(error))),
        (stream, _) => Ok(stream),
    }
}

#[cfg(not(feature = "tls"))]
fn secured(stream: Stream, _: &Opening, _: &Options, _: Instant) -> Result<Stream, Error> {
    Ok(stream)
}

fn read_some(stream: &mut Stream, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
    let left = remaining(deadline);
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(crate) fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
