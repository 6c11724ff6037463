//! Opening over tokio's TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};

use super::before;
use crate::connect::busy;
use crate::error::Error;
use crate::opening::{Agreed, Opening, REFUSAL, Target};
use crate::options::Options;
use crate::turn::Turn;

/// Connects and shakes hands.
pub(super) async fn open(url: &str, options: &Options) -> Result<(TcpStream, Agreed), Error> {
    let mut opening = Opening::new(url, options)?;
    #[cfg(feature = "tls")]
    if opening.poll_tls() {
        let host = opening.url().host().to_owned();
        return Err(Error::Tls { host });
    }
    let deadline = Instant::now() + options.timeout;
    let (mut stream, turn) = connect(&opening, options, deadline).await?;
    stream.set_nodelay(true).map_err(Error::Lost)?;
    let agreed = shake_hands(&mut stream, &mut opening, deadline).await?;
    drop(turn);
    Ok((stream, agreed))
}

/// Tries the addresses in turn, each with an equal part of the time that is left, so that one that does not answer leaves
/// some for the next.
async fn connect(opening: &Opening, options: &Options, deadline: Instant) -> Result<(TcpStream, Option<Turn>), Error> {
    let Target { host, port } = opening.target();
    let unresolved = |source| Error::Resolve {
        host: host.clone(),
        source,
    };
    let addresses: Vec<SocketAddr> = before(Some(deadline), lookup_host((&*host, port)))
        .await
        .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
        .map_err(unresolved)?
        .collect();
    let mut failure = unresolved(io::Error::from(io::ErrorKind::NotFound));
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / (addresses.len() - tried) as u32;
        match attempt(opening, options, *address, until).await {
            Ok(connected) => return Ok(connected),
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

async fn attempt(
    opening: &Opening,
    options: &Options,
    address: SocketAddr,
    until: Instant,
) -> io::Result<(TcpStream, Option<Turn>)> {
    let turn = match opening.peer(address, options) {
        None => None,
        Some(peer) => Some(before(Some(until), Turn::wait(peer)).await.ok_or_else(busy)?),
    };
    let stream = before(Some(until), TcpStream::connect(address))
        .await
        .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    Ok((stream, turn))
}

async fn shake_hands(stream: &mut TcpStream, opening: &mut Opening, deadline: Instant) -> Result<Agreed, Error> {
    let mut buffer = [0; 4096];
    let mut until = deadline;
    loop {
        let request = opening.poll_send();
        let exchange = async {
            if let Some(request) = request {
                stream.write_all(&request).await?;
            }
            stream.read(&mut buffer).await
        };
        let count = before(Some(until), exchange)
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| opening.handle_failure(&error))?;
        if count == 0 {
            return Err(opening.handle_end());
        }
        let was_refused = opening.is_refused();
        if let Some(agreed) = opening.handle_received(&buffer[..count])? {
            return Ok(agreed);
        }
        if opening.is_refused() && !was_refused {
            until = deadline.min(Instant::now() + REFUSAL);
        }
    }
}
