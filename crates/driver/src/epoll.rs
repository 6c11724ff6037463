//! The driver on epoll, for systems without io_uring: a system call for each send, receive and accept.
//!
//! ```text
//!            epoll_pwait2                                    recv, in rounds: one of each, again while there is more
//!   watcher ───────────────▶ readable: remembered ─▶ ready ───────────────────────────────▶ Completion with a Lease
//!           ───────────────▶ writable: reported
//!           ───────────────▶ a listener ─▶ accept4, as many as are asked for
//! ```
//!
//! Sockets are watched from the beginning to the end, edge-triggered: whether a connection is to be received from changes nothing in
//! the kernel. An edge is remembered until a receive has found the end of what came. That is known from a receive that did not
//! fill its buffer, which saves another one that finds nothing; only where something follows that such a receive stops at (an
//! end, an error, an urgent octet) it goes on until there is nothing. Of a thousand connections with one small message each, a
//! message costs 8 % more with that other receive, and as much more level-triggered. Writability is asked for each time, by an
//! `epoll_ctl` that looks at what is so already: a send can be refused for want of memory as well, after which there is no edge.
//!
//! What is asked for is done at once or noted here, so no memory is ever known to the kernel outside of a call.

mod watcher;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use socket2::{SockRef, Socket};

use self::watcher::Watcher;
use crate::accepts::Accepts;
use crate::buffers::Filler;
use crate::driver::{Completion, Config, Wait};
use crate::error::{EPOLL, SetupError};
use crate::socket::Listener;
use crate::token::{Op, Token};
use crate::wake::{WAKE, Waker};

const READ: u32 = (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP) as u32;
const WRITE: u32 = libc::EPOLLOUT as u32;
/// Something follows that a receive stops at.
const STOPS: u32 = (libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const BROKEN: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// What an event is about, if not a slot: a listener, by this and its number.
const LISTENER: u64 = 1 << 32;
/// Or the waker.
const WAKER: u64 = u64::MAX;

/// An epoll instance with the sockets that it watches and the receive buffers.
///
/// Invariant: a slot is in `ready` at most once, and if so it is `listed`. A door has accepts waiting.
pub(crate) struct Epoll {
    watcher: Watcher,
    events: Box<[libc::epoll_event]>,
    waker: Waker,
    /// Those that were ever given.
    slots: Vec<Slot>,
    most_slots: u32,
    free: Vec<u32>,
    doors: Vec<Door>,
    accepts: Accepts,
    filler: Filler,
    /// Slots with something to receive, the longest waiting first.
    ready: VecDeque<u32>,
    /// What is to be reported by the next turn.
    done: Vec<Completion>,
}

/// A connection, if there is one.
#[derive(Default)]
struct Slot {
    socket: Option<OwnedFd>,
    /// The generation of the receive in flight.
    receiving: Option<u32>,
    /// The generation of the poll for writability in flight.
    polling: Option<u32>,
    /// Something has come that was not received yet.
    readable: bool,
    /// A receive that does not fill its buffer does not mean that there is nothing more.
    stops: bool,
    listed: bool,
}

/// A listener with accepts in flight.
struct Door {
    number: u32,
    socket: Arc<Socket>,
    /// The places of the accepts.
    waiting: Vec<u32>,
    /// Somebody has come, as far as is known.
    ready: bool,
    /// Somebody has come and could not be accepted: to be tried when it is asked for again.
    stuck: bool,
}

impl Epoll {
    pub(crate) fn new(config: &Config) -> Result<Epoll, SetupError> {
        let failed = |error| SetupError::new(EPOLL, error);
        let watcher = Watcher::new().map_err(failed)?;
        let waker = Waker::new(None).map_err(failed)?;
        // Every wake-up is an edge, so there is no need to take any back.
        watcher
            .add(waker.event(), libc::EPOLLIN as u32, WAKER)
            .map_err(failed)?;
        let event = libc::epoll_event { events: 0, u64: 0 };
        Ok(Epoll {
            watcher,
            events: vec![event; config.entries.max(1) as usize].into(),
            waker,
            slots: Vec::new(),
            most_slots: config.slots,
            free: Vec::new(),
            doors: Vec::new(),
            accepts: Accepts::default(),
            filler: Filler::new(config.buffers, config.buffer_size).map_err(failed)?,
            ready: VecDeque::new(),
            done: Vec::new(),
        })
    }

    pub(crate) fn slots(&self) -> u32 {
        self.most_slots
    }

    pub(crate) fn vacant_slots(&self) -> u32 {
        self.most_slots - self.slots.len() as u32 + self.free.len() as u32
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(crate) fn buffers_in_use(&self) -> (u16, u16) {
        (self.filler.ring().taken(), self.filler.ring().count())
    }

    pub(crate) fn buffer_memory(&self) -> usize {
        self.filler.ring().memory()
    }

    pub(crate) fn accept(&mut self, listener: &Listener, number: u32) -> io::Result<()> {
        let (place, ..) = self.accepts.begin(number);
        if let Some(door) = self.doors.iter_mut().find(|door| door.number == number) {
            door.waiting.push(place);
            door.ready |= std::mem::take(&mut door.stuck);
            return Ok(());
        }
        let socket = Arc::clone(listener.socket());
        let key = LISTENER | u64::from(number);
        match self.watcher.add(socket.as_fd(), libc::EPOLLIN as u32, key) {
            Ok(()) => self.doors.push(Door {
                number,
                socket,
                waiting: vec![place],
                ready: false,
                stuck: false,
            }),
            Err(error) => {
                self.accepts.end(place, false);
                self.report(Token::new(Op::Accept, number, place), failure(&error));
            }
        }
        Ok(())
    }

    pub(crate) fn cancel_accepts(&mut self, number: u32) -> io::Result<()> {
        let in_flight: Vec<u32> = self.accepts.in_flight(number).collect();
        let token = |place| Token::new(Op::Accept, number, place);
        in_flight.into_iter().try_for_each(|place| self.cancel(token(place)))
    }

    pub(crate) fn take_peer(&mut self, token: Token) -> Option<SocketAddr> {
        debug_assert_eq!(token.op(), Op::Accept, "only who was accepted is remembered");
        self.accepts.take(token.generation())
    }

    pub(crate) fn install(&mut self, socket: OwnedFd) -> io::Result<u32> {
        let slot = match self.free.last() {
            Some(&slot) => slot,
            None if (self.slots.len() as u32) < self.most_slots => self.slots.len() as u32,
            None => return Err(io::Error::from_raw_os_error(libc::ENFILE)),
        };
        self.watcher.add(socket.as_fd(), READ, slot.into())?;
        if self.free.pop().is_none() {
            self.slots.push(Slot::default());
        }
        self.slots[slot as usize].socket = Some(socket);
        Ok(slot)
    }

    pub(crate) fn receive(&mut self, token: Token) -> io::Result<()> {
        match self.slots.get_mut(token.slot() as usize) {
            Some(slot) if slot.socket.is_some() => {
                slot.receiving = Some(token.generation());
                if slot.readable {
                    self.list(token.slot());
                }
            }
            _ => self.report(token, -libc::EBADF),
        }
        Ok(())
    }

    pub(crate) fn writable(&mut self, token: Token) -> io::Result<()> {
        let watched = self.with_socket(token.slot(), |watcher, socket| {
            watcher.modify(socket.as_fd(), READ | WRITE, token.slot().into())
        });
        match watched {
            Ok(()) => self.slots[token.slot() as usize].polling = Some(token.generation()),
            Err(error) => self.report(token, failure(&error)),
        }
        Ok(())
    }

    pub(crate) fn cancel(&mut self, target: Token) -> io::Result<()> {
        let generation = Some(target.generation());
        let in_flight = match target.op() {
            Op::Accept => self.doors.iter_mut().any(|door| {
                let place = door.waiting.iter().position(|&place| Some(place) == generation);
                place.map(|place| door.waiting.swap_remove(place)).is_some()
            }),
            op => self.slots.get_mut(target.slot() as usize).is_some_and(|slot| {
                let operation = match op {
                    Op::Receive => &mut slot.receiving,
                    Op::Writable => &mut slot.polling,
                    // All else is over when it has been asked for.
                    _ => return false,
                };
                operation.take_if(|of| Some(*of) == generation).is_some()
            }),
        };
        if in_flight {
            if target.op() == Op::Accept {
                self.accepts.end(target.generation(), false);
                self.close_idle_doors();
            }
            self.report(target, -libc::ECANCELED);
        }
        self.report(target.with(Op::Cancel), if in_flight { 0 } else { -libc::ENOENT });
        Ok(())
    }

    pub(crate) fn shut_down(&mut self, token: Token) -> io::Result<()> {
        let shut = self.with_socket(token.slot(), |_, socket| {
            SockRef::from(socket).shutdown(std::net::Shutdown::Write)
        });
        self.report(token, shut.map_or_else(|error| failure(&error), |()| 0));
        Ok(())
    }

    pub(crate) fn close(&mut self, token: Token) -> io::Result<()> {
        match self.slots.get_mut(token.slot() as usize) {
            Some(slot) if slot.socket.is_some() => {
                debug_assert!(
                    slot.receiving.is_none() && slot.polling.is_none(),
                    "nothing else may be in flight"
                );
                // Closing it ends the watch too. If somebody else had a copy of the descriptor it would not, and whoever has the
                // slot next would be looked at in vain now and then.
                *slot = Slot {
                    listed: slot.listed,
                    ..Slot::default()
                };
                self.free.push(token.slot());
            }
            _ => self.report(token.with(Op::Close), -libc::EBADF),
        }
        Ok(())
    }

    pub(crate) fn turn<'a>(
        &mut self,
        sends: impl IntoIterator<Item = (Token, &'a [u8])>,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        for (token, bytes) in sends {
            let result = self.send(token.slot(), bytes);
            if usize::try_from(result) != Ok(bytes.len()) {
                completions.push(completion(token.with(Op::Send), result));
            }
        }
        completions.append(&mut self.done);
        let busy = !completions.is_empty() || !self.ready.is_empty() || self.doors.iter().any(|door| door.ready);
        self.look(if busy { Wait::No } else { wait }, completions)?;
        self.accept_waiting(completions);
        self.receive_waiting(completions);
        Ok(())
    }

    /// Sends what the socket has room for; gives how much that was, or a negated errno.
    fn send(&self, slot: u32, bytes: &[u8]) -> i32 {
        let sent = self.with_socket(slot, |_, socket| {
            SockRef::from(socket).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        });
        sent.map_or_else(|error| failure(&error), |count| count as i32)
    }

    /// Learns what can be done.
    fn look(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let count = self.watcher.wait(&mut self.events, wait)?;
        for at in 0..count {
            let libc::epoll_event { events, u64: key } = self.events[at];
            match key {
                WAKER => completions.push(completion(WAKE, 0)),
                LISTENER.. => {
                    let door = self
                        .doors
                        .iter_mut()
                        .find(|door| LISTENER | u64::from(door.number) == key);
                    if let Some(door) = door {
                        door.ready = true;
                    }
                }
                slot => self.handle_event(slot as u32, events, completions),
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, number: u32, events: u32, completions: &mut Vec<Completion>) {
        let slot = &mut self.slots[number as usize];
        if events & (WRITE | BROKEN) != 0
            && let Some(generation) = slot.polling.take()
        {
            let token = Token::new(Op::Writable, number, generation);
            completions.push(completion(token, events as i32));
        }
        if events & (READ | BROKEN) != 0 {
            slot.readable = true;
            slot.stops |= events & STOPS != 0;
            if slot.receiving.is_some() {
                self.list(number);
            }
        }
    }

    fn list(&mut self, number: u32) {
        if !std::mem::replace(&mut self.slots[number as usize].listed, true) {
            self.ready.push_back(number);
        }
    }

    fn accept_waiting(&mut self, completions: &mut Vec<Completion>) {
        for at in 0..self.doors.len() {
            while self.doors[at].ready
                && let Some(&place) = self.doors[at].waiting.last()
            {
                let is_full = self.vacant_slots() == 0;
                let door = &mut self.doors[at];
                let accepted = if is_full {
                    // Whoever came waits: a ring could only have turned them away.
                    Err(io::Error::from_raw_os_error(libc::ENFILE))
                } else {
                    door.socket.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
                };
                let installed = match accepted {
                    Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                        door.ready = false;
                        break;
                    }
                    accepted => accepted.and_then(|(socket, peer)| Ok((self.install(socket.into())?, peer))),
                };
                let door = &mut self.doors[at];
                door.waiting.pop();
                let token = Token::new(Op::Accept, door.number, place);
                match installed {
                    Ok((slot, peer)) => {
                        self.accepts.land(place, &peer);
                        completions.push(completion(token, slot as i32));
                    }
                    Err(error) => {
                        door.ready = false;
                        door.stuck = true;
                        self.accepts.end(place, false);
                        completions.push(completion(token, failure(&error)));
                    }
                }
            }
        }
        self.close_idle_doors();
    }

    /// Lets go of listeners that nobody is to be accepted from.
    fn close_idle_doors(&mut self) {
        let watcher = &self.watcher;
        self.doors.retain(|door| {
            let idle = door.waiting.is_empty();
            if idle {
                // It is watched, and open: there is nothing that could fail.
                let _ = watcher.delete(door.socket.as_fd());
            }
            !idle
        });
    }

    /// Receives from those that have something, one receive each, then from those that have more, and so on.
    fn receive_waiting(&mut self, completions: &mut Vec<Completion>) {
        for _ in 0..self.events.len() {
            let Some(room) = self.filler.room() else { return };
            let Some(number) = self.ready.pop_front() else { return };
            let slot = &mut self.slots[number as usize];
            slot.listed = false;
            // It may have been cancelled since, or closed.
            let (Some(generation), Some(socket), true) = (slot.receiving, &slot.socket, slot.readable) else {
                continue;
            };
            let token = Token::new(Op::Receive, number, generation);
            let size = room.len();
            match SockRef::from(socket).recv_with_flags(room, libc::MSG_DONTWAIT) {
                Ok(0) => {
                    slot.receiving = None;
                    completions.push(completion(token, 0));
                }
                Ok(count) => {
                    slot.readable = count == size || slot.stops;
                    completions.push(Completion {
                        token,
                        result: count as i32,
                        data: Some(self.filler.fill(count)),
                        more: true,
                    });
                    if slot.readable {
                        self.list(number);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    slot.readable = false;
                    slot.stops = false;
                }
                Err(error) => {
                    slot.receiving = None;
                    completions.push(completion(token, failure(&error)));
                }
            }
        }
    }

    fn with_socket<T>(&self, slot: u32, call: impl FnOnce(&Watcher, &OwnedFd) -> io::Result<T>) -> io::Result<T> {
        match self.slots.get(slot as usize).and_then(|slot| slot.socket.as_ref()) {
            Some(socket) => call(&self.watcher, socket),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    fn report(&mut self, token: Token, result: i32) {
        self.done.push(completion(token, result));
    }
}

fn completion(token: Token, result: i32) -> Completion {
    Completion {
        token,
        result,
        data: None,
        more: false,
    }
}

/// The negated errno of a failed call.
fn failure(error: &io::Error) -> i32 {
    -error.raw_os_error().unwrap_or(libc::EIO)
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // No kernel knows their places, so they can be freed.
        for place in self.doors.iter().flat_map(|door| &door.waiting) {
            self.accepts.end(*place, false);
        }
    }
}
