//! The driver on io_uring: one instance, used by the thread that made it.
//!
//! ```text
//!            operations queued                 one enter per turn
//!   accept ─┐                              ┌──────────────────────────┐
//!   receive ┼─▶ submission queue ──turn()─▶│ kernel: sends run inline, │─▶ Completion { token, result, data }
//!   close ──┘        ▲                     │ receives fill provided    │        │
//!                    └── sends (borrowed)  │ buffers                   │        └─ Lease: a filled buffer that
//!                                          └──────────────────────────┘           goes home when dropped
//! ```
//!
//! Connections are *direct descriptors*: slots of the ring's own file table, which do not count against the process's descriptor
//! limit.
//!
//! The invariant that keeps it simple: **no memory of the caller is visible to the kernel once [`Uring::turn`] has
//! returned.** Sends are attempted at once and never parked in the kernel (`MSG_DONTWAIT`). Only provided buffers and places for
//! peers' addresses, which the driver owns, stay with the kernel.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::accepts::Accepts;
use crate::buffers::BufferRing;
use crate::driver::{Completion, Config, Wait};
use crate::error::{BUFFER_RING, DEFERRED_TASK_RUN, DIRECT_DESCRIPTORS, RING, SILENT_SUCCESS, SetupError};
use crate::socket::Listener;
use crate::token::{Op, Token};
use crate::wake::{WAKE, Waker};

const BUFFER_GROUP: u16 = 0;
/// `IOU_PBUF_RING_INC` of <linux/io_uring.h>.
const PIECE_BY_PIECE: u16 = 2;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// An io_uring instance with its direct descriptors and its receive buffers.
///
/// Made and used by one thread (`SINGLE_ISSUER`), completions run only inside [`Uring::turn`] (`DEFER_TASKRUN`).
pub(crate) struct Uring {
    // Dropped in this order: the instance goes before the memory that it knows.
    ring: IoUring,
    buffers: Rc<BufferRing>,
    accepts: Accepts,
    waker: Waker,
    slots: u32,
    /// Slots below it were given to [`Uring::install`] at least once.
    next_slot: u32,
    /// Those among them whose close has completed.
    free: Vec<u32>,
    /// Set while borrowed memory may be in the submission queue. Stays set if that turn was cut short, and keeps
    /// the kernel from ever seeing those entries.
    poisoned: bool,
}

impl Uring {
    pub(crate) fn new(config: &Config) -> Result<Uring, SetupError> {
        // Two steps, so that a refusal of io_uring as such is told from one of the newer flags.
        drop(IoUring::new(2).map_err(|error| SetupError::new(RING, error))?);
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(config.completions)
            .build(config.entries)
            .map_err(|error| SetupError::new(DEFERRED_TASK_RUN, error))?;
        if !ring.params().is_feature_skip_cqe_on_success() {
            return Err(SetupError::new(
                SILENT_SUCCESS,
                io::Error::from_raw_os_error(libc::EOPNOTSUPP),
            ));
        }
        ring.submitter()
            .register_files_sparse(config.slots)
            .map_err(|error| SetupError::new(DIRECT_DESCRIPTORS, error))?;
        let buffers = provide_buffers(&ring, config).map_err(|error| SetupError::new(BUFFER_RING, error))?;
        // SAFETY: the descriptor is open as long as `ring`, which outlives this borrow.
        let instance = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        let waker = instance
            .try_clone_to_owned()
            .and_then(|instance| Waker::new(Some(instance)))
            .map_err(|error| SetupError::new(RING, error))?;
        let mut driver = Uring {
            ring,
            buffers: Rc::new(buffers),
            accepts: Accepts::default(),
            waker,
            slots: config.slots,
            next_slot: 0,
            free: Vec::new(),
            poisoned: false,
        };
        // A filter may let a ring be set up that is not to be used: better to learn it here than in a turn.
        let entered = driver.watch_waker().and_then(|()| driver.enter(Wait::No));
        entered.map_err(|error| SetupError::new(RING, error))?;
        Ok(driver)
    }

    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    pub(crate) fn vacant_slots(&self) -> u32 {
        self.slots - self.next_slot + self.free.len() as u32
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(crate) fn buffers_in_use(&self) -> (u16, u16) {
        (self.buffers.taken(), self.buffers.count())
    }

    pub(crate) fn buffer_memory(&self) -> usize {
        self.buffers.memory()
    }

    pub(crate) fn accept(&mut self, listener: &Listener, number: u32) -> io::Result<()> {
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

    pub(crate) fn cancel_accepts(&mut self, number: u32) -> io::Result<()> {
        let in_flight: Vec<u32> = self.accepts.in_flight(number).collect();
        let token = |place| Token::new(Op::Accept, number, place);
        in_flight.into_iter().try_for_each(|place| self.cancel(token(place)))
    }

    pub(crate) fn take_peer(&mut self, token: Token) -> Option<SocketAddr> {
        debug_assert_eq!(token.op(), Op::Accept, "only who was accepted is remembered");
        self.accepts.take(token.generation())
    }

    /// The kernel must not choose slots meanwhile, as it does for [`Uring::accept`].
    pub(crate) fn install(&mut self, socket: OwnedFd) -> io::Result<u32> {
        let slot = match self.free.last() {
            Some(&slot) => slot,
            None if self.next_slot < self.slots => self.next_slot,
            None => return Err(io::Error::from_raw_os_error(libc::ENFILE)),
        };
        self.ring
            .submitter()
            .register_files_update(slot, &[socket.as_raw_fd()])?;
        if self.free.pop().is_none() {
            self.next_slot += 1;
        }
        // The table holds its own reference to the socket.
        drop(socket);
        Ok(slot)
    }

    pub(crate) fn receive(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fixed(token.slot()), BUFFER_GROUP).build();
        self.queue(entry, token)
    }

    pub(crate) fn writable(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fixed(token.slot()), libc::POLLOUT as u32).build();
        self.queue(entry, token)
    }

    pub(crate) fn cancel(&mut self, target: Token) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(target.to_bits()).build();
        self.queue(entry, target.with(Op::Cancel))
    }

    pub(crate) fn shut_down(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::Shutdown::new(Fixed(token.slot()), libc::SHUT_WR).build();
        self.queue(entry, token)
    }

    pub(crate) fn close(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::Close::new(Fixed(token.slot())).build();
        // Where slots are ours to give, we have to know when they are free; elsewhere the kernel does.
        let entry = match self.next_slot {
            0 => entry.flags(squeue::Flags::SKIP_SUCCESS),
            _ => entry,
        };
        self.queue(entry, token.with(Op::Close))
    }

    /// A ring is told by `MSG_RING`, anything else by its eventfd.
    pub(crate) fn wake(&mut self, other: &Waker) -> io::Result<()> {
        let Some(ring) = other.ring() else {
            other.wake();
            return Ok(());
        };
        let entry = opcode::MsgRingData::new(Fd(ring), 0, WAKE.to_bits(), None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.queue(entry, WAKE)
    }

    pub(crate) fn turn<'a>(
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
            if self.ring.submission().is_full() {
                self.submit()?;
                // A failed send posts a completion, so the queue has to have room for a whole submission queue of them.
                self.harvest(completions);
            }
            // SAFETY: the bytes are borrowed for 'a, which outlasts this call, and the entry does not outlast it: it is
            // consumed by the kernel in `submit` or `enter` below, or never, because `poisoned` stays set if either
            // fails or the iterator panics. The kernel completes the send, or fails it, while consuming the entry:
            // MSG_DONTWAIT marks it "no wait", so it is neither parked for poll nor handed to a worker thread.
            unsafe { self.ring.submission().push(&entry) }.expect("there is room: it was just made");
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
        if self.ring.submission().is_full() {
            self.submit()?;
        }
        // SAFETY: the operations queued here point at no memory of the caller; receives fill provided buffers and accepts
        // places for addresses, both of which outlive the instance.
        unsafe { self.ring.submission().push(&entry) }.expect("there is room: it was just made");
        Ok(())
    }

    /// Submits all entries without waiting and without running completions.
    fn submit(&mut self) -> io::Result<()> {
        loop {
            let pending = self.ring.submission().len();
            if pending == 0 {
                return Ok(());
            }
            // SAFETY: no argument is passed along.
            match unsafe {
                self.ring
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
            let pending = self.ring.submission().len();
            // SAFETY: `args` and the timespec it points at live until the call returns; EXT_ARG says how to read them.
            let entered = unsafe {
                self.ring
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
            if self.ring.submission().is_empty() {
                return Ok(());
            }
        }
    }

    fn harvest(&mut self, completions: &mut Vec<Completion>) {
        let mut rewatch = false;
        for entry in self.ring.completion() {
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
        let entry = opcode::PollAdd::new(Fd(self.waker.event().as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.queue(entry, EVENT)
    }
}

/// Makes the receive buffers known to the kernel: to be filled piece by piece if it can, else each by one receive.
fn provide_buffers(ring: &IoUring, config: &Config) -> io::Result<BufferRing> {
    let provide = |buffers: &BufferRing, flags| {
        // SAFETY: the entries are page-aligned, `count` long, and live in `Uring::buffers`, which is dropped after
        // `Uring::ring`; `Drop` below cancels what is in flight before that. Buffers that are refused are not kept by the kernel.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(buffers.address(), buffers.count(), BUFFER_GROUP, flags)
        }
    };
    let few = BufferRing::in_pieces(config.buffers, config.buffer_size)?;
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

impl Drop for Uring {
    fn drop(&mut self) {
        // What was queued is no different from what is in flight, unless it may point at memory that is gone.
        if !self.poisoned {
            let _ = self.submit();
        }
        // Nothing may fill a buffer after its memory is gone. The kernel cancels what is in flight on its own, but
        // only after the last reference to the instance went, which other rings' handles can delay.
        let _ = self
            .ring
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
                self.ring
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
        let _ = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP);
        // Likewise connections: peers are not to wait for the last handle either.
        let _ = self.ring.submitter().unregister_files();
    }
}
