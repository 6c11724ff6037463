//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("{0} is in use by another process; choose another address or stop that process (`ss -ltnp` shows it)")]
    InUse(SocketAddr),
    /// The process may not use the address.
    #[error(
        "not allowed to listen on {0}: ports below {1} need CAP_NET_BIND_SERVICE \
         (`setcap cap_net_bind_service=+ep tidecast`, or AmbientCapabilities= in a systemd unit)"
    )]
    NotAllowed(SocketAddr, u32),
    /// The address is not one of this machine's.
    #[error("{0} is not an address of this machine (`ip addr` lists them; 0.0.0.0 and [::] stand for all)")]
    NotHere(SocketAddr),
    /// Anything else the kernel says.
    #[error("cannot listen on {0}: {1}")]
    Other(SocketAddr, #[source] io::Error),
}

impl ListenError {
    fn from_io(address: SocketAddr, error: io::Error) -> ListenError {
        match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address),
            io::ErrorKind::PermissionDenied => ListenError::NotAllowed(address, unprivileged_port_start()),
            io::ErrorKind::AddrNotAvailable => ListenError::NotHere(address),
            _ => ListenError::Other(address, error),
        }
    }
}

fn unprivileged_port_start() -> u32 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

/// A bound and listening socket, one of several that share an address. A clone is the same socket: it listens until the last of
/// them is dropped, in whichever process that is.
///
/// It does not block (`O_NONBLOCK`), which is a property of the socket and not of whoever has it: epoll cannot do without, and
/// another process may use that. A ring waits with its accepts all the same. If somebody else has been faster every time that
/// one was woken, it gives up with `EAGAIN` in the end, which is no reason not to accept again.
#[derive(Clone, Debug)]
pub struct Listener {
    socket: Arc<Socket>,
    address: SocketAddr,
}

impl Listener {
    /// The address it listens on, with the port the kernel chose if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes a socket that listens already, which another process has made.
    ///
    /// # Errors
    /// It is no socket, does not listen, or is not of TCP.
    pub fn adopt(socket: OwnedFd) -> io::Result<Listener> {
        let socket = Socket::from(socket);
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| wrong("it is not of TCP over IPv4 or IPv6"))?;
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(wrong("it does not listen for connections"));
        }
        socket.set_cloexec(true)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Listener {
            socket: Arc::new(socket),
            address,
        })
    }

    /// Whether somebody is in its queue, to be accepted.
    ///
    /// With io_uring each connection wakes one of the accepts in flight, whosever these are. If that one is being cancelled at
    /// this moment, nobody is woken for the connection until the next one comes. Whoever cancels accepts on a socket that others go on
    /// with looks here afterwards, and lets in who waits.
    ///
    /// # Errors
    /// The system is short of memory.
    pub fn has_waiting(&self) -> io::Result<bool> {
        let mut poll = libc::pollfd {
            fd: self.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the pointer is to one local entry that outlives the call, which does not wait.
        let ready = unsafe { libc::poll(&mut poll, 1, 0) };
        match ready {
            0.. => Ok(ready > 0),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(true),
                error => Err(error),
            },
        }
    }

    /// How long what was sent to a peer may stay without an answer of its system before the connection is broken
    /// (`TCP_USER_TIMEOUT`), for connections that are accepted from now on. Otherwise it takes the system a quarter of an hour
    /// to give up a peer that vanished.
    ///
    /// It is also how long a peer may go without taking any of what it is sent, though its system answers: since Linux 5.11
    /// probes of a window that stays closed are not answered for ever. None leaves both to the system.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_tcp_user_timeout(timeout)
    }

    /// The socket, for as long as something is accepted from it.
    pub(crate) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `count` listeners on `address`, among which the kernel spreads connections (`SO_REUSEPORT`).
///
/// Options set here are inherited by accepted connections: `TCP_NODELAY`, so that no call is needed per connection.
///
/// # Errors
/// [`ListenError::InUse`] also when the present owner would share the port: two brokers on one port by mistake would
/// each get half of the connections.
pub fn listen(address: SocketAddr, backlog: i32, count: usize) -> Result<Vec<Listener>, ListenError> {
    let error = |error| ListenError::from_io(address, error);
    // Without SO_REUSEPORT a bind succeeds only while nobody listens. The sockets that stay are bound right after.
    let exclusive = bind(address, false).map_err(error)?;
    exclusive.listen(1).map_err(error)?;
    let bound = exclusive.local_addr().map_err(error)?.as_socket().unwrap_or(address);
    drop(exclusive);
    (0..count)
        .map(|_| {
            let socket = bind(bound, true)?;
            socket.listen(backlog)?;
            Ok(Listener {
                socket: Arc::new(socket),
                address: bound,
            })
        })
        .collect::<io::Result<_>>()
        .map_err(error)
}

fn bind(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run in TIME_WAIT do not keep a restart from binding.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_one_call_share_the_port_and_a_second_call_is_refused() {
        let first = listen("127.0.0.1:0".parse().unwrap(), 16, 2).unwrap();
        assert_eq!(first.len(), 2);
        assert_eq!(first[0].address(), first[1].address());
        assert_ne!(first[0].address().port(), 0);
        let again = listen(first[0].address(), 16, 2);
        assert!(matches!(again, Err(ListenError::InUse(address)) if address == first[0].address()));
    }

    #[test]
    fn connections_inherit_how_long_a_peer_may_be_silent() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
        listener.set_user_timeout(Some(Duration::from_secs(7))).unwrap();
        let _peer = std::net::TcpStream::connect(listener.address()).unwrap();
        let accepted = loop {
            match listener.socket.accept() {
                Ok((accepted, _)) => break accepted,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_socket_of_another_process_is_taken_if_it_listens() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listening.local_addr().unwrap();
        let listener = Listener::adopt(listening.into()).unwrap();
        assert_eq!(listener.address(), address);
        assert!(!listener.has_waiting().unwrap());
        let peer = std::net::TcpStream::connect(address).unwrap();
        assert!(
            listener.has_waiting().unwrap(),
            "it is in the queue when its connect returns"
        );
        let again = listener.clone();
        drop(listener);
        let accepted = again.socket.accept().unwrap().0;
        assert!(accepted.tcp_nodelay().unwrap(), "inherited");
        let refused = |socket: OwnedFd| Listener::adopt(socket).unwrap_err().to_string();
        assert_eq!(refused(peer.into()), "it does not listen for connections");
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(refused(datagrams.into()), "it does not listen for connections");
        let (local, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(refused(local.into()), "it is not of TCP over IPv4 or IPv6");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Listener::adopt(file.into()).is_err());
    }

    #[test]
    fn an_address_of_another_machine_is_refused_with_what_to_do() {
        let error = listen("192.0.2.1:8080".parse().unwrap(), 16, 1).unwrap_err();
        assert!(error.to_string().contains("not an address of this machine"), "{error}");
    }
}
