//! What a thread drives its connections with, whichever way the system offers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::buffers::Lease;
use crate::epoll::Epoll;
use crate::error::SetupError;
use crate::socket::Listener;
use crate::token::Token;
use crate::uring::Uring;
use crate::wake::Waker;

/// What the system is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// io_uring, of Linux 6.1 or later: one system call for all that a turn does.
    IoUring,
    /// epoll, of any Linux: a system call for each send, receive and accept.
    Epoll,
}

impl Kind {
    /// Both, the better one first.
    pub const ALL: [Kind; 2] = [Kind::IoUring, Kind::Epoll];

    /// The better one of those that work here, with the reason if that is not the best.
    ///
    /// io_uring is tried in earnest. Whoever knows that it is forbidden need not ask: some filters kill the process for it.
    ///
    /// # Errors
    /// io_uring fails for a reason that epoll would fail for as well.
    pub fn best() -> Result<(Kind, Option<SetupError>), SetupError> {
        let config = Config {
            slots: 1,
            ..Config::default()
        };
        match Uring::new(&config) {
            Ok(_) => Ok((Kind::IoUring, None)),
            Err(error) if error.is_missing() => Ok((Kind::Epoll, Some(error))),
            Err(error) => Err(error),
        }
    }
}

/// Sizes of a driver.
#[derive(Clone, Debug)]
pub struct Config {
    /// Submission queue entries of a ring; more operations than that in one turn take several system calls. With epoll, the
    /// most events and the most receives of a turn.
    pub entries: u32,
    /// Completion queue entries of a ring. More completions than that are kept by the kernel until there is room.
    pub completions: u32,
    /// Slots, which is how many connections there can be. With io_uring they are a table of direct descriptors: the kernel
    /// refuses more than `RLIMIT_NOFILE`. With epoll each connection is one of the process's descriptors.
    pub slots: u32,
    /// Receive buffers, a power of two. When all are filled, receives end with `ENOBUFS` and have to be started again.
    /// Where a buffer can be filled piece by piece (Linux 6.12, and epoll) there are a sixteenth as many of eight times the size.
    pub buffers: u16,
    /// Bytes of one receive buffer.
    pub buffer_size: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // 1,024 sends a system call: its fixed cost is then below 1 % of theirs.
            entries: 1024,
            completions: 8192,
            slots: 1024,
            // 8 MiB: one turn can take a small message from each of 512 connections, or 8 MiB from one.
            buffers: 512,
            buffer_size: 16 * 1024,
        }
    }
}

/// What the kernel reports.
#[derive(Debug)]
pub struct Completion {
    /// The operation, as named when it was queued.
    pub token: Token,
    /// What the system call would have returned: a count, a slot, or a negated errno.
    pub result: i32,
    /// The bytes of an [`Op::Receive`](crate::Op::Receive) with a positive result.
    pub data: Option<Lease>,
    /// A multishot operation goes on; without it, it has to be queued again.
    pub more: bool,
}

impl Completion {
    /// The errno of a failure.
    pub fn error(&self) -> Option<i32> {
        (self.result < 0).then_some(-self.result)
    }
}

/// How long a turn may sleep when nothing has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something completes, at most this long.
    AtMost(Duration),
}

/// The connections of one thread, in slots, and what the system does for them.
///
/// Made and used by one thread. Operations are asked for by methods that do not wait; [`Driver::turn`] sends, waits, and tells
/// what became of them.
pub struct Driver(Backend);

/// Boxed, so that a driver is a pointer wherever it is kept.
enum Backend {
    Uring(Box<Uring>),
    Epoll(Box<Epoll>),
}

/// Hands a call on to the driver that there is.
macro_rules! on {
    ($driver:expr, $backend:ident => $call:expr) => {
        match $driver {
            Backend::Uring($backend) => $call,
            Backend::Epoll($backend) => $call,
        }
    };
}

impl Driver {
    /// Sets up a driver for the calling thread.
    ///
    /// # Errors
    /// A [`SetupError`] that names what the kernel lacks or what forbids it, and what to do.
    pub fn new(kind: Kind, config: &Config) -> Result<Driver, SetupError> {
        Ok(Driver(match kind {
            Kind::IoUring => Backend::Uring(Box::new(Uring::new(config)?)),
            Kind::Epoll => Backend::Epoll(Box::new(Epoll::new(config)?)),
        }))
    }

    /// Slots, which is how many connections there can be.
    pub fn slots(&self) -> u32 {
        on!(&self.0, driver => driver.slots())
    }

    /// Slots that [`Driver::install`] could give now.
    pub fn vacant_slots(&self) -> u32 {
        on!(&self.0, driver => driver.vacant_slots())
    }

    /// Wakes this driver's thread; see also [`Driver::wake`].
    pub fn waker(&self) -> Waker {
        on!(&self.0, driver => driver.waker())
    }

    /// Receive buffers that are filled and not yet given back, of how many.
    pub fn buffers_in_use(&self) -> (u16, u16) {
        on!(&self.0, driver => driver.buffers_in_use())
    }

    /// Bytes of all receive buffers.
    pub fn buffer_memory(&self) -> usize {
        on!(&self.0, driver => driver.buffer_memory())
    }

    /// Accepts one connection of `listener` into a free slot. The completion names `number` as its slot; its result is the slot of
    /// the connection, whose peer's address is to be had from [`Driver::take_peer`]. Several may be in flight for a listener: as
    /// many connections are accepted without another call.
    ///
    /// Without a free slot, or a descriptor, an accept fails when somebody connects. Whoever waits for one to be free before
    /// it accepts again leaves clients in the listener's queue, where they lose nothing but time.
    pub fn accept(&mut self, listener: &Listener, number: u32) -> io::Result<()> {
        on!(&mut self.0, driver => driver.accept(listener, number))
    }

    /// Cancels the accepts in flight for the listener that was given `number`. Each completes, with `ECANCELED` if it was not just
    /// about to succeed.
    pub fn cancel_accepts(&mut self, number: u32) -> io::Result<()> {
        on!(&mut self.0, driver => driver.cancel_accepts(number))
    }

    /// The address of the peer of an accepted connection, `token` being that of the completion that reported it; once, and to
    /// be called for each of them: what is not taken is kept.
    pub fn take_peer(&mut self, token: Token) -> Option<SocketAddr> {
        on!(&mut self.0, driver => driver.take_peer(token))
    }

    /// Gives `socket` to the driver and returns its slot: one that a connection was closed in, if there is any.
    /// [`Driver::accept`] must not be in use: with io_uring it is the kernel that chooses slots then.
    ///
    /// # Errors
    /// Every slot is taken, or the kernel refuses. A slot is free again in the turn after the one that closed it, at the latest.
    pub fn install(&mut self, socket: OwnedFd) -> io::Result<u32> {
        on!(&mut self.0, driver => driver.install(socket))
    }

    /// Receives until the peer closes, an error, or `ENOBUFS` when all buffers are filled. With epoll there is no `ENOBUFS`:
    /// receives wait for a buffer, and turns do not sleep meanwhile.
    pub fn receive(&mut self, token: Token) -> io::Result<()> {
        on!(&mut self.0, driver => driver.receive(token))
    }

    /// Completes once the socket can be written to, or is in error.
    pub fn writable(&mut self, token: Token) -> io::Result<()> {
        on!(&mut self.0, driver => driver.writable(token))
    }

    /// Cancels the operation named `target`; that one completes with `ECANCELED`, this with 0 or `ENOENT`.
    pub fn cancel(&mut self, target: Token) -> io::Result<()> {
        on!(&mut self.0, driver => driver.cancel(target))
    }

    /// Sends FIN after what was sent; the peer's bytes are still received.
    pub fn shut_down(&mut self, token: Token) -> io::Result<()> {
        on!(&mut self.0, driver => driver.shut_down(token))
    }

    /// Closes the slot. It may be given to another connection at once, so nothing else may be in flight for it.
    pub fn close(&mut self, token: Token) -> io::Result<()> {
        on!(&mut self.0, driver => driver.close(token))
    }

    /// Wakes the thread of another driver, which gets a completion of [`Op::Wake`](crate::Op::Wake). Between rings this is one
    /// of the operations of the next turn, and no system call of its own.
    pub fn wake(&mut self, other: &Waker) -> io::Result<()> {
        match &mut self.0 {
            Backend::Uring(driver) => driver.wake(other),
            Backend::Epoll(_) => {
                other.wake();
                Ok(())
            }
        }
    }

    /// Sends `sends`, carries out everything asked for, and collects completions; sleeps by `wait` if there are none.
    ///
    /// Each send is attempted at once. One that went out whole completes silently: when this returns, every send
    /// without an [`Op::Send`](crate::Op::Send) completion in `completions` is done. A failed or short one reports what `send(2)`
    /// would return, `-EAGAIN` if the socket had no room at all. At most one send per slot may be given to one call: what
    /// follows a short send would overtake its rest.
    ///
    /// `completions` is appended to. A call does bounded work: a ring collects at most what its completion queue holds, once per
    /// submission queue of sends; with epoll a turn has its most events and receives, and an accept for each that was asked for.
    ///
    /// # Errors
    /// What the system reports that is not about a single operation. The driver is then unusable.
    #[inline]
    pub fn turn<'a>(
        &mut self,
        sends: impl IntoIterator<Item = (Token, &'a [u8])>,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        on!(&mut self.0, driver => driver.turn(sends, wait, completions))
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.0 {
            Backend::Uring(_) => Kind::IoUring,
            Backend::Epoll(_) => Kind::Epoll,
        };
        write!(f, "Driver({kind:?}, {} slots)", self.slots())
    }
}

#[cfg(test)]
mod tests;
