//! Connections over loopback, both of whose ends are here.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use socket2::SockRef;
use tidecast_driver::{Config, Driver, Kind};

use crate::PATIENCE;

/// Both ends of every connection take so much without waiting, so that the largest send goes out whole.
pub(crate) const SOCKET_BUFFER: usize = 1 << 20;

/// Both ends of a connection over loopback, with room for the largest send.
pub(crate) fn pair(listener: &TcpListener) -> io::Result<[TcpStream; 2]> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(PATIENCE))?;
        SockRef::from(end).set_send_buffer_size(SOCKET_BUFFER)?;
        SockRef::from(end).set_recv_buffer_size(SOCKET_BUFFER)?;
    }
    Ok([server, client])
}

/// So many connections, as their servers' and their clients' ends.
pub(crate) fn pairs(listener: &TcpListener, count: usize) -> Result<(Vec<TcpStream>, Vec<TcpStream>), String> {
    let pairs: io::Result<Vec<_>> = (0..count).map(|_| pair(listener)).collect();
    let pairs = pairs.map_err(|error| format!("cannot open {count} connections: {error}"))?;
    Ok(pairs.into_iter().map(|[server, client]| (server, client)).unzip())
}

/// A driver on io_uring that holds `sockets`, and their slots.
pub(crate) fn driver(
    sockets: impl IntoIterator<Item = TcpStream, IntoIter: ExactSizeIterator>,
) -> Result<(Driver, Vec<u32>), String> {
    let sockets = sockets.into_iter();
    let config = Config {
        slots: sockets.len() as u32,
        ..Config::default()
    };
    let mut driver = Driver::new(Kind::IoUring, &config).map_err(|error| error.to_string())?;
    let slots: io::Result<Vec<u32>> = sockets.map(|socket| driver.install(OwnedFd::from(socket))).collect();
    Ok((driver, slots.map_err(|error| error.to_string())?))
}
