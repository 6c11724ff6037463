//! One io_uring instance, used by the thread that made it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::accepts::Accepts;
use crate::buffers::{BufferRing, Lease};
use crate::error::{BUFFER_RING, DEFERRED_TASK_RUN, DIRECT_DESCRIPTORS, RING, SILENT_SUCCESS, SetupError};
use crate::socket::Listener;
use crate::token::{Op, Token};
use crate::wake::{RingHandle, Waker};

const BUFFER_GROUP: u16 = 0;
/// `IOU_PBUF_RING_INC` of <linux/io_uring.h>.
const PIECE_BY_PIECE: u16 = 2;
/// Buffers that are filled piece by piece are so many times fewer, and larger: half the memory holds as much, for none of
/// it is left empty behind a small message.
const FEWER: u16 = 16;
const LARGER: u32 = 8;
const MIN_BUFFERS: u16 = 4;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Sizes of a ring.
#[derive(Clone, Debug)]
pub struct Config {
    /// Submission queue entries; more operations than that in one turn take several system calls.
    pub entries: u32,
    /// Completion queue entries. More completions than that are kept by the kernel until there is room.
    pub completions: u32,
    /// Slots of the direct descriptor table, which is how many connections the ring can hold; the kernel refuses more
    /// than `RLIMIT_NOFILE`.
    pub slots: u32,
    /// Receive buffers, a power of two. When all are filled, receives end with `ENOBUFS` and have to be started again.
    /// A kernel that can fill a buffer piece by piece (Linux 6.12) is given a sixteenth as many of eight times the size.
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
    /// The bytes of an [`Op::Receive`] with a positive result.
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

/// An io_uring instance with its direct descriptors and its receive buffers.
///
/// Made and used by one thread (`SINGLE_ISSUER`), completions run only inside [`Ring::turn`] (`DEFER_TASKRUN`).
pub struct Ring {
    // Dropped in this order: the instance goes before the memory that it knows.
    uring: IoUring,
    buffers: Rc<BufferRing>,
    accepts: Accepts,
    waker: Waker,
    slots: u32,
    /// Slots below it were given to [`Ring::install`] at least once.
    next_slot: u32,
    /// Those among them whose close has completed.
    free: Vec<u32>,
    /// Set while borrowed memory may be in the submission queue. Stays set if that turn was cut short, and keeps
    /// the kernel from ever seeing those entries.
    poisoned: bool,
}

impl Ring {
    /// Sets up a ring for the calling thread.
    ///
    /// # Errors
    /// A [`SetupError`] that names what the kernel lacks or what forbids it, and what to do.
    pub fn new(config: &Config) -> Result<Ring, SetupError> {
        // Two steps, so that a refusal of io_uring as such is told from one of the newer flags.
        drop(IoUring::new(2).map_err(|error| SetupError::new(RING, error))?);
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(config.completions)
            .build(config.entries)
            .map_err(|error| SetupError::new(DEFERRED_TASK_RUN, error))?;
        if !uring.params().is_feature_skip_cqe_on_success() {
            return Err(SetupError::new(
                SILENT_SUCCESS,
                io::Error::from_raw_os_error(libc::EOPNOTSUPP),
            ));
        }
        uring
            .submitter()
            .register_files_sparse(config.slots)
            .map_err(|error| SetupError::new(DIRECT_DESCRIPTORS, error))?;
        let buffers = provide_buffers(&uring, config).map_err(|error| SetupError::new(BUFFER_RING, error))?;
        let waker = Waker::new().map_err(|error| SetupError::new(RING, error))?;
        let mut ring = Ring {
            uring,
            buffers: Rc::new(buffers),
            accepts: Accepts::default(),
            waker,
            slots: config.slots,
            next_slot: 0,
            free: Vec::new(),
            poisoned: false,
        };
        ring.watch_waker().map_err(|error| SetupError::new(RING, error))?;
        Ok(ring)
    }

    /// Slots of the direct descriptor table.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Slots that [`Ring::install`] could give now.
    pub fn vacant_slots(&self) -> u32 {
        self.slots - self.next_slot + self.free.len() as u32
    }

    /// The name of this ring for [`Ring::wake`] on other rings.
    pub fn handle(&self) -> io::Result<RingHandle> {
        // SAFETY: the descriptor is open as long as `self.uring`, which outlives this borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) };
        Ok(RingHandle::new(fd.try_clone_to_owned()?))
    }

    /// Wakes this ring's thread from threads without a ring.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Receive buffers that are filled and not yet given back, of how many.
    pub fn buffers_in_use(&self) -> (u16, u16) {
        (self.buffers.taken(), self.buffers.count())
    }

    /// Bytes of all receive buffers.
    pub fn buffer_memory(&self) -> usize {
        self.buffers.memory()
    }

    /// Accepts one connection of `listener` into a free slot. The completion names `number` as its slot; its result is the slot of
    /// the connection, whose peer's address is to be had from [`Ring::take_peer`]. Several may be in flight for a listener: as
    /// many connections are accepted without another call.
    pub fn accept(&mut self, listener: &Listener, number: u32) -> io::Result<()> {
        let (place, address, len) = self.accepts.begin(number);
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), address, len)
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        let queued = self.queue(entry, Token::new(Op::Accept, number, place));
        if queued.is_err() {
            self.accepts.end(place, false);
        }
        queued
    }

    /// Cancels the accepts in flight for the listener that was given `number`. Each completes, with `ECANCELED` if it was not just
    /// about to succeed.
    pub fn cancel_accepts(&mut self, number: u32) -> io::Result<()> {
        let in_flight: Vec<u32> = self.accepts.in_flight(number).collect();
        let token = |place| Token::new(Op::Accept, number, place);
        in_flight.into_iter().try_for_each(|place| self.cancel(token(place)))
    }

    /// The address of the peer of an accepted connection, `token` being that of the completion that reported it; once, and to
    /// be called for each of them: what is not taken is kept.
    pub fn take_peer(&mut self, token: Token) -> Option<SocketAddr> {
        debug_assert_eq!(token.op(), Op::Accept, "only who was accepted is remembered");
        self.accepts.take(token.generation())
    }

    /// Gives `socket` to the ring and returns its slot: one that a connection was closed in, if there is any. The ring's own
    /// [`Ring::accept`] must not be in use: it lets the kernel choose slots.
    ///
    /// # Errors
    /// Every slot is taken, or the kernel refuses. A slot is free again in the turn after the one that closed it, at the latest.
    pub fn install(&mut self, socket: OwnedFd) -> io::Result<u32> {
        let slot = match self.free.last() {
            Some(&slot) => slot,
            None if self.next_slot < self.slots => self.next_slot,
            None => return Err(io::Error::from_raw_os_error(libc::ENFILE)),
        };
        self.uring
            .submitter()
            .register_files_update(slot, &[socket.as_raw_fd()])?;
        if self.free.pop().is_none() {
            self.next_slot += 1;
        }
        // The table holds its own reference to the socket.
        drop(socket);
        Ok(slot)
    }

    /// Receives into provided buffers until the peer closes, an error, or `ENOBUFS` when all buffers are filled.
    pub fn receive(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fixed(token.slot()), BUFFER_GROUP).build();
        self.queue(entry, token)
    }

    /// Completes once the socket can be written to, or is in error.
    pub fn writable(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fixed(token.slot()), libc::POLLOUT as u32).build();
        self.queue(entry, token)
    }

    /// Cancels the operation named `target`; that one completes with `ECANCELED`, this with 0 or `ENOENT`.
    pub fn cancel(&mut self, target: Token) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(target.to_bits()).build();
        self.queue(entry, target.with(Op::Cancel))
    }

    /// Sends FIN after what was sent; the peer's bytes are still received.
    pub fn shut_down(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::Shutdown::new(Fixed(token.slot()), libc::SHUT_WR).build();
        self.queue(entry, token)
    }

    /// Closes the slot. It may be given to another connection at once, so nothing else may be in flight for it.
    pub fn close(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::Close::new(Fixed(token.slot())).build();
        // Where slots are ours to give, we have to know when they are free; elsewhere the kernel does.
        let entry = match self.next_slot {
            0 => entry.flags(squeue::Flags::SKIP_SUCCESS),
            _ => entry,
        };
        self.queue(entry, token.with(Op::Close))
    }

    /// Wakes the thread of another ring, which gets a completion of [`Op::Wake`].
    pub fn wake(&mut self, other: &RingHandle) -> io::Result<()> {
        let entry = opcode::MsgRingData::new(Fd(other.as_raw_fd()), 0, WAKE.to_bits(), None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.queue(entry, WAKE)
    }

    /// Sends `sends`, submits everything queued, and collects completions; sleeps by `wait` if there are none.
    ///
    /// Each send is attempted at once. One that went out whole completes silently: when this returns, every send
    /// without an [`Op::Send`] completion in `completions` is done. A failed or short one reports what `send(2)` would
    /// return, `-EAGAIN` if the socket had no room at all. At most one send per slot may be given to one call: what
    /// follows a short send would overtake its rest.
    ///
    /// `completions` is appended to. A call does bounded work: it collects at most what the completion queue holds once
    /// per submission queue of sends.
    ///
    /// # Errors
    /// What io_uring_enter reports that is not about a single operation. The ring is then unusable.
    pub fn turn<'a>(
        &mut self,
        sends: impl IntoIterator<Item = (Token, &'a [u8])>,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        self.check()?;
        self.buffers.commit();
        self.poisoned = true;
        for (token, bytes) in sends {
            let entry = opcode::Send::new(Fixed(token.slot()), bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(token.with(Op::Send).to_bits());
            if self.uring.submission().is_full() {
                self.submit()?;
                // A failed send posts a completion, so the queue has to have room for a whole submission queue of them.
                self.harvest(completions);
            }
            // SAFETY: the bytes are borrowed for 'a, which outlasts this call, and the entry does not outlast it: it is
            // consumed by the kernel in `submit` or `enter` below, or never, because `poisoned` stays set if either
            // fails or the iterator panics. The kernel completes the send, or fails it, while consuming the entry:
            // MSG_DONTWAIT marks it "no wait", so it is neither parked for poll nor handed to a worker thread.
            unsafe { self.uring.submission().push(&entry) }.expect("there is room: it was just made");
        }
        let wait = if completions.is_empty() { wait } else { Wait::No };
        self.enter(wait)?;
        self.poisoned = false;
        self.harvest(completions);
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        if self.poisoned {
            return Err(io::Error::other("the ring is unusable after an earlier failure"));
        }
        Ok(())
    }

    fn queue(&mut self, entry: squeue::Entry, token: Token) -> io::Result<()> {
        self.check()?;
        let entry = entry.user_data(token.to_bits());
        if self.uring.submission().is_full() {
            self.submit()?;
        }
        // SAFETY: the operations queued here point at no memory of the caller; receives fill provided buffers and accepts
        // places for addresses, both of which outlive the instance.
        unsafe { self.uring.submission().push(&entry) }.expect("there is room: it was just made");
        Ok(())
    }

    /// Submits all entries without waiting and without running completions.
    fn submit(&mut self) -> io::Result<()> {
        loop {
            let pending = self.uring.submission().len();
            if pending == 0 {
                return Ok(());
            }
            // SAFETY: no argument is passed along.
            match unsafe {
                self.uring
                    .submitter()
                    .enter::<libc::sigset_t>(pending as u32, 0, 0, None)
            } {
                Ok(_) => {}
                Err(error) => recover(error)?,
            }
        }
    }

    /// Submits all entries, runs completions, and sleeps by `wait` while there are none.
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let (want, timeout) = match wait {
            Wait::No => (0, Duration::ZERO),
            Wait::AtMost(timeout) => (1, timeout),
        };
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        loop {
            let pending = self.uring.submission().len();
            // SAFETY: `args` and the timespec it points at live until the call returns; EXT_ARG says how to read them.
            let entered = unsafe {
                self.uring
                    .submitter()
                    .enter(pending as u32, want, ENTER_GETEVENTS | ENTER_EXT_ARG, Some(&args))
            };
            match entered {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
                // A signal ends the sleep: whoever waits looks at its state and comes back.
                Err(error) if error.raw_os_error() == Some(libc::EINTR) && pending == 0 => {}
                Err(error) => recover(error)?,
            }
            if self.uring.submission().is_empty() {
                return Ok(());
            }
        }
    }

    fn harvest(&mut self, completions: &mut Vec<Completion>) {
        let mut rewatch = false;
        for entry in self.uring.completion() {
            let token = Token::from_bits(entry.user_data());
            let (result, flags) = (entry.result(), entry.flags());
            let more = cqueue::more(flags);
            if token == EVENT {
                self.waker.clear();
                rewatch |= !more;
                completions.push(Completion {
                    token: WAKE,
                    result: 0,
                    data: None,
                    more,
                });
                continue;
            }
            if token.op() == Op::Accept {
                self.accepts.end(token.generation(), result >= 0);
            }
            if token.op() == Op::Close && result == 0 {
                self.free.push(token.slot());
                continue;
            }
            let data = cqueue::buffer_select(flags).map(|id| {
                let len = result.max(0) as u32;
                self.buffers.lease(id, len, cqueue::buffer_more(flags))
            });
            completions.push(Completion {
                token,
                result,
                data,
                more,
            });
        }
        if rewatch {
            // Room is certain enough to ignore a failure: without it the waker is watched again at the next wake-up
            // by another ring, and a poisoned ring serves nobody.
            let _ = self.watch_waker();
        }
    }

    fn watch_waker(&mut self) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fd(self.waker.as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.queue(entry, EVENT)
    }
}

/// Makes the receive buffers known to the kernel: to be filled piece by piece if it can, else each by one receive.
fn provide_buffers(uring: &IoUring, config: &Config) -> io::Result<BufferRing> {
    let provide = |buffers: &BufferRing, flags| {
        // SAFETY: the ring's memory is page-aligned, `count` entries long, and lives in `Ring::buffers`, which is
        // dropped after `Ring::uring`; `Drop` below cancels what is in flight before that. A ring that is refused is not
        // kept by the kernel.
        unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(buffers.address(), buffers.count(), BUFFER_GROUP, flags)
        }
    };
    BufferRing::check(config.buffers, config.buffer_size)?;
    let few = BufferRing::new((config.buffers / FEWER).max(MIN_BUFFERS), config.buffer_size * LARGER)?;
    match provide(&few, PIECE_BY_PIECE) {
        Ok(()) => Ok(few),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let buffers = BufferRing::new(config.buffers, config.buffer_size)?;
            provide(&buffers, 0)?;
            Ok(buffers)
        }
        Err(error) => Err(error),
    }
}

/// What a thread sees when it is woken, whoever did it.
const WAKE: Token = Token::new(Op::Wake, 0, 0);
/// The poll on the eventfd, told apart from `MSG_RING` because it has to be re-armed.
const EVENT: Token = Token::new(Op::Wake, 1, 0);

/// Errors of io_uring_enter after which it is simply called again.
fn recover(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        // Interrupted, or short of memory for requests for a moment, or completions wait for room: all end by
        // entering again, which first flushes them.
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
        _ => Err(error),
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // What was queued is no different from what is in flight, unless it may point at memory that is gone.
        if !self.poisoned {
            let _ = self.submit();
        }
        // Nothing may fill a buffer after its memory is gone. The kernel cancels what is in flight on its own, but
        // only after the last reference to the instance went, which other rings' handles can delay.
        let _ = self
            .uring
            .submitter()
            .register_sync_cancel(Some(Timespec::from(CANCEL_TIMEOUT)), CancelBuilder::any());
        // A cancelled operation ends when completions run, and lets go of its descriptor only then: an address that is
        // listened on would stay in use for a while after the process is gone. The kernel runs a few at a time (20, Linux
        // 6.13), so it is asked until none is left; each posts a completion.
        let mut completions = Vec::new();
        let deadline = Instant::now() + CANCEL_TIMEOUT;
        while Instant::now() < deadline {
            // SAFETY: nothing is submitted, and no argument is passed along.
            let entered = unsafe {
                self.uring
                    .submitter()
                    .enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None)
            };
            // What the kernel says it is done with can be freed.
            self.harvest(&mut completions);
            if completions.is_empty() || entered.is_err() {
                break;
            }
            completions.clear();
        }
        let _ = self.uring.submitter().unregister_buf_ring(BUFFER_GROUP);
        // Likewise connections: peers are not to wait for the last handle either.
        let _ = self.uring.submitter().unregister_files();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::socket::listen;

    const LISTENER: u32 = 3;
    const DEADLINE: Duration = Duration::from_secs(10);

    fn ring(config: &Config) -> Ring {
        Ring::new(config).unwrap_or_else(|error| panic!("{error}"))
    }

    fn small() -> Config {
        Config {
            entries: 16,
            completions: 64,
            slots: 64,
            buffers: 4,
            buffer_size: 256,
        }
    }

    /// Turns until `done` says so, handing it every completion.
    fn run(ring: &mut Ring, what: &str, mut done: impl FnMut(&mut Ring, Completion) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut completions = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "{what} took too long");
            ring.turn([], Wait::AtMost(DEADLINE), &mut completions).unwrap();
            let mut finished = false;
            for completion in completions.drain(..) {
                finished |= done(ring, completion);
            }
            if finished {
                return;
            }
        }
    }

    fn connect(ring: &mut Ring) -> (TcpStream, u32) {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
        ring.accept(&listener, LISTENER).unwrap();
        let peer = TcpStream::connect(listener.address()).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut slot = None;
        run(ring, "accepting", |ring, completion| {
            assert_eq!((completion.token.op(), completion.token.slot()), (Op::Accept, LISTENER));
            assert_eq!(ring.take_peer(completion.token), peer.local_addr().ok());
            slot = Some(u32::try_from(completion.result).unwrap());
            true
        });
        (peer, slot.unwrap())
    }

    #[test]
    fn bytes_arrive_in_provided_buffers_and_the_end_as_a_zero() {
        let mut ring = ring(&small());
        let (mut peer, slot) = connect(&mut ring);
        let token = Token::new(Op::Receive, slot, 7);
        ring.receive(token).unwrap();
        // Far more than the four buffers of 256 bytes hold, so that they have to go round and receives have to restart.
        let sent: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        let bytes = sent.clone();
        let writer = std::thread::spawn(move || peer.write_all(&bytes).unwrap());
        let mut received = Vec::new();
        run(&mut ring, "receiving", |ring, completion| {
            assert_eq!(completion.token, token);
            match completion.result {
                0 => return true,
                error if error < 0 => assert_eq!(completion.error(), Some(libc::ENOBUFS)),
                _ => received.extend_from_slice(&completion.data.expect("a filled buffer")),
            }
            if !completion.more {
                ring.receive(token).unwrap();
            }
            false
        });
        writer.join().unwrap();
        assert_eq!(received, sent);
        assert_eq!(ring.buffers_in_use().0, 0);
    }

    #[test]
    fn a_whole_send_is_silent_and_a_short_one_tells_how_much_went_out() {
        let mut ring = ring(&small());
        let (mut peer, slot) = connect(&mut ring);
        let token = Token::new(Op::Send, slot, 1);
        let mut completions = Vec::new();
        ring.turn([(token, &b"hello"[..])], Wait::No, &mut completions).unwrap();
        assert!(completions.is_empty(), "{completions:?}");
        let mut greeting = [0; 5];
        peer.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hello");

        // The peer does not read: the socket takes what fits, reports it, and then nothing at all.
        let bytes: Vec<u8> = (0..16 << 20u32).map(|i| (i % 251) as u8).collect();
        let mut sent = 0;
        loop {
            ring.turn([(token, &bytes[sent..])], Wait::No, &mut completions)
                .unwrap();
            let completion = completions.pop().expect("16 MiB do not fit into a socket");
            assert_eq!(completion.token, token);
            if completion.error() == Some(libc::EAGAIN) {
                break;
            }
            assert!(completion.result > 0, "{completion:?}");
            sent += completion.result as usize;
        }
        assert!(0 < sent && sent < bytes.len());

        // Once it reads, the socket becomes writable and the rest follows.
        let expected = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; expected.len()];
            peer.read_exact(&mut received).unwrap();
            assert!(received == expected, "the stream is exact");
        });
        let writable = token.with(Op::Writable);
        while sent < bytes.len() {
            ring.writable(writable).unwrap();
            run(&mut ring, "becoming writable", |_, completion| {
                completion.token == writable
            });
            ring.turn([(token, &bytes[sent..])], Wait::No, &mut completions)
                .unwrap();
            sent = match completions.pop() {
                None => bytes.len(),
                Some(completion) if completion.error() == Some(libc::EAGAIN) => sent,
                Some(completion) => sent + usize::try_from(completion.result).expect("no other failure"),
            };
        }
        reader.join().unwrap();
    }

    #[test]
    fn many_more_sends_than_the_queue_holds_go_out_in_one_turn() {
        let mut ring = ring(&small());
        let listener = listen("127.0.0.1:0".parse().unwrap(), 64, 1).unwrap().remove(0);
        let mut peers = Vec::new();
        for _ in 0..50 {
            let ours = TcpStream::connect(listener.address()).unwrap();
            peers.push((ring.install(OwnedFd::from(ours)).unwrap(), listener_accept(&listener)));
        }
        let sends: Vec<_> = peers
            .iter()
            .map(|(slot, _)| (Token::new(Op::Send, *slot, 0), slot.to_be_bytes()))
            .collect();
        let mut completions = Vec::new();
        ring.turn(
            sends.iter().map(|(token, bytes)| (*token, &bytes[..])),
            Wait::No,
            &mut completions,
        )
        .unwrap();
        assert!(completions.is_empty(), "{completions:?}");
        for (slot, mut peer) in peers {
            let mut bytes = [0; 4];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(u32::from_be_bytes(bytes), slot);
        }
    }

    fn listener_accept(listener: &Listener) -> TcpStream {
        use std::os::fd::AsFd;
        let owned = listener.as_fd().try_clone_to_owned().unwrap();
        let (stream, _) = std::net::TcpListener::from(owned).accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    #[test]
    fn a_full_table_refuses_and_a_closed_slot_is_used_again() {
        let mut ring = ring(&Config { slots: 1, ..small() });
        let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
        ring.accept(&listener, LISTENER).unwrap();
        let first = TcpStream::connect(listener.address()).unwrap();
        run(&mut ring, "accepting the first", |_, completion| completion.result == 0);
        ring.accept(&listener, LISTENER).unwrap();
        let _second = TcpStream::connect(listener.address()).unwrap();
        run(&mut ring, "refusing the second", |_, completion| {
            assert_eq!(completion.error(), Some(libc::ENFILE));
            true
        });
        ring.close(Token::new(Op::Close, 0, 0)).unwrap();
        drop(first);
        ring.accept(&listener, LISTENER).unwrap();
        let _third = TcpStream::connect(listener.address()).unwrap();
        run(&mut ring, "accepting the third", |_, completion| {
            assert_eq!(completion.result, 0, "slot 0 is free again: {completion:?}");
            true
        });
    }

    #[test]
    fn of_many_accepts_in_flight_each_tells_its_own_peer() {
        let mut ring = ring(&small());
        let listeners =
            ["127.0.0.1:0", "[::1]:0"].map(|address| listen(address.parse().unwrap(), 64, 1).unwrap().remove(0));
        for _ in 0..8 {
            for (number, listener) in (0..).zip(&listeners) {
                ring.accept(listener, number).unwrap();
            }
        }
        ring.turn([], Wait::No, &mut Vec::new()).unwrap();
        // All at once, so that accepts complete together.
        let peers: Vec<TcpStream> = (0..16)
            .map(|i| TcpStream::connect(listeners[i % 2].address()).unwrap())
            .collect();
        let mut expected: Vec<_> = (0..)
            .zip(&peers)
            .map(|(i, peer)| (i % 2, peer.local_addr().unwrap()))
            .collect();
        let mut accepted = Vec::new();
        run(&mut ring, "accepting all", |ring, completion| {
            assert!(completion.result >= 0, "{completion:?}");
            let peer = ring
                .take_peer(completion.token)
                .expect("whoever is accepted has an address");
            assert_eq!(ring.take_peer(completion.token), None);
            accepted.push((completion.token.slot(), peer));
            accepted.len() == peers.len()
        });
        expected.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(accepted, expected);
    }

    #[test]
    fn accepts_of_one_listener_are_cancelled_together_and_those_of_another_go_on() {
        let mut ring = ring(&small());
        let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
        let other = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
        for _ in 0..3 {
            ring.accept(&listener, LISTENER).unwrap();
        }
        ring.accept(&other, LISTENER + 1).unwrap();
        ring.turn([], Wait::No, &mut Vec::new()).unwrap();
        ring.cancel_accepts(LISTENER).unwrap();
        // The descriptor may be closed before the kernel sees the cancellation.
        drop(listener);
        let mut cancelled = 0;
        run(&mut ring, "cancelling", |_, completion| {
            if completion.token.op() == Op::Accept {
                assert_eq!(
                    (completion.token.slot(), completion.error()),
                    (LISTENER, Some(libc::ECANCELED))
                );
                cancelled += 1;
            }
            cancelled == 3
        });
        let peer = TcpStream::connect(other.address()).unwrap();
        run(&mut ring, "accepting elsewhere", |ring, completion| {
            completion.token.op() == Op::Accept && ring.take_peer(completion.token) == peer.local_addr().ok()
        });
    }

    #[test]
    fn a_socket_is_installed_where_another_was_closed() {
        let mut ring = ring(&Config { slots: 2, ..small() });
        let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
        let install = |ring: &mut Ring| {
            let ours = TcpStream::connect(listener.address()).unwrap();
            (ring.install(OwnedFd::from(ours)), listener_accept(&listener))
        };
        let (_first, mut second) = (install(&mut ring), install(&mut ring).1);
        assert_eq!(ring.vacant_slots(), 0);
        let (refused, _) = install(&mut ring);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENFILE));
        for round in 0..10u8 {
            ring.close(Token::new(Op::Close, 1, 0)).unwrap();
            let (early, _) = install(&mut ring);
            assert!(
                early.is_err(),
                "a close that is only queued would hit the new connection"
            );
            let mut completions = Vec::new();
            ring.turn([], Wait::No, &mut completions).unwrap();
            assert!(completions.is_empty(), "{completions:?}");
            assert_eq!(ring.vacant_slots(), 1);
            assert_eq!(
                second.read(&mut [0]).unwrap(),
                0,
                "the peer of the closed one sees its end"
            );
            let (slot, peer) = install(&mut ring);
            assert_eq!(slot.unwrap(), 1);
            second = peer;
            let sends = [(Token::new(Op::Send, 1, 0), &[round][..])];
            ring.turn(sends, Wait::No, &mut completions).unwrap();
            assert!(completions.is_empty(), "{completions:?}");
            let mut said = [0];
            second.read_exact(&mut said).unwrap();
            assert_eq!(said, [round]);
        }
    }

    #[test]
    fn a_dropped_ring_lets_go_of_what_it_listened_on() {
        let mut address = "127.0.0.1:0".parse().unwrap();
        for round in 0..20 {
            let listener = listen(address, 16, 1)
                .unwrap_or_else(|error| panic!("round {round}: {error}"))
                .remove(0);
            address = listener.address();
            let mut ring = ring(&small());
            // More than the kernel ends at a time.
            for _ in 0..48 {
                ring.accept(&listener, LISTENER).unwrap();
            }
            ring.turn([], Wait::No, &mut Vec::new()).unwrap();
            // One more that the kernel has not seen yet.
            ring.accept(&listener, LISTENER).unwrap();
        }
    }

    #[test]
    fn a_cancelled_receive_ends_and_says_so() {
        let mut ring = ring(&small());
        let (_peer, slot) = connect(&mut ring);
        let token = Token::new(Op::Receive, slot, 0);
        ring.receive(token).unwrap();
        ring.cancel(token).unwrap();
        let mut ended = Vec::new();
        run(&mut ring, "cancelling", |_, completion| {
            ended.push((completion.token.op(), completion.result));
            ended.len() == 2
        });
        assert!(ended.contains(&(Op::Receive, -libc::ECANCELED)), "{ended:?}");
        assert!(ended.contains(&(Op::Cancel, 0)), "{ended:?}");
    }

    #[test]
    fn a_sleeping_ring_is_woken_by_another_ring_and_by_a_plain_thread() {
        let mut ring = ring(&small());
        let (handle, waker) = (ring.handle().unwrap(), ring.waker());
        let by_ring = std::thread::spawn(move || {
            let mut other = self::ring(&small());
            other.wake(&handle).unwrap();
            other.turn([], Wait::No, &mut Vec::new()).unwrap();
        });
        run(&mut ring, "waking by a ring", |_, completion| {
            completion.token.op() == Op::Wake
        });
        by_ring.join().unwrap();
        for round in 0..3 {
            let waker = waker.clone();
            let by_thread = std::thread::spawn(move || waker.wake());
            run(
                &mut ring,
                &format!("waking by a thread, round {round}"),
                |_, completion| completion.token.op() == Op::Wake,
            );
            by_thread.join().unwrap();
        }
    }

    #[test]
    fn a_turn_with_nothing_to_do_ends_by_its_time_limit() {
        let mut ring = ring(&small());
        let mut completions = Vec::new();
        ring.turn([], Wait::AtMost(Duration::from_millis(1)), &mut completions)
            .unwrap();
        assert!(completions.is_empty());
    }

    #[test]
    fn a_ring_whose_turn_was_cut_short_refuses_to_go_on() {
        let mut ring = ring(&small());
        let (_peer, slot) = connect(&mut ring);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let bytes = [1; 8];
            let sends = (0..2).map(|i| {
                assert_eq!(i, 0, "the second send is not to be had");
                (Token::new(Op::Send, slot, 0), &bytes[..])
            });
            ring.turn(sends, Wait::No, &mut Vec::new())
        }));
        assert!(panicked.is_err());
        assert!(ring.turn([], Wait::No, &mut Vec::new()).is_err());
        assert!(ring.receive(Token::new(Op::Receive, slot, 0)).is_err());
    }
}
