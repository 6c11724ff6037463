//! TCP connections to the broker: where to, where from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;

/// Connections that one address of ours has ports for. Linux gives out 28,232 of them by default, but the even or the odd ones
/// first, and looks for a free one from port to port: beyond half of them that takes a millisecond for each connection.
const PORTS: usize = 10_000;

/// `connect` goes on by itself.
const EINPROGRESS: i32 = 115;

/// Makes the connections of one thread.
#[derive(Debug)]
pub(crate) struct Dialer {
    addresses: Vec<SocketAddr>,
    /// The one that took the first connection.
    chosen: Option<SocketAddr>,
    /// Where connections come from, in turn; the kernel chooses if there are none.
    locals: Vec<IpAddr>,
    dialed: usize,
    timeout: Duration,
}

impl Dialer {
    /// For a run of `total` connections at a time.
    ///
    /// # Errors
    /// The host has no address.
    pub(crate) fn new(
        host: &str,
        port: u16,
        locals: &[IpAddr],
        total: usize,
        timeout: Duration,
    ) -> Result<Dialer, Error> {
        let unresolved = |source| Error::Resolve {
            host: host.to_owned(),
            source,
        };
        let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(unresolved)?.collect();
        let Some(first) = addresses.first() else {
            return Err(unresolved(io::ErrorKind::NotFound.into()));
        };
        let locals = match first.ip() {
            _ if !locals.is_empty() => locals.to_vec(),
            IpAddr::V4(address) if address.is_loopback() && total > PORTS => loopbacks(total.div_ceil(PORTS)),
            _ => Vec::new(),
        };
        Ok(Dialer {
            addresses,
            chosen: None,
            locals,
            dialed: 0,
            timeout,
        })
    }

    /// A socket that is connected, or is about to be: once it can be written to, it is one or the other or has failed.
    ///
    /// # Errors
    /// The address that was tried last and why it did not work.
    pub(crate) fn dial(&mut self) -> Result<OwnedFd, (SocketAddr, io::Error)> {
        if let Some(address) = self.chosen {
            return self.begin(address).map_err(|error| (address, error));
        }
        // The first connection finds out which address of a name works, and is waited for.
        let mut failure = None;
        for address in self.addresses.clone() {
            let connected = self
                .socket(address)
                .and_then(|socket| socket.connect_timeout(&address.into(), self.timeout).map(|()| socket));
            match connected {
                Ok(socket) => {
                    self.chosen = Some(address);
                    return Ok(socket.into());
                }
                Err(error) => failure = Some((address, error)),
            }
        }
        Err(failure.expect("there is an address"))
    }

    fn begin(&mut self, address: SocketAddr) -> io::Result<OwnedFd> {
        let socket = self.socket(address)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
            _ => Ok(socket.into()),
        }
    }

    fn socket(&mut self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if !self.locals.is_empty() {
            let local = self.locals[self.dialed % self.locals.len()];
            self.dialed += 1;
            socket.bind(&SocketAddr::new(local, 0).into())?;
        }
        Ok(socket)
    }
}

/// `127.0.0.1` and those behind it, all of which are this machine.
fn loopbacks(count: usize) -> Vec<IpAddr> {
    let first = u32::from(Ipv4Addr::LOCALHOST);
    (first..)
        .take(count)
        .map(|address| Ipv4Addr::from(address).into())
        .collect()
}

/// What to do about a connection that failed.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "; is the broker running there, and listening on that address and port?",
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => {
            "; all local ports towards it are in use: widen net.ipv4.ip_local_port_range, give several \
             --local-address, or use fewer connections"
        }
        io::ErrorKind::TimedOut => "; is a firewall in the way, or the backlog of the server full?",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn dialer(listener: &TcpListener, locals: &[IpAddr], total: usize) -> Dialer {
        let port = listener.local_addr().unwrap().port();
        Dialer::new("127.0.0.1", port, locals, total, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn more_connections_than_an_address_has_ports_come_from_several() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut dialer = dialer(&listener, &[], 35_000);
        let mut from = Vec::new();
        for _ in 0..4 {
            let _dialed = dialer.dial().unwrap();
            from.push(listener.accept().unwrap().1.ip().to_string());
        }
        assert_eq!(from, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    }

    #[test]
    fn connections_come_from_the_addresses_that_are_given() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local: IpAddr = "127.0.0.9".parse().unwrap();
        let mut dialer = dialer(&listener, &[local], 1);
        let _dialed = dialer.dial().unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), local);
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut dialer = dialer(&listener, &[], 1);
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (tried, error) = dialer.dial().unwrap_err();
        assert_eq!(tried, address);
        assert!(remedy(&error).contains("is the broker running there"));
    }
}
