//! Listening sockets: those that the process was started with, those that it opens, and what a successor is given of them.
//!
//! ```text
//!   systemd (LISTEN_FDS) ──────┐
//!   the broker before this one ┼─▶ Given ─▶ Sockets ─┬─▶ shares of the workers
//!   nobody: they are opened ───┘                     └─▶ the successor
//! ```

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use tidecast_driver::{ListenError, Listener, listen};

use crate::config::Resolved;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long an address may still be in use when a broker starts.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// What a socket is for: what is configured to be there, which may leave the port to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Clients.
    Clients(SocketAddr),
    /// The control plane.
    Admin(SocketAddr),
}

impl Place {
    fn address(self) -> SocketAddr {
        match self {
            Place::Clients(address) | Place::Admin(address) => address,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Clients(address) => write!(f, "clients {address}"),
            Place::Admin(address) => write!(f, "admin {address}"),
        }
    }
}

impl FromStr for Place {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Place> {
        let place = text.split_once(' ').and_then(|(kind, address)| {
            let address = address.parse().ok()?;
            match kind {
                "clients" => Some(Place::Clients(address)),
                "admin" => Some(Place::Admin(address)),
                _ => None,
            }
        });
        place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no place for a socket")))
    }
}

/// Why there is nothing to listen with.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The control plane cannot listen.
    #[error("the control plane cannot listen on {address}: {source}; give another address with --admin, or none")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// What systemd passed is no socket to listen with.
    #[error(
        "descriptor {number}{name} of those passed by systemd (LISTEN_FDS) cannot be used: {source}; the socket unit needs \
         ListenStream= with an address and a port, and Accept=no"
    )]
    Unusable {
        /// The number of the descriptor.
        number: usize,
        /// Its name in parentheses, if it has one.
        name: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Nothing is to listen where systemd listens.
    #[error(
        "systemd passed a socket{name} on {address}, where nothing is to listen: add --listen {address} (wss://{address} for TLS), or \
         take ListenStream={address} out of the socket unit"
    )]
    Unmatched {
        /// Its name in parentheses, if it has one.
        name: String,
        /// Where it listens.
        address: SocketAddr,
    },
    /// systemd does not listen where something is to.
    #[error(
        "systemd passed sockets, but none on {0}: add ListenStream={0} to the socket unit, or take the address out of the \
         configuration"
    )]
    Missing(SocketAddr),
}

/// Who gave sockets to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Giver {
    Nobody,
    Systemd,
    Predecessor,
}

/// Sockets that this process was started with.
#[derive(Debug)]
pub(crate) struct Given {
    giver: Giver,
    sockets: Vec<GivenSockets>,
}

/// Those of one place.
#[derive(Debug)]
struct GivenSockets {
    /// What they are for, if whoever gave them said it.
    place: Option<Place>,
    /// Their name in parentheses, for errors.
    name: String,
    listeners: Vec<Listener>,
}

impl Given {
    /// What systemd has passed, if it is what has started this process.
    ///
    /// # Errors
    /// Something among it does not listen.
    pub(crate) fn from_systemd() -> Result<Given, SocketsError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').filter(|name| !name.is_empty());
        let mut passed = ListenFd::from_env();
        let mut sockets: Vec<GivenSockets> = Vec::new();
        for at in 0..passed.len() {
            let name = names.next().map(|name| format!(" ({name})")).unwrap_or_default();
            let taken = passed.take_tcp_listener(at);
            let adopted = taken.and_then(|socket| socket.map(|socket| Listener::adopt(socket.into())).transpose());
            let listener = adopted.map_err(|source| SocketsError::Unusable {
                number: at + FIRST_PASSED,
                name: name.clone(),
                source,
            })?;
            sockets.extend(listener.map(|listener| GivenSockets {
                place: None,
                name,
                listeners: vec![listener],
            }));
        }
        let giver = if sockets.is_empty() {
            Giver::Nobody
        } else {
            Giver::Systemd
        };
        Ok(Given { giver, sockets })
    }

    /// What the broker before this one has handed over.
    pub(crate) fn from_predecessor(groups: Vec<(Place, Vec<Listener>)>) -> Given {
        let sockets = groups.into_iter().map(|(place, listeners)| GivenSockets {
            place: Some(place),
            name: String::new(),
            listeners,
        });
        Given {
            giver: Giver::Predecessor,
            sockets: sockets.collect(),
        }
    }

    /// Those for `place`.
    fn take(&mut self, place: Place) -> Vec<Listener> {
        let is_there = |sockets: &GivenSockets| match sockets.place {
            Some(meant) => meant == place,
            None => sockets
                .listeners
                .iter()
                .any(|listener| listener.address() == place.address()),
        };
        let mut taken = Vec::new();
        // One address may be meant by several sockets of systemd. Of a broker's, each place has its own.
        while let Some(at) = self.sockets.iter().position(is_there) {
            taken.append(&mut self.sockets.remove(at).listeners);
            if self.giver == Giver::Predecessor {
                break;
            }
        }
        taken
    }
}

/// The number of the first descriptor that systemd passes.
const FIRST_PASSED: usize = 3;

/// The sockets of a broker.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For each listener that is configured, where that is and its sockets, one at least.
    doors: Vec<(SocketAddr, Vec<Listener>)>,
    admin: Option<(SocketAddr, Listener)>,
}

impl Sockets {
    /// Takes what was given, and opens what is missing.
    ///
    /// # Errors
    /// An address cannot be listened on, or systemd has passed other sockets than are configured.
    pub(crate) async fn open(resolved: &Resolved, mut given: Given) -> Result<Sockets, SocketsError> {
        let mut doors = Vec::new();
        for listen in &resolved.listeners {
            let address = listen.address;
            let mut listeners = given.take(Place::Clients(address));
            if listeners.is_empty() {
                if given.giver == Giver::Systemd {
                    return Err(SocketsError::Missing(address));
                }
                listeners = listen_soon(address, resolved.cores.len()).await?;
            }
            doors.push((address, listeners));
        }
        let admin = match &resolved.admin {
            None => None,
            Some(settings) => {
                let address = settings.address;
                let listener = match given.take(Place::Admin(address)).into_iter().next() {
                    Some(listener) => Ok(listener),
                    None => TcpListener::bind(address).and_then(|socket| Listener::adopt(socket.into())),
                };
                let refused = |source| SocketsError::Admin { address, source };
                Some((address, listener.map_err(refused)?))
            }
        };
        // What a broker before this one listened on and this one does not is closed.
        if given.giver == Giver::Systemd
            && let Some(left) = given.sockets.pop()
            && let Some(listener) = left.listeners.first()
        {
            return Err(SocketsError::Unmatched {
                name: left.name,
                address: listener.address(),
            });
        }
        Ok(Sockets { doors, admin })
    }

    /// How long what was sent to a client may stay without an answer of its system.
    pub(crate) fn set_user_timeout(&self, patience: Option<Duration>) -> io::Result<()> {
        let mut listeners = self.doors.iter().flat_map(|(_, listeners)| listeners);
        listeners.try_for_each(|listener| listener.set_user_timeout(patience))
    }

    /// Where clients are listened for, in the order of the configuration.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let first =
            |(address, listeners): &(SocketAddr, Vec<Listener>)| listeners.first().map_or(*address, Listener::address);
        self.doors.iter().map(first)
    }

    /// The share of each of `count` workers, which is something of every listener.
    pub(crate) fn shares(&self, count: usize) -> Vec<Vec<(u16, Listener)>> {
        let mut shares: Vec<Vec<(u16, Listener)>> = (0..count).map(|_| Vec::new()).collect();
        for (number, (_, listeners)) in (0..).zip(&self.doors) {
            // Every socket has somebody who accepts from it, as each has a queue of its own, and every worker has a socket.
            for at in 0..listeners.len().max(count) {
                shares[at % count].push((number, listeners[at % listeners.len()].clone()));
            }
        }
        shares
    }

    /// The socket of the control plane, if there is one.
    pub(crate) fn admin(&self) -> io::Result<Option<TcpListener>> {
        let admin = self.admin.as_ref();
        admin
            .map(|(_, listener)| listener.as_fd().try_clone_to_owned().map(TcpListener::from))
            .transpose()
    }

    /// All of them, by what they are for.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (Place, &[Listener])> {
        let doors = self.doors.iter();
        let doors = doors.map(|(address, listeners)| (Place::Clients(*address), &listeners[..]));
        let admin = self.admin.iter();
        let admin = admin.map(|(address, listener)| (Place::Admin(*address), std::slice::from_ref(listener)));
        doors.chain(admin)
    }
}

/// Listens on `address`, soon: the kernel may still be taking down what a broker before this one had there.
async fn listen_soon(address: SocketAddr, count: usize) -> Result<Vec<Listener>, ListenError> {
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        match listen(address, BACKLOG, count) {
            Err(ListenError::InUse(_)) if Instant::now() < deadline => tokio::time::sleep(TAKE_OVER / 20).await,
            listened => return listened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Listener {
        listen("127.0.0.1:0".parse().unwrap(), 4, 1).unwrap().remove(0)
    }

    #[test]
    fn every_worker_has_a_socket_and_every_socket_a_worker() {
        for (sockets, workers) in [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2), (5, 2)] {
            let listeners: Vec<_> = (0..sockets).map(|_| socket()).collect();
            let address = listeners[0].address();
            let sockets = Sockets {
                doors: vec![(address, listeners.clone()), (address, listeners.clone())],
                admin: None,
            };
            let shares = sockets.shares(workers);
            assert_eq!(shares.len(), workers);
            for share in &shares {
                for door in 0..2 {
                    assert!(share.iter().any(|(number, _)| *number == door), "{sockets:?} {workers}");
                }
            }
            for listener in &listeners {
                let is_it = |(_, other): &&(u16, Listener)| other.address() == listener.address();
                assert!(shares.iter().flatten().filter(is_it).count() >= 2);
            }
        }
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [
            Place::Clients("127.0.0.1:0".parse().unwrap()),
            Place::Admin("[::1]:9091".parse().unwrap()),
        ] {
            assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
        }
        for text in ["", "admin", "admin x", "others 127.0.0.1:1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn sockets_of_a_predecessor_go_where_they_were_and_those_of_systemd_by_their_addresses() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (one, other, admin) = (socket(), socket(), socket());
        let mut given = Given::from_predecessor(vec![
            (Place::Clients(any), vec![one.clone()]),
            (Place::Admin(any), vec![admin.clone()]),
            (Place::Clients(any), vec![other.clone()]),
        ]);
        for listener in [&one, &other] {
            assert_eq!(given.take(Place::Clients(any))[0].address(), listener.address());
        }
        assert!(given.take(Place::Clients(any)).is_empty());
        assert_eq!(given.take(Place::Admin(any))[0].address(), admin.address());
        let passed = |listener: &Listener| GivenSockets {
            place: None,
            name: String::new(),
            listeners: vec![listener.clone()],
        };
        let mut given = Given {
            giver: Giver::Systemd,
            sockets: vec![passed(&one), passed(&other), passed(&one)],
        };
        assert!(given.take(Place::Clients(any)).is_empty(), "it has an address");
        assert_eq!(given.take(Place::Clients(one.address())).len(), 2);
        assert_eq!(given.take(Place::Admin(other.address())).len(), 1);
    }
}
